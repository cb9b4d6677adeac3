// SPDX-License-Identifier: Apache-2.0

//! A cache bounded by the number of its entries, and by their size in bytes.
//!
//! To make room, it evicts the less recently used of two entries chosen at random. Evicting the
//! least recently used entry of all would be worse for entries that are used in turn: with one
//! entry more than there is room for, every lookup would miss, because the next entry would always
//! be the one just evicted. This way, with a few hundred entries, only about one lookup in a
//! hundred misses.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroUsize;

use foldhash::fast::RandomState;

use crate::status::counters::{self, Cache, CacheEvent};

struct Entry<K, V> {
    key: K,
    value: V,
    bytes: usize,
    /// When the entry was last used, by the count of uses.
    used: u64,
}

/// A bounded cache.
pub struct BoundedCache<K, V> {
    /// The index in `entries` for each key. Keys are digests and addresses of objects, which nobody
    /// can choose so that they collide: a faster hash than the standard one will do.
    places: HashMap<K, usize, RandomState>,
    entries: Vec<Entry<K, V>>,
    most: NonZeroUsize,
    most_bytes: usize,
    bytes: usize,
    /// The number of uses so far, which serves as a clock.
    uses: u64,
    counted_as: Option<Cache>,
}

impl<K: Clone + Eq + Hash, V> BoundedCache<K, V> {
    /// Returns a cache of at most `most` entries, which take at most `most_bytes`.
    pub fn new(most: NonZeroUsize, most_bytes: usize) -> Self {
        Self {
            places: HashMap::default(),
            entries: Vec::new(),
            most,
            most_bytes,
            bytes: 0,
            uses: 0,
            counted_as: None,
        }
    }

    /// Returns a cache bounded by `most_bytes` only, whose hits, misses and evictions are counted
    /// for `kong_tls_status`.
    pub fn counted(most_bytes: usize, cache: Cache) -> Self {
        Self { counted_as: Some(cache), ..Self::new(NonZeroUsize::MAX, most_bytes) }
    }

    /// Returns the value for `key`, and marks it as used.
    pub fn get<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let place = self.places.get(key).copied();
        self.count(if place.is_some() { CacheEvent::Hit } else { CacheEvent::Miss }, 1);
        self.uses += 1;
        let entry = self.entries.get_mut(place?)?;
        entry.used = self.uses;
        Some(&mut entry.value)
    }

    /// Returns the value for `key`, and makes and inserts it if there is none. `bytes` returns the
    /// size of a value.
    pub fn get_or_try_insert<E>(
        &mut self,
        key: &K,
        make: impl FnOnce() -> Result<V, E>,
        bytes: impl FnOnce(&V) -> usize,
    ) -> Result<V, E>
    where
        V: Clone,
    {
        if let Some(value) = self.get(key) {
            return Ok(value.clone());
        }
        let value = make()?;
        self.insert(key.clone(), value.clone(), bytes(&value));
        Ok(value)
    }

    /// Inserts a value that takes `bytes`, replacing the one for `key`. Does not keep a value
    /// larger than the whole cache. Returns how many other entries were evicted.
    pub fn insert(&mut self, key: K, value: V, bytes: usize) -> usize {
        self.remove(&key);
        if bytes > self.most_bytes {
            return 0;
        }
        self.uses += 1;
        self.places.insert(key.clone(), self.entries.len());
        self.entries.push(Entry { key, value, bytes, used: self.uses });
        self.bytes += bytes;
        self.make_room(self.entries.len() - 1)
    }

    /// Records that the value for `key` takes `bytes` now. Returns how many other entries were
    /// evicted.
    pub fn resize(&mut self, key: &K, bytes: usize) -> usize {
        let Some(&place) = self.places.get(key) else {
            return 0;
        };
        let entry = &mut self.entries[place];
        self.bytes = self.bytes - entry.bytes + bytes;
        entry.bytes = bytes;
        self.make_room(place)
    }

    /// Removes and returns the value for `key`.
    pub fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let place = *self.places.get(key)?;
        Some(self.take(place))
    }

    /// Returns whether there is a value for `key`.
    pub fn contains<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.places.contains_key(key)
    }

    /// Returns the maximum size of all entries in bytes.
    pub fn most_bytes(&self) -> usize {
        self.most_bytes
    }

    /// Removes all entries.
    pub fn clear(&mut self) {
        self.places.clear();
        self.entries.clear();
        self.bytes = 0;
    }

    /// Returns the size of all entries in bytes.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the number of entries.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Evicts entries other than the one at `kept` until the cache is within its bounds.
    fn make_room(&mut self, mut kept: usize) -> usize {
        let before = self.entries.len();
        while self.entries.len() > self.most.get() || self.bytes > self.most_bytes {
            let Some((one, another)) = two_of(self.entries.len() - 1) else {
                break;
            };
            // Skip the kept entry: indexes from there on are shifted by one.
            let [one, another] = [one, another].map(|other| other + usize::from(other >= kept));
            let is_older = self.entries[one].used < self.entries[another].used;
            let last = self.entries.len() - 1;
            let victim = if is_older { one } else { another };
            self.take(victim);
            if kept == last {
                kept = victim;
            }
        }
        let evicted = before - self.entries.len();
        self.count(CacheEvent::Eviction, evicted);
        evicted
    }

    /// Removes the entry at `place`, and moves the last entry there.
    fn take(&mut self, place: usize) -> V {
        let Entry { key, value, bytes, used: _ } = self.entries.swap_remove(place);
        self.places.remove(&key);
        self.bytes -= bytes;
        if let Some(moved) = self.entries.get(place) {
            if let Some(its_place) = self.places.get_mut(&moved.key) {
                *its_place = place;
            }
        }
        value
    }

    fn count(&self, event: CacheEvent, times: usize) {
        if let Some(cache) = self.counted_as {
            counters::count_cache(cache, event, times);
        }
    }
}

