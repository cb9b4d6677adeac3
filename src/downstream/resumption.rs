//! Which of their sessions clients may resume.
//!
//! A resumed session brings along the certificate of its first handshake, and what came of the
//! verification then; nobody is asked again. That holds under the name (SNI) that the client had asked
//! for, and not under another, which may have other clients. nginx goes by the server that a connection
//! comes to first, so that all of its names share their sessions.
//!
//! OpenSSL resumes a session only if it has the session id context of the connection. So a session
//! whose client we have asked gets a context that no connection has of its own: a [`Binding`]. One that
//! offers such a session under the same name gets it, for as long as OpenSSL takes to look at the
//! session. Wherever a session is kept, and whoever finds it, it is of no use without.

use std::ffi::{c_int, c_uchar, c_void};

use foreign_types::ForeignTypeRef;
use ngx::ffi::ngx_conf_t;
use openssl::ssl::{SslRef, SslSessionRef};
use openssl_sys::{SSL, SSL_SESSION};

use super::connection::DownstreamConnection;
use super::handshake;
use super::intermediates::{self, Intermediates, NotKept};
use crate::module::{self, MainConf, ServerConf};
use crate::nginx::connection::process_log;
use crate::nginx::panic::guard;
use crate::nginx::server::{ClientConnection, Server, Servers};
use crate::openssl::error::SslError;
use crate::openssl::fingerprint::Encoding;
use crate::openssl::session::{self, ID_CONTEXT, Offered};
use crate::openssl::ssl;

/// What binds the sessions of a configuration to it: different in each, and the same in all workers.
pub struct Configuration([u8; 32]);

impl Configuration {
    /// Another one.
    pub fn new() -> Result<Self, SslError> {
        random().map(Self)
    }
}

fn random() -> Result<[u8; 32], SslError> {
    let mut bytes = [0; 32];
    openssl::rand::rand_bytes(&mut bytes).map_err(|errors| SslError::new("RAND_bytes", errors))?;
    Ok(bytes)
}

/// The session id context of sessions whose clients were asked for a certificate.
#[derive(Debug, PartialEq, Eq)]
struct Binding([u8; ID_CONTEXT]);

impl Binding {
    /// For the `name` that a client asks for at the address whose default server is at `server`.
    fn new(configuration: &Configuration, server: usize, name: Option<&[u8]>) -> Self {
        let mut encoding = Encoding::new();
        encoding.bytes(&configuration.0);
        encoding.number(server as u64);
        encoding.optional(name, |encoding, name| encoding.bytes(&name.to_ascii_lowercase()));
        Self(encoding.digest())
    }

    /// For the client of `ssl`, in its handshake.
    fn of(ssl: &SslRef, name: Option<&[u8]>) -> Option<Self> {
        let server = default_server(ssl)?;
        // SAFETY: ours is in its place.
        let main_conf: &MainConf = unsafe { server.main_configuration(module::index())? };
        Some(Self::new(main_conf.resumption.get()?, server.address(), name))
    }
}

fn default_server(ssl: &SslRef) -> Option<Server<'_>> {
    // SAFETY: we are called in the first handshake of clients of the servers that we have callbacks
    // on, and nginx allows for no other.
    unsafe { ClientConnection::in_handshake(ssl).map(ClientConnection::default_server) }
}

/// What a session remembers of the certificates that its client presented when we asked for them, as
/// its application data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presented {
    /// None, or one that stands alone.
    LeafAtMost,
    /// One with intermediates.
    Chain(intermediates::Digest),
    /// More than we keep.
    TooLong,
}

