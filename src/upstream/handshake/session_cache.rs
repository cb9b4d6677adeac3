// SPDX-License-Identifier: Apache-2.0

//! The cache of TLS sessions with upstreams, keyed by identity and address.

use std::num::NonZeroUsize;

use crate::bounded::BoundedCache;
use crate::nginx::sockaddr::Address;
use crate::upstream::identity::IdentityDigest;

/// `kong_tls_session_cache`
#[derive(Clone, Copy, Debug)]
pub struct SessionCacheSettings {
    /// The maximum number of entries of a worker's own cache.
    pub entries: NonZeroUsize,
    /// How long a session may be resumed, in milliseconds from the start of its first handshake.
    pub timeout: usize,
}

impl SessionCacheSettings {
    /// The settings used without the directive.
    pub const DEFAULT: Self =
        Self { entries: NonZeroUsize::new(1024).unwrap(), timeout: 5 * 60 * 1000 };
}

/// What a session may be resumed for. The server name sent to the peer is part of the identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionKey {
    pub identity: IdentityDigest,
    pub peer: Address,
}

/// The current time, by two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Seconds since the epoch, which the dates in certificates refer to.
    pub date: i64,
    /// Milliseconds of a monotonic clock.
    pub monotonic: u64,
}

/// How long a session may be resumed, and what its first handshake was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// When its first handshake began, by the monotonic clock. A session made by resuming another
    /// one inherits the first handshake of that one: resumption verifies nothing anew.
    pub first_handshake: u64,
    /// When the client certificate that was presented expires, in seconds since the epoch.
    pub not_after: Option<i64>,
    /// Whether a client certificate was presented in the first handshake.
    pub has_presented: bool,
}

/// What the cache needs to know about a session.
pub trait Session: Clone {
    /// Returns whether a handshake may still offer the session: a TLS 1.3 session can't be offered
    /// again once it was used.
    fn is_resumable(&self) -> bool;
    /// Returns whether the session should be used only once (TLS 1.3; RFC 8446, appendix C.4).
    fn is_single_use(&self) -> bool;
}

/// The maximum number of single-use sessions of an entry. A full handshake usually brings two. A
/// resumed handshake brings one, but only when it is done: handshakes that begin meanwhile need
/// others.
const SESSIONS_OF_AN_ENTRY: usize = 4;

/// After this many refusals in a row, a peer is offered no session for [`WITHHELD`] milliseconds:
/// each refusal costs a connection, and resumption saves no more than a full handshake.
const REFUSALS: u32 = 2;
const WITHHELD: u64 = 60 * 1000;

/// A cached session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept<S> {
    pub session: S,
    pub validity: Validity,
    /// Its approximate size in bytes.
    pub size: usize,
}

/// The memory budget for each entry that the cache may hold: four sessions with a typical chain of
/// certificates take less.
const BYTES_OF_AN_ENTRY: usize = 64 * 1024;

/// One in this many entries may belong to a passing key: see [`SessionCache::put_passing`].
const PART_OF_PASSING: usize = 16;

/// The entry for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<S> {
    /// The sessions, the newest last.
    pub sessions: Vec<Kept<S>>,
    /// How many handshakes in a row have failed after they offered a session.
    pub refusals: u32,
    /// Until when no session is offered, by the monotonic clock.
    pub withheld_until: u64,
}

impl<S: Session> Entry<S> {
    pub fn new() -> Self {
        Self { sessions: Vec::new(), refusals: 0, withheld_until: 0 }
    }

    fn bytes(&self) -> usize {
        self.sessions.iter().map(|kept| kept.size).sum()
    }

    /// Returns whether the peer is offered no session.
    pub fn is_withheld(&self, now: Now) -> bool {
        now.monotonic < self.withheld_until
    }

    /// Returns whether nothing is known of the peer.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.refusals == 0
    }

    /// Removes all sessions: see [`SessionCache::refused`].
    pub fn refuse(&mut self, now: Now) {
        self.sessions.clear();
        self.refusals = self.refusals.saturating_add(1);
        if self.refusals >= REFUSALS {
            self.withheld_until = now.monotonic + WITHHELD;
        }
    }

    /// Returns the newest session that has not expired. See [`SessionCache::get`].
    pub fn take(&mut self, lifetime: u64, now: Now) -> Option<(S, Validity)> {
        while let Some(kept) = self.sessions.pop() {
            let Kept { session, validity, size } = kept;
            if is_over(validity, lifetime, now) || !session.is_resumable() {
                continue;
            }
            if self.sessions.is_empty() || !session.is_single_use() {
                self.sessions.push(Kept { session: session.clone(), validity, size });
            }
            return Some((session, validity));
        }
        None
    }

    /// Adds a session and drops the oldest beyond the limits: a reusable session replaces all
    /// others. Does not keep a session larger than `most_bytes`.
    pub fn put(&mut self, kept: Kept<S>, most_bytes: usize) {
        if kept.size > most_bytes {
            return;
        }
        let most = if kept.session.is_single_use() { SESSIONS_OF_AN_ENTRY } else { 1 };
        self.sessions.push(kept);
        while self.sessions.len() > most || self.bytes() > most_bytes {
            self.sessions.remove(0);
        }
    }
}

