// SPDX-License-Identifier: Apache-2.0

//! The state kept for an upstream connection: the identity of its handshake, and the key under
//! which its TLS sessions are cached.
//!
//! It belongs to the connection, not to the request: with TLS 1.3 a session arrives after the
//! handshake, when the connection may serve another request, or none.

use std::cell::Cell;
use std::rc::Rc;

use openssl::ssl::{SslRef, SslSessionRef};
use openssl::x509::{X509, X509Ref};

use crate::nginx::connection::{Connection, Tls};
use crate::nginx::pool::OutOfMemory;
use crate::nginx::time;
use crate::nginx::tls_callbacks::SaveSession;
use crate::openssl::client_certificate::ClientCertificate;
use crate::openssl::error::SslError;
use crate::openssl::slot::PointerSlot;
use crate::openssl::ssl;
use crate::status::counters::{self, Counter};
use crate::upstream::handshake::session_cache::Validity;
use crate::upstream::handshake::sessions::{Offered, PeerSessions};
use crate::upstream::identity::IdentityDigest;

/// The state of an upstream connection. Lives in the connection's pool, as long as its SSL.
pub struct UpstreamConnection {
    /// `None` if it can't be known: then the connection serves no other request.
    identity: Option<IdentityDigest>,
    /// The name for which the service's certificate was checked, if it was: when nginx reuses a
    /// connection, it does not evaluate the name.
    checked_name: Option<Box<[u8]>>,
    /// Whether the service was verified.
    verifies: bool,
    /// The client certificate set by the request, if any.
    client_certificate: Option<Rc<ClientCertificate>>,
    /// Whether no other request may ever have this identity, because its trusted store was not seen
    /// before. What is kept for it must not evict anything else.
    is_passing: Cell<bool>,
    sessions: Option<Sessions>,
    /// Whether a session was offered, and it is not yet known whether the peer accepts it.
    session_is_pending: Cell<bool>,
    /// Whether a client certificate was presented, whether the location's or the request's.
    certificate: Cell<Presented>,
    /// Whether the peer has accepted what was presented. The peer doesn't say so: it just
    /// continues.
    is_accepted: Cell<bool>,
    /// Whether the peer has sent a fatal alert.
    has_alert: Cell<bool>,
}

/// The TLS sessions that this connection resumes and receives.
struct Sessions {
    of_peer: PeerSessions,
    /// The validity of a session made by a full handshake of this connection.
    validity: Validity,
    /// What else is known of the session that this connection offered to resume.
    offered: Option<Offered>,
}

/// How far the presentation of a client certificate has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Presented {
    No,
    /// Its chain is, and its key has not signed yet.
    Certificate,
    /// It is in the flight of handshake messages that is about to be sent.
    Signed,
    Sent,
}

static SLOT: PointerSlot<SslRef, UpstreamConnection> = PointerSlot::new();

