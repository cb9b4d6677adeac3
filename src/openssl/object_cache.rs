// SPDX-License-Identifier: Apache-2.0

//! A bounded cache of values made from OpenSSL objects, found by the addresses of these.

use std::cell::RefCell;
use std::rc::Rc;

use crate::bounded::BoundedCache;
use crate::status::counters::Cache;

/// Estimated bytes of an entry, and additional ones for each of its objects: address and name.
const ENTRY: usize = 4 * 1024;
const OBJECT: usize = 1024;

/// The addresses of the objects that an entry was made from.
pub type Addresses = [usize];

/// A value that holds references to the objects it was made from.
///
/// The memory of these objects can't be reused for others as long as the value lives. So an equal
/// address means the same object.
pub trait HoldsItsObjects {
    /// Returns the addresses of the objects that the value holds references to.
    fn addresses(&self) -> Vec<usize>;
}

/// A cache with an upper limit for the estimated size of its entries.
pub struct ObjectCache<V> {
    entries: RefCell<BoundedCache<Rc<Addresses>, Rc<V>>>,
}

impl<V: HoldsItsObjects> ObjectCache<V> {
    pub fn new(most_bytes: usize, counted_as: Cache) -> Self {
        Self { entries: RefCell::new(BoundedCache::counted(most_bytes, counted_as)) }
    }

    /// Returns the value for the objects at `addresses`, made by `make` if there is none.
    ///
    /// A value that does not hold exactly these objects is returned, but not kept.
    pub fn get_or_make<E>(
        &self,
        addresses: &Addresses,
        make: impl FnOnce() -> Result<V, E>,
    ) -> Result<Rc<V>, E> {
        if let Some(value) = self.entries.borrow_mut().get(addresses) {
            return Ok(Rc::clone(value));
        }
        let value = Rc::new(make()?);
        if value.addresses() == addresses {
            let bytes = ENTRY + addresses.len() * OBJECT;
            self.entries.borrow_mut().insert(addresses.into(), Rc::clone(&value), bytes);
        }
        Ok(value)
    }

    /// Drops all entries.
    pub fn clear(&self) {
        self.entries.borrow_mut().clear();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    struct Value(Vec<usize>);

    impl HoldsItsObjects for Value {
        fn addresses(&self) -> Vec<usize> {
            self.0.clone()
        }
    }

    fn cache() -> ObjectCache<Value> {
        ObjectCache::new(64 * 1024, Cache::Authorities)
    }

    #[test]
    fn a_value_is_made_once() {
        let cache = cache();
        let made = Cell::new(0);
        let make = || {
            made.set(made.get() + 1);
            Ok::<_, ()>(Value(vec![1, 2]))
        };
        let first = cache.get_or_make(&[1, 2], make).unwrap();
        let second = cache.get_or_make(&[1, 2], make).unwrap();
        assert!(Rc::ptr_eq(&first, &second));
        assert_eq!(made.get(), 1);
    }

    #[test]
    fn whole_keys_are_compared() {
        let cache = cache();
        for addresses in [&[1, 2][..], &[2, 1], &[1], &[1, 2, 3], &[]] {
            let value =
                cache.get_or_make(addresses, || Ok::<_, ()>(Value(addresses.to_vec()))).unwrap();
            assert_eq!(value.0, addresses);
        }
    }

    #[test]
    fn many_objects_take_much() {
        let cache = cache();
        let many: Vec<_> = (0..64).collect();
        let made = Cell::new(0);
        for _ in 0..2 {
            let make = || {
                made.set(made.get() + 1);
                Ok::<_, ()>(Value(many.clone()))
            };
            cache.get_or_make(&many, make).unwrap();
        }
        assert_eq!(made.get(), 2);
    }

    #[test]
    fn an_error_is_not_kept() {
        let cache = cache();
        assert!(cache.get_or_make(&[1], || Err("no")).is_err());
        assert!(cache.get_or_make(&[1], || Ok::<_, ()>(Value(vec![1]))).is_ok());
    }

    #[test]
    fn a_value_that_does_not_hold_its_objects_is_not_kept() {
        let cache = cache();
        cache.get_or_make(&[1], || Ok::<_, ()>(Value(vec![7]))).unwrap();
        let again = cache.get_or_make(&[1], || Ok::<_, ()>(Value(vec![1]))).unwrap();
        assert_eq!(again.0, [1]);
    }
}
