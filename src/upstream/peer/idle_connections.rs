// SPDX-License-Identifier: Apache-2.0

//! Idle connections, by identity and address.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::num::NonZeroUsize;

use crate::bounded::two_of;
use crate::mixing::Mixed;
use crate::upstream::identity::IdentityDigest;

/// What an idle connection may be used for.
#[derive(Clone, Copy, Debug)]
pub struct IdleKey<'a> {
    pub identity: IdentityDigest,
    /// The bytes of the peer's `sockaddr`.
    pub peer: &'a [u8],
}

impl IdleKey<'_> {
    fn hash(&self) -> u64 {
        self.identity.mixed_with(self.peer)
    }
}

/// The connections of a key.
struct SameKey<C> {
    identity: IdentityDigest,
    peer: Box<[u8]>,
    /// The oldest first.
    idle: Vec<Idle<C>>,
}

impl<C> SameKey<C> {
    fn is_of(&self, key: &IdleKey<'_>) -> bool {
        self.identity == key.identity && *self.peer == *key.peer
    }
}

struct Idle<C> {
    time: u64,
    connection: C,
    /// Whether its identity may never be used again ("passing"), such as that of a store that a
    /// plugin makes for each request.
    is_passing: bool,
}

/// One in this many connections may be passing.
const PART_OF_PASSING: usize = 16;

/// The idle connections of one `upstream {}` block, at most `capacity`.
///
/// Taking a connection and putting it back allocates nothing. All connections are searched only
/// where one is closed.
pub struct IdleConnections<C> {
    /// The connections of all keys, by the hash of the key. Keys are digests and addresses, which
    /// nobody can choose so that their hashes collide.
    by_hash: HashMap<u64, Vec<SameKey<C>>, BuildHasherDefault<IsHashed>>,
    count: usize,
    /// How many of them are passing.
    passing: usize,
    capacity: NonZeroUsize,
    /// The number of connections put in so far, used as a clock to tell the oldest.
    time: u64,
}

/// The hash of what is a hash.
#[derive(Default)]
struct IsHashed(u64);

impl Hasher for IsHashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = Mixed::new(self.0).bytes(bytes).value();
    }
}

impl<C: Copy + Eq> IdleConnections<C> {
    pub fn new(capacity: NonZeroUsize) -> Self {
        Self { by_hash: HashMap::default(), count: 0, passing: 0, capacity, time: 0 }
    }

    fn same_key(&mut self, key: &IdleKey<'_>) -> Option<&mut SameKey<C>> {
        self.by_hash.get_mut(&key.hash())?.iter_mut().find(|same_key| same_key.is_of(key))
    }

    /// Takes out the connection for `key` that was put in last.
    pub fn take(&mut self, key: &IdleKey<'_>) -> Option<C> {
        let idle = self.same_key(key)?.idle.pop()?;
        self.forget(&idle);
        Some(idle.connection)
    }

    /// Returns whether there is a connection to `peer`, of any identity.
    pub fn has_peer(&self, peer: &[u8]) -> bool {
        let mut all = self.by_hash.values().flatten();
        all.any(|same_key| *same_key.peer == *peer && !same_key.idle.is_empty())
    }

    /// Puts in a connection. If another one must make room, takes that one out and returns it, for
    /// the caller to close: the oldest passing connection if there is one, or else the older of two
    /// chosen at random (see [`crate::bounded`]).
    #[must_use]
    pub fn put(&mut self, key: &IdleKey<'_>, connection: C, is_passing: bool) -> Option<C> {
        self.time += 1;
        let idle = Idle { time: self.time, connection, is_passing };
        // The key is usually there: its connection was taken.
        if let Some(same_key) = self.same_key(key) {
            same_key.idle.push(idle);
        } else {
            let IdleKey { identity, peer } = *key;
            let same_key = SameKey { identity, peer: peer.into(), idle: vec![idle] };
            self.by_hash.entry(key.hash()).or_default().push(same_key);
            self.forget_unused_keys();
        }
        self.count += 1;
        self.passing += usize::from(is_passing);

        let is_full_of_passing = self.passing > (self.capacity.get() / PART_OF_PASSING).max(1);
        if self.count <= self.capacity.get() && !is_full_of_passing {
            return None;
        }
        let victim = if self.passing > usize::from(is_passing) {
            self.others().filter(|idle| idle.is_passing).min_by_key(|idle| idle.time)?
        } else {
            let (one, another) = two_of(self.count - 1)?;
            let is_chosen = |(number, _): &(usize, _)| [one, another].contains(number);
            let chosen = self.others().enumerate().filter(is_chosen);
            chosen.map(|(_, idle)| idle).min_by_key(|idle| idle.time)?
        };
        let connection = victim.connection;
        self.remove(connection);
        Some(connection)
    }

    /// Returns all connections but the one that was put in last.
    fn others(&self) -> impl Iterator<Item = &Idle<C>> {
        let all = self.by_hash.values().flatten().flat_map(|same_key| &same_key.idle);
        all.filter(|idle| idle.time != self.time)
    }

    fn forget(&mut self, idle: &Idle<C>) {
        self.count -= 1;
        self.passing -= usize::from(idle.is_passing);
    }

    /// Takes out `connection`.
    pub fn remove(&mut self, connection: C) {
        for SameKey { idle, .. } in self.by_hash.values_mut().flatten() {
            let index = idle.iter().position(|idle| idle.connection == connection);
            if let Some(idle) = index.map(|index| idle.remove(index)) {
                self.forget(&idle);
                return;
            }
        }
    }

