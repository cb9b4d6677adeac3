//! The one hook into the handshakes with upstreams.
//!
//! OpenSSL calls a context's info callback when a handshake starts: after nginx has set the name,
//! the certificate and the session that the location asks for, and before a byte is sent. There the
//! request's own settings are applied. The callback can't return an error: to refuse, it leaves the
//! handshake no version of the protocol, and OpenSSL fails it at once.

use std::ffi::c_int;
use std::fmt;
use std::ptr::NonNull;

use foreign_types::ForeignTypeRef;
use openssl::ssl::{SslContextRef, SslRef};
use openssl_sys::SSL;

use super::locations::LocationTrust;
use super::settings::UpstreamTls;
use super::verify::{self, VerifyError};
use crate::nginx::connection::{Connection, Tls, process_log};
use crate::nginx::panic::guard;
use crate::nginx::pool::{OutOfMemory, Pool};
use crate::nginx::request::Request;
use crate::nginx::upstream::Upstream;
use crate::openssl::error::SslError;
use crate::openssl::ssl::{self, ContextIndex, HandshakeEvent, InfoCallback};
use crate::openssl::store;
use crate::request::RequestState;

/// What we keep for a TLS context. Lives in the pool of the configuration, as does the context.
struct ContextState {
    /// The info callback that was there before ours.
    previous: Option<InfoCallback>,
    /// What a request that turns verification on trusts.
    trust: LocationTrust,
}

static INDEX: ContextIndex = ContextIndex::new();

/// Why the hook could not be put on a context.
#[derive(Debug)]
pub enum InstallError {
    Ssl(SslError),
    OutOfMemory(OutOfMemory),
}

/// Whether `context` has the hook.
pub fn is_installed(context: &SslContextRef) -> bool {
    INDEX.data(context).is_some()
}

/// Puts the hook on the context of a location.
pub fn install(
    pool: Pool<'_>,
    context: &SslContextRef,
    trust: LocationTrust,
) -> Result<(), InstallError> {
    let previous = ssl::info_callback(context);
    let state = pool.keep(ContextState { previous, trust }).map_err(InstallError::OutOfMemory)?;
    INDEX.set(context, NonNull::from(state).cast()).map_err(InstallError::Ssl)?;
    // SAFETY: `info_callback` calls the one that was there.
    unsafe { ssl::set_info_callback(context, info_callback) };
    Ok(())
}

fn context_state(ssl: &SslRef) -> Option<&ContextState> {
    // SAFETY: our index holds what `install` has set, which lives as long as the context.
    INDEX.data(ssl.ssl_context()).map(|state| unsafe { state.cast().as_ref() })
}

