//! The intermediate certificates that clients have presented.
//!
//! A session holds the certificate of its client, and not what leads from it to an authority. So
//! that a chain is known whole when a session is resumed, a worker keeps the rest of it, once for
//! all clients that present the same.

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::rc::Rc;

use lru::LruCache;
use openssl::error::ErrorStack;
use openssl::stack::StackRef;
use openssl::x509::{X509, X509Ref};

use crate::openssl::fingerprint::Encoding;

/// How many chains a worker keeps of clients whose certificate was verified in the handshake, and
/// of others: these are whoever comes, and can't take the place of those.
const VERIFIED: NonZeroUsize = NonZeroUsize::new(256).unwrap();
const OTHERS: NonZeroUsize = NonZeroUsize::new(64).unwrap();
/// The most bytes that one of them may take, as it is sent.
const LONGEST: usize = 16 * 1024;

/// Intermediate certificates, in the order in which they were presented.
pub type Intermediates = Rc<[X509]>;

/// The SHA-256 digest of [`Intermediates`].
pub type Digest = [u8; 32];

type Known = RefCell<LruCache<Digest, Intermediates>>;

thread_local! {
    static OF_VERIFIED: Known = RefCell::new(LruCache::new(VERIFIED));
    static OF_OTHERS: Known = RefCell::new(LruCache::new(OTHERS));
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
        if length > LONGEST {
            return Err(NotKept::TooLong);
        }
        encoding.bytes(&encoded);
    }
    let digest = encoding.digest();
    let known = if is_verified { &OF_VERIFIED } else { &OF_OTHERS };
    known.with_borrow_mut(|known| {
        known.get_or_insert(digest, || chain.iter().map(X509Ref::to_owned).collect());
    });
    Ok(digest)
}

/// The chain with `digest`, if it is still known.
pub fn find(digest: &Digest) -> Option<Intermediates> {
    [&OF_VERIFIED, &OF_OTHERS]
        .into_iter()
        .find_map(|known| known.with_borrow_mut(|known| known.get(digest).map(Rc::clone)))
}

/// Drops the chains that this worker keeps.
pub fn clear_cache() {
    for known in [&OF_VERIFIED, &OF_OTHERS] {
        known.with_borrow_mut(LruCache::clear);
    }
}
