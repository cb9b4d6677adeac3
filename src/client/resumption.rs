// SPDX-License-Identifier: Apache-2.0

//! Decides which sessions clients may resume.
//!
//! A resumed session brings along the client certificate of its first handshake, and the result of
//! verifying it; the client is not asked again. That counts for the server name (SNI) that the
//! client asked for then, but not for another name, which may have other clients. nginx goes by the
//! server that a connection first comes to, so that all names of that server share their sessions.
//!
//! OpenSSL resumes a session only if it has the session id context of the connection. So a session
//! whose client Lua code has asked gets a session id context that no connection has by default: a
//! [`Binding`]. A connection that offers such a session under the same name gets that context,
//! until OpenSSL has checked the session. So it does not matter where a session is kept, or who
//! presents it: without the right name it is useless.
//!
//! [`Binding`]: crate::client::binding::Binding

#![allow(unsafe_code, reason = "which callback was replaced, is said here")]

use openssl::ssl::{SslRef, SslSessionRef};

use crate::client::binding::{Configuration, is_same_name};
use crate::client::first_handshake::FirstHandshake;
use crate::client::intermediates::{self, Intermediates};
use crate::client::session_binding::{binding_of, zone_of};
use crate::client::session_data::{Presented, SessionData};
use crate::client::session_source::Sessions;
use crate::client::{hook, names, session_terms, ticket_keys};
use crate::conf::{MainConf, ServerConf};
use crate::nginx::conf_parser::ConfParser;
use crate::nginx::own_conf::OwnConf;
use crate::nginx::server::{ClientConnection, Servers};
use crate::nginx::tls_callbacks::{Lookup, OfferedSessions};
use crate::openssl::error::SslError;
use crate::openssl::session::{self, Offered};

/// Returns whether a session whose client Lua code has not asked is for `name`. A client
/// certificate counts only for the name under which it was asked for, whether by Lua code or by
/// nginx (RFC 6066, section 3; CVE-2025-23419).
fn is_for_name(session: &SslSessionRef, name: Option<&[u8]>) -> bool {
    !session::has_peer_certificate(session) || is_same_name(name, session::server_name(session))
}

/// Returns whether Lua code may ask a client that asks for `name`. Where it can't, nginx decides
/// about sessions whose clients Lua code has not asked.
fn may_be_asked(client: ClientConnection<'_>, name: Option<&[u8]>) -> Option<bool> {
    if !MainConf::of_server(client.default_server())?.asking.is_possible() {
        return Some(false);
    }
    let Some(server) = client.server_of(name) else {
        return Some(true);
    };
    Some(ServerConf::of_server(server)?.certificate_by_lua.get())
}

fn may_resume(ssl: &SslRef, session: &SslSessionRef) -> Option<bool> {
    let name = session::server_name_of_client_hello(ssl).ok()?;
    let Some(asked) = SessionData::of(session)?.asked else {
        return Some(
            !may_be_asked(ClientConnection::find(ssl)?, name)? || is_for_name(session, name),
        );
    };

    let binding = binding_of(ssl, name)?;
    if session::id_context(session) != binding.0 {
        return Some(false);
    }
    if !session_terms::still_hold(ssl, name, &binding, &asked)? {
        return Some(false);
    }
    let zone = zone_of(ssl);
    let intermediates = match asked.presented {
        Presented::LeafAtMost => Intermediates::default(),
        Presented::Chain(digest) => intermediates::find(zone, &digest)?,
        Presented::TooLong => return Some(false),
    };
    let names = match asked.names {
        Some(digest) => Some(names::find(zone, &digest)?),
        None => None,
    };
    let state = hook::watch(ssl, name).ok()?;
    session::set_id_context_of_connection(ssl, &binding.0).ok()?;
    state.has_binding.set(true);
    state.first_handshake.replace(Some(FirstHandshake { asked, intermediates, names }));
    Some(true)
}

struct Resumption;

// SAFETY: `postconfiguration` keeps the callback of a server's context with the server, and a
// handshake begins with the context of the default server of its address.
unsafe impl OfferedSessions for Resumption {
    fn mark(ssl: &SslRef) -> Result<(), SslError> {
        ticket_keys::mark(ssl)
    }

    fn judge_ticket(ssl: &SslRef, session: &SslSessionRef) -> Offered {
        if ticket_keys::is_from_here(ssl, session) {
            Self::judge(ssl, session)
        } else {
            Offered::Ignore
        }
    }

    fn judge(ssl: &SslRef, session: &SslSessionRef) -> Offered {
        match may_resume(ssl, session) {
            Some(true) => Offered::Resume,
            Some(false) | None => Offered::Ignore,
        }
    }

    fn find(ssl: &SslRef, id: &[u8]) -> Lookup {
        let server_conf = ClientConnection::find(ssl)
            .and_then(|client| ServerConf::of_server(client.default_server()));
        let Some(sessions) = server_conf.and_then(|server_conf| server_conf.sessions.get()) else {
            return Lookup::Nowhere;
        };
        // Out of memory counts as not found, as in OpenSSL.
        if let Ok(Some(session)) = sessions.find_in_internal_cache(ssl, id) {
            return Lookup::Found(session);
        }
        sessions.callback.map_or(Lookup::Nowhere, Lookup::Ask)
    }
}

/// Installs the callbacks on the contexts of all servers, if Lua code may ask clients of any of
/// them. To be called in *postconfiguration*.
pub fn postconfiguration(parser: ConfParser<'_>, main_conf: &MainConf) -> Result<(), SslError> {
    if !main_conf.asking.has_phase() {
        return Ok(());
    }
    let _ = main_conf.resumption.set(Configuration::new()?);
    let Some(servers) = Servers::new(parser) else {
        return Ok(());
    };
    for server in servers.all() {
        let (Some(context), Some(server_conf)) =
            (servers.ssl_context(server), ServerConf::of_server(server))
        else {
            continue;
        };
        session_terms::identify(server_conf, context)?;
        if !servers.keeps_sessions(server) {
            main_conf.ticket_contexts.borrow_mut().push(context.to_owned());
        }
        Resumption::judge_tickets_of(context)?;
        let callback = session::get_session_callback(context);
        let has_internal_cache = session::take_over_internal_cache(context);
        if has_internal_cache || callback.is_some() {
            let internal = has_internal_cache.then(|| context.to_owned());
            let _ = server_conf.sessions.set(Sessions { internal, callback });
            Resumption::find_for(context);
        }
    }
    Ok(())
}
