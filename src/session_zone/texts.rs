// SPDX-License-Identifier: Apache-2.0

//! Lists that all workers share, once for all who need the same one: each is found by the digest of
//! its content.

use openssl::sha::Sha256;

use crate::session_zone::records::{Key, Kind, Part, Records};

/// Records that may not be there.
pub trait SharedRecords {
    /// Calls `change` with the records, while no other process uses them; `None` if there are none.
    fn with<T>(self, change: impl FnOnce(&mut Records<'_>) -> T) -> Option<T>;
}

/// No records, where nothing is shared.
#[cfg(test)]
#[derive(Clone, Copy)]
pub struct NoRecords;

#[cfg(test)]
impl SharedRecords for NoRecords {
    fn with<T>(self, _: impl FnOnce(&mut Records<'_>) -> T) -> Option<T> {
        None
    }
}

/// Returns the SHA-256 digest, by functions that can't fail.
fn digest(text: &[u8]) -> Key {
    let mut hash = Sha256::new();
    hash.update(text);
    hash.finish()
}

/// A list of byte strings, each after its length: what [`Encoding::bytes`] hashes.
///
/// [`Encoding::bytes`]: crate::openssl::fingerprint::Encoding::bytes
#[derive(Default)]
pub struct List(Vec<u8>);

impl List {
    pub fn of<'a>(items: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut list = Self::default();
        for item in items {
            list.push(item);
        }
        list
    }

    pub fn push(&mut self, item: &[u8]) {
        self.0.extend((item.len() as u64).to_le_bytes());
        self.0.extend(item);
    }

    pub fn digest(&self) -> Key {
        digest(&self.0)
    }

    /// Returns the items; `None` if these bytes are no list.
    pub fn items(&self) -> Option<Vec<&[u8]>> {
        let mut items = Vec::new();
        let mut rest = &self.0[..];
        while !rest.is_empty() {
            let (length, after) = rest.split_first_chunk()?;
            let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
            let (item, after) = after.split_at_checked(length)?;
            items.push(item);
            rest = after;
        }
        Some(items)
    }

    /// Shares the list. One that is in the part of strangers moves to the main part if it is kept
    /// there now, not the reverse.
    pub fn share(&self, records: impl SharedRecords, part: Part, kind: Kind) {
        let digest = self.digest();
        records.with(|records| {
            if matches!(records.part_of(kind, &digest), Some(of) if of == Part::Main || of == part)
            {
                records.touch(kind, &digest);
            } else {
                // What is too large for its part is not shared.
                let _ = records.put(part, kind, &digest, 0, &[&self.0]);
            }
        });
    }

    /// Returns the list with this digest, and the part that it is in, if it is shared. What does
    /// not have the digest is not returned, whatever has happened to the memory.
    pub fn find(records: impl SharedRecords, kind: Kind, digest: &Key) -> Option<(Part, Self)> {
        let (part, text) = records.with(|records| {
            let part = records.part_of(kind, digest)?;
            Some((part, records.get(kind, digest)?))
        })??;
        (self::digest(&text) == *digest).then_some((part, Self(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openssl::fingerprint::Encoding;

    impl SharedRecords for &mut Records<'_> {
        fn with<T>(self, change: impl FnOnce(&mut Records<'_>) -> T) -> Option<T> {
            Some(change(self))
        }
    }

    const KIND: Kind = Kind::ClientChain;

    #[test]
    fn a_list_is_read_as_it_was_written() {
        for items in [&[][..], &[&b""[..]], &[b"ab", b"c"], &[b"a", b"bc", b""]] {
            let list = List::of(items.iter().copied());
            assert_eq!(list.items().unwrap(), items);
            let mut encoding = Encoding::new();
            items.iter().for_each(|item| encoding.bytes(item));
            assert_eq!(list.digest(), encoding.digest());
        }
        for bad in [&b"1"[..], b"\x01\0\0\0\0\0\0\0", b"\xff\xff\xff\xff\xff\xff\xff\xff1"] {
            assert!(List(bad.into()).items().is_none(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn a_list_is_found_in_its_part_if_it_is_what_was_kept() {
        let mut memory = vec![0; 8192];
        let mut records = Records::new(&mut memory).unwrap();
        let list = List::of([&b"one"[..], b"two"]);
        let digest = list.digest();
        assert!(List::find(&mut records, KIND, &digest).is_none());
        for (part, is_in) in [
            (Part::Strangers, Part::Strangers),
            (Part::Main, Part::Main),
            (Part::Strangers, Part::Main),
        ] {
            list.share(&mut records, part, KIND);
            let (found_in, found) = List::find(&mut records, KIND, &digest).unwrap();
            assert_eq!((found_in, found.items().unwrap()), (is_in, vec![&b"one"[..], b"two"]));
        }
        assert!(List::find(&mut records, Kind::ClientNames, &digest).is_none());
        records.put(Part::Main, KIND, &digest, 0, &[&List::of([&b"one"[..]]).0]).unwrap();
        assert!(List::find(&mut records, KIND, &digest).is_none());
    }

    #[test]
    fn what_is_too_large_is_not_shared() {
        let mut memory = vec![0; 1024];
        let mut records = Records::new(&mut memory).unwrap();
        let list = List::of([&[7; 100_000][..]]);
        list.share(&mut records, Part::Main, KIND);
        assert!(List::find(&mut records, KIND, &list.digest()).is_none());
        assert!(List::find(NoRecords, KIND, &list.digest()).is_none());
    }
}
