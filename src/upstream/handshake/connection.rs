// SPDX-License-Identifier: Apache-2.0

//! What we keep for an upstream connection: the identity of its handshake, and where its sessions

#![allow(unsafe_code, reason = "nginx calls it")]
//! are filed.
//!
//! It is the connection's, and not the request's: with TLS 1.3 a session arrives after the
//! handshake, when the connection may serve another request, or none.

use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use std::rc::Rc;

use ngx::ffi::ngx_connection_t;
use openssl::ssl::{SslRef, SslSession, SslVersion};

use crate::nginx::connection::{Connection, process_log};
use crate::nginx::panic::guard;
use crate::nginx::pool::{OutOfMemory, Pool};
use crate::nginx::time;
use crate::openssl::client_certificate::ClientCertificate;
use crate::openssl::error::SslError;
use crate::openssl::slot::PointerSlot;
use crate::openssl::ssl;
use crate::status::counters::{self, Counter};
use crate::upstream::handshake::session_cache::{Session, SessionCache, SessionKey, Validity};
use crate::upstream::identity::IdentityDigest;

/// The session cache of a configuration. Connections may outlive the request that made them.
pub type SharedSessionCache = Rc<RefCell<SessionCache<SslSession>>>;

impl Session for SslSession {
    fn is_resumable(&self) -> bool {
        ssl::is_resumable(self)
    }

    fn is_single_use(&self) -> bool {
        self.protocol_version() == SslVersion::TLS1_3
    }
}

/// Lives in the pool of the connection, as long as its SSL.
pub struct UpstreamConnection {
    /// `None` if it can't be known: then the connection serves no other request.
    identity: Option<IdentityDigest>,
    /// For which name, if it was verified: where nginx reuses a connection, it evaluates none.
    verified_name: Option<Box<[u8]>>,
    /// What the request has set, if it has.
    client_certificate: Option<Rc<ClientCertificate>>,
    /// Whether there may be no other request with its identity, as its store was not seen before:
    /// what is kept of it is to take the place of nothing.
    is_passing: Cell<bool>,
    sessions: Option<Sessions>,
    /// Whether a session was offered, and nothing has come of it yet.
    session_is_pending: Cell<bool>,
    /// Whether the certificate of the location, or of the request, was presented.
    certificate: Cell<Presented>,
    /// Whether the peer has taken what we have presented: it does not say so, but goes on.
    is_accepted: Cell<bool>,
    /// Whether the peer has sent a fatal alert.
    has_alert: Cell<bool>,
}

/// The sessions that this connection resumes and brings.
struct Sessions {
    cache: SharedSessionCache,
    key: SessionKey,
    /// Of a session that is made by a full handshake of this connection.
    validity: Validity,
    /// Of the session that this connection asked to resume.
    resumed: Option<Validity>,
}

/// How far a certificate has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Presented {
    No,
    /// It is in the flight that is about to be sent.
    Signed,
    Sent,
}

static SLOT: PointerSlot<SslRef, UpstreamConnection> = PointerSlot::new();