/// Returns two random numbers below `count`, which differ if `count` is greater than 1.
pub fn two_of(count: usize) -> Option<(usize, usize)> {
    match count {
        0 => None,
        1 => Some((0, 0)),
        _ => {
            let one = fastrand::usize(..count);
            Some((one, (one + fastrand::usize(1..count)) % count))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(most: usize, most_bytes: usize) -> BoundedCache<u32, u32> {
        BoundedCache::new(NonZeroUsize::new(most).unwrap(), most_bytes)
    }

    /// Checks the cache's invariants, and returns the number of entries.
    fn checked(cache: &BoundedCache<u32, u32>) -> usize {
        assert_eq!(cache.places.len(), cache.entries.len());
        for (key, place) in &cache.places {
            assert_eq!(cache.entries[*place].key, *key);
        }
        assert_eq!(cache.bytes, cache.entries.iter().map(|entry| entry.bytes).sum::<usize>());
        assert!(cache.entries.len() <= cache.most.get() && cache.bytes <= cache.most_bytes);
        cache.len()
    }

    #[test]
    fn what_was_put_in_is_found_until_it_is_taken_out() {
        let mut cache = cache(8, 80);
        for key in 0..8 {
            assert_eq!(cache.insert(key, key + 100, 10), 0);
        }
        assert_eq!(checked(&cache), 8);
        assert_eq!(cache.get(&3), Some(&mut 103));
        assert_eq!(cache.remove(&3), Some(103));
        assert_eq!(cache.remove(&3), None);
        assert_eq!(cache.get(&3), None);
        assert_eq!(checked(&cache), 7);
        assert!(
            (0..8).filter(|key| *key != 3).all(|key| cache.get(&key) == Some(&mut (key + 100)))
        );
        // Replaces the former value.
        assert_eq!(cache.insert(4, 7, 20), 0);
        assert_eq!(cache.get(&4), Some(&mut 7));
        assert_eq!(cache.bytes(), 80);
        cache.clear();
        assert_eq!(checked(&cache), 0);
    }

    #[test]
    fn the_newest_stays_and_another_makes_room() {
        for most in 1..20 {
            let mut cache = cache(most, usize::MAX);
            for key in 0..200 {
                let evicted = cache.insert(key, key, 1);
                assert_eq!(evicted, usize::from(key >= most as u32));
                assert_eq!(cache.get(&key), Some(&mut key.clone()));
                checked(&cache);
            }
            assert_eq!(cache.len(), most);
        }
    }

    #[test]
    fn bytes_are_bounded() {
        let mut cache = cache(100, 1000);
        for key in 0..300 {
            cache.insert(key, key, 1 + key as usize % 90);
            assert!(cache.get(&key).is_some());
            checked(&cache);
        }
        assert_eq!(cache.insert(1000, 0, 1001), 0);
        assert_eq!(cache.get(&1000), None);
        // All others are evicted for one that takes all the space.
        let others = cache.len();
        assert_eq!(cache.insert(1001, 0, 1000), others);
        assert_eq!(checked(&cache), 1);
        cache.resize(&1001, 10);
        cache.insert(1002, 0, 10);
        assert_eq!(cache.resize(&1001, 995), 1);
        assert_eq!(cache.resize(&7, 995), 0);
        assert!(cache.get(&1001).is_some());
        assert_eq!(checked(&cache), 1);
    }

    #[test]
    fn two_are_different() {
        assert_eq!(two_of(0), None);
        assert_eq!(two_of(1), Some((0, 0)));
        for count in 2..50 {
            let (one, another) = two_of(count).unwrap();
            assert!(one < count && another < count && one != another);
        }
    }

    #[test]
    fn one_more_than_there_is_room_for_is_no_cliff() {
        let mut cache = cache(256, usize::MAX);
        let mut found = 0;
        for _ in 0..20 {
            for key in 0..257 {
                match cache.get(&key) {
                    Some(_) => found += 1,
                    None => drop(cache.insert(key, key, 1)),
                }
            }
        }
        // Of 5,140 uses, the first 257 find nothing.
        assert!(found > 4600, "{found}");
    }

    #[test]
    fn what_is_used_stays_rather_than_what_is_not() {
        let mut cache = cache(100, usize::MAX);
        for stranger in 0..10_000 {
            for regular in 0..10 {
                if cache.get(&regular).is_none() {
                    cache.insert(regular, 0, 1);
                }
            }
            cache.insert(1000 + stranger, 0, 1);
        }
        let mut missed = 0;
        for stranger in 0..1000 {
            for regular in 0..10 {
                if cache.get(&regular).is_none() {
                    cache.insert(regular, 0, 1);
                    missed += 1;
                }
            }
            cache.insert(100_000 + stranger, 0, 1);
        }
        assert!(missed < 200, "{missed}");
    }

    #[test]
    fn a_value_is_made_once_and_an_error_is_not_kept() {
        let mut cache = cache(2, 10);
        let mut get = |made| cache.get_or_try_insert(&1, || made, |value| *value as usize);
        assert_eq!(get(Err("no")), Err("no"));
        assert_eq!(get(Ok(11)), Ok(11));
        assert_eq!(get(Ok(5)), Ok(5));
        assert_eq!(get(Ok(6)), Ok(5));
    }
}
