// SPDX-License-Identifier: Apache-2.0

//! Finds out on which terms the client of a connection is asked for its certificate, and whether a
//! session of an earlier configuration counts: see `terms.rs`.

use openssl::ssl::{SslContextRef, SslRef};
use openssl::x509::X509VerifyResult;

use crate::client::binding::Binding;
use crate::client::certificate_answer::is_asked_by_module;
use crate::client::connection::{ClientState, KnownTerms};
use crate::client::session_binding::{binding_of, configuration_of, zone_of};
use crate::client::session_data::Asked;
use crate::client::terms::{Place, Terms, Told, is_recent};
use crate::conf::{MainConf, ServerConf};
use crate::nginx::own_conf::OwnConf;
use crate::nginx::server::ClientConnection;
use crate::nginx::time;
use crate::openssl::error::SslError;
use crate::openssl::fingerprint::Encoding;
use crate::openssl::store::TrustedStore;
use crate::openssl::{server_context, ssl};
use crate::session_zone::records::Part;

/// Finds out what decides the TLS context of a server. To be called in *postconfiguration*, before
/// the module changes the context.
pub fn identify(conf: &ServerConf, context: &SslContextRef) -> Result<(), SslError> {
    let written = conf.written_tls.in_effect();
    if written.tells_all {
        let fingerprint = server_context::identify(context, written.fingerprint)?;
        conf.tls.get_or_init(|| fingerprint);
    }
    Ok(())
}

/// Returns whether a client that was asked in an earlier configuration, or in this one, may resume
/// its session in the handshake of `ssl`, in which it asks for `name`.
pub fn still_hold(
    ssl: &SslRef,
    name: Option<&[u8]>,
    binding: &Binding,
    asked: &Asked,
) -> Option<bool> {
    let configuration = configuration_of(ssl)?;
    if asked.configuration == configuration {
        return Some(true);
    }
    let place = Place::new(&configuration, binding);
    if let Some(is) = place.is(zone_of(ssl), asked.terms.as_ref()) {
        return Some(is);
    }
    let is_recent = is_recent(asked.since, time::now().date);
    Some(is_recent && asked.told? == told(ssl, name)?)
}

/// Returns what decides, in this configuration, how a client is asked that asks for `name`; `None`
/// if that can't be told.
fn told(ssl: &SslRef, name: Option<&[u8]>) -> Option<Told> {
    let client = ClientConnection::find(ssl)?;
    let default_server = client.default_server();
    let at_init = MainConf::of_server(default_server)?.lua_code.at_init.get()?;
    let mut encoding = Encoding::new();
    encoding.fingerprint(at_init);
    for server in [default_server, client.server_of(name)?] {
        let conf = ServerConf::of_server(server)?;
        encoding.fingerprint(*conf.tls.get()?);
        encoding.fingerprint(conf.written_lua.in_effect().fingerprint);
    }
    Some(encoding.digest())
}

/// Returns the terms on which the client of `ssl` is asked now.
pub fn terms(ssl: &SslRef, state: &ClientState) -> KnownTerms {
    // With what others verify it, can't be told.
    if !is_asked_by_module(ssl) {
        return KnownTerms::default();
    }
    if let Some(known) = state.terms.get() {
        return known;
    }
    let told = state.is_told.get().then(|| told(ssl, ssl::server_name(ssl))).flatten();
    let known = KnownTerms { terms: find_terms(ssl, state).unwrap_or_default(), told };
    state.terms.set(Some(known));
    known
}

fn find_terms(ssl: &SslRef, state: &ClientState) -> Result<Option<Terms>, SslError> {
    let default_server = ClientConnection::find(ssl).map(ClientConnection::default_server);
    let default_server = default_server.and_then(ServerConf::of_server);
    let default_server = default_server.and_then(|conf| conf.tls.get().copied());
    let server = server_context::identity(ssl.ssl_context());
    let (Some(default_server), Some(server)) = (default_server, server) else {
        return Ok(None);
    };
    let authorities = state.authorities.take();
    let announced = authorities.as_ref().map(|authorities| authorities.fingerprint());
    state.authorities.set(authorities);

    let mut encoding = Encoding::new();
    encoding.fingerprint(default_server);
    encoding.fingerprint(server);
    encoding.optional(announced, Encoding::fingerprint);
    match &*state.verification.borrow() {
        Some(verification) if verification.lacks_lists => {
            let store = TrustedStore::of(&verification.store)?;
            if store.is_of_worker() {
                return Ok(None);
            }
            encoding.flag(true);
            encoding.store(store.fingerprint()?);
            encoding.optional(verification.depth, |encoding, depth| encoding.number(depth.into()));
        }
        // The store is made of the authorities and of the server's, or is the server's.
        _ => encoding.flag(false),
    }
    let names = state.names.borrow().as_ref().map(|names| names.digest);
    encoding.optional(names, |encoding, names| encoding.bytes(&names));
    encoding.flag(state.guards_headers.get());
    Ok(Some(encoding.digest()))
}

/// Notes on which terms the client of `ssl` was asked. To be called at the end of a handshake.
pub fn note(ssl: &SslRef, state: &ClientState) {
    if !state.certificate_requested.get() || ssl.session_reused() {
        return;
    }
    let name = ssl::server_name(ssl);
    let (Some(zone), Some(configuration), Some(binding)) =
        (zone_of(ssl), configuration_of(ssl), binding_of(ssl, name))
    else {
        return;
    };
    // Clients of which no session is kept must not resume one either.
    let terms = terms(ssl, state).terms.filter(|_| !state.reuse_disabled.get());
    let is_verified =
        ssl.verify_result() == X509VerifyResult::OK && ssl.peer_certificate().is_some();
    let part = if is_verified { Part::Main } else { Part::Strangers };
    Place::new(&configuration, &binding).note(Some(zone), part, terms);
}
