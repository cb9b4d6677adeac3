// SPDX-License-Identifier: Apache-2.0

//! Binds the sessions of clients that Lua code has asked for a certificate: see `resumption.rs`.

use openssl::ssl::SslRef;
use openssl::x509::X509VerifyResult;

use crate::client::binding::{Binding, ConfigurationId, random};
use crate::client::connection::{ClientState, HandshakeError, KnownTerms};
use crate::client::first_handshake::FirstHandshake;
use crate::client::intermediates::{self, Intermediates, NotKept};
use crate::client::names::KnownNames;
use crate::client::session_data::{Asked, Presented, SessionData};
use crate::client::session_terms;
use crate::conf::MainConf;
use crate::nginx::own_conf::OwnConf;
use crate::nginx::server::ClientConnection;
use crate::nginx::time;
use crate::openssl::error::SslError;
use crate::openssl::{session, ssl};
use crate::session_zone::zone::SessionZone;

/// Returns the binding for the client of `ssl`, which is in its handshake.
pub fn binding_of(ssl: &SslRef, name: Option<&[u8]>) -> Option<Binding> {
    let client = ClientConnection::find(ssl)?;
    let main_conf = MainConf::of_server(client.default_server())?;
    let zone = main_conf.session_zone();
    let generation = zone.map_or(0, SessionZone::generation);
    let secret = main_conf.resumption.get()?.secret(zone, generation, time::now().date).ok()?;
    Some(Binding::new(&secret, &client.address()?, name))
}

/// Returns the number of the configuration that has made the connection of `ssl`, which is in its
/// handshake.
pub fn configuration_of(ssl: &SslRef) -> Option<ConfigurationId> {
    let client = ClientConnection::find(ssl)?;
    Some(*MainConf::of_server(client.default_server())?.resumption.get()?.id())
}

/// Returns the zone for what is known of the client of `ssl`, which is in its handshake.
pub fn zone_of(ssl: &SslRef) -> Option<SessionZone> {
    let client = ClientConnection::find(ssl)?;
    MainConf::of_server(client.default_server())?.session_zone()
}

/// Returns what the client of `ssl` has presented in this handshake.
fn presented(ssl: &SslRef) -> Result<Presented, SslError> {
    match ssl.peer_cert_chain() {
        Some(chain) if !chain.is_empty() => {
            let zone = zone_of(ssl);
            match intermediates::keep(zone, chain, is_verified(ssl)) {
                Ok(digest) => Ok(Presented::Chain(digest)),
                Err(NotKept::TooLong) => Ok(Presented::TooLong),
                Err(NotKept::Ssl(errors)) => Err(SslError::new("i2d_X509", errors)),
            }
        }
        _ => Ok(Presented::LeafAtMost),
    }
}

fn is_verified(ssl: &SslRef) -> bool {
    ssl.verify_result() == X509VerifyResult::OK
}

/// Returns what is known of the first handshake of the session that `ssl` has resumed; `None` if no
/// session was resumed, or one that is not bound.
fn first_handshake(ssl: &SslRef) -> Option<FirstHandshake> {
    if !ssl.session_reused() {
        return None;
    }
    let first = ClientState::find(ssl)?.first_handshake.borrow().clone()?;
    let resumed = SessionData::of(ssl.session()?)?.asked?;
    (resumed == first.asked).then_some(first)
}

/// Returns the certificates, without the client's own, that the client presented in the first
/// handshake of the session that `ssl` has resumed; `None` if they are not known.
pub fn intermediates_of_first_handshake(ssl: &SslRef) -> Option<Intermediates> {
    first_handshake(ssl).map(|first| first.intermediates)
}

/// Returns the other names that the verification result counts for, from the first handshake of the
/// session that `ssl` has resumed.
pub fn names_of_first_handshake(ssl: &SslRef) -> Option<KnownNames> {
    first_handshake(ssl)?.names
}

/// Writes to the new session of `ssl` what it has to remember; binds it, if its client is asked, to
/// the name that the client asks for. To be called at each step of the handshake: after a
/// `HelloRetryRequest`, OpenSSL silently makes another session.
pub fn bind(ssl: &SslRef, state: &ClientState) -> Result<(), HandshakeError> {
    let is_asked = state.certificate_requested.get();
    let guards_headers = state.guards_headers.get();
    if !(is_asked || guards_headers) || ssl.session_reused() {
        return Ok(());
    }
    let Some(session) = ssl.session() else {
        return Ok(());
    };
    let has_answered = is_asked && !state.has_answered.get() && ssl.peer_cert_chain().is_some();
    let remembered = SessionData::of(session).unwrap_or_default();
    let names = state.names.borrow().as_ref().map(|names| names.digest);
    let asked = if is_asked {
        let known = remembered.asked.filter(|_| !has_answered);
        let presented = match known {
            Some(known) => known.presented,
            None => presented(ssl)?,
        };
        let configuration = configuration_of(ssl).ok_or(HandshakeError::NoServer)?;
        // The date is that of the first step of the handshake.
        let since = remembered.asked.map_or_else(|| time::now().date, |asked| asked.since);
        let KnownTerms { terms, told } = session_terms::terms(ssl, state);
        Some(Asked { presented, names, configuration, since, terms, told })
    } else {
        None
    };
    let data = SessionData { asked, guards_headers, origin: remembered.origin };
    if data == remembered && !has_answered {
        return Ok(());
    }
    if has_answered {
        state.has_answered.set(true);
    }
    if is_asked {
        let Binding(context) =
            binding_of(ssl, ssl::server_name(ssl)).ok_or(HandshakeError::NoServer)?;
        session::set_id_context(session, &context)?;
    }
    data.write(session)?;
    Ok(())
}

/// Takes the [`Binding`] from a connection that has offered a session, which OpenSSL has checked by
/// now. After a `HelloRetryRequest` the client may offer another session.
pub fn take_binding(ssl: &SslRef, state: &ClientState) -> Result<(), HandshakeError> {
    if state.has_binding.replace(false) {
        session::set_id_context_of_connection(ssl, &random()?)?;
    }
    Ok(())
}
