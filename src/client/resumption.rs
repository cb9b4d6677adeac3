//! Which of their sessions clients may resume.
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
use ngx::ffi::ngx_conf_t;
use openssl::ssl::{SslContext, SslRef, SslSession, SslSessionRef};
use openssl::x509::X509VerifyResult;
use openssl_sys::{SSL, SSL_SESSION};

pub use crate::client::binding::Configuration;
use crate::client::binding::{Binding, is_same_name, random};
use crate::client::connection::DownstreamConnection;
use crate::client::hook::{self, HandshakeError};
use crate::client::intermediates::{self, Intermediates, NotKept};
use crate::client::names::{self, KnownNames};
use crate::client::session_data::{Asked, Presented, SessionData};
use crate::module::{self, MainConf, ServerConf};
use crate::nginx::connection::process_log;
use crate::nginx::panic::guard;
use crate::nginx::server::{ClientConnection, Servers};
use crate::openssl::error::SslError;
use crate::openssl::session::{self, GetSessionCallback, Offered};
use crate::openssl::ssl;

/// The binding for the client of `ssl`, in its handshake.
fn binding_of(ssl: &SslRef, name: Option<&[u8]>) -> Option<Binding> {
    let client = client(ssl)?;
    // SAFETY: ours is in its place.
    let main_conf: &MainConf =
        unsafe { client.default_server().main_configuration(module::index())? };
    Some(Binding::new(main_conf.resumption.get()?, client.address(), name))
}

fn client(ssl: &SslRef) -> Option<ClientConnection<'_>> {
    // SAFETY: we are called in the first handshake of clients of the servers that we have callbacks
    // on, and nginx allows for no other.
    unsafe { ClientConnection::in_handshake(ssl) }
}

/// What the client of `ssl` has presented in this handshake.
fn presented(ssl: &SslRef) -> Result<Presented, SslError> {
    match ssl.peer_cert_chain() {
        Some(chain) if !chain.is_empty() => match intermediates::keep(chain, is_verified(ssl)) {
            Ok(digest) => Ok(Presented::Chain(digest)),
            Err(NotKept::TooLong) => Ok(Presented::TooLong),
            Err(NotKept::Ssl(errors)) => Err(SslError::new("i2d_X509", errors)),
        },
        _ => Ok(Presented::LeafAtMost),
    }
}

fn is_verified(ssl: &SslRef) -> bool {
    ssl.verify_result() == X509VerifyResult::OK
}

/// What is known of the first handshake on a connection that resumes a session bound to its name.
#[derive(Clone)]
pub struct FirstHandshake {
    /// Which session it is of: a client may offer several.
    asked: Asked,
    /// What the client had presented, but for its own certificate.
    intermediates: Intermediates,
    /// The other names that the result of its verification counts for.
    names: Option<KnownNames>,
}

impl FirstHandshake {
    /// Of the session that `ssl` has resumed; `None` if it has resumed none, or none that is bound.
    fn of(ssl: &SslRef) -> Option<Self> {
        if !ssl.session_reused() {
            return None;
        }
        let first = DownstreamConnection::find(ssl)?.first_handshake.borrow().clone()?;
        let resumed = SessionData::of(ssl.session()?)?.asked?;
        (resumed == first.asked).then_some(first)
    }
}

/// What the client had presented in the first handshake of the session that `ssl` has resumed, but
/// for its own certificate; `None` if that is not known.
pub fn intermediates_of_first_handshake(ssl: &SslRef) -> Option<Intermediates> {
    FirstHandshake::of(ssl).map(|first| first.intermediates)
}

/// The other names that the result of the client's verification counts for, in the first handshake
/// of the session that `ssl` has resumed.
pub fn names_of_first_handshake(ssl: &SslRef) -> Option<KnownNames> {
    FirstHandshake::of(ssl)?.names
}

/// Makes the new session of `ssl` remember what there is to remember, and binds it, if its client
/// is asked, to the name that the client asks for. To be called whenever the handshake has gone on:
/// after a `HelloRetryRequest` the session is another one, though nobody is told.
pub fn bind(ssl: &SslRef, state: &DownstreamConnection) -> Result<(), HandshakeError> {
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
    let asked = match remembered.asked.filter(|_| is_asked && !has_answered) {
        Some(asked) => Some(Asked { names, ..asked }),
        None if is_asked => Some(Asked { presented: presented(ssl)?, names }),
        None => None,
    };
    let data = SessionData { asked, guards_headers };
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

/// Takes a [`Binding`] from a connection that has offered a session: OpenSSL has looked at the
/// session. After a `HelloRetryRequest` the client may offer another one.
pub fn take_binding(ssl: &SslRef, state: &DownstreamConnection) -> Result<(), HandshakeError> {
    if state.has_binding.replace(false) {
        session::set_id_context_of_connection(ssl, &random()?)?;
    }
    Ok(())
}

/// Whether a session that only nginx has made is for `name`. What a client has proven counts for
/// the name that it was asked under, whoever had asked (RFC 6066, section 3; CVE-2025-23419).
fn is_for_name(session: &SslSessionRef, name: Option<&[u8]>) -> bool {
    !session::has_peer_certificate(session) || is_same_name(name, session::server_name(session))
}

/// Whether Lua code may ask the client, which asks for `name`. Where it can't, nginx decides about
/// sessions that only nginx has made.
fn may_be_asked(client: ClientConnection<'_>, name: Option<&[u8]>) -> Option<bool> {
    // SAFETY: ours is in its place.
    unsafe {
        let main_conf: &MainConf = client.default_server().main_configuration(module::index())?;
        if !main_conf.asking.is_possible() {
            return Some(false);
        }
        let Some(server) = client.server_of(name) else {
            return Some(true);
        };
        let server_conf: &ServerConf = server.configuration(module::index())?;
        Some(server_conf.certificate_by_lua.get())
    }
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

/// Where the sessions of the clients of an address are, but for those in tickets. Of the default
/// server, whose context the handshakes begin with.
pub struct Sessions {
    /// The context, if it has OpenSSL's own cache. OpenSSL would take a session from there without
    /// asking anybody, so it is us who look.
    internal: Option<SslContext>,
    /// Who was to find others.
    callback: Option<GetSessionCallback>,
}

impl Sessions {
    /// Looks where OpenSSL would have looked first.
    fn find_in_internal_cache(
        &self,
        ssl: &SslRef,
        id: &[u8],
    ) -> Result<Option<SslSession>, SslError> {
        match &self.internal {
            Some(context) => session::find_in_internal_cache(context, ssl, id),
            None => Ok(None),
        }
    }
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
            let server_conf: Option<&ServerConf> = client(ssl_ref)
                .and_then(|client| client.default_server().configuration(module::index()));
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
///
/// # Safety
/// `cf` must be valid, and inside `http {}`, with all of it read, and `main_conf` ours of it.
pub unsafe fn postconfiguration(cf: *mut ngx_conf_t, main_conf: &MainConf) -> Result<(), SslError> {
    if !main_conf.asking.has_phase() {
        return Ok(());
    }
    let _ = main_conf.resumption.set(Configuration::new()?);
    // SAFETY: by contract.
    let Some(servers) = (unsafe { Servers::new(cf) }) else {
        return Ok(());
    };
    for server in servers.all() {
        // SAFETY: ours is in its place.
        let server_conf: Option<&ServerConf> = unsafe { server.configuration(module::index()) };
        let (Some(context), Some(server_conf)) = (servers.ssl_context(server), server_conf) else {
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