    /// Removes keys without connections. A key stays when its last connection is taken, because
    /// that connection usually comes back. Identities come and go, so keys are cleaned up when
    /// there are twice as many as there may be connections.
    fn forget_unused_keys(&mut self) {
        if self.by_hash.len() > 2 * self.capacity.get() {
            self.by_hash.retain(|_, same_hash| {
                same_hash.retain(|same_key| !same_key.idle.is_empty());
                !same_hash.is_empty()
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::identity::Identity;

    fn key(context: u64, peer: &[u8]) -> IdleKey<'_> {
        IdleKey { identity: Identity::in_context(context).digest(), peer }
    }

    fn connections(capacity: usize) -> IdleConnections<u32> {
        IdleConnections::new(NonZeroUsize::new(capacity).unwrap())
    }

    #[test]
    fn whole_keys_are_compared() {
        let mut idle = connections(8);
        let keys = [key(1, b"a"), key(2, b"a"), key(1, b"b")];
        for (connection, key) in (0..).zip(keys) {
            assert_eq!(idle.put(&key, connection, false), None);
        }
        for (connection, key) in (0..).zip(keys) {
            assert!(idle.has_peer(key.peer));
            assert_eq!(idle.take(&key), Some(connection));
            assert_eq!(idle.take(&key), None);
        }
        assert!(!idle.has_peer(keys[0].peer));
    }

    #[test]
    fn the_last_in_is_the_first_out() {
        let mut idle = connections(8);
        let key = key(1, b"a");
        for connection in 1..=3 {
            assert_eq!(idle.put(&key, connection, false), None);
        }
        assert_eq!(idle.take(&key), Some(3));
        assert_eq!(idle.take(&key), Some(2));
        assert_eq!(idle.take(&key), Some(1));
        assert_eq!(idle.take(&key), None);
    }

    #[test]
    fn keys_without_connections_are_forgotten() {
        let mut idle = connections(4);
        let kept = key(0, b"a");
        assert_eq!(idle.put(&kept, 0, false), None);
        for context in 1..100 {
            let key = key(context, b"a");
            assert_eq!(idle.put(&key, 1, false), None);
            assert_eq!(idle.take(&key), Some(1));
            assert!(idle.by_hash.len() <= 8);
        }
        assert_eq!(idle.take(&kept), Some(0));
        assert_eq!(idle.count, 0);
    }

    #[test]
    fn the_oldest_makes_room_whatever_its_key() {
        let mut idle = connections(2);
        let (one, two) = (key(1, b"a"), key(2, b"a"));
        assert_eq!(idle.put(&one, 1, false), None);
        assert_eq!(idle.put(&two, 2, false), None);
        assert_eq!(idle.put(&two, 3, false), Some(1));
        assert_eq!(idle.take(&one), None);
        assert_eq!(idle.put(&one, 4, false), Some(2));
        assert_eq!(idle.take(&two), Some(3));
    }

    #[test]
    fn one_that_was_closed_is_gone() {
        let mut idle = connections(8);
        let key = key(1, b"a");
        for connection in 1..=3 {
            assert_eq!(idle.put(&key, connection, false), None);
        }
        idle.remove(3);
        idle.remove(1);
        idle.remove(7);
        assert_eq!(idle.take(&key), Some(2));
        assert_eq!(idle.take(&key), None);
    }

    #[test]
    fn one_more_than_there_is_room_for_is_no_cliff() {
        let mut idle = connections(256);
        let mut found = 0;
        for _ in 0..20 {
            for context in 0..257 {
                let key = key(context, b"a");
                found += usize::from(idle.take(&key).is_some());
                let _ = idle.put(&key, context as u32, false);
            }
        }
        // Of 5,140 uses, the first 257 find nothing.
        assert!(found > 4600, "{found}");
    }

    #[test]
    fn those_that_pass_make_room_for_each_other() {
        let mut idle = connections(32);
        for context in 0..32 {
            assert_eq!(idle.put(&key(context, b"a"), context as u32, false), None);
        }
        let mut closed = Vec::new();
        for context in 100..200 {
            closed.extend(idle.put(&key(context, b"a"), context as u32, true));
        }
        assert_eq!(closed.len(), 100);
        assert_eq!(closed.iter().filter(|connection| **connection < 32).count(), 1);
        assert_eq!((idle.count, idle.passing), (32, 1));
        // The last one is there, and is evicted first.
        assert_eq!(idle.put(&key(0, b"a"), 300, false), Some(199));
        assert_eq!((idle.count, idle.passing), (32, 0));
        // With spare capacity, only a few of them are kept.
        let stay: Vec<_> = idle.others().map(|idle| idle.connection).collect();
        stay[..10].iter().for_each(|connection| idle.remove(*connection));
        for context in 100..200 {
            let closed = idle.put(&key(context, b"a"), context as u32, true);
            assert_eq!(closed, (context >= 102).then(|| context as u32 - 2));
        }
        assert_eq!((idle.count, idle.passing), (24, 2));
        assert_eq!(idle.take(&key(199, b"a")), Some(199));
        assert_eq!(idle.take(&key(198, b"a")), Some(198));
        assert_eq!((idle.count, idle.passing), (22, 0));
    }
}