/// Why a connection could not be given an identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentifyError {
    /// Of OpenSSL.
    #[error(transparent)]
    Ssl(#[from] SslError),
    /// No memory.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// What a handshake needs to resume a session of its identity, and to leave one.
pub struct Resumption {
    pub cache: SharedSessionCache,
    pub key: SessionKey,
    /// When the certificate that we present ends, if there is one.
    pub not_after: Option<i64>,
    /// Whether the handshake may offer a session; it leaves one in any case.
    pub may_resume: bool,
}

/// Gives the handshake of `ssl`, about to begin, its identity, and a session to resume, if there is
/// one for it.
pub fn identify(
    pool: Pool<'_>,
    ssl: &SslRef,
    connection: UpstreamConnection,
    resumption: Option<Resumption>,
) -> Result<Offer, IdentifyError> {
    let mut sessions = None;
    let mut offer = Offer::None;
    if let Some(Resumption { cache, key, not_after, may_resume }) = resumption {
        let now = time::now();
        let mut resumed = None;
        let found = may_resume.then(|| cache.borrow_mut().get(&key, now)).flatten();
        if let Some((session, validity)) = found {
            counters::count(Counter::SessionCacheHit);
            ssl::set_session(ssl, &session)?;
            resumed = Some(validity);
            offer = Offer::Session;
            connection.session_is_pending.set(true);
        } else {
            counters::count(Counter::SessionCacheMiss);
        }
        let validity = Validity { first_handshake: now.monotonic, not_after };
        sessions = Some(Sessions { cache, key, validity, resumed });
    }
    let connection = pool.keep(UpstreamConnection { sessions, ..connection })?;
    // SAFETY: it is in the pool of the connection, and nginx frees the SSL before that.
    unsafe { SLOT.set(ssl, connection)? };
    Ok(offer)
}

/// What a handshake offers its peer to resume.
pub enum Offer {
    None,
    Session,
}

impl UpstreamConnection {
    /// A connection without sessions.
    ///
    /// `client_certificate` is what the request has set.
    pub fn new(
        identity: Option<IdentityDigest>,
        verified_name: Option<Box<[u8]>>,
        client_certificate: Option<Rc<ClientCertificate>>,
        is_passing: bool,
    ) -> Self {
        Self {
            identity,
            is_passing: Cell::new(is_passing),
            verified_name,
            client_certificate,
            sessions: None,
            session_is_pending: Cell::new(false),
            certificate: Cell::new(Presented::No),
            is_accepted: Cell::new(false),
            has_alert: Cell::new(false),
        }
    }

    /// Whether what is kept of it is to take the place of nothing else.
    pub fn is_passing(&self) -> bool {
        self.is_passing.get()
    }

    /// Notes that another request has used it.
    pub fn came_back(&self) {
        self.is_passing.set(false);
    }

    /// Notes that a certificate is about to be presented.
    pub fn note_certificate_signed(&self) {
        self.certificate.set(Presented::Signed);
        // A peer may ask for another one, after it has taken the first.
        self.is_accepted.set(false);
    }

    /// Notes that all was sent that there was to send.
    pub fn note_finished_sent(&self) {
        if self.certificate.get() == Presented::Signed {
            self.certificate.set(Presented::Sent);
        }
    }

    /// Notes that the peer has gone on with what was presented.
    pub fn note_accepted(&self) {
        self.is_accepted.set(true);
    }

    /// Notes that the peer has sent something that is no part of the handshake: it is content with
    /// that.
    pub fn note_answered(&self) {
        self.note_accepted();
        if let (true, Some(Sessions { cache, key, .. })) =
            (self.session_is_pending.replace(false), &self.sessions)
        {
            cache.borrow_mut().accepted(key);
        }
    }

    /// Notes that the peer has sent a fatal alert.
    pub fn note_alert(&self) {
        self.has_alert.set(true);
    }

    /// Whether what the peer does may be its answer to a certificate that was presented.
    pub fn awaits_verdict(&self) -> bool {
        self.certificate.get() == Presented::Sent && !self.is_accepted.get()
    }

    /// Whether the peer has sent a fatal alert.
    pub fn has_alert(&self) -> bool {
        self.has_alert.get()
    }

    /// Notes that the handshake is done, and whether it has resumed a session: if so, the last word
    /// was ours, and whether the peer can do with it will be seen. Returns whether one was offered.
    pub fn note_handshake_done(&self, resumed: bool) -> bool {
        let had_offered = self.session_is_pending.get();
        self.session_is_pending.set(had_offered && resumed);
        had_offered
    }

    /// Forgets the sessions of a connection that has failed after it had offered one, and before
    /// anything else came of it. Returns whether that is so.
    pub fn forget_offered(&self) -> bool {
        let has_failed = self.session_is_pending.replace(false);
        if has_failed {
            if let Some(Sessions { cache, key, .. }) = &self.sessions {
                let evicted = cache.borrow_mut().refused(key, time::now());
                counters::count_times(Counter::SessionCacheEviction, evicted);
            }
        }
        has_failed
    }

    /// The name that the service was verified for.
    pub fn verified_name(&self) -> Option<&[u8]> {
        self.verified_name.as_deref()
    }

    /// What we keep for the connection of `ssl`, if it was given an identity.
    pub fn of(ssl: &SslRef) -> Option<&Self> {
        SLOT.get(ssl)
    }

    /// Whether the service was verified.
    pub fn verifies(&self) -> bool {
        self.verified_name.is_some()
    }

    /// The certificate that the request of the handshake has set.
    pub fn client_certificate(&self) -> Option<&ClientCertificate> {
        self.client_certificate.as_deref()
    }

    /// The identity under which the handshake was made.
    pub fn identity(&self) -> Option<IdentityDigest> {
        self.identity
    }
}

/// Files a session that the peer has given; takes the place of nginx's own function for that.
pub unsafe extern "C" fn save_session(connection: *mut ngx_connection_t) {
    guard("upstream TLS session", process_log(), (), || {
        // SAFETY: nginx calls with a connection that has TLS.
        let connection = unsafe { Connection::from_ptr(NonNull::new_unchecked(connection)) };
        let Some(tls) = connection.tls() else {
            return;
        };
        let Some(known) = UpstreamConnection::of(tls.ssl()) else {
            return;
        };
        let Some(sessions) = known.sessions.as_ref() else {
            return;
        };
        let Some(session) = tls.session().filter(|session| ssl::is_resumable(session)) else {
            return;
        };
        let Sessions { cache, key, validity, resumed } = sessions;
        let validity = match resumed {
            Some(resumed) if tls.ssl().session_reused() => *resumed,
            _ => *validity,
        };
        // The session that it replaces is freed here: nobody else borrows the cache meanwhile.
        let size = ssl::size_of_session(tls.ssl());
        let put = if known.is_passing() { SessionCache::put_passing } else { SessionCache::put };
        let evicted =
            put(&mut cache.borrow_mut(), *key, session.to_owned(), size, validity, time::now());
        counters::count_times(Counter::SessionCacheEviction, evicted);
    });
}
