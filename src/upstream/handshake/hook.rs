// SPDX-License-Identifier: Apache-2.0

//! The hook into handshakes with upstreams.
//!
//! OpenSSL calls a context's info callback when a handshake starts: after nginx has set the name,
//! the certificate and the session that the location asks for, and before a byte is sent. The
//! request's own settings are applied there. The callback can't return an error: to refuse, it
//! disables all versions of the protocol, and OpenSSL fails the handshake at once.

use std::rc::Rc;

use openssl::ssl::{SslContextRef, SslRef, SslVersion};

use crate::conf;
use crate::nginx::log_context::LogContext;
use crate::nginx::pool::{OutOfMemory, Pool};
use crate::nginx::tls_callbacks::{
    self, ChooseCertificate, FollowHandshake, LackOfCertificate, SaveSession, Step,
};
use crate::openssl::client_certificate::ClientCertificate;
use crate::openssl::error::SslError;
use crate::openssl::recent::Seen;
use crate::openssl::ssl::{self, HandshakeEvent};
use crate::openssl::store::{self, TrustedStore};
use crate::openssl::tls_options::NotApplied;
use crate::openssl::{certificate, signature_algorithms};
use crate::status::counters::{self, Counter};
use crate::upstream::handshake::connection::{
    self, CacheSession, IdentifyError, Offer, Resumption, UpstreamConnection,
};
use crate::upstream::handshake::context::{ContextState, InstallError};
use crate::upstream::handshake::in_progress::Handshake;
use crate::upstream::handshake::lua_handshake::LuaHandshake;
use crate::upstream::handshake::session_cache::SessionKey;
use crate::upstream::handshake::sessions::PeerSessions;
use crate::upstream::handshake::trust::LocationTrust;
use crate::upstream::handshake::verify::{self, VerifyError};
use crate::upstream::identity::lookup;
use crate::upstream::log_lines::OfConnection;
use crate::upstream::peer::choice::PeerChoice;
use crate::upstream::settings::request_state::RequestState;
use crate::upstream::settings::tls::UpstreamTls;

/// Installs the hook on the TLS context of a location.
pub fn install(
    pool: Pool<'_>,
    context: &SslContextRef,
    trust: LocationTrust,
) -> Result<(), InstallError> {
    ContextState::new(context, trust).keep(pool, context)?;
    tls_callbacks::follow_context::<Hook>(context).map_err(InstallError::Ssl)
}

struct Hook;

impl FollowHandshake for Hook {
    const NAME: &'static str = "upstream handshake";

    fn step(step: Step<'_>) {
        if let Some(event) = step.event() {
            on_event(step.ssl, event);
        }
    }
}

fn on_event(ssl: &SslRef, event: HandshakeEvent) {
    let is_start = match event {
        HandshakeEvent::Start => true,
        HandshakeEvent::Done => false,
        HandshakeEvent::ServerDone => return server_done(ssl),
        HandshakeEvent::CertificateSigned => {
            return note(ssl, UpstreamConnection::note_certificate_signed);
        }
        HandshakeEvent::FinishedSent => return note(ssl, UpstreamConnection::note_finished_sent),
        HandshakeEvent::TicketReceived => {
            // In TLS 1.2, `NewSessionTicket` is part of the handshake.
            if ssl.version2() == Some(SslVersion::TLS1_3) {
                note(ssl, UpstreamConnection::note_answered);
            }
            return;
        }
        HandshakeEvent::CertificateSent => {
            return note(ssl, UpstreamConnection::note_certificate_sent);
        }
        HandshakeEvent::Broken => return broken_off(ssl),
        HandshakeEvent::FatalAlert => return note(ssl, UpstreamConnection::note_alert),
    };
    // Skip renegotiations: the SSL still has the settings of its first handshake.
    let Some(handshake) = Handshake::of(ssl).filter(|handshake| !handshake.tls.handshaked()) else {
        return;
    };
    let state = match RequestState::with_upstream_tls(handshake.request) {
        Ok(state) => state,
        Err(error) => return refuse(handshake, &ApplyError::OutOfMemory(error)),
    };
    if is_start {
        if let Some(state) = state {
            state.handshake_refused.set(false);
        }
        if let Err(error) = start(handshake, state) {
            refuse(handshake, &error);
        }
    } else {
        done(handshake, state);
    }
}

