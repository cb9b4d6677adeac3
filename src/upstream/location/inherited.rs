// SPDX-License-Identifier: Apache-2.0

//! Flags of locations.

use std::cell::OnceCell;

/// A flag of a configuration block, inherited by nested blocks that don't set it.
#[derive(Default)]
pub struct Inherited {
    /// The value written in the block.
    written: OnceCell<bool>,
    /// The value after merging with the enclosing blocks.
    merged: OnceCell<bool>,
}

/// The flag was set before.
#[derive(Debug, PartialEq, Eq)]
pub struct Duplicate;

impl Inherited {
    /// Sets the value written in the block.
    pub fn set(&self, value: bool) -> Result<(), Duplicate> {
        self.written.set(value).map_err(|_| Duplicate)
    }

    /// Merges the value of the enclosing block, used if this block sets none.
    pub fn merge(&self, around: &Self) {
        self.merged.get_or_init(|| self.written.get().copied().unwrap_or_else(|| around.is_on()));
    }

    pub fn is_on(&self) -> bool {
        self.merged.get().or(self.written.get()).copied().unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flag(written: Option<bool>) -> Inherited {
        let flag = Inherited::default();
        if let Some(value) = written {
            flag.set(value).unwrap();
        }
        flag
    }

    #[test]
    fn what_is_written_counts_before_what_is_around() {
        for (around, written, expected) in [
            (None, None, false),
            (None, Some(true), true),
            (Some(true), None, true),
            (Some(true), Some(false), false),
            (Some(false), Some(true), true),
        ] {
            let (around, inside) = (flag(around), flag(written));
            inside.merge(&around);
            assert_eq!(inside.is_on(), expected);
            // A block nested in that one inherits the same value.
            let innermost = flag(None);
            innermost.merge(&inside);
            assert_eq!(innermost.is_on(), expected);
        }
    }

    #[test]
    fn it_is_written_once() {
        let flag = flag(Some(false));
        assert_eq!(flag.set(true), Err(Duplicate));
        assert!(!flag.is_on());
    }
}
