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

/// How many there are: a power of two. Two objects may want one place, and take turns in it.
const PLACES: usize = 256;

/// A place for each of [`PLACES`] objects, by their addresses.
pub struct Recent<T>(RefCell<Vec<Option<Rc<T>>>>);

impl<T> Recent<T> {
    pub const fn new() -> Self {
        Self(RefCell::new(Vec::new()))
    }

    /// The last value that was kept for an object at `address`, if it `is_right`.
    pub fn get(&self, address: usize, is_right: impl FnOnce(&T) -> bool) -> Option<Rc<T>> {
        self.0.borrow().get(place(address))?.as_ref().filter(|value| is_right(value)).map(Rc::clone)
    }

    /// Keeps a value for the object at `address`. It holds a reference to the object, so that
    /// nothing else can come to be there.
    pub fn put(&self, address: usize, value: Rc<T>) {
        let mut places = self.0.borrow_mut();
        if places.is_empty() {
            places.resize_with(PLACES, || None);
        }
        places[place(address)] = Some(value);
    }

    /// Drops all of them.
    pub fn clear(&self) {
        self.0.take();
    }
}

/// Objects are larger than 64 bytes, and allocated side by side.
fn place(address: usize) -> usize {
    (address >> 6) % PLACES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_has_the_place() {
        let recent = Recent::<usize>::new();
        let get =
            |address: usize| recent.get(address, |value| *value == address).as_deref().copied();
        assert_eq!(get(64), None);
        recent.put(64, Rc::new(64));
        recent.put(128, Rc::new(128));
        assert_eq!(get(64), Some(64));
        assert_eq!(get(128), Some(128));
        // In the same place.
        let other = 64 + (PLACES << 6);
        assert_eq!(get(other), None);
        recent.put(other, Rc::new(other));
        assert_eq!(get(other), Some(other));
        assert_eq!(get(64), None);
        assert_eq!(get(128), Some(128));
        recent.clear();
        assert_eq!(get(128), None);
    }
}
