// SPDX-License-Identifier: Apache-2.0

//! The result of verifying a client counts for the name under which the client was asked. A request
//! for another server on that connection is answered with 421 (RFC 9110, section 7.4), as nginx
//! answers with `ssl_verify_client`.

use std::fmt;

use openssl::ssl::SslRef;

use crate::client::connection::{ClientState, client_ssl};
use crate::client::names::{self, KnownNames};
use crate::client::session_binding;
use crate::client::session_data::SessionData;
use crate::conf;
use crate::nginx::request::Request;
use crate::openssl::ssl;

/// A request that must not be served on its connection.
#[derive(Debug)]
pub struct Misdirected<'a> {
    who_asked: &'static str,
    /// The server name (SNI) under which the client was asked, if it sent one.
    asked_under: Option<&'a [u8]>,
    /// The host that the request is for.
    host: &'a [u8],
}

impl fmt::Display for Misdirected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { who_asked, asked_under, host } = self;
        write!(f, "{who_asked} asked the client for its certificate under ")?;
        match asked_under {
            Some(name) => write!(f, "\"{}\"", name.escape_ascii())?,
            None => write!(f, "no name")?,
        }
        write!(
            f,
            ", and it requests \"{}\", for which the answer does not count",
            host.escape_ascii()
        )
    }
}

/// Returns why `request` must not be served on its connection, if so.
pub fn check(request: Request<'_>) -> Option<Misdirected<'_>> {
    let ssl = client_ssl(request).ok()?;
    let state = ClientState::find(ssl);
    let (who_asked, asked_under, others) = match asked_by_lua(ssl, state) {
        Some(others) => {
            let name = state.and_then(|state| state.server_name.get());
            ("Lua code", name.and_then(Option::as_deref), others)
        }
        // Where Lua code can't ask clients, nginx makes this check itself.
        None if conf::may_be_asked(request) && has_certificate(ssl) => {
            ("nginx", ssl::server_name(ssl), None)
        }
        None => return None,
    };
    let host = request.host();
    let is_right = match asked_under {
        Some(_) if host.is_empty() => request.is_for_server_of_connection(),
        Some(name) => {
            names::normalized(name).eq_ignore_ascii_case(host)
                || others.is_some_and(|others| others.names.contain(host))
        }
        None => {
            request.is_for_server_of_connection()
                || others.is_some_and(|others| others.names.contain(host))
        }
    };
    (!is_right).then_some(Misdirected { who_asked, asked_under, host })
}

/// Returns whether Lua code has asked the client of `ssl`, in this handshake or in the first
/// handshake of the resumed session; if so, with the other names that the result counts for.
fn asked_by_lua(ssl: &SslRef, state: Option<&ClientState>) -> Option<Option<KnownNames>> {
    if ssl.session_reused() {
        SessionData::of(ssl.session()?)?.asked?;
        return Some(session_binding::names_of_first_handshake(ssl));
    }
    let state = state?;
    state.certificate_requested.get().then(|| state.names.borrow().clone())
}

fn has_certificate(ssl: &SslRef) -> bool {
    ssl.peer_certificate().is_some()
}