/// Ends a handshake in which Lua code has rejected the service: OpenSSL would continue, and nginx
/// would check the verification result only after the handshake.
fn server_done(ssl: &SslRef) {
    let Some(handshake) = Handshake::of(ssl).filter(|handshake| {
        let judged = conf::lua_handshake(handshake.request).map(LuaHandshake::judges_service);
        judged == Some(true) && !handshake.tls.handshaked()
    }) else {
        return;
    };
    if let Some(state) = RequestState::find(handshake.request) {
        if verify::check_verdict(handshake, state).is_err() {
            ssl::break_off(ssl);
        }
    }
}

/// Looks whether OpenSSL has broken off the handshake because the key of the request has not
/// signed: a key in a token may be gone. This is a failure of the request, not of the service.
fn broken_off(ssl: &SslRef) {
    let connection = UpstreamConnection::of(ssl).filter(|connection| connection.is_signing());
    let Some(certificate) = connection.and_then(UpstreamConnection::client_certificate) else {
        return;
    };
    certificate.note_failure();
    if let Some(handshake) = Handshake::of(ssl) {
        refuse(handshake, &ApplyError::NotSigned(SslError::take("SSL_do_handshake")));
    }
}

/// Calls `what` with the state of the connection of `ssl`, if it has any.
fn note(ssl: &SslRef, what: fn(&UpstreamConnection)) {
    if let Some(connection) = UpstreamConnection::of(ssl) {
        what(connection);
    }
}

fn done(handshake: Handshake<'_>, state: Option<&RequestState>) {
    let Handshake { ssl, connection, upstream, .. } = handshake;
    counters::count(if ssl.session_reused() {
        Counter::HandshakeResumed
    } else {
        Counter::HandshakeFull
    });
    if let Some(identified) = UpstreamConnection::of(ssl) {
        // In TLS 1.3 the service has not yet checked the certificate presented to it.
        if ssl.version2() != Some(SslVersion::TLS1_3) {
            identified.note_accepted();
        }
        if identified.note_handshake_done(ssl.session_reused()) {
            connection.restore_errors(upstream.peer());
        }
    }
    if let Some(state) = state {
        verify::check_resumed(handshake, state);
    }
}

/// Prepares a handshake that is about to begin: applies what the request asked for, and offers a
/// session of the same identity.
fn start(handshake: Handshake<'_>, state: Option<&RequestState>) -> Result<(), ApplyError> {
    if let Some(state) = state {
        OfConnection::add_to(handshake.request);
        apply(handshake, state)?;
    }
    let choice = PeerChoice::of_handshake(handshake.request, handshake.upstream)
        .map_err(ApplyError::OutOfMemory)?;

    // Leave all other handshakes, and their sessions, to nginx: for them it does not matter who
    // verified the service.
    if state.is_some()
        || choice.is_lua_balanced()
        || choice.keepalive().is_some()
        || conf::enforces_verification(handshake.request)
        || conf::lua_handshake(handshake.request).is_some()
    {
        let certificate =
            state.and_then(|state| state.upstream_tls.borrow().client_certificate.clone());
        if certificate.is_some() {
            // Some services request a certificate only once they know what is requested
            // (post-handshake authentication).
            ssl::allow_post_handshake_authentication(handshake.ssl);
        }
        let may_resume = !choice.is_once_more();
        match (identify(handshake, state, certificate.clone(), may_resume)?, certificate) {
            (_, None) => {}
            (Offer::None, Some(certificate)) => {
                certificate.present(handshake.ssl).map_err(ApplyError::ClientCertificate)?;
            }
            // A service that resumes the session asks for no certificate: load it only if asked.
            (Offer::Session, Some(_)) => {
                PresentIfAsked::choose_for(handshake.ssl);
            }
        }
    }
    Ok(())
}

/// Without a certificate that can be used, OpenSSL would continue the handshake without one.
impl LackOfCertificate for Hook {
    fn has_refused(ssl: &SslRef) -> bool {
        let set = UpstreamConnection::of(ssl).and_then(UpstreamConnection::client_certificate);
        if let Some(set) = set {
            ssl::break_off(ssl);
            if let Some(handshake) = Handshake::of(ssl) {
                refuse(handshake, &ApplyError::not_presentable(ssl, set));
            }
        }
        set.is_some()
    }
}

