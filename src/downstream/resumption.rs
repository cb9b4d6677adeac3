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
use std::ptr::NonNull;

use foreign_types::ForeignTypeRef;
use ngx::ffi::ngx_conf_t;
use openssl::ssl::{SslContextRef, SslRef, SslSessionRef, SslVersion};
use openssl::x509::X509VerifyResult;
use openssl_sys::{SSL, SSL_SESSION};

use super::connection::DownstreamConnection;
use super::handshake::{self, HandshakeError};
use super::intermediates::{self, Intermediates, NotKept};
use crate::module::{self, MainConf, ServerConf};
use crate::nginx::connection::process_log;
use crate::nginx::panic::guard;
use crate::nginx::pool::{OutOfMemory, Pool};
use crate::nginx::server::{ClientConnection, Servers};
use crate::openssl::error::SslError;
use crate::openssl::fingerprint::Encoding;
use crate::openssl::session::{self, ID_CONTEXT, Offered};
use crate::openssl::ssl::{self, ContextIndex, InfoCallback};

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
    /// For the `name` that a client asks for at `address`.
    fn new(configuration: &Configuration, address: usize, name: Option<&[u8]>) -> Self {
        let mut encoding = Encoding::new();
        encoding.bytes(&configuration.0);
        encoding.number(address as u64);
        encoding.optional(name, |encoding, name| encoding.bytes(&name.to_ascii_lowercase()));
        Self(encoding.digest())
    }

    /// For the client of `ssl`, in its handshake.
    fn of(ssl: &SslRef, name: Option<&[u8]>) -> Option<Self> {
        let client = client(ssl)?;
        // SAFETY: ours is in its place.
        let main_conf: &MainConf =
            unsafe { client.default_server().main_configuration(module::index())? };
        Some(Self::new(main_conf.resumption.get()?, client.address(), name))
    }
}

fn client(ssl: &SslRef) -> Option<ClientConnection<'_>> {
    // SAFETY: we are called in the first handshake of clients of the servers that we have callbacks
    // on, and nginx allows for no other.
    unsafe { ClientConnection::in_handshake(ssl) }
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
            Some(chain) if !chain.is_empty() => {
                match intermediates::keep(chain, is_verified(ssl)) {
                    Ok(digest) => Ok(Self::Chain(digest)),
                    Err(NotKept::TooLong) => Ok(Self::TooLong),
                    Err(NotKept::Ssl(errors)) => Err(SslError::new("i2d_X509", errors)),
                }
            }
            _ => Ok(Self::LeafAtMost),
        }
    }
}

fn is_verified(ssl: &SslRef) -> bool {
    ssl.verify_result() == X509VerifyResult::OK
}

/// What is known of the first handshake on a connection that resumes a session bound to its name.
#[derive(Clone)]
pub struct FirstHandshake {
    /// Which session it is of: a client may offer several.
    presented: Presented,
    /// What the client had presented, but for its own certificate.
    intermediates: Intermediates,
}

/// What the client had presented in the first handshake of the session that `ssl` has resumed, but for
/// its own certificate; `None` if that is not known.
pub fn intermediates_of_first_handshake(ssl: &SslRef) -> Option<Intermediates> {
    if !ssl.session_reused() {
        return None;
    }
    let FirstHandshake { presented, intermediates } =
        DownstreamConnection::find(ssl)?.first_handshake.borrow().clone()?;
    let resumed = Presented::from_bytes(session::application_data(ssl.session()?))?;
    (resumed == presented).then_some(intermediates)
}

/// Binds the new session of `ssl`, if its client is asked, to the name that the client asks for, and
/// makes it remember what the client presents. To be called whenever the handshake has gone on: after a
/// `HelloRetryRequest` the session is another one, though nobody is told.
pub fn bind(ssl: &SslRef, state: &DownstreamConnection) -> Result<(), HandshakeError> {
    if !state.certificate_requested.get() || ssl.session_reused() {
        return Ok(());
    }
    let Some(session) = ssl.session() else {
        return Ok(());
    };
    let is_bound = !session::application_data(session).is_empty();
    let has_answered = !state.has_answered.get() && ssl.peer_cert_chain().is_some();
    if is_bound && !has_answered {
        return Ok(());
    }
    state.has_answered.set(has_answered);

    let Binding(context) =
        Binding::of(ssl, ssl::server_name(ssl)).ok_or(HandshakeError::NoServer)?;
    session::set_id_context(session, &context)?;
    session::set_application_data(session, &Presented::by(ssl)?.to_bytes())?;
    Ok(())
}