impl Presented {
    fn to_bytes(self) -> Vec<u8> {
        match self {
            Self::LeafAtMost => vec![1],
            Self::Chain(digest) => [&[2][..], &digest].concat(),
            Self::TooLong => vec![3],
        }
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [1] => Some(Self::LeafAtMost),
            [2, digest @ ..] => digest.try_into().ok().map(Self::Chain),
            [3] => Some(Self::TooLong),
            _ => None,
        }
    }

    /// Of what the client has presented in this handshake.
    fn by(ssl: &SslRef) -> Result<Self, SslError> {
        match ssl.peer_cert_chain() {
            Some(chain) if !chain.is_empty() => match intermediates::keep(chain) {
                Ok(digest) => Ok(Self::Chain(digest)),
                Err(NotKept::TooLong) => Ok(Self::TooLong),
                Err(NotKept::Ssl(errors)) => Err(SslError::new("i2d_X509", errors)),
            },
            _ => Ok(Self::LeafAtMost),
        }
    }
}

/// What is known of the first handshake on a connection that resumes a session bound to its name.
#[derive(Clone)]
pub struct FirstHandshake {
    /// What the client had presented, but for its own certificate.
    pub intermediates: Option<Intermediates>,
}

/// Binds the new session of `ssl`, if its client is asked, to the name that the client asks for, and
/// makes it remember what the client presents. To be called whenever the handshake has gone on: after a
/// `HelloRetryRequest` the session is another one, though nobody is told.
pub fn bind(ssl: &SslRef, state: &DownstreamConnection) {
    if !state.certificate_requested.get() || ssl.session_reused() {
        return;
    }
    let Some(session) = ssl.session() else {
        return;
    };
    let is_bound = !session::application_data(session).is_empty();
    let has_answered = !state.has_answered.get() && ssl.peer_cert_chain().is_some();
    if is_bound && !has_answered {
        return;
    }
    state.has_answered.set(has_answered);
    if let Err(error) = bind_session(ssl, session) {
        process_log().error(format_args!("a client's handshake is refused: {error}"));
        ssl::refuse_handshake(ssl);
    }
}