unsafe extern "C" fn info_callback(ssl: *const SSL, r#where: c_int, ret: c_int) {
    // SAFETY: OpenSSL calls with a valid SSL, which nginx made.
    let ssl = unsafe { SslRef::from_ptr(ssl.cast_mut()) };

    if let Some(previous) = context_state(ssl).and_then(|state| state.previous) {
        // SAFETY: as OpenSSL would call it.
        unsafe { previous(ssl.as_ptr(), r#where, ret) };
    }
    let Some(event) = HandshakeEvent::from_where(r#where) else {
        return;
    };
    let log = Connection::from_ssl(ssl).map_or_else(process_log, Connection::log);
    let handled = guard("upstream handshake", log, false, || {
        on_event(ssl, event);
        true
    });
    if !handled {
        ssl::refuse_handshake(ssl);
    }
}

/// A handshake, and what it is for.
#[derive(Clone, Copy)]
struct Handshake<'a> {
    ssl: &'a SslRef,
    tls: Tls<'a>,
    connection: Connection<'a>,
    request: Request<'a>,
    upstream: Upstream<'a>,
}

impl<'a> Handshake<'a> {
    /// `None` for a handshake that is not the first of its connection, or not for a request.
    fn of(ssl: &'a SslRef) -> Option<Self> {
        let connection = Connection::from_ssl(ssl)?;
        let tls = connection.tls()?;
        if tls.handshaked() {
            // A renegotiation: the SSL still has the settings of its first handshake, and the
            // connection may belong to a cache of idle ones.
            return None;
        }
        let request = Request::from_upstream_connection(connection)?;
        let upstream = request.upstream()?;
        Some(Self { ssl, tls, connection, request, upstream })
    }
}

fn on_event(ssl: &SslRef, event: HandshakeEvent) {
    let Some(handshake) = Handshake::of(ssl) else {
        return;
    };
    match RequestState::with_upstream_tls(handshake.request) {
        Ok(None) => {}
        Ok(Some(state)) => match event {
            HandshakeEvent::Start => {
                let applied = apply(handshake, state);
                state.handshake_refused.set(applied.is_err());
                if let Err(error) = applied {
                    refuse(handshake, &error);
                }
            }
            HandshakeEvent::Done => verify::check_names(
                handshake.ssl,
                handshake.upstream,
                handshake.connection.log(),
                state,
                handshake.request.pool(),
            ),
        },
        Err(error) => refuse(handshake, &ApplyError::OutOfMemory(error)),
    }
}

/// A setting that could not be applied.
#[derive(Debug)]
enum ApplyError {
    Session(SslError),
    ClientCertificate(SslError),
    TrustedStore(SslError),
    Verify(VerifyError),
    OutOfMemory(OutOfMemory),
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(error) => write!(f, "session: {error}"),
            Self::ClientCertificate(error) => write!(f, "client certificate and key: {error}"),
            Self::TrustedStore(error) => write!(f, "trusted store: {error}"),
            Self::Verify(error) => write!(f, "verification: {error}"),
            Self::OutOfMemory(error) => write!(f, "request state: {error}"),
        }
    }
}

/// Gives the handshake all that the request asked for.
fn apply(handshake: Handshake<'_>, state: &RequestState) -> Result<(), ApplyError> {
    let Handshake { ssl, tls, connection: _, request, upstream } = handshake;
    let UpstreamTls { client_certificate, verify, verify_depth, trusted_store, dns_names, uris } =
        state.upstream_tls.borrow().clone();

    // nginx keeps one session for a peer, whoever made it: an overridden request neither resumes it
    // nor leaves its own.
    tls.save_no_session();
    ssl::forget_session(ssl).map_err(ApplyError::Session)?;

    if let Some(certificate) = client_certificate {
        certificate.present(ssl).map_err(ApplyError::ClientCertificate)?;
    }
    // Where the location does not verify, its context has neither.
    let trust = context_state(ssl).map(|state| &state.trust);
    let location_store = trust.and_then(|trust| trust.store.as_ref());
    if let Some(store) = trusted_store.as_ref().or(location_store) {
        ssl::set_verify_store(ssl, Some(store)).map_err(ApplyError::TrustedStore)?;
    }
    if trusted_store.is_some() {
        // Where the location checks revocation lists, so does the request: its own store must have
        // them.
        let replaced = location_store.map_or(ssl.ssl_context().cert_store(), |store| store);
        ssl::add_verify_flags(ssl, store::revocation_flags(replaced))
            .map_err(ApplyError::TrustedStore)?;
    }
    if let Some(depth) = verify_depth.or(trust.and_then(|trust| trust.verify_depth)) {
        ssl::set_verify_depth(ssl, depth);
    }
    // Checked when the handshake is done, see `verify::check_names`.
    let _ = (dns_names, uris);

    verify::set(request, upstream, state, verify).map_err(ApplyError::Verify)
}

/// Ends the request with one line in the log.
fn refuse(handshake: Handshake<'_>, error: &ApplyError) {
    handshake
        .connection
        .log()
        .error(format_args!("upstream TLS handshake refused, could not apply {error}"));
    ssl::refuse_handshake(handshake.ssl);

    // Otherwise nginx would report OpenSSL's "no protocols available" as well, and try other peers,
    // none of which could do better.
    handshake.tls.set_handshake_rejected();
    handshake.connection.quiet_errors();
    handshake.upstream.try_no_other_peer();
}