type Entries<S> = BoundedCache<SessionKey, Entry<S>>;

/// A cache of sessions, bounded by the number of entries and by the size of their sessions.
pub struct SessionCache<S> {
    entries: Entries<S>,
    /// The entries of keys that were not used again yet: see [`SessionCache::put_passing`].
    passing: Entries<S>,
    /// How long a session may be resumed, in milliseconds from its first handshake.
    lifetime: u64,
}

impl<S: Session> SessionCache<S> {
    pub fn new(capacity: NonZeroUsize, lifetime: u64) -> Self {
        let passing = NonZeroUsize::new(capacity.get() / PART_OF_PASSING);
        let passing = passing.unwrap_or(NonZeroUsize::MIN);
        let bytes = |entries: NonZeroUsize| entries.get().saturating_mul(BYTES_OF_AN_ENTRY);
        Self {
            entries: BoundedCache::new(capacity, bytes(capacity)),
            passing: BoundedCache::new(passing, bytes(passing)),
            lifetime,
        }
    }

    /// Returns the newest session for `key` that has not expired, if there is one.
    ///
    /// Takes a single-use session out of the cache, unless it is the last: handshakes that begin at
    /// the same time may share it, and it becomes unusable when the first of them is done.
    pub fn get(&mut self, key: &SessionKey, now: Now) -> Option<(S, Validity)> {
        let lifetime = self.lifetime;
        let cache = self.cache_of(key);
        let entry = cache.get(key)?;
        if entry.is_withheld(now) {
            return None;
        }
        let found = entry.take(lifetime, now);
        if entry.is_empty() {
            cache.remove(key);
        } else {
            let bytes = entry.bytes();
            cache.resize(key, bytes);
        }
        found
    }

    /// Caches `session`, which takes `size` bytes, unless it has already expired. A single-use
    /// session is added to those of its key; a reusable one replaces them. Returns how many entries
    /// were evicted.
    pub fn put(
        &mut self,
        key: SessionKey,
        session: S,
        size: usize,
        validity: Validity,
        now: Now,
    ) -> usize {
        if is_over(validity, self.lifetime, now) {
            return 0;
        }
        let before = self.passing.remove(&key).or_else(|| self.entries.remove(&key));
        put(&mut self.entries, key, before, Kept { session, validity, size }, now)
    }

    /// Caches `session` as [`SessionCache::put`] does, for a key that may never be used again (a
    /// "passing" key), such as that of a store that a plugin makes for each request. Passing keys
    /// share a small cache of their own, so that they evict only each other.
    pub fn put_passing(
        &mut self,
        key: SessionKey,
        session: S,
        size: usize,
        validity: Validity,
        now: Now,
    ) -> usize {
        if is_over(validity, self.lifetime, now) {
            return 0;
        }
        let cache = if self.entries.contains(&key) { &mut self.entries } else { &mut self.passing };
        let before = cache.remove(&key);
        put(cache, key, before, Kept { session, validity, size }, now)
    }

    /// Removes all sessions for `key`, after the peer has refused one or has broken off a handshake
    /// that offered one. A peer that does so repeatedly is offered none for a while. Returns how
    /// many entries were evicted.
    pub fn refused(&mut self, key: &SessionKey, now: Now) -> usize {
        let cache = self.cache_of(key);
        let mut entry = cache.remove(key).unwrap_or_else(Entry::new);
        entry.refuse(now);
        cache.insert(*key, entry, 0)
    }

    /// Notes that the peer has accepted a session for `key`.
    pub fn accepted(&mut self, key: &SessionKey) {
        if let Some(entry) = self.cache_of(key).get(key) {
            entry.refusals = 0;
        }
    }

    /// Removes all sessions.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.passing.clear();
    }

    /// Returns the cache that holds `key`, or the main cache if neither does.
    fn cache_of(&mut self, key: &SessionKey) -> &mut Entries<S> {
        if self.passing.contains(key) { &mut self.passing } else { &mut self.entries }
    }
}

