// SPDX-License-Identifier: Apache-2.0

//! Recently used values, found by the address of an OpenSSL object, without the atomic operations
//! of a reference to it. This is only a shortcut: values that are not here are found with their
//! object.

use std::cell::RefCell;
use std::rc::Rc;

/// Whether an object was used before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    First,
    Again,
}

/// The number of places. Each holds two values, so that two objects with the same place do not
/// evict each other in turn.
const PLACES: usize = 1 << PLACE_BITS;
const PLACE_BITS: u32 = 9;

/// The last two values put into a place, the newer first.
type Place<T> = [Option<Rc<T>>; 2];

/// [`PLACES`] places, chosen by the addresses of objects.
pub struct Recent<T>(RefCell<Vec<Place<T>>>);

impl<T> Recent<T> {
    pub const fn new() -> Self {
        Self(RefCell::new(Vec::new()))
    }

    /// Returns the newest value in the place for `address` that `is_right` accepts.
    pub fn get(&self, address: usize, is_right: impl Fn(&T) -> bool) -> Option<Rc<T>> {
        let places = self.0.borrow();
        let mut kept = places.get(place(address))?.iter().flatten();
        kept.find(|value| is_right(value)).map(Rc::clone)
    }

    /// Keeps a value for the object at `address`. The value must hold a reference to the object, so
    /// that its memory is not reused.
    pub fn put(&self, address: usize, value: Rc<T>) {
        let mut places = self.0.borrow_mut();
        if places.is_empty() {
            places.resize_with(PLACES, Default::default);
        }
        let [newer, older] = &mut places[place(address)];
        *older = newer.replace(value);
    }

    /// Drops all values.
    pub fn clear(&self) {
        self.0.take();
    }
}

/// Hashes an address to a place. Addresses differ in their middle bits; multiplication by the
/// golden ratio moves these differences to the top bits (D. Knuth, The Art of Computer Programming,
/// section 6.4).
fn place(address: usize) -> usize {
    const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;
    ((address as u64).wrapping_mul(GOLDEN_RATIO) >> (u64::BITS - PLACE_BITS)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_two_have_the_place() {
        let recent = Recent::<usize>::new();
        let get =
            |address: usize| recent.get(address, |value| *value == address).as_deref().copied();
        let mut same = (1..).map(|n| n << 6).filter(|address| place(*address) == place(64));
        let [one, two, three] = [(); 3].map(|()| same.next().unwrap());
        let other = (1..).map(|n| n << 6).find(|address| place(*address) != place(64)).unwrap();
        assert_eq!(get(one), None);
        for address in [other, one, two] {
            recent.put(address, Rc::new(address));
        }
        assert_eq!([one, two, three, other].map(get), [Some(one), Some(two), None, Some(other)]);
        recent.put(three, Rc::new(three));
        assert_eq!([one, two, three, other].map(get), [None, Some(two), Some(three), Some(other)]);
        recent.clear();
        assert_eq!(get(two), None);
    }
}
