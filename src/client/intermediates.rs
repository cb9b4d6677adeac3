// SPDX-License-Identifier: Apache-2.0

//! The intermediate certificates that clients have presented.
//!
//! A session holds the client's own certificate, but not its intermediates. So that the whole chain
//! is known when a session is resumed, the intermediates are kept, once for all clients that
//! present the same ones: in the memory that all workers share, and decoded in a cache of the
//! worker.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::thread::LocalKey;

use openssl::error::ErrorStack;
use openssl::stack::StackRef;
use openssl::x509::{X509, X509Ref};

use crate::bounded::BoundedCache;
use crate::openssl::certificate;
use crate::session_zone::records::{Kind, Part};
use crate::session_zone::texts::{List, SharedRecords};
use crate::status::counters::Cache;

/// The memory budgets of a worker's caches: for clients whose certificate was verified in the
/// handshake, and for others. Unverified chains get a separate, smaller cache, so that strangers
/// cannot evict verified ones.
const VERIFIED: usize = 4 * 1024 * 1024;
const OTHERS: usize = 1024 * 1024;
/// The maximum size of a chain in DER, and how many times that size it takes when parsed, about.
const MAX_LEN: usize = 16 * 1024;
const PARSED: usize = 4;

/// Intermediate certificates, in the order in which they were presented.
pub type Intermediates = Rc<[X509]>;

/// The SHA-256 digest of [`Intermediates`].
pub type Digest = [u8; 32];

type Known = BoundedCache<Digest, Intermediates>;

thread_local! {
    static OF_VERIFIED: RefCell<Known> =
        RefCell::new(BoundedCache::counted(VERIFIED, Cache::ClientChains));
    static OF_OTHERS: RefCell<Known> =
        RefCell::new(BoundedCache::counted(OTHERS, Cache::ClientChains));
}

/// Why a chain was not cached.
#[derive(Debug)]
pub enum NotKept {
    /// The chain is larger than [`MAX_LEN`].
    TooLong,
    /// OpenSSL could not encode it.
    Ssl(ErrorStack),
}

/// Keeps a chain that is not empty, and returns its digest.
pub fn keep(
    records: impl SharedRecords,
    chain: &StackRef<X509>,
    is_verified: bool,
) -> Result<Digest, NotKept> {
    let mut list = List::default();
    let mut length = 0;
    for certificate in chain {
        let encoded = certificate.to_der().map_err(NotKept::Ssl)?;
        length += encoded.len();
        if length > MAX_LEN {
            return Err(NotKept::TooLong);
        }
        list.push(&encoded);
    }
    let part = if is_verified { Part::Main } else { Part::Strangers };
    list.share(records, part, Kind::ClientChain);
    let digest = list.digest();
    known_of(part)
        .with_borrow_mut(|known| {
            let make = || Ok(chain.iter().map(X509Ref::to_owned).collect());
            known.get_or_try_insert(&digest, make, |_| PARSED * length)
        })
        .map_err(|never: Infallible| match never {})?;
    Ok(digest)
}

/// Returns the chain with `digest`, if it is still kept.
pub fn find(records: impl SharedRecords, digest: &Digest) -> Option<Intermediates> {
    let of_worker = [&OF_VERIFIED, &OF_OTHERS]
        .into_iter()
        .find_map(|known| known.with_borrow_mut(|known| known.get(digest).cloned()));
    if of_worker.is_some() {
        return of_worker;
    }
    let (part, list) = List::find(records, Kind::ClientChain, digest)?;
    let items = list.items()?;
    let chain: Option<Intermediates> =
        items.iter().map(|der| certificate::from_der(der).ok()).collect();
    let chain = chain.filter(|chain| !chain.is_empty())?;
    let size = PARSED * items.iter().map(|der| der.len()).sum::<usize>();
    known_of(part).with_borrow_mut(|known| known.insert(*digest, Rc::clone(&chain), size));
    Some(chain)
}

fn known_of(part: Part) -> &'static LocalKey<RefCell<Known>> {
    match part {
        Part::Main => &OF_VERIFIED,
        Part::Strangers => &OF_OTHERS,
    }
}

/// Clears the worker's caches of chains.
pub fn clear_cache() {
    for known in [&OF_VERIFIED, &OF_OTHERS] {
        known.with_borrow_mut(BoundedCache::clear);
    }
}

#[cfg(test)]
mod tests {
    use openssl::pkey::PKey;
    use openssl::stack::Stack;

    use super::*;
    use crate::openssl::test_certificate::self_signed;
    use crate::session_zone::records::Records;

    fn chain(name: &str) -> Stack<X509> {
        let key = PKey::generate_ed25519().unwrap();
        certificate::chain(["1", "2"].map(|at| self_signed(&key, &format!("{name}{at}"), 1 << 30)))
            .unwrap()
    }

    #[test]
    fn a_shared_chain_is_found_by_a_worker_that_has_not_kept_it() {
        let mut memory = vec![0; 8192];
        let mut records = Records::new(&mut memory).unwrap();
        let one = chain("one");
        for is_verified in [false, true] {
            let digest = keep(&mut records, &one, is_verified).unwrap();
            clear_cache();
            for _ in 0..2 {
                let found = find(&mut records, &digest).unwrap();
                assert!(found.iter().map(AsRef::as_ref).eq(&one));
            }
            clear_cache();
        }
        assert!(find(&mut records, &[7; 32]).is_none());
    }

    #[test]
    fn strangers_evict_no_chain_that_was_verified() {
        let mut memory = vec![0; 4 * 8192];
        let mut records = Records::new(&mut memory).unwrap();
        let verified: Vec<_> = (0..20)
            .map(|number| keep(&mut records, &chain(&format!("known{number}")), true).unwrap())
            .collect();
        for number in 0..1000 {
            keep(&mut records, &chain(&format!("stranger{number}")), false).unwrap();
        }
        clear_cache();
        assert!(verified.iter().all(|digest| find(&mut records, digest).is_some()));
    }
}