/// Why a session could not be bound.
#[derive(Debug, thiserror::Error)]
enum BindError {
    #[error("its TLS session belongs to no server")]
    NoServer,
    #[error(transparent)]
    Ssl(#[from] SslError),
}

fn bind_session(ssl: &SslRef, session: &SslSessionRef) -> Result<(), BindError> {
    let Binding(context) = Binding::of(ssl, ssl::server_name(ssl)).ok_or(BindError::NoServer)?;
    session::set_id_context(session, &context)?;
    session::set_application_data(session, &Presented::by(ssl)?.to_bytes())?;
    Ok(())
}

/// Takes a [`Binding`] from a connection that has offered a session: OpenSSL has looked at the session.
/// After a `HelloRetryRequest` the client may offer another one, under another name.
pub fn take_binding(ssl: &SslRef, state: &DownstreamConnection) {
    if !state.has_binding.replace(false) {
        return;
    }
    let taken = random().and_then(|nobody| session::set_id_context_of_connection(ssl, &nobody));
    if let Err(error) = taken {
        process_log().error(format_args!("a client's handshake is refused: {error}"));
        ssl::refuse_handshake(ssl);
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
    let data = session::application_data(session);
    if data.is_empty() {
        // A session of nginx's own. What a client has proven counts for the name that it was asked
        // under, whoever had asked (RFC 6066, section 3; CVE-2025-23419).
        if !session::has_peer_certificate(session) {
            return Some(true);
        }
        let name = session::server_name_of_client_hello(ssl).ok()?;
        return Some(is_same_name(name, session::server_name(session)));
    }

    let name = session::server_name_of_client_hello(ssl).ok()?;
    let binding = Binding::of(ssl, name)?;
    if session::id_context(session) != binding.0 {
        return Some(false);
    }
    let intermediates = match Presented::from_bytes(data)? {
        Presented::LeafAtMost => None,
        Presented::Chain(digest) => Some(intermediates::find(&digest)?),
        Presented::TooLong => return Some(false),
    };
    let state = DownstreamConnection::find_or_make(ssl).ok()?;
    handshake::watch(ssl);
    session::set_id_context_of_connection(ssl, &binding.0).ok()?;
    state.has_binding.set(true);
    state.first_handshake.replace(Some(FirstHandshake { intermediates }));
    Some(true)
}

/// Whether two names, or the lack of them, are the same.
pub fn is_same_name(one: Option<&[u8]>, other: Option<&[u8]>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
        (None, None) => true,
        _ => false,
    }
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
            // SAFETY: OpenSSL calls with a valid SSL, and where there is something to judge, with the
            // session of the ticket.
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
    guard("session cache", process_log(), std::ptr::null_mut(), || {
        // SAFETY: OpenSSL calls with a valid SSL. The callback that was there before ours gets what it
        // would have got without us.
        unsafe {
            let ssl_ref = SslRef::from_ptr(ssl);
            let server_conf: Option<&ServerConf> =
                default_server(ssl_ref).and_then(|server| server.configuration(module::index()));
            let Some(get) = server_conf.and_then(|server_conf| server_conf.get_session.get())
            else {
                return std::ptr::null_mut();
            };
            let found = get(ssl, id, length, copy);
            if let Some(session) = session::found(found) {
                if judge(ssl_ref, session) == Offered::Ignore {
                    if *copy == 0 {
                        openssl_sys::SSL_SESSION_free(found);
                    }
                    return std::ptr::null_mut();
                }
            }
            found
        }
    })
}

/// Installs our callbacks on the contexts of all servers. To be called in *postconfiguration*.
///
/// # Safety
/// `cf` must be valid, and inside `http {}`, with all of it read, and `main_conf` ours of it.
pub unsafe fn postconfiguration(cf: *mut ngx_conf_t, main_conf: &MainConf) -> Result<(), SslError> {
    let _ = main_conf.resumption.set(Configuration::new()?);
    // SAFETY: by contract.
    let Some(servers) = (unsafe { Servers::new(cf) }) else {
        return Ok(());
    };
    for server in servers.all() {
        let Some(context) = servers.ssl_context(server) else {
            continue;
        };
        session::set_decrypt_ticket_callback(context, decrypt_ticket)?;
        if let Some(get) = session::get_session_callback(context) {
            // SAFETY: ours is in its place.
            let server_conf: Option<&ServerConf> = unsafe { server.configuration(module::index()) };
            if let Some(server_conf) = server_conf {
                server_conf.get_session.set(Some(get));
                // SAFETY: `get_session` calls the one that was there.
                unsafe { session::set_get_session_callback(context, get_session) };
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_is_of_a_configuration_an_address_and_a_name() {
        let (one, other) = (Configuration([1; 32]), Configuration([2; 32]));
        let binding = Binding::new(&one, 1, Some(b"a.test"));
        assert_eq!(binding, Binding::new(&one, 1, Some(b"A.TEST")));
        for (configuration, server, name) in [
            (&other, 1, Some(&b"a.test"[..])),
            (&one, 2, Some(b"a.test")),
            (&one, 1, Some(b"b.test")),
            (&one, 1, Some(b"")),
            (&one, 1, None),
        ] {
            assert_ne!(binding, Binding::new(configuration, server, name));
        }
    }

    #[test]
    fn what_was_presented_is_read_as_it_was_written() {
        for presented in [Presented::LeafAtMost, Presented::Chain([7; 32]), Presented::TooLong] {
            assert_eq!(Presented::from_bytes(&presented.to_bytes()), Some(presented));
        }
        for bytes in [&b""[..], b"\0", b"\x01\x01", b"\x02", &[2; 32], &[2; 34], b"\x04"] {
            assert_eq!(Presented::from_bytes(bytes), None);
        }
    }

    #[test]
    fn names() {
        assert!(is_same_name(Some(b"a.test"), Some(b"A.test")));
        assert!(is_same_name(None, None));
        assert!(!is_same_name(Some(b"a.test"), Some(b"b.test")));
        assert!(!is_same_name(Some(b"a.test"), None));
        assert!(!is_same_name(None, Some(b"")));
    }
}