/// Why a connection could not be given an identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentifyError {
    /// An OpenSSL call failed.
    #[error(transparent)]
    Ssl(#[from] SslError),
    /// Out of memory.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// What a handshake needs to resume a session of its identity, and to cache a new one.
pub struct Resumption {
    /// Where the sessions of the identity are.
    pub of_peer: PeerSessions,
    /// When the presented client certificate expires, if there is one.
    pub not_after: Option<i64>,
    /// Whether the handshake may offer a session. Its own session is cached in any case.
    pub may_resume: bool,
}

/// Attaches the identity to the connection of `ssl`, whose handshake is about to begin, and sets a
/// session to resume, if one is cached for it.
pub fn identify(
    connection: Connection<'_>,
    ssl: &SslRef,
    identified: UpstreamConnection,
    resumption: Option<Resumption>,
) -> Result<Offer, IdentifyError> {
    let mut sessions = None;
    let mut offer = Offer::None;
    if let Some(Resumption { of_peer, not_after, may_resume }) = resumption {
        let now = time::now();
        let mut offered = None;
        if let Some((session, known)) = may_resume.then(|| of_peer.get(now)).flatten() {
            counters::count(Counter::SessionCacheHit);
            ssl::set_session(ssl, &session)?;
            offered = Some(known);
            offer = Offer::Session;
            identified.session_is_pending.set(true);
        } else {
            counters::count(Counter::SessionCacheMiss);
        }
        let validity = Validity { first_handshake: now.monotonic, not_after, has_presented: false };
        sessions = Some(Sessions { of_peer, validity, offered });
    }
    connection
        .keep_with_tls::<_, IdentifyError>(&SLOT, UpstreamConnection { sessions, ..identified })?;
    Ok(offer)
}

/// What a handshake offers its peer to resume.
pub enum Offer {
    None,
    Session,
}

/// A certificate that a service was shown.
pub enum Shown {
    /// That of the request.
    Set(Rc<ClientCertificate>),
    OfLocation(X509),
}

impl Shown {
    pub fn certificate(&self) -> &X509Ref {
        match self {
            Self::Set(set) => set.leaf(),
            Self::OfLocation(own) => own,
        }
    }
}

impl UpstreamConnection {
    /// Returns the state of a connection without sessions.
    ///
    /// `client_certificate` is the one set by the request.
    pub fn new(
        identity: Option<IdentityDigest>,
        checked_name: Option<Box<[u8]>>,
        verifies: bool,
        client_certificate: Option<Rc<ClientCertificate>>,
        is_passing: bool,
    ) -> Self {
        Self {
            identity,
            is_passing: Cell::new(is_passing),
            checked_name,
            verifies,
            client_certificate,
            sessions: None,
            session_is_pending: Cell::new(false),
            certificate: Cell::new(Presented::No),
            is_accepted: Cell::new(false),
            has_alert: Cell::new(false),
        }
    }

    /// Returns whether what is kept for this connection must not evict anything else.
    pub fn is_passing(&self) -> bool {
        self.is_passing.get()
    }

    /// Notes that another request has used the connection.
    pub fn came_back(&self) {
        self.is_passing.set(false);
    }

    /// Notes that a client certificate was sent, and that its key is about to sign.
    pub fn note_certificate_sent(&self) {
        self.certificate.set(Presented::Certificate);
    }

    /// Returns whether the key of a client certificate was to sign, and has not done so.
    pub fn is_signing(&self) -> bool {
        self.certificate.get() == Presented::Certificate
    }

    /// Notes that the key has signed, and the client certificate is about to be presented.
    pub fn note_certificate_signed(&self) {
        self.certificate.set(Presented::Signed);
        // A peer may ask for another certificate after it has accepted the first.
        self.is_accepted.set(false);
    }

    /// Notes that the flight ending with `Finished` was sent.
    pub fn note_finished_sent(&self) {
        if self.certificate.get() == Presented::Signed {
            self.certificate.set(Presented::Sent);
        }
    }

    /// Notes that the peer has continued after what was presented.
    pub fn note_accepted(&self) {
        self.is_accepted.set(true);
    }

    /// Notes that the peer has sent something that is not part of the handshake: it has accepted
    /// the certificate and the session.
    pub fn note_answered(&self) {
        self.note_accepted();
        if let (true, Some(Sessions { of_peer, offered: Some(offered), .. })) =
            (self.session_is_pending.replace(false), &self.sessions)
        {
            of_peer.accepted(offered, time::now());
        }
    }

    /// Notes that the peer has sent a fatal alert.
    pub fn note_alert(&self) {
        self.has_alert.set(true);
    }

    /// Returns whether what the peer does next may be its answer to a presented certificate.
    pub fn awaits_verdict(&self) -> bool {
        self.certificate.get() == Presented::Sent && !self.is_accepted.get()
    }

    /// Returns whether the peer has sent a fatal alert.
    pub fn has_alert(&self) -> bool {
        self.has_alert.get()
    }

    /// Notes that the handshake is done, and whether it resumed a session. If it did, the last
    /// handshake message was sent from this side, and the peer may still reject it. Returns whether
    /// a session was offered.
    pub fn note_handshake_done(&self, resumed: bool) -> bool {
        let had_offered = self.session_is_pending.get();
        self.session_is_pending.set(had_offered && resumed);
        if let (true, Some(Sessions { of_peer, offered: Some(offered), .. })) =
            (had_offered && resumed, &self.sessions)
        {
            of_peer.used(offered, time::now());
        }
        had_offered
    }

    /// Removes the cached sessions of this connection's key, if the connection has failed after it
    /// offered one and before the peer accepted it. Returns whether that is so.
    pub fn forget_offered(&self) -> bool {
        let has_failed = self.session_is_pending.replace(false);
        if has_failed {
            if let Some(Sessions { of_peer, .. }) = &self.sessions {
                of_peer.refused(time::now());
            }
        }
        has_failed
    }

    /// Returns the name that the service's certificate was checked for.
    pub fn checked_name(&self) -> Option<&[u8]> {
        self.checked_name.as_deref()
    }

    /// Returns the state kept for the connection of `ssl`, if it was given an identity.
    pub fn of(ssl: &SslRef) -> Option<&Self> {
        SLOT.get(ssl)
    }

    /// Returns whether the service was verified.
    pub fn verifies(&self) -> bool {
        self.verifies
    }

    /// Returns whether a client certificate was presented: on this connection, or in the first
    /// handshake of the session that it has resumed.
    pub fn has_presented(&self, ssl: &SslRef) -> bool {
        let offered = self.sessions.as_ref().and_then(|sessions| sessions.offered.as_ref());
        self.certificate.get() != Presented::No
            || offered.is_some_and(|offered| offered.validity().has_presented)
                && ssl.session_reused()
    }

    /// Returns the certificate that was presented, if one was: see [`Self::has_presented`].
    pub fn presented(&self, ssl: &SslRef) -> Option<Shown> {
        if !self.has_presented(ssl) {
            return None;
        }
        match &self.client_certificate {
            Some(set) => Some(Shown::Set(Rc::clone(set))),
            None => ssl.certificate().map(|own| Shown::OfLocation(own.to_owned())),
        }
    }

    /// Returns the client certificate set by the request that made the connection.
    pub fn client_certificate(&self) -> Option<&ClientCertificate> {
        self.client_certificate.as_deref()
    }

    /// Returns the identity under which the connection was made.
    pub fn identity(&self) -> Option<IdentityDigest> {
        self.identity
    }
}

/// Caches the sessions that the peer gives, unless it was given no cache for them.
pub struct CacheSession;

impl SaveSession for CacheSession {
    fn save(tls: Tls<'_>, session: &SslSessionRef) {
        let ssl = tls.ssl();
        let Some(known) = UpstreamConnection::of(ssl) else {
            return;
        };
        let Some(sessions) = known.sessions.as_ref().filter(|_| ssl::is_resumable(session)) else {
            return;
        };
        let Sessions { of_peer, validity, offered } = sessions;
        let validity = match offered {
            Some(offered) if ssl.session_reused() => offered.validity(),
            _ => *validity,
        };
        let has_presented = known.has_presented(ssl);
        let validity = Validity { has_presented, ..validity };
        let size = ssl::size_of_session(ssl);
        of_peer.put(session, size, validity, time::now(), known.is_passing());
    }
}
