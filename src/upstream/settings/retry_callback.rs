// SPDX-License-Identifier: Apache-2.0

//! The functions given to `set_target_retry_callback`.
//!
//! Only Lua code can hold a function of Lua. It keeps them by numbers; a number is given anew when
//! the request that had it has ended, and the function that it stood for is replaced then. So there
//! are never more than there were requests with one at a time.

use std::cell::RefCell;

/// The number of the function of a request.
#[derive(Debug)]
pub struct RetryCallback(u32);

/// Numbers that were given before, and the first that was not.
struct Numbers {
    free: Vec<u32>,
    next: u32,
}

thread_local! {
    static NUMBERS: RefCell<Numbers> = const {
        RefCell::new(Numbers { free: Vec::new(), next: 0 })
    };
}

impl RetryCallback {
    pub fn new() -> Self {
        Self(NUMBERS.with_borrow_mut(|numbers| {
            numbers.free.pop().unwrap_or_else(|| {
                let number = numbers.next;
                numbers.next += 1;
                number
            })
        }))
    }

    pub fn number(&self) -> u32 {
        self.0
    }
}

impl Drop for RetryCallback {
    fn drop(&mut self) {
        // When the thread ends, the numbers may be gone.
        let _ = NUMBERS.try_with(|numbers| numbers.borrow_mut().free.push(self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_given_anew() {
        let (one, two) = (RetryCallback::new(), RetryCallback::new());
        assert_ne!(one.number(), two.number());
        let number = one.number();
        drop(one);
        let three = RetryCallback::new();
        assert_eq!(three.number(), number);
        assert_ne!(two.number(), RetryCallback::new().number());
    }
}
