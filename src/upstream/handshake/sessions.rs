// SPDX-License-Identifier: Apache-2.0

//! The sessions of a configuration with services, as a worker sees them: those that all workers
//! share, and those of this worker alone.

use std::cell::{Cell, RefCell};
use std::num::NonZeroUsize;
use std::rc::Rc;

use foreign_types::ForeignTypeRef;
use openssl::error::ErrorStack;
use openssl::ssl::{SslSession, SslSessionRef, SslVersion};
use openssl::x509::{X509, X509Ref};

use crate::bounded::BoundedCache;
use crate::openssl::fingerprint::Fingerprint;
use crate::openssl::session_peer;
use crate::openssl::session_text::{self, SessionText};
use crate::openssl::ssl;
use crate::session_zone::records::{Key, Kind};
use crate::session_zone::zone::SessionZone;
use crate::status::counters::{self, Counter};
use crate::upstream::handshake::session_cache::{
    Now, Session, SessionCache, SessionCacheSettings, SessionKey, Validity,
};
use crate::upstream::handshake::shared_sessions::{
    self, Clock, Decoded, Decodes, FoundPeer, FoundText, PeerKey, Text,
};

impl Session for SslSession {
    fn is_resumable(&self) -> bool {
        ssl::is_resumable(self)
    }

    fn is_single_use(&self) -> bool {
        self.protocol_version() == SslVersion::TLS1_3
    }
}

/// The sessions. Connections may outlive the request that made them.
pub struct ServiceSessions {
    /// How long a session may be resumed, in milliseconds from its first handshake.
    lifetime: u64,
    /// The sessions of this worker alone.
    of_worker: RefCell<SessionCache<SslSession>>,
    shared: Option<Shared>,
    /// The generation of the zone that the worker has seen last.
    generation: Cell<u64>,
}

/// The sessions that all workers share.
struct Shared {
    zone: SessionZone,
    /// What this worker has decoded or made last: to decode it takes longer than the rest of a
    /// lookup.
    decoded: RefCell<DecodedByWorker>,
}

struct DecodedByWorker {
    sessions: BoundedCache<u64, SslSession>,
    /// The certificates of services, by the digests of their texts.
    certificates: BoundedCache<Key, X509>,
    /// The certificates, their digests and texts, by their addresses: a session that was made by
    /// resuming another has the same object.
    texts: BoundedCache<usize, (X509, Key, Rc<[u8]>)>,
}

/// The most shared sessions that a worker keeps in decoded form, and the most bytes of them. In a
/// small zone there are fewer: one for each of so many bytes.
const DECODED: usize = 1024;
const DECODED_BYTES: usize = 16 * 1024 * 1024;
const BYTES_OF_A_DECODED: usize = 8 * 1024;
/// The size of a session that was decoded, whose certificate others have too.
const DECODED_BYTES_OF_ONE: usize = 2 * 1024;

/// The most certificates of services that a worker keeps in decoded form.
const CERTIFICATES: NonZeroUsize = NonZeroUsize::new(256).unwrap();
const CERTIFICATES_BYTES: usize = 4 * 1024 * 1024;

impl Decodes for DecodedByWorker {
    fn session(&mut self, number: u64) -> Decoded {
        match self.sessions.get(&number) {
            Some(session) if session.is_resumable() => Decoded::Session,
            Some(_) => Decoded::Unusable,
            None => Decoded::Nothing,
        }
    }

    fn has_certificate(&mut self, digest: &Key) -> bool {
        session_peer::can_be_set() && self.certificates.contains(digest)
    }
}

impl DecodedByWorker {
    fn new(most: NonZeroUsize) -> Self {
        Self {
            sessions: BoundedCache::new(most, DECODED_BYTES),
            certificates: BoundedCache::new(CERTIFICATES.min(most), CERTIFICATES_BYTES),
            texts: BoundedCache::new(CERTIFICATES.min(most), CERTIFICATES_BYTES),
        }
    }

    fn clear(&mut self) {
        self.sessions.clear();
        self.certificates.clear();
        self.texts.clear();
    }

