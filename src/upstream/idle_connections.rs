//! Connections that wait for a request of their identity.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::num::NonZeroUsize;

use lru::LruCache;

use super::address::Address;
use crate::identity::Key;

/// What an idle connection may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IdleKey {
    pub identity: Key,
    pub peer: Address,
    /// The address that the connection was bound to (`proxy_bind`): the peer may tell us by it.
    pub local: Option<Address>,
}

/// The idle connections of one `upstream {}` block, at most `capacity`.
pub struct IdleConnections<C> {
    by_key: HashMap<IdleKey, Vec<C>>,
    by_age: LruCache<C, IdleKey>,
    capacity: NonZeroUsize,
}

impl<C: Copy + Eq + Hash> IdleConnections<C> {
    pub fn new(capacity: NonZeroUsize) -> Self {
        // Unbounded, because a bounded one allocates its whole table at once.
        Self { by_key: HashMap::new(), by_age: LruCache::unbounded(), capacity }
    }

    /// Takes out the connection for `key` that was put in last.
    pub fn take(&mut self, key: &IdleKey) -> Option<C> {
        let connection = *self.by_key.get(key)?.last()?;
        self.remove(connection);
        Some(connection)
    }

    /// Puts in a connection; the one that makes room for it, if one must, is for the caller to close.
    #[must_use]
    pub fn put(&mut self, key: IdleKey, connection: C) -> Option<C> {
        self.by_key.entry(key).or_default().push(connection);
        self.by_age.put(connection, key);
        if self.by_age.len() <= self.capacity.get() {
            return None;
        }
        let (oldest, _) = self.by_age.peek_lru()?;
        let oldest = *oldest;
        self.remove(oldest);
        Some(oldest)
    }

    /// Takes out this connection.
    pub fn remove(&mut self, connection: C) {
        let Some(key) = self.by_age.pop(&connection) else {
            return;
        };
        if let Entry::Occupied(mut connections) = self.by_key.entry(key) {
            connections.get_mut().retain(|other| *other != connection);
            if connections.get().is_empty() {
                connections.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{ContextId, Identity};

    fn key(context: u64, peer: &[u8], local: Option<&[u8]>) -> IdleKey {
        let identity = Identity {
            context: ContextId(context),
            overridden: true,
            client_certificate: None,
            verify: false,
            verify_depth: None,
            trusted_store: None,
            dns_names: None,
            uris: None,
            server_name: None,
            verified_name: None,
        };
        let address = |bytes| Address::new(bytes).unwrap();
        IdleKey { identity: identity.key(), peer: address(peer), local: local.map(address) }
    }

    fn connections(capacity: usize) -> IdleConnections<u32> {
        IdleConnections::new(NonZeroUsize::new(capacity).unwrap())
    }

    #[test]
    fn whole_keys_are_compared() {
        let mut idle = connections(8);
        let keys = [
            key(1, b"a", None),
            key(2, b"a", None),
            key(1, b"b", None),
            key(1, b"a", Some(b"x")),
            key(1, b"a", Some(b"y")),
        ];
        for (connection, key) in (0..).zip(keys) {
            assert_eq!(idle.put(key, connection), None);
        }
        for (connection, key) in (0..).zip(keys) {
            assert_eq!(idle.take(&key), Some(connection));
            assert_eq!(idle.take(&key), None);
        }
    }

    #[test]
    fn the_last_in_is_the_first_out() {
        let mut idle = connections(8);
        let key = key(1, b"a", None);
        for connection in 1..=3 {
            assert_eq!(idle.put(key, connection), None);
        }
        assert_eq!(idle.take(&key), Some(3));
        assert_eq!(idle.take(&key), Some(2));
        assert_eq!(idle.take(&key), Some(1));
        assert_eq!(idle.take(&key), None);
        assert!(idle.by_key.is_empty());
    }

    #[test]
    fn the_oldest_makes_room_whatever_its_key() {
        let mut idle = connections(2);
        let (one, two) = (key(1, b"a", None), key(2, b"a", None));
        assert_eq!(idle.put(one, 1), None);
        assert_eq!(idle.put(two, 2), None);
        assert_eq!(idle.put(two, 3), Some(1));
        assert_eq!(idle.take(&one), None);
        assert_eq!(idle.put(one, 4), Some(2));
        assert_eq!(idle.take(&two), Some(3));
    }

    #[test]
    fn one_that_was_closed_is_gone() {
        let mut idle = connections(8);
        let key = key(1, b"a", None);
        for connection in 1..=3 {
            assert_eq!(idle.put(key, connection), None);
        }
        idle.remove(3);
        idle.remove(1);
        idle.remove(7);
        assert_eq!(idle.take(&key), Some(2));
        assert_eq!(idle.take(&key), None);
    }
}
