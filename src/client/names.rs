// SPDX-License-Identifier: Apache-2.0

//! The names that the result of verifying a client counts for, in addition to the name under which
//! it was asked.
//!
//! A session remembers only their digest; the names are kept once for all clients, in the memory
//! that all workers share, and checked in a cache of the worker.

use std::cell::RefCell;
use std::rc::Rc;

use crate::bounded::BoundedCache;
use crate::session_zone::records::{Kind, Part};
use crate::session_zone::texts::{List, SharedRecords};
use crate::status::counters::Cache;

/// The memory budget of a worker's cache of lists. A session whose list is no longer cached is not
/// resumed.
const MOST_BYTES: usize = 4 * 1024 * 1024;
/// The approximate overhead of a list, and of each of its names, in bytes.
const OVERHEAD: usize = 64;
/// The maximum length of a host name in bytes (RFC 1035, section 2.3.4).
const MAX_LEN: usize = 253;

/// The SHA-256 digest of a list, as given.
pub type Digest = [u8; 32];

thread_local! {
    static KNOWN: RefCell<BoundedCache<Digest, Rc<Names>>> =
        RefCell::new(BoundedCache::counted(MOST_BYTES, Cache::ClientNames));
}

/// A text that is not a host name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("names: \"{}\" is not the name of a host", .0.escape_ascii())]
pub struct InvalidName(Vec<u8>);

/// Host names, and wildcards for all hosts below a name. Compared in nginx's form: lower case,
/// without a trailing dot.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Names {
    exact: Vec<Box<[u8]>>,
    /// The names after `*.` of wildcards.
    below: Vec<Box<[u8]>>,
}

impl Names {
    fn new<'a>(given: impl Iterator<Item = &'a [u8]>) -> Result<Self, InvalidName> {
        let mut names = Self::default();
        for name in given {
            let normal = normalized(name).to_ascii_lowercase();
            let (list, host) = match normal.strip_prefix(b"*.") {
                Some(rest) => (&mut names.below, rest),
                None => (&mut names.exact, &normal[..]),
            };
            if !is_host(host) || normal.len() > MAX_LEN {
                return Err(InvalidName(name.to_vec()));
            }
            list.push(host.into());
        }
        for list in [&mut names.exact, &mut names.below] {
            list.sort_unstable();
            list.dedup();
        }
        Ok(names)
    }

    /// Returns the approximate size of the names in bytes.
    fn bytes(&self) -> usize {
        self.exact.iter().chain(&self.below).map(|name| OVERHEAD + name.len()).sum()
    }

    /// Returns whether `host`, in normalized form, is one of them. `*.` stands for any number of
    /// labels.
    pub fn contain(&self, host: &[u8]) -> bool {
        let is_in = |list: &[Box<[u8]>], name: &[u8]| {
            list.binary_search_by(|known| known.as_ref().cmp(name)).is_ok()
        };
        is_in(&self.exact, host)
            || host
                .iter()
                .enumerate()
                .any(|(at, byte)| *byte == b'.' && at > 0 && is_in(&self.below, &host[at + 1..]))
    }
}

/// Removes the trailing dot of a name, which does not change it (RFC 1034, section 3.1).
pub fn normalized(name: &[u8]) -> &[u8] {
    name.strip_suffix(b".").unwrap_or(name)
}

fn is_host(name: &[u8]) -> bool {
    name.split(|byte| *byte == b'.').all(|label| {
        let is_good = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        !label.is_empty() && label.iter().all(is_good)
    })
}

/// A cached list.
#[derive(Clone, Debug)]
pub struct KnownNames {
    /// The digest by which the list is found.
    pub digest: Digest,
    /// The names.
    pub names: Rc<Names>,
}

/// Keeps a list of names, and checks it if it is new.
pub fn keep<'a>(
    records: impl SharedRecords,
    given: impl Iterator<Item = &'a [u8]> + Clone,
) -> Result<KnownNames, InvalidName> {
    let list = List::of(given.clone());
    let known = checked(list.digest(), given)?;
    list.share(records, Part::Main, Kind::ClientNames);
    Ok(known)
}

/// Returns the list with `digest`, if it is still kept.
pub fn find(records: impl SharedRecords, digest: &Digest) -> Option<KnownNames> {
    if let Some(names) = KNOWN.with_borrow_mut(|known| known.get(digest).cloned()) {
        return Some(KnownNames { digest: *digest, names });
    }
    let (_, list) = List::find(records, Kind::ClientNames, digest)?;
    checked(*digest, list.items()?.into_iter()).ok()
}

/// Returns the list of these names, whose digest is given.
fn checked<'a>(
    digest: Digest,
    given: impl Iterator<Item = &'a [u8]>,
) -> Result<KnownNames, InvalidName> {
    let names = KNOWN.with_borrow_mut(|known| {
        known.get_or_try_insert(
            &digest,
            || Names::new(given).map(Rc::new),
            |names| OVERHEAD + names.bytes(),
        )
    })?;
    Ok(KnownNames { digest, names })
}

/// Clears the worker's cache of lists.
pub fn clear_cache() {
    KNOWN.with_borrow_mut(BoundedCache::clear);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session_zone::records::Records;
    use crate::session_zone::texts::NoRecords;

    fn names(list: &[&'static str]) -> Result<Names, InvalidName> {
        Names::new(list.iter().map(|name| name.as_bytes()))
    }

    #[test]
    fn a_name_counts_with_its_case_and_a_dot_at_its_end() {
        let names = names(&["B.test", "c.test.", "*.Wild.test", "host"]).unwrap();
        for host in ["b.test", "c.test", "x.wild.test", "x.y.wild.test", "host"] {
            assert!(names.contain(host.as_bytes()), "{host}");
        }
        for host in
            ["", "a.test", "x.b.test", "wild.test", ".wild.test", "xwild.test", "test", "st"]
        {
            assert!(!names.contain(host.as_bytes()), "{host}");
        }
        assert!(!Names::default().contain(b""));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "a".repeat(254);
        for name in ["", ".", "*", "*.", "*.*.a", "a..b", ".a", "a b", "a:443", "a/b", "ä", "[::1]"]
        {
            assert_eq!(names(&["a.test", name]), Err(InvalidName(name.into())), "{name}");
        }
        assert!(Names::new(std::iter::once(long.as_bytes())).is_err());
    }

    #[test]
    fn a_list_is_found_by_its_digest() {
        let list = [&b"a.test"[..], b"b.test"];
        let kept = keep(NoRecords, list.into_iter()).unwrap();
        assert!(find(NoRecords, &kept.digest).unwrap().names.contain(b"b.test"));
        assert_ne!(kept.digest, keep(NoRecords, [&b"a.test"[..]].into_iter()).unwrap().digest);
        assert!(keep(NoRecords, [&b"*"[..]].into_iter()).is_err());
        clear_cache();
        assert!(find(NoRecords, &kept.digest).is_none());
    }

    #[test]
    fn a_shared_list_is_found_by_a_worker_that_has_not_kept_it() {
        let mut memory = vec![0; 8192];
        let mut records = Records::new(&mut memory).unwrap();
        let kept = keep(&mut records, [&b"*.a.test"[..], b"B.test"].into_iter()).unwrap();
        clear_cache();
        let found = find(&mut records, &kept.digest).unwrap();
        assert_eq!(found.names, kept.names);
    }
}