    /// Returns the digest and the text of a certificate.
    fn text(&mut self, certificate: &X509Ref) -> Result<(Key, Rc<[u8]>), ErrorStack> {
        let address = certificate.as_ptr() as usize;
        if let Some((_, digest, text)) = self.texts.get(&address) {
            return Ok((*digest, Rc::clone(text)));
        }
        let text: Rc<[u8]> = session_text::peer(certificate)?.into();
        let digest = Fingerprint::of([&text[..]]).digest();
        let kept = (certificate.to_owned(), digest, Rc::clone(&text));
        self.texts.insert(address, kept, 5 * text.len());
        Ok((digest, text))
    }

    /// Decodes a session; `None` if it can't be decoded.
    fn decode(&mut self, text: FoundText) -> Option<SslSession> {
        let FoundText { before, peer, after } = text;
        match peer {
            FoundPeer::None => session_text::session(&before, b"", &after).ok(),
            FoundPeer::Decoded(digest) => {
                let session = session_text::session(&before, b"", &after).ok()?;
                let certificate = self.certificates.get(&digest)?;
                session_peer::set(&session, certificate).then_some(session)
            }
            FoundPeer::Text(digest, peer) => {
                let session = session_text::session(&before, &peer, &after).ok()?;
                let certificate = session_peer::get(&session)?.to_owned();
                session_peer::learn(&session);
                let (address, bytes) = (certificate.as_ptr() as usize, 4 * peer.len());
                let kept = (certificate.clone(), digest, peer.into());
                self.texts.insert(address, kept, bytes);
                self.certificates.insert(digest, certificate, bytes);
                Some(session)
            }
        }
    }
}

impl ServiceSessions {
    pub fn new(settings: SessionCacheSettings, zone: Option<SessionZone>) -> Self {
        let lifetime = settings.timeout as u64;
        Self {
            lifetime,
            of_worker: RefCell::new(SessionCache::new(settings.entries, lifetime)),
            shared: zone.map(|zone| {
                let most = (zone.size() / BYTES_OF_A_DECODED).min(DECODED);
                let most = NonZeroUsize::new(most).unwrap_or(NonZeroUsize::MIN);
                Shared { zone, decoded: RefCell::new(DecodedByWorker::new(most)) }
            }),
            generation: Cell::new(zone.map_or(0, SessionZone::generation)),
        }
    }

    /// Forgets what this worker has if sessions were dropped, and returns the zone's generation.
    fn renew(&self) -> u64 {
        let generation = self.shared.as_ref().map_or(0, |shared| shared.zone.generation());
        if self.generation.replace(generation) != generation {
            self.of_worker.borrow_mut().clear();
            if let Some(shared) = &self.shared {
                shared.decoded.borrow_mut().clear();
            }
        }
        generation
    }
}

/// The sessions of an identity with an address.
pub struct PeerSessions {
    sessions: Rc<ServiceSessions>,
    key: SessionKey,
    /// How they are found in the zone, if they are shared.
    shared: Option<PeerKey>,
    /// The zone's generation when the handshake began. What is dropped later must not come back.
    generation: u64,
}

/// What is known of a session that was offered.
pub struct Offered {
    validity: Validity,
    /// Its number, if it is a ticket that others may be offered as well until it was used.
    shared_ticket: Option<u64>,
    /// Whether the peer has refused sessions before.
    was_refused: bool,
}

impl Offered {
    pub fn validity(&self) -> Validity {
        self.validity
    }
}

impl PeerSessions {
    /// `is_shared` says whether the identity means the same to all workers.
    pub fn new(sessions: Rc<ServiceSessions>, key: SessionKey, is_shared: bool) -> Self {
        let shared = (is_shared && sessions.shared.is_some()).then(|| PeerKey::of(&key));
        let generation = sessions.renew();
        Self { sessions, key, shared, generation }
    }

    /// Returns the session to offer, if there is one: see [`SessionCache::get`].
    pub fn get(&self, now: Now) -> Option<(SslSession, Offered)> {
        let Some((shared, peer)) = self.shared() else {
            let (session, validity) = self.sessions.of_worker.borrow_mut().get(&self.key, now)?;
            counters::count(Counter::SessionCacheHitWorker);
            let offered = Offered { validity, shared_ticket: None, was_refused: true };
            return Some((session, offered));
        };
        let mut decoded = shared.decoded.borrow_mut();
        let found = shared.zone.with(|records| {
            shared_sessions::take(records, peer, self.clock(now), &mut *decoded)
        })??;
        let (number, is_shared_ticket) = (found.number, found.is_shared_ticket);
        let (session, counter) = match found.text {
            None => (decoded.sessions.get(&number)?.clone(), Counter::SessionCacheHitWorker),
            Some(text) => {
                let session = decoded.decode(text)?;
                decoded.sessions.insert(number, session.clone(), DECODED_BYTES_OF_ONE);
                (session, Counter::SessionCacheHitShared)
            }
        };
        counters::count(counter);
        if session.is_single_use() && !is_shared_ticket {
            decoded.sessions.remove(&number);
        }
        let shared_ticket = is_shared_ticket.then_some(number);
        let validity = found.validity;
        Some((session, Offered { validity, shared_ticket, was_refused: found.was_refused }))
    }

