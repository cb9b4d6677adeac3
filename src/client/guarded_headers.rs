// SPDX-License-Identifier: Apache-2.0

//! The headers that name a consumer, which only the gateway may set: what a client sends under
//! their names is taken away before any phase of the request reads it.
//!
//! Not in each server: the same nginx may have one behind the gateway, which is told by them.

use std::rc::Rc;

use crate::client::connection::{ClientError, ClientState, client_ssl};
use crate::client::header_names::{Stripping, is_guarded};
use crate::client::hook;
use crate::client::session_data::SessionData;
use crate::conf;
use crate::nginx::pool::OutOfMemory;
use crate::nginx::request::Request;
use crate::openssl::ssl;

/// Says that the server of `request`, which may be in its handshake, is the gateway: its headers
/// are for us to set, on all connections of the client that come of this.
pub fn guard(request: Request<'_>) -> Result<(), ClientError> {
    if let Some(server) = conf::server_conf_of(request) {
        server.is_gateway.set(true);
    }
    let ssl = client_ssl(request)?;
    let state = hook::watch(ssl, ssl::server_name(ssl))?;
    state.guards_headers.set(true);
    Ok(())
}

/// Takes from `request`, of a server that is the gateway, what only we may set.
pub fn strip(request: Request<'_>) -> Result<(), OutOfMemory> {
    if let Some(server) = conf::server_conf_of(request) {
        server.is_gateway.set(true);
    }
    request.remove_headers(|name| is_guarded(name, &[]))
}

/// As [`strip`], before any phase of the request: wherever that is known to be right.
pub fn strip_early(request: Request<'_>) -> Result<(), OutOfMemory> {
    let Some(server) = conf::server_conf_of(request) else {
        return Ok(());
    };
    let others = match server.strip_headers.get().map(Rc::as_ref) {
        Some(Stripping::On(others)) => &others[..],
        Some(Stripping::Off) => return Ok(()),
        None if server.is_gateway.get() || is_guarded_connection(request) => &[],
        None => return Ok(()),
    };
    request.remove_headers(|name| is_guarded(name, others))
}

/// Whether a plugin has said so in the handshake of the client, or in that whose session it has
/// resumed.
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
