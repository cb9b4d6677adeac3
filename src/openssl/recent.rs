//! What was used a short time ago, found without the atomic operations that a reference to an object of OpenSSL
//! takes. It is no more than a shortcut: whatever is not here is found with its object.

use std::cell::RefCell;
use std::rc::Rc;

/// How many there are: a power of two. Two objects may want one place, and take turns in it.
const PLACES: usize = 256;

/// A place for each of [`PLACES`] objects, by their addresses.
pub struct Recent<T>(RefCell<Vec<Option<Rc<T>>>>);

impl<T> Recent<T> {
    pub const fn new() -> Self {
        Self(RefCell::new(Vec::new()))
    }

    /// The value for the object at `address`, if the last one there `is_right`; else what `make` makes.
    pub fn get_or_make<E>(
        &self,
        address: usize,
        is_right: impl FnOnce(&T) -> bool,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<Rc<T>, E> {
        let mut places = self.0.borrow_mut();
        if places.is_empty() {
            places.resize_with(PLACES, || None);
        }
        // Objects are larger than 64 bytes, and allocated side by side.
        let place = &mut places[(address >> 6) % PLACES];
        if let Some(value) = place.as_ref().filter(|value| is_right(value)) {
            return Ok(Rc::clone(value));
        }
        let value = Rc::new(make()?);
        *place = Some(Rc::clone(&value));
        Ok(value)
    }

    /// Drops all of them.
    pub fn clear(&self) {
        self.0.take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_has_the_place() {
        let recent = Recent::<usize>::new();
        let get = |address: usize| {
            let made = std::cell::Cell::new(false);
            let value = recent.get_or_make(
                address,
                |value| *value == address,
                || {
                    made.set(true);
                    Ok::<_, ()>(address)
                },
            );
            assert_eq!(*value.unwrap(), address);
            made.get()
        };
        assert!(get(64));
        assert!(!get(64));
        assert!(get(128));
        assert!(!get(64));
        // In the same place.
        assert!(get(64 + (PLACES << 6)));
        assert!(get(64));
        assert!(!get(128));
        recent.clear();
        assert!(get(128));
        assert!(recent.get_or_make(1 << 20, |_| true, || Err("no")).is_err());
    }
}
