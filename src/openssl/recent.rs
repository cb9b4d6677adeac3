// SPDX-License-Identifier: Apache-2.0

//! What was used a short time ago, found without the atomic operations that a reference to an
//! object of OpenSSL takes. It is no more than a shortcut: whatever is not here is found with its
//! object.

use std::cell::RefCell;
use std::rc::Rc;

/// Whether something is known already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    First,
    Again,
}

/// How many places there are, each for two: of three objects that want one, two can't take turns
/// without end.
const PLACES: usize = 1 << PLACE_BITS;
const PLACE_BITS: u32 = 9;

/// The last two that were kept in a place, the newer first.
type Place<T> = [Option<Rc<T>>; 2];

/// A place for each of [`PLACES`] objects, by their addresses.
pub struct Recent<T>(RefCell<Vec<Place<T>>>);

impl<T> Recent<T> {
    pub const fn new() -> Self {
        Self(RefCell::new(Vec::new()))
    }

    /// The last value that was kept for an object at `address`, if it `is_right`.
    pub fn get(&self, address: usize, is_right: impl Fn(&T) -> bool) -> Option<Rc<T>> {
        let places = self.0.borrow();
        let mut kept = places.get(place(address))?.iter().flatten();
        kept.find(|value| is_right(value)).map(Rc::clone)
    }

    /// Keeps a value for the object at `address`. It holds a reference to the object, so that
    /// nothing else can come to be there.
    pub fn put(&self, address: usize, value: Rc<T>) {
        let mut places = self.0.borrow_mut();
        if places.is_empty() {
            places.resize_with(PLACES, Default::default);
        }
        let [newer, older] = &mut places[place(address)];
        *older = newer.replace(value);
    }

    /// Drops all of them.
    pub fn clear(&self) {
        self.0.take();
    }
}

/// Addresses differ in the middle. Multiplied by the golden ratio, their first bits are those that
/// differ most (D. Knuth, The Art of Computer Programming, section 6.4).
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
