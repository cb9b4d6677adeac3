// SPDX-License-Identifier: Apache-2.0

//! Headers that name a consumer, which only the gateway may set: removes what a client sends under
//! their names, before any phase of the request reads it.
//!
//! This must not apply to every server: another server of the same nginx may be behind the gateway,
//! and receive these headers from it.

use std::rc::Rc;

use crate::client::connection::{ClientError, ClientState, client_ssl};
use crate::client::header_names::{Stripping, is_guarded};
use crate::client::hook;
use crate::client::session_data::SessionData;
use crate::conf::ServerConf;
use crate::nginx::own_conf::OwnConf;
use crate::nginx::pool::OutOfMemory;
use crate::nginx::request::Request;
use crate::openssl::ssl;

/// Marks the server of `request`, which may be in its handshake, as the gateway: on this
/// connection, and on those that resume its session, clients may not set the guarded headers.
pub fn guard(request: Request<'_>) -> Result<(), ClientError> {
    if let Some(server) = ServerConf::of_request(request) {
        server.is_gateway.set(true);
    }
    let ssl = client_ssl(request)?;
    let state = hook::watch(ssl, ssl::server_name(ssl))?;
    state.guards_headers.set(true);
    state.terms.take();
    Ok(())
}

/// Removes the guarded headers from `request`, whose server is the gateway, and the headers that
/// services may take for one of `others`.
pub fn strip<'a>(
    request: Request<'_>,
    others: impl Iterator<Item = &'a [u8]> + Clone,
) -> Result<(), OutOfMemory> {
    if let Some(server) = ServerConf::of_request(request) {
        server.is_gateway.set(true);
    }
    request.remove_headers(|name| is_guarded(name, others.clone()))
}

/// Removes the guarded headers from `request` before any of its phases, if its server or its
/// connection is already known to be the gateway's, or if it has `kong_tls_strip_headers on`.
/// Removes nothing with `kong_tls_strip_headers off`.
pub fn strip_early(request: Request<'_>) -> Result<(), OutOfMemory> {
    let Some(server) = ServerConf::of_request(request) else {
        return Ok(());
    };
    let others = match server.strip_headers.get().map(Rc::as_ref) {
        Some(Stripping::On(others)) => &others[..],
        Some(Stripping::Off) => return Ok(()),
        None if server.is_gateway.get() || is_guarded_connection(request) => &[],
        None => return Ok(()),
    };
    request.remove_headers(|name| is_guarded(name, others.iter().map(Box::as_ref)))
}

/// Returns whether a plugin has called [`guard`] in the client's handshake, or in the handshake of
/// the session that it has resumed.
fn is_guarded_connection(request: Request<'_>) -> bool {
    let Ok(ssl) = client_ssl(request) else {
        return false;
    };
    if ssl.session_reused() {
        let data = ssl.session().and_then(SessionData::of);
        return data.is_some_and(|data| data.guards_headers);
    }
    ClientState::find(ssl).is_some_and(|state| state.guards_headers.get())
}