/// Presents the client certificate if the peer asks for one in a handshake that has offered a
/// session: because the peer has not resumed that session, and in renegotiations.
struct PresentIfAsked;

impl ChooseCertificate for PresentIfAsked {
    fn choose(ssl: &SslRef) -> bool {
        let presented = UpstreamConnection::of(ssl)
            .and_then(UpstreamConnection::client_certificate)
            .map(|certificate| certificate.present(ssl));
        match presented {
            Some(Ok(())) => true,
            Some(Err(error)) => {
                if let Some(handshake) = Handshake::of(ssl) {
                    refuse(handshake, &ApplyError::ClientCertificate(error));
                }
                false
            }
            None => false,
        }
    }
}

/// Attaches an identity to the connection, and offers a cached session of that identity, if there
/// is one.
fn identify(
    handshake: Handshake<'_>,
    state: Option<&RequestState>,
    certificate: Option<Rc<ClientCertificate>>,
    may_resume: bool,
) -> Result<Offer, ApplyError> {
    let Handshake { ssl, tls, connection, request, upstream } = handshake;

    // nginx keeps one session per peer, whichever request made it, and none for a peer chosen by
    // Lua code.
    tls.save_no_session();
    ssl::forget_session(ssl).map_err(ApplyError::Session)?;

    let identity = lookup::of_handshake(ssl, request, upstream, state);

    let resumption = identity
        .filter(|_| upstream.reuses_sessions())
        .zip(conf::sessions(request))
        .zip(upstream.peer().address())
        .map(|((identity, sessions), peer)| {
            let key = SessionKey { identity, peer };
            let of_peer = PeerSessions::new(sessions, key, !is_of_worker(state));
            let not_after = not_after(ssl, certificate.as_deref());
            Resumption { of_peer, not_after, may_resume }
        });
    if resumption.is_some() {
        CacheSession::save_for(tls);
    }
    let verifies = upstream.verifies();
    let has_names = state.is_some_and(|state| state.upstream_tls.borrow().names.is_some());
    let checked_name = (verifies || has_names).then(|| upstream.ssl_name().into());
    let is_passing = state.is_some_and(|state| {
        state.upstream_tls.borrow().stores().any(|store| store.seen() == Seen::First)
    });
    let identified =
        UpstreamConnection::new(identity, checked_name, verifies, certificate, is_passing);
    let offer = connection::identify(connection, ssl, identified, resumption)?;
    if matches!(offer, Offer::Session) {
        // If this attempt fails because of the session it is repeated without one: don't log
        // errors.
        connection.demote_errors();
    }
    Ok(offer)
}

/// Returns whether the identity that the settings of `state` are part of means something to this
/// worker only.
fn is_of_worker(state: Option<&RequestState>) -> bool {
    state.is_some_and(|state| state.upstream_tls.borrow().stores().any(TrustedStore::is_of_worker))
}

/// Returns when the certificate that `ssl` presents expires: `certificate`, or else the location's.
fn not_after(ssl: &SslRef, certificate: Option<&ClientCertificate>) -> Option<i64> {
    match certificate {
        Some(certificate) => Some(certificate.not_after()),
        // Treat an unreadable expiry date as already expired.
        None => ssl.certificate().map(|leaf| certificate::not_after(leaf).unwrap_or(i64::MIN)),
    }
}

