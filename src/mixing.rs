// SPDX-License-Identifier: Apache-2.0

//! A fast hash of a few short values, for tables whose keys nobody can choose so that their hashes
//! collide, and which compare whole keys.

/// Values that are mixed into one.
#[derive(Clone, Copy)]
pub struct Mixed(u64);

impl Mixed {
    pub fn new(value: u64) -> Self {
        Self(value)
    }

    pub fn number(self, number: u64) -> Self {
        // The constant is 2^64 divided by the golden ratio.
        Self((self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29))
    }

    pub fn bytes(self, bytes: &[u8]) -> Self {
        let (mut mixed, mut rest) = (self, bytes);
        while let Some((word, following)) = rest.split_first_chunk() {
            mixed = mixed.number(u64::from_le_bytes(*word));
            rest = following;
        }
        let last = rest.iter().fold(0, |last, byte| last << 8 | u64::from(*byte));
        mixed.number(last)
    }

    pub fn value(self) -> u64 {
        self.0
    }
}