/// Adds a session to the entry of its key, and inserts that entry into `cache`.
fn put<S: Session>(
    cache: &mut Entries<S>,
    key: SessionKey,
    before: Option<Entry<S>>,
    kept: Kept<S>,
    now: Now,
) -> usize {
    let mut entry = before.unwrap_or_else(Entry::new);
    if !entry.is_withheld(now) {
        entry.put(kept, cache.most_bytes());
    }
    let bytes = entry.bytes();
    cache.insert(key, entry, bytes)
}

/// Returns whether a session must not be resumed any more.
pub fn is_over(validity: Validity, lifetime: u64, now: Now) -> bool {
    let Validity { first_handshake, not_after, has_presented: _ } = validity;
    now.monotonic.saturating_sub(first_handshake) >= lifetime
        || not_after.is_some_and(|not_after| now.date >= not_after)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;
    use crate::upstream::identity::Identity;

    /// A TLS 1.2 session.
    impl Session for &str {
        fn is_resumable(&self) -> bool {
            true
        }

        fn is_single_use(&self) -> bool {
            false
        }
    }

    /// A TLS 1.3 session, and whether it was used.
    #[derive(Clone, Debug)]
    struct Ticket(u32, Rc<Cell<bool>>);

    impl Session for Ticket {
        fn is_resumable(&self) -> bool {
            !self.1.get()
        }

        fn is_single_use(&self) -> bool {
            true
        }
    }

    fn key(context: u64, peer: &[u8]) -> SessionKey {
        SessionKey {
            identity: Identity::in_context(context).digest(),
            peer: Address::new(peer).unwrap(),
        }
    }

    fn at(monotonic: u64) -> Now {
        Now { date: 0, monotonic }
    }

    fn since(first_handshake: u64) -> Validity {
        Validity { first_handshake, not_after: None, has_presented: false }
    }

    fn cache(capacity: usize, lifetime: u64) -> SessionCache<&'static str> {
        SessionCache::new(NonZeroUsize::new(capacity).unwrap(), lifetime)
    }

    fn session(
        cache: &mut SessionCache<&'static str>,
        key: SessionKey,
        now: Now,
    ) -> Option<&'static str> {
        cache.get(&key, now).map(|(session, _)| session)
    }

    #[test]
    fn identity_and_peer_are_the_key() {
        let mut cache = cache(8, 100);
        cache.put(key(1, b"a"), "1a", 1, since(0), at(0));
        cache.put(key(2, b"a"), "2a", 1, since(0), at(0));
        assert_eq!(session(&mut cache, key(1, b"a"), at(0)), Some("1a"));
        assert_eq!(session(&mut cache, key(2, b"a"), at(0)), Some("2a"));
        assert_eq!(session(&mut cache, key(1, b"b"), at(0)), None);
        assert_eq!(session(&mut cache, key(3, b"a"), at(0)), None);
    }

    #[test]
    fn a_session_ends_its_lifetime_after_the_first_handshake() {
        let mut cache = cache(8, 100);
        cache.put(key(1, b"a"), "old", 1, since(50), at(50));
        assert_eq!(session(&mut cache, key(1, b"a"), at(149)), Some("old"));

        // A renewed ticket does not restart the lifetime.
        let (_, validity) = cache.get(&key(1, b"a"), at(149)).unwrap();
        cache.put(key(1, b"a"), "renewed", 1, validity, at(149));
        assert_eq!(session(&mut cache, key(1, b"a"), at(149)), Some("renewed"));
        assert_eq!(session(&mut cache, key(1, b"a"), at(150)), None);
        // The session is removed, not only hidden.
        assert_eq!(session(&mut cache, key(1, b"a"), at(149)), None);
    }

    #[test]
    fn a_late_ticket_of_an_old_handshake_is_not_kept() {
        let mut cache = cache(8, 100);
        cache.put(key(1, b"a"), "late", 1, since(0), at(100));
        assert_eq!(session(&mut cache, key(1, b"a"), at(0)), None);
    }

    #[test]
    fn a_session_ends_with_the_certificate() {
        let mut cache = cache(8, 100);
        let validity = Validity { first_handshake: 0, not_after: Some(10), has_presented: false };
        cache.put(key(1, b"a"), "1", 1, validity, Now { date: 9, monotonic: 0 });
        assert_eq!(session(&mut cache, key(1, b"a"), Now { date: 9, monotonic: 1 }), Some("1"));
        assert_eq!(session(&mut cache, key(1, b"a"), Now { date: 10, monotonic: 1 }), None);
    }

    #[test]
    fn what_makes_room_is_dropped() {
        let mut cache = SessionCache::new(NonZeroUsize::new(2).unwrap(), 100);
        let sessions: Vec<_> = (0..3).map(|index| Ticket(index, Rc::default())).collect();
        let evicted: Vec<_> = (0..)
            .zip(&sessions)
            .map(|(index, session)| {
                cache.put(key(index, b"a"), session.clone(), 1, since(0), at(0))
            })
            .collect();
        assert_eq!(evicted, [0, 0, 1]);
        let kept = sessions.iter().filter(|Ticket(_, used)| Rc::strong_count(used) == 2).count();
        assert_eq!(kept, 2);
        assert!(cache.get(&key(2, b"a"), at(0)).is_some());
    }

    /// A cache with this many tickets, inserted at time 0, and a function that takes one out.
    fn tickets(count: u32) -> (SessionCache<Ticket>, impl Fn(&mut SessionCache<Ticket>) -> Ticket) {
        let mut cache = SessionCache::new(NonZeroUsize::new(8).unwrap(), 100);
        for index in 0..count {
            cache.put(key(1, b"a"), Ticket(index, Rc::default()), 1, since(0), at(0));
        }
        (cache, |cache| cache.get(&key(1, b"a"), at(0)).unwrap().0)
    }

    #[test]
    fn each_of_several_tickets_is_used_once_and_the_last_is_shared_until_it_was() {
        let (mut cache, take) = tickets(2);
        assert_eq!(take(&mut cache).0, 1);
        let shared = take(&mut cache);
        assert_eq!(shared.0, 0);
        assert_eq!(take(&mut cache).0, 0);
        shared.1.set(true);
        assert!(cache.get(&key(1, b"a"), at(0)).is_none());
        assert_eq!(cache.entries.len(), 0);
    }

    #[test]
    fn so_many_tickets_are_kept_the_newest_of_them() {
        let (mut cache, take) = tickets(6);
        let taken: Vec<_> = (0..4).map(|_| take(&mut cache).0).collect();
        assert_eq!(taken, [5, 4, 3, 2]);
        assert_eq!(take(&mut cache).0, 2);
    }

    #[test]
    fn each_ticket_has_its_own_first_handshake() {
        let (mut cache, _) = tickets(1);
        cache.put(key(1, b"a"), Ticket(1, Rc::default()), 1, since(50), at(50));
        cache.put(key(1, b"a"), Ticket(2, Rc::default()), 1, since(0), at(50));
        // The newest has expired, the one before it has not.
        let (Ticket(index, _), validity) = cache.get(&key(1, b"a"), at(100)).unwrap();
        assert_eq!((index, validity), (1, since(50)));
        assert!(cache.get(&key(1, b"a"), at(149)).is_none());
    }

    #[test]
    fn a_refusal_takes_all_sessions_of_the_key_and_no_others() {
        let (mut cache, _) = tickets(3);
        cache.put(key(2, b"a"), Ticket(9, Rc::default()), 1, since(0), at(0));
        assert_eq!(cache.refused(&key(1, b"a"), at(0)), 0);
        assert!(cache.get(&key(1, b"a"), at(0)).is_none());
        assert!(cache.get(&key(2, b"a"), at(0)).is_some());
        // A single refusal may be an accident.
        cache.put(key(1, b"a"), Ticket(4, Rc::default()), 1, since(0), at(0));
        assert!(cache.get(&key(1, b"a"), at(0)).is_some());
    }

    #[test]
    fn who_refuses_again_and_again_is_offered_none_for_a_while() {
        let mut cache = cache(8, 10 * WITHHELD);
        let key = key(1, b"a");
        let offer = |cache: &mut SessionCache<_>, now| {
            cache.put(key, "session", 1, since(now), at(now));
            session(cache, key, at(now)).is_some()
        };
        assert!(offer(&mut cache, 0));
        cache.refused(&key, at(0));
        assert!(offer(&mut cache, 1));
        cache.refused(&key, at(1));
        assert!(!offer(&mut cache, 2));
        assert!(!offer(&mut cache, WITHHELD));
        // A session is offered again, but the next refusal withholds it again at once.
        assert!(offer(&mut cache, WITHHELD + 1));
        cache.refused(&key, at(WITHHELD + 1));
        assert!(!offer(&mut cache, WITHHELD + 2));
        assert!(offer(&mut cache, 2 * WITHHELD + 1));
        cache.accepted(&key);
        cache.refused(&key, at(2 * WITHHELD + 1));
        assert!(offer(&mut cache, 2 * WITHHELD + 2));
    }

    #[test]
    fn refusals_take_no_more_room_than_sessions() {
        let mut cache = cache(2, 100);
        for context in 0..10 {
            cache.refused(&key(context, b"a"), at(0));
        }
        assert_eq!(cache.entries.len(), 2);
    }

    #[test]
    fn a_session_of_many_uses_takes_the_place_of_the_one_before() {
        let mut cache = cache(8, 100);
        cache.put(key(1, b"a"), "first", 1, since(0), at(0));
        cache.put(key(1, b"a"), "second", 1, since(50), at(50));
        assert_eq!(session(&mut cache, key(1, b"a"), at(60)), Some("second"));
        assert_eq!(session(&mut cache, key(1, b"a"), at(60)), Some("second"));
        assert_eq!(session(&mut cache, key(1, b"a"), at(150)), None);
    }

    #[test]
    fn sessions_are_bounded_by_their_bytes_too() {
        let mut cache = SessionCache::new(NonZeroUsize::new(4).unwrap(), 100);
        let large = BYTES_OF_AN_ENTRY * 3 / 2;
        let put = |cache: &mut SessionCache<&'static str>, context, size| {
            cache.put(key(context, b"a"), "session", size, since(0), at(0))
        };
        assert_eq!(put(&mut cache, 1, large), 0);
        assert_eq!(put(&mut cache, 2, large), 0);
        assert_eq!(put(&mut cache, 3, large), 1);
        assert!(cache.get(&key(1, b"a"), at(0)).is_none());
        assert!(cache.get(&key(2, b"a"), at(0)).is_some());
        // Replaces its own entry.
        assert_eq!(put(&mut cache, 3, large), 0);
        assert_eq!(cache.entries.bytes(), 2 * large);
        // Larger than the whole budget.
        assert_eq!(put(&mut cache, 4, 5 * BYTES_OF_AN_ENTRY), 0);
        assert!(cache.get(&key(4, b"a"), at(0)).is_none());
        cache.refused(&key(2, b"a"), at(0));
        cache.refused(&key(3, b"a"), at(0));
        assert_eq!(cache.entries.bytes(), 0);
    }

    #[test]
    fn those_that_pass_take_room_from_each_other() {
        const ENTRIES: usize = 2 * PART_OF_PASSING;
        let mut cache = cache(ENTRIES, 100);
        for context in 0..ENTRIES as u64 {
            cache.put(key(context, b"a"), "kept", 1, since(0), at(0));
        }
        let passing = |number: u64| key(1000 + number, b"a");
        for number in 0..100 {
            // A handshake brings two.
            for _ in 0..2 {
                cache.put_passing(passing(number), "passing", 1, since(0), at(0));
            }
            assert!(cache.get(&passing(number), at(0)).is_some());
        }
        let kept = |cache: &mut SessionCache<_>| {
            let contexts = 0..ENTRIES as u64;
            contexts.filter(|context| cache.get(&key(*context, b"a"), at(0)).is_some()).count()
        };
        assert_eq!(kept(&mut cache), ENTRIES);
        assert_eq!((cache.entries.len(), cache.passing.len()), (ENTRIES, 2));
        // A key that was used again stays.
        assert_eq!(cache.put(passing(99), "again", 1, since(0), at(0)), 1);
        for number in 100..200 {
            cache.put_passing(passing(number), "passing", 1, since(0), at(0));
        }
        cache.put_passing(passing(99), "once more", 1, since(0), at(0));
        assert_eq!(session(&mut cache, passing(99), at(0)), Some("once more"));
        assert!(cache.get(&passing(199), at(0)).is_some());
        assert_eq!((cache.entries.len(), cache.passing.len()), (ENTRIES, 2));
        assert_eq!(kept(&mut cache), ENTRIES - 1);
        // A passing key can be refused like any other.
        cache.refused(&passing(199), at(0));
        assert!(cache.get(&passing(199), at(0)).is_none());
    }

    #[test]
    fn what_is_taken_out_takes_no_bytes() {
        let mut cache = SessionCache::new(NonZeroUsize::new(8).unwrap(), 100);
        for index in 0..10 {
            cache.put(key(1, b"a"), Ticket(index, Rc::default()), 10, since(0), at(0));
        }
        assert_eq!(cache.entries.bytes(), 10 * SESSIONS_OF_AN_ENTRY);
        while cache.entries.bytes() > 10 {
            let before = cache.entries.bytes();
            assert!(cache.get(&key(1, b"a"), at(0)).is_some());
            assert_eq!(cache.entries.bytes(), before - 10);
        }
        // The last one is shared.
        assert!(cache.get(&key(1, b"a"), at(0)).is_some());
        assert_eq!(cache.entries.bytes(), 10);
        assert!(cache.get(&key(1, b"a"), at(100)).is_none());
        assert_eq!(cache.entries.bytes(), 0);
    }
}