/// A setting that could not be applied.
#[derive(Debug, thiserror::Error)]
enum ApplyError {
    #[error("session: {0}")]
    Session(SslError),
    #[error("client certificate and key: {0}")]
    ClientCertificate(SslError),
    /// The service asks for a certificate, but accepts no signature that the key can make.
    #[error(
        "client certificate and key: the key is {key}, and the service takes {} ({protocol})",
        if taken.is_empty() { "no signature of such a key" } else { taken }
    )]
    NotPresentable { taken: String, key: String, protocol: &'static str },
    /// The key worked when it was set, and now it does not.
    #[error("client certificate and key: the key has failed to sign: {0}")]
    NotSigned(SslError),
    #[error("trusted store: {0}")]
    TrustedStore(SslError),
    /// The location's own store, which could not be read.
    #[error("trusted store of the location: {0}")]
    LocationStore(String),
    #[error("server name: {0}")]
    ServerName(SslError),
    #[error("TLS options: {0}")]
    Options(NotApplied),
    #[error("verification: {0}")]
    Verify(VerifyError),
    #[error("identity: {0}")]
    Identity(#[from] IdentifyError),
    #[error("request state: {0}")]
    OutOfMemory(OutOfMemory),
}

impl ApplyError {
    fn not_presentable(ssl: &SslRef, certificate: &ClientCertificate) -> Self {
        Self::NotPresentable {
            taken: signature_algorithms::taken_by_peer(ssl),
            key: certificate.describe_key(),
            protocol: ssl.version_str(),
        }
    }

    fn counter(&self) -> Counter {
        match self {
            Self::Session(_) => Counter::RefusedSession,
            Self::ClientCertificate(_) | Self::NotPresentable { .. } | Self::NotSigned(_) => {
                Counter::RefusedClientCertificate
            }
            Self::TrustedStore(_) | Self::LocationStore(_) => Counter::RefusedTrustedStore,
            Self::Verify(_) | Self::ServerName(_) => Counter::RefusedVerification,
            Self::Options(_) => Counter::RefusedOptions,
            Self::Identity(_) => Counter::RefusedIdentity,
            Self::OutOfMemory(_) => Counter::RefusedMemory,
        }
    }
}

/// Applies everything the request asked for to its handshake.
fn apply(handshake: Handshake<'_>, state: &RequestState) -> Result<(), ApplyError> {
    let Handshake { ssl, tls: _, connection: _, request, upstream } = handshake;
    let UpstreamTls {
        client_certificate,
        verify,
        verify_depth,
        trusted_store,
        server_name,
        names,
        pins,
        spiffe,
        options,
    } = state.upstream_tls.borrow().clone();

    // If the location does not verify, nginx gives its context neither store nor depth.
    let trust = ContextState::of(ssl.ssl_context()).map(|state| &state.trust);
    let has_own_store = trusted_store.is_some() || spiffe.is_some();
    let location_store = match trust.map(|trust| trust.store(has_own_store)) {
        Some(Err(error)) if verify::is_wanted(request, upstream, Some(state)).unwrap_or(true) => {
            return Err(ApplyError::LocationStore(error.to_string()));
        }
        Some(Ok(store)) => store,
        Some(Err(_)) | None => None,
    };
    let own_store = match &spiffe {
        // Which store counts is known when the service has presented its certificate.
        Some(trusted) => Some(trusted.empty_store()),
        None => trusted_store.as_deref().map(TrustedStore::store),
    };
    if let Some(store) = own_store.or(location_store) {
        ssl::set_verify_store(ssl, Some(store)).map_err(ApplyError::TrustedStore)?;
    }
    if has_own_store {
        // If the location checks revocation lists, so must the request: its own store must then
        // contain them.
        let replaced = location_store.map_or(ssl.ssl_context().cert_store(), |store| store);
        ssl::add_verify_flags(ssl, store::revocation_flags(replaced))
            .map_err(ApplyError::TrustedStore)?;
    }
    let depth = verify::depth(ssl, verify_depth, trusted_store.as_deref());
    ssl::set_verify_depth(ssl, depth);
    if let Some(name) = server_name {
        let name = Some(&*name).filter(|name| !name.is_empty());
        ssl::set_server_name(ssl, name).map_err(ApplyError::ServerName)?;
    }
    if let Some(options) = options {
        options.apply(ssl).map_err(ApplyError::Options)?;
    }
    // `start` and the module `verify` apply these.
    let _ = (client_certificate, verify, names, pins);

    verify::set(handshake, state).map_err(ApplyError::Verify)
}

/// Ends the request with a single log line.
fn refuse(handshake: Handshake<'_>, error: &ApplyError) {
    counters::count(error.counter());
    handshake
        .connection
        .log()
        .error(format_args!("upstream TLS handshake refused, could not apply {error}"));
    ssl::refuse_handshake(handshake.ssl);
    if let Some(state) = RequestState::find(handshake.request) {
        state.handshake_refused.set(true);
        if handshake.tls.handshaked() {
            // After the handshake nginx would see this as the end of the response, and log that
            // too.
            state.silence(handshake.connection.log());
        }
    }

    // Otherwise nginx would also log OpenSSL's "no protocols available", and try other peers, for
    // which the setting could not be applied either.
    handshake.tls.set_handshake_rejected();
    handshake.connection.demote_errors();
    handshake.upstream.try_no_other_peer();
}
