// SPDX-License-Identifier: Apache-2.0

//! The intermediate certificates that clients have presented.
//!
//! A session holds the certificate of its client, and not what leads from it to an authority. So
//! that a chain is known whole when a session is resumed, a worker keeps the rest of it, once for
//! all clients that present the same.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use openssl::error::ErrorStack;
use openssl::stack::StackRef;
use openssl::x509::{X509, X509Ref};

use crate::bounded::BoundedCache;
use crate::openssl::fingerprint::Encoding;
use crate::status::counters::Cache;

/// How many bytes the chains take that a worker keeps of clients whose certificate was verified in
/// the handshake, and of others: these are whoever comes, and can't take the place of those.
const VERIFIED: usize = 4 * 1024 * 1024;
const OTHERS: usize = 1024 * 1024;
/// The most bytes that one of them may take, as it is sent, and how many times as many it takes when
/// it is parsed, about.
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

/// Why a chain is not kept.
#[derive(Debug)]
pub enum NotKept {
    /// It takes too much.
    TooLong,
    /// OpenSSL could not encode it.
    Ssl(ErrorStack),
}

/// Keeps a chain that is not empty, and says what it is to be found by.
pub fn keep(chain: &StackRef<X509>, is_verified: bool) -> Result<Digest, NotKept> {
    let mut encoding = Encoding::new();
    let mut length = 0;
    for certificate in chain {
        let encoded = certificate.to_der().map_err(NotKept::Ssl)?;
        length += encoded.len();
        if length > MAX_LEN {
            return Err(NotKept::TooLong);
        }
        encoding.bytes(&encoded);
    }
    let digest = encoding.digest();
    let known = if is_verified { &OF_VERIFIED } else { &OF_OTHERS };
    known
        .with_borrow_mut(|known| {
            let make = || Ok(chain.iter().map(X509Ref::to_owned).collect());
            known.get_or_try_insert(&digest, make, |_| PARSED * length)
        })
        .map_err(|never: Infallible| match never {})?;
    Ok(digest)
}

/// The chain with `digest`, if it is still known.
pub fn find(digest: &Digest) -> Option<Intermediates> {
    [&OF_VERIFIED, &OF_OTHERS]
        .into_iter()
        .find_map(|known| known.with_borrow_mut(|known| known.get(digest).cloned()))
}

/// Drops the chains that this worker keeps.
pub fn clear_cache() {
    for known in [&OF_VERIFIED, &OF_OTHERS] {
        known.with_borrow_mut(BoundedCache::clear);
    }
}
