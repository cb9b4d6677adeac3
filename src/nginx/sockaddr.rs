// SPDX-License-Identifier: Apache-2.0

//! Socket addresses, for use as keys.

use std::fmt;
use std::hash::{Hash, Hasher};

/// The length of the longest `sockaddr` in use, that of a Unix socket (`struct sockaddr_un`).
const MAX_LEN: usize = 110;

/// A socket address of any family: the bytes of its `sockaddr`.
#[derive(Clone, Copy)]
pub struct Address {
    length: u8,
    bytes: [u8; MAX_LEN],
}

impl Address {
    /// Copies the bytes of a `sockaddr`; `None` if there are none or too many.
    pub fn new(sockaddr: &[u8]) -> Option<Self> {
        let mut bytes = [0; MAX_LEN];
        bytes.get_mut(..sockaddr.len())?.copy_from_slice(sockaddr);
        let length = u8::try_from(sockaddr.len()).ok().filter(|length| *length > 0)?;
        Some(Self { length, bytes })
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Address {}

impl Hash for Address {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_of_an_address_counts() {
        let address = |bytes: &[u8]| Address::new(bytes).unwrap();
        assert_eq!(address(b"\x01\0/a"), address(b"\x01\0/a"));
        assert_ne!(address(b"\x01\0/a"), address(b"\x01\0/a\0"));
        assert_ne!(address(b"\x01\0/a"), address(b"\x01\0/b"));
        assert!(Address::new(&[1; MAX_LEN]).is_some());
    }

    #[test]
    fn what_is_no_address_is_refused() {
        assert!(Address::new(b"").is_none());
        assert!(Address::new(&[1; MAX_LEN + 1]).is_none());
    }
}