    /// Keeps a session that the peer has given, which takes `size` bytes. See
    /// [`SessionCache::put_passing`] for `is_passing`.
    pub fn put(
        &self,
        session: &SslSessionRef,
        size: usize,
        validity: Validity,
        now: Now,
        is_passing: bool,
    ) {
        if self.sessions.renew() != self.generation {
            return;
        }
        // Inserting frees sessions that are replaced. Nothing else borrows the caches meanwhile.
        let session = session.to_owned();
        let Some((shared, peer)) = self.shared() else {
            let put = if is_passing { SessionCache::put_passing } else { SessionCache::put };
            let mut of_worker = self.sessions.of_worker.borrow_mut();
            let evicted = put(&mut of_worker, self.key, session, size, validity, now);
            counters::count_times(Counter::SessionCacheEviction, evicted);
            return;
        };
        session_peer::learn(&session);
        let certificate = session_peer::get(&session)
            .map(|certificate| shared.decoded.borrow_mut().text(certificate))
            .transpose();
        // What can't be encoded is not kept: the next handshake is a full one.
        let (Ok(Some(encoded)), Ok(certificate)) = (SessionText::of(&session), certificate) else {
            return;
        };
        let [before, after] = encoded.others();
        let certificate = certificate.as_ref().map(|(digest, text)| (*digest, &text[..]));
        let text = Text { before, peer: certificate, after };
        let kept = shared.zone.with(|records| {
            // Whether sessions were dropped meanwhile, is certain only here.
            if shared.zone.generation() != self.generation {
                return None;
            }
            let evictions = records.totals()[Kind::Peer as usize].evictions;
            let is_single_use = session.is_single_use();
            let clock = self.clock(now);
            let number = shared_sessions::put(records, peer, text, is_single_use, validity, clock)?;
            Some((number, records.totals()[Kind::Peer as usize].evictions - evictions))
        });
        if let Some((number, evicted)) = kept.flatten() {
            counters::count_times(Counter::SessionCacheEviction, evicted as usize);
            shared.decoded.borrow_mut().sessions.insert(number, session, size);
        }
    }

    /// Notes that the session was resumed.
    pub fn used(&self, offered: &Offered, now: Now) {
        if let (Some((shared, peer)), Some(number)) = (self.shared(), offered.shared_ticket) {
            let clock = self.clock(now);
            shared.zone.with(|records| shared_sessions::used(records, peer, clock, number));
            shared.decoded.borrow_mut().sessions.remove(&number);
        }
    }

    /// Removes the sessions, after the peer has refused one: see [`SessionCache::refused`].
    pub fn refused(&self, now: Now) {
        if let Some((shared, peer)) = self.shared() {
            shared.zone.with(|records| shared_sessions::refused(records, peer, self.clock(now)));
        } else {
            let evicted = self.sessions.of_worker.borrow_mut().refused(&self.key, now);
            counters::count_times(Counter::SessionCacheEviction, evicted);
        }
    }

    /// Notes that the peer has accepted a session.
    pub fn accepted(&self, offered: &Offered, now: Now) {
        if !offered.was_refused {
            return;
        }
        if let Some((shared, peer)) = self.shared() {
            shared.zone.with(|records| shared_sessions::accepted(records, peer, self.clock(now)));
        } else {
            self.sessions.of_worker.borrow_mut().accepted(&self.key);
        }
    }

    fn clock(&self, now: Now) -> Clock {
        Clock { now, lifetime: self.sessions.lifetime }
    }

    fn shared(&self) -> Option<(&Shared, &PeerKey)> {
        self.sessions.shared.as_ref().zip(self.shared.as_ref())
    }
}
