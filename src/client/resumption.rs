// SPDX-License-Identifier: Apache-2.0

//! Which of their sessions clients may resume.

#![allow(unsafe_code, reason = "OpenSSL calls it")]
//!
//! A resumed session brings along the certificate of its first handshake, and what came of the
//! verification then; nobody is asked again. That holds under the name (SNI) that the client had
//! asked for, and not under another, which may have other clients. nginx goes by the server that a
//! connection comes to first, so that all of its names share their sessions.
//!
//! OpenSSL resumes a session only if it has the session id context of the connection. So a session
//! whose client we have asked gets a context that no connection has of its own: a [`Binding`]. One
//! that offers such a session under the same name gets it, for as long as OpenSSL takes to look at
//! the session. Wherever a session is kept, and whoever finds it, it is of no use without.

use std::ffi::{c_int, c_uchar, c_void};
use std::mem::ManuallyDrop;

use foreign_types::ForeignTypeRef;
use openssl::ssl::{SslRef, SslSessionRef};
use openssl_sys::{SSL, SSL_SESSION};

use crate::client::binding::{Configuration, is_same_name};
use crate::client::first_handshake::FirstHandshake;
use crate::client::intermediates::{self, Intermediates};
use crate::client::session_binding::{binding_of, client};
use crate::client::session_data::{Presented, SessionData};
use crate::client::session_source::Sessions;
use crate::client::{hook, names};
use crate::conf::{MainConf, ServerConf};
use crate::nginx::conf_parser::ConfParser;
use crate::nginx::connection::process_log;
use crate::nginx::panic::guard;
use crate::nginx::server::{ClientConnection, Servers};
use crate::openssl::error::SslError;
use crate::openssl::session::{self, Offered};

/// Whether a session that only nginx has made is for `name`. What a client has proven counts for
/// the name that it was asked under, whoever had asked (RFC 6066, section 3; CVE-2025-23419).
fn is_for_name(session: &SslSessionRef, name: Option<&[u8]>) -> bool {
    !session::has_peer_certificate(session) || is_same_name(name, session::server_name(session))
}

/// Whether Lua code may ask the client, which asks for `name`. Where it can't, nginx decides about
/// sessions that only nginx has made.
fn may_be_asked(client: ClientConnection<'_>, name: Option<&[u8]>) -> Option<bool> {
    if !MainConf::of_server(client.default_server())?.asking.is_possible() {
        return Some(false);
    }
    let Some(server) = client.server_of(name) else {
        return Some(true);
    };
    Some(ServerConf::of_server(server)?.certificate_by_lua.get())
}

/// Judges a session that a client offers, while OpenSSL reads the `ClientHello`.
fn judge(ssl: &SslRef, session: &SslSessionRef) -> Offered {
    match may_resume(ssl, session) {
        Some(true) => Offered::Resume,
        Some(false) | None => Offered::Ignore,
    }
}

fn may_resume(ssl: &SslRef, session: &SslSessionRef) -> Option<bool> {
    let name = session::server_name_of_client_hello(ssl).ok()?;
    let Some(asked) = SessionData::of(session)?.asked else {
        return Some(!may_be_asked(client(ssl)?, name)? || is_for_name(session, name));
    };

    let binding = binding_of(ssl, name)?;
    if session::id_context(session) != binding.0 {
        return Some(false);
    }
    let intermediates = match asked.presented {
        Presented::LeafAtMost => Intermediates::default(),
        Presented::Chain(digest) => intermediates::find(&digest)?,
        Presented::TooLong => return Some(false),
    };
    let names = match asked.names {
        Some(digest) => Some(names::find(&digest)?),
        None => None,
    };
    let state = hook::watch(ssl, name).ok()?;
    session::set_id_context_of_connection(ssl, &binding.0).ok()?;
    state.has_binding.set(true);
    state.first_handshake.replace(Some(FirstHandshake { asked, intermediates, names }));
    Some(true)
}

unsafe extern "C" fn decrypt_ticket(
    ssl: *mut SSL,
    session: *mut SSL_SESSION,
    _key_name: *const c_uchar,
    _key_name_length: usize,
    status: c_int,
    _argument: *mut c_void,
) -> c_int {
    session::judge_ticket(status, || {
        guard("session ticket", process_log(), Offered::Ignore, || {
            // SAFETY: OpenSSL calls with a valid SSL, and where there is something to judge, with
            // the session of the ticket.
            unsafe { judge(SslRef::from_ptr(ssl), SslSessionRef::from_ptr(session)) }
        })
    })
}

unsafe extern "C" fn get_session(
    ssl: *mut SSL,
    id: *const c_uchar,
    length: c_int,
    copy: *mut c_int,
) -> *mut SSL_SESSION {
    const NONE: *mut SSL_SESSION = std::ptr::null_mut();

    guard("session cache", process_log(), NONE, || {
        // SAFETY: OpenSSL calls with a valid SSL, an id of this length, and a place for the answer.
        // The callback that was there before ours gets what it would have got without us. With 0 in
        // `copy`, OpenSSL takes over the reference that it is given.
        unsafe {
            let ssl_ref = SslRef::from_ptr(ssl);
            let server_conf =
                client(ssl_ref).and_then(|client| ServerConf::of_server(client.default_server()));
            let Some(sessions) = server_conf.and_then(|server_conf| server_conf.sessions.get())
            else {
                return NONE;
            };
            let id_bytes = std::slice::from_raw_parts(id, usize::try_from(length).unwrap_or(0));
            // Without memory there is none, as with OpenSSL.
            if let Ok(Some(session)) = sessions.find_in_internal_cache(ssl_ref, id_bytes) {
                if judge(ssl_ref, &session) == Offered::Ignore {
                    return NONE;
                }
                *copy = 0;
                return ManuallyDrop::new(session).as_ptr();
            }
            let Some(get) = sessions.callback else {
                return NONE;
            };
            let found = get(ssl, id, length, copy);
            if let Some(session) = session::found(found) {
                if judge(ssl_ref, session) == Offered::Ignore {
                    if *copy == 0 {
                        openssl_sys::SSL_SESSION_free(found);
                    }
                    return NONE;
                }
            }
            found
        }
    })
}

/// Installs our callbacks on the contexts of all servers, if Lua code may ask the clients of any.
/// To be called in *postconfiguration*.
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
        session::set_decrypt_ticket_callback(context, decrypt_ticket)?;
        let callback = session::get_session_callback(context);
        let has_internal_cache = session::take_over_internal_cache(context);
        if has_internal_cache || callback.is_some() {
            let internal = has_internal_cache.then(|| context.to_owned());
            let _ = server_conf.sessions.set(Sessions { internal, callback });
            // SAFETY: `get_session` calls the one that was there, and looks into the cache.
            unsafe { session::set_get_session_callback(context, get_session) };
        }
    }
    Ok(())
}
