//! TLS sessions with upstreams, kept by identity and address.

use std::num::NonZeroUsize;

use lru::LruCache;

use crate::address::Address;
use crate::identity::Key;

/// What a session may be resumed for. The name that was sent to the peer is part of the identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionKey {
    pub identity: Key,
    pub peer: Address,
}

/// The time, by two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Seconds since the epoch: what certificates are dated by.
    pub date: i64,
    /// Milliseconds of a clock that nobody sets.
    pub monotonic: u64,
}

/// How long a session may be resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// When its first handshake began, by the monotonic clock. A session that was made by resuming
    /// another has the first handshake of that one: to resume doesn't verify anything anew.
    pub first_handshake: u64,
    /// When the first of the certificates that it stands for ends, by the date.
    pub not_after: Option<i64>,
}

/// A cache of sessions. When it is full, the least recently used one makes room.
pub struct SessionCache<S> {
    entries: LruCache<SessionKey, (S, Validity)>,
    capacity: NonZeroUsize,
    /// Milliseconds since the first handshake.
    lifetime: u64,
}

impl<S> SessionCache<S> {
    pub fn new(capacity: NonZeroUsize, lifetime: u64) -> Self {
        // Unbounded, because a bounded one allocates its whole table at once.
        Self { entries: LruCache::unbounded(), capacity, lifetime }
    }

    /// The session for `key`, if there is one that has not expired.
    pub fn get(&mut self, key: &SessionKey, now: Now) -> Option<(&S, Validity)> {
        let (_, validity) = self.entries.peek(key)?;
        if self.is_over(*validity, now) {
            self.entries.pop(key);
            return None;
        }
        self.entries.get(key).map(|(session, validity)| (session, *validity))
    }

    /// Keeps `session` in place of the one that was there, unless it has expired already.
    pub fn put(&mut self, key: SessionKey, session: S, validity: Validity, now: Now) {
        if self.is_over(validity, now) {
            return;
        }
        self.entries.put(key, (session, validity));
        if self.entries.len() > self.capacity.get() {
            self.entries.pop_lru();
        }
    }

    fn is_over(&self, validity: Validity, now: Now) -> bool {
        let Validity { first_handshake, not_after } = validity;
        now.monotonic.saturating_sub(first_handshake) >= self.lifetime
            || not_after.is_some_and(|not_after| now.date >= not_after)
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::identity::Identity;

    fn key(context: u64, peer: &[u8]) -> SessionKey {
        SessionKey {
            identity: Identity::in_context(context).key(),
            peer: Address::new(peer).unwrap(),
        }
    }

    fn at(monotonic: u64) -> Now {
        Now { date: 0, monotonic }
    }

    fn since(first_handshake: u64) -> Validity {
        Validity { first_handshake, not_after: None }
    }

    fn cache(capacity: usize, lifetime: u64) -> SessionCache<&'static str> {
        SessionCache::new(NonZeroUsize::new(capacity).unwrap(), lifetime)
    }

    fn session(
        cache: &mut SessionCache<&'static str>,
        key: SessionKey,
        now: Now,
    ) -> Option<&'static str> {
        cache.get(&key, now).map(|(session, _)| *session)
    }

    #[test]
    fn identity_and_peer_are_the_key() {
        let mut cache = cache(8, 100);
        cache.put(key(1, b"a"), "1a", since(0), at(0));
        cache.put(key(2, b"a"), "2a", since(0), at(0));
        assert_eq!(session(&mut cache, key(1, b"a"), at(0)), Some("1a"));
        assert_eq!(session(&mut cache, key(2, b"a"), at(0)), Some("2a"));
        assert_eq!(session(&mut cache, key(1, b"b"), at(0)), None);
        assert_eq!(session(&mut cache, key(3, b"a"), at(0)), None);
    }

    #[test]
    fn a_session_ends_its_lifetime_after_the_first_handshake() {
        let mut cache = cache(8, 100);
        cache.put(key(1, b"a"), "old", since(50), at(50));
        assert_eq!(session(&mut cache, key(1, b"a"), at(149)), Some("old"));

        // A renewed ticket does not begin anew.
        let (_, validity) = cache.get(&key(1, b"a"), at(149)).unwrap();
        cache.put(key(1, b"a"), "renewed", validity, at(149));
        assert_eq!(session(&mut cache, key(1, b"a"), at(149)), Some("renewed"));
        assert_eq!(session(&mut cache, key(1, b"a"), at(150)), None);
        // And it is gone, not only hidden.
        assert_eq!(session(&mut cache, key(1, b"a"), at(149)), None);
    }

    #[test]
    fn a_late_ticket_of_an_old_handshake_is_not_kept() {
        let mut cache = cache(8, 100);
        cache.put(key(1, b"a"), "late", since(0), at(100));
        assert_eq!(session(&mut cache, key(1, b"a"), at(0)), None);
    }

    #[test]
    fn a_session_ends_with_the_certificate() {
        let mut cache = cache(8, 100);
        let validity = Validity { first_handshake: 0, not_after: Some(10) };
        cache.put(key(1, b"a"), "1", validity, Now { date: 9, monotonic: 0 });
        assert_eq!(session(&mut cache, key(1, b"a"), Now { date: 9, monotonic: 1 }), Some("1"));
        assert_eq!(session(&mut cache, key(1, b"a"), Now { date: 10, monotonic: 1 }), None);
    }

    #[test]
    fn the_least_recently_used_makes_room_and_is_dropped() {
        let mut cache = SessionCache::new(NonZeroUsize::new(2).unwrap(), 100);
        let sessions: Vec<_> = (0..3).map(|_| Rc::new(())).collect();
        for (index, session) in sessions.iter().take(2).enumerate() {
            cache.put(key(index as u64, b"a"), Rc::clone(session), since(0), at(0));
        }
        assert!(cache.get(&key(0, b"a"), at(0)).is_some());
        cache.put(key(2, b"a"), Rc::clone(&sessions[2]), since(0), at(0));

        let kept: Vec<_> = sessions.iter().map(|session| Rc::strong_count(session) == 2).collect();
        assert_eq!(kept, [true, false, true]);
    }
}
