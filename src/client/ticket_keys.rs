// SPDX-License-Identifier: Apache-2.0

//! Keys of session tickets that a reload keeps, for servers whose Lua code may ask clients for a
//! certificate.
//!
//! OpenSSL makes new keys for each context, so that all tickets end with the configuration. Here
//! the keys are made from the secret of the zone. Sessions whose clients were asked then end by
//! what they are bound to. All others would outlive the configuration too, and must not: Lua code
//! may ask their clients from now on. So a ticket says which context it comes from ([`Origin`]),
//! and counts there only, as with the keys that OpenSSL makes.
//!
//! Where nginx itself keeps sessions over a reload, all of this is left to it.

use openssl::ssl::{SslContextRef, SslRef, SslSessionRef};

use crate::client::binding::{self, random};
use crate::client::session_data::SessionData;
use crate::conf::MainConf;
use crate::nginx::connection::{Connection, process_log};
use crate::nginx::time;
use crate::openssl::error::SslError;
use crate::openssl::fingerprint::Encoding;
use crate::openssl::server_context::{self, Origin};
use crate::openssl::session::{self, TICKET_KEYS};
use crate::session_zone::records::Secret;

/// Sets the keys of the contexts in question. To be called when the configuration is complete, and
/// nginx has made the zone.
pub fn start(main_conf: &MainConf) {
    let contexts = main_conf.ticket_contexts.take();
    let (Some(configuration), Some(zone)) = (main_conf.resumption.get(), main_conf.session_zone())
    else {
        return;
    };
    if !main_conf.asking.is_possible() {
        return;
    }
    let now = time::now().date;
    binding::forget_old_secret(Some(zone), now);
    let result = configuration.secret(Some(zone), zone.generation(), now).and_then(|secret| {
        let keys = keys(&secret);
        contexts.iter().try_for_each(|context| set(context, &keys))
    });
    if let Err(error) = result {
        // The keys that OpenSSL has made are good, but end with the configuration.
        process_log().error(format_args!("session tickets of clients: {error}"));
    }
}

fn set(context: &SslContextRef, keys: &[u8; TICKET_KEYS]) -> Result<(), SslError> {
    // In this order: without an origin, tickets must not outlive the configuration.
    server_context::set_origin(context, random()?)?;
    session::set_ticket_keys(context, keys)
}

/// Returns keys for all contexts: their tickets have other origins.
fn keys(secret: &Secret) -> [u8; TICKET_KEYS] {
    let mut keys = [0; TICKET_KEYS];
    for (number, part) in (0..).zip(keys.chunks_mut(32)) {
        let mut encoding = Encoding::new();
        encoding.bytes(b"ticket-keys");
        encoding.bytes(&secret.bytes);
        encoding.number(number);
        part.copy_from_slice(&encoding.digest()[..part.len()]);
    }
    keys
}

/// Returns what a ticket has to say that is made, or read, for `ssl`, if anything: OpenSSL makes
/// and reads tickets with the context with which the connection began. Lua code may have one made
/// after the handshake.
fn origin(ssl: &SslRef) -> Option<Origin> {
    server_context::origin(Connection::from_ssl(ssl)?.tls()?.session_context())
}

/// Writes to the session of `ssl` which context its ticket comes from. To be called before OpenSSL
/// makes the ticket.
pub fn mark(ssl: &SslRef) -> Result<(), SslError> {
    let (Some(origin), Some(session)) = (origin(ssl), ssl.session()) else {
        return Ok(());
    };
    match SessionData::of(session) {
        Some(data) if data.asked.is_none() && data.origin != Some(origin) => {
            SessionData { origin: Some(origin), ..data }.write(session)
        }
        _ => Ok(()),
    }
}

/// Returns whether a ticket with this session may come from the context of `ssl`.
pub fn is_from_here(ssl: &SslRef, session: &SslSessionRef) -> bool {
    let Some(origin) = origin(ssl) else {
        return true;
    };
    SessionData::of(session).is_some_and(|data| data.asked.is_some() || data.origin == Some(origin))
}