/// Takes a [`Binding`] from a connection that has offered a session: OpenSSL has looked at the session.
/// After a `HelloRetryRequest` the client may offer another one.
pub fn take_binding(ssl: &SslRef, state: &DownstreamConnection) -> Result<(), HandshakeError> {
    if state.has_binding.replace(false) {
        session::set_id_context_of_connection(ssl, &random()?)?;
    }
    Ok(())
}

/// Checks a session that OpenSSL has found by itself, in its own cache. To be called when it has.
///
/// With TLS 1.2 the name is that of the session, so that the request is one for it.
fn check_found(ssl: &SslRef) -> Result<(), HandshakeError> {
    let is_resumed = ssl.session_reused() && ssl.version2() == Some(SslVersion::TLS1_3);
    match ssl.session() {
        Some(session) if is_resumed && !is_for_name(session, ssl::server_name(ssl)) => {
            Err(HandshakeError::SessionOfAnotherName)
        }
        _ => Ok(()),
    }
}

/// Whether a session that only nginx has made is for `name`. What a client has proven counts for the name
/// that it was asked under, whoever had asked (RFC 6066, section 3; CVE-2025-23419).
fn is_for_name(session: &SslSessionRef, name: Option<&[u8]>) -> bool {
    let is_bound = !session::application_data(session).is_empty();
    is_bound
        || !session::has_peer_certificate(session)
        || is_same_name(name, session::server_name(session))
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
        let name = session::server_name_of_client_hello(ssl).ok()?;
        return Some(is_for_name(session, name));
    }

    let name = session::server_name_of_client_hello(ssl).ok()?;
    let binding = Binding::of(ssl, name)?;
    if session::id_context(session) != binding.0 {
        return Some(false);
    }
    let presented = Presented::from_bytes(data)?;
    let intermediates = match presented {
        Presented::LeafAtMost => Intermediates::default(),
        Presented::Chain(digest) => intermediates::find(&digest)?,
        Presented::TooLong => return Some(false),
    };
    let state = handshake::watch(ssl, name).ok()?;
    session::set_id_context_of_connection(ssl, &binding.0).ok()?;
    state.has_binding.set(true);
    state.first_handshake.replace(Some(FirstHandshake { presented, intermediates }));
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
            let server_conf: Option<&ServerConf> = client(ssl_ref)
                .and_then(|client| client.default_server().configuration(module::index()));
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

/// Why our callbacks could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// OpenSSL refused.
    #[error(transparent)]
    Ssl(#[from] SslError),
    /// No memory.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// Installs our callbacks on the contexts of all servers. To be called in *postconfiguration*.
///
/// # Safety
/// `cf` must be valid, and inside `http {}`, with all of it read, and `main_conf` ours of it.
pub unsafe fn postconfiguration(
    cf: *mut ngx_conf_t,
    main_conf: &MainConf,
) -> Result<(), InstallError> {
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
        if session::has_internal_cache(context) {
            // SAFETY: the pool of a configuration lives as long as its contexts.
            let pool = unsafe { Pool::from_ptr(NonNull::new_unchecked((*cf).pool)) };
            check_internal_cache(pool, context)?;
        }
    }
    Ok(())
}

/// The info callback that a context had before ours. Lives in the pool of the configuration.
struct Previous(Option<InfoCallback>);

static PREVIOUS: ContextIndex = ContextIndex::new();

/// Has us told of the sessions that OpenSSL finds in the context's own cache, about which it asks nobody.
fn check_internal_cache(pool: Pool<'_>, context: &SslContextRef) -> Result<(), InstallError> {
    let previous = pool.keep(Previous(ssl::info_callback(context)))?;
    PREVIOUS.set(context, NonNull::from(previous).cast())?;
    // SAFETY: `info_callback` calls the one that was there.
    unsafe { ssl::set_info_callback(context, info_callback) };
    Ok(())
}

unsafe extern "C" fn info_callback(ssl: *const SSL, r#where: c_int, ret: c_int) {
    // SAFETY: OpenSSL calls with a valid SSL.
    let ssl = unsafe { SslRef::from_ptr(ssl.cast_mut()) };
    let handled = guard("client handshake", process_log(), false, || {
        let context = ssl.ssl_context();
        let previous = match PREVIOUS.data(context) {
            // SAFETY: only `check_internal_cache` sets the data at our index.
            Some(previous) => unsafe { previous.cast::<Previous>().as_ref().0 },
            // nginx has given the connection another context meanwhile.
            None => ssl::info_callback(context),
        };
        if let Some(previous) = previous {
            // SAFETY: as OpenSSL would call it.
            unsafe { previous(ssl.as_ptr(), r#where, ret) };
        }
        if handshake::is_first(ssl) {
            if let Err(error) = check_found(ssl) {
                handshake::refuse(ssl, &error);
            }
        }
        true
    });
    if !handled {
        ssl::refuse_handshake(ssl);
    }
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
