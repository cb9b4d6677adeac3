// SPDX-License-Identifier: Apache-2.0

//! A certificate to present to a service, with its key.

use std::cell::{Cell, RefCell};
use std::ptr;
use std::rc::Rc;

use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::error::ErrorStack;
use openssl::pkey::{PKey, PKeyRef, Private};
use openssl::sign::Signer;
use openssl::ssl::SslRef;
use openssl::stack::{Stack, StackRef};
use openssl::x509::{X509, X509Ref};

use crate::openssl::certificate::{self, has_key, not_after};
use crate::openssl::error::SslError;
use crate::openssl::fingerprint::Fingerprint;
use crate::openssl::lua_object::InvalidObject;
use crate::openssl::recent::{Recent, Seen};
use crate::openssl::signature_algorithms::describe_key;
use crate::openssl::slot::Slot;
use crate::openssl::ssl;
use crate::openssl::stored_key::{self, NotOpened};

/// A certificate with its intermediates and its key.
///
/// Holds references to the objects it was made from, and no copies.
pub struct ClientCertificate {
    leaf: X509,
    rest: Rc<Rest>,
}

/// The rest of a certificate's chain and its key, with what was computed from them. It is attached
/// to the certificate, so it holds no reference to it.
struct Rest {
    intermediates: Stack<X509>,
    /// The key that was given.
    given: PKey<Private>,
    /// The key that signs: the one that was given, as this process has opened it.
    key: PKey<Private>,
    /// Whether the key has failed to sign in a handshake.
    has_failed: Cell<bool>,
    fingerprint: Fingerprint,
    not_after: i64,
    /// Identify the certificates of the chain, in order.
    marks: Vec<Mark>,
}

/// Identifies a certificate by its address and the end of its signature. If Lua code modifies a
/// certificate in place, it must sign it again; the last bytes of a signature are practically
/// random in all algorithms, so they change.
struct Mark {
    address: usize,
    signature: Option<[u8; 32]>,
}

impl Mark {
    fn new(certificate: &X509Ref) -> Self {
        Self {
            address: certificate.as_ptr() as usize,
            signature: certificate.signature().as_slice().last_chunk().copied(),
        }
    }

    /// Returns whether `certificate` is the same object, unmodified.
    fn is_of(&self, certificate: &X509Ref) -> bool {
        let signature = certificate.signature().as_slice().last_chunk();
        self.address == certificate.as_ptr() as usize
            && signature.is_some()
            && signature == self.signature.as_ref()
    }
}

thread_local! {
    static RECENT: Recent<ClientCertificate> = const { Recent::new() };
}

/// Drops the certificates that this worker keeps.
pub fn clear_cache() {
    RECENT.with(Recent::clear);
}

/// How many combinations of key and intermediates are kept for a certificate. Usually there is one.
const COMBINATIONS: usize = 4;

/// Why a certificate or its key was rejected.
#[derive(Debug, thiserror::Error)]
pub enum InvalidCertificate {
    /// The pointers are not to objects of the right types.
    #[error(transparent)]
    Object(#[from] InvalidObject),
    /// The key is not in this process, and could not be opened.
    #[error("key: {0}")]
    NotOpened(#[from] NotOpened),
    /// The key is not that of the certificate.
    #[error("key does not belong to the first certificate of chain")]
    KeyMismatch,
    /// The key can't sign: it may be a public key only.
    #[error("key cannot sign: {0}")]
    CannotSign(SslError),
    /// Out of memory for references.
    #[error("chain: {0}")]
    References(SslError),
    /// OpenSSL could not encode an object.
    #[error("chain or key: {0}")]
    Encoding(SslError),
    /// The end of the certificate's validity is not a valid date.
    #[error("chain: {0}")]
    NotAfter(SslError),
}

impl ClientCertificate {
    /// Returns the certificate for `chain`, which has the leaf first, and `key`. Reuses a previous
    /// one if these are the same objects, unmodified.
    pub fn of(
        chain: &StackRef<X509>,
        key: &PKeyRef<Private>,
    ) -> Result<Rc<Self>, InvalidCertificate> {
        let leaf = chain.get(0).ok_or(InvalidObject::EmptyChain)?;
        let address = leaf.as_ptr() as usize;
        let is_right = |known: &Self| {
            ptr::eq(known.leaf.as_ptr(), leaf.as_ptr()) && known.rest.is_of(chain, key)
        };
        if let Some(known) = RECENT.with(|recent| recent.get(address, is_right)) {
            return Ok(known);
        }
        let (made, seen) = Self::new(chain, key)?;
        let made = Rc::new(made);
        // Only certificates that are used again: some plugins make a new one for each request.
        if seen == Seen::Again {
            RECENT.with(|recent| recent.put(address, Rc::clone(&made)));
        }
        Ok(made)
    }

    fn new(
        chain: &StackRef<X509>,
        key: &PKeyRef<Private>,
    ) -> Result<(Self, Seen), InvalidCertificate> {
        // SAFETY: Lua code, and so its certificates, runs in one thread per worker.
        static SLOT: Slot<X509Ref, RefCell<Vec<Rc<Rest>>>> = unsafe { Slot::new() };

        let leaf = chain.get(0).ok_or(InvalidObject::EmptyChain)?;
        let known = SLOT
            .get_or_make(leaf, || Ok::<_, SslError>(RefCell::default()))
            .map_err(InvalidCertificate::References)?;
        let found = known.borrow().iter().find(|rest| rest.is_of(chain, key)).map(Rc::clone);
        let seen = if found.is_some() { Seen::Again } else { Seen::First };
        let rest = match found {
            Some(rest) => rest,
            // If the chain contains the leaf again, the leaf would hold a reference to itself, and
            // leak.
            None if chain.iter().skip(1).any(|one| ptr::eq(one.as_ptr(), leaf.as_ptr())) => {
                Rc::new(Rest::new(chain, key)?)
            }
            None => {
                let rest = Rc::new(Rest::new(chain, key)?);
                let mut known = known.borrow_mut();
                known.truncate(COMBINATIONS - 1);
                known.insert(0, Rc::clone(&rest));
                rest
            }
        };
        Ok((Self { leaf: leaf.to_owned(), rest }, seen))
    }

    /// Returns the certificate itself.
    pub fn leaf(&self) -> &X509Ref {
        &self.leaf
    }

    /// Returns the fingerprint of the certificates and the key.
    pub fn fingerprint(&self) -> Fingerprint {
        self.rest.fingerprint
    }

    /// Returns when the certificate expires, in seconds since the epoch.
    pub fn not_after(&self) -> i64 {
        self.rest.not_after
    }

    /// Describes the type of the key.
    pub fn describe_key(&self) -> String {
        describe_key(&self.rest.key)
    }

    /// Notes that the key has failed to sign, so that it is tried, or opened, again before it is
    /// next used.
    pub fn note_failure(&self) {
        self.rest.has_failed.set(true);
        stored_key::has_failed(&self.rest.given);
    }

    /// Makes `ssl` present this certificate, and none from its configuration.
    pub fn present(&self, ssl: &SslRef) -> Result<(), SslError> {
        // Remove the location's certificates: OpenSSL keeps one per type of key, and could choose
        // any of them. A certificate callback of the location would run later and set another.
        ssl::clear_certificates(ssl);
        ssl::set_certificate_callback(ssl, None);

        ssl::use_certificate(ssl, &self.leaf, &self.rest.key, &self.rest.intermediates)
    }
}

impl Rest {
    fn new(chain: &StackRef<X509>, key: &PKeyRef<Private>) -> Result<Self, InvalidCertificate> {
        let leaf = chain.get(0).ok_or(InvalidObject::EmptyChain)?;
        let intermediates = intermediates(chain).map_err(InvalidCertificate::References)?;
        let given = key.to_owned();
        let key = stored_key::of_this_process(key)?;
        if !has_key(leaf, &key) {
            return Err(InvalidCertificate::KeyMismatch);
        }
        // The check above only compares public keys.
        if let Err(error) = try_to_sign(&key) {
            stored_key::has_failed(&given);
            return Err(InvalidCertificate::CannotSign(error));
        }
        let fingerprint = fingerprint(chain, &key)
            .map_err(|errors| InvalidCertificate::Encoding(SslError::new("i2d_X509", errors)))?;
        let not_after = not_after(leaf).map_err(InvalidCertificate::NotAfter)?;
        let marks = chain.iter().map(Mark::new).collect();
        let has_failed = Cell::new(false);
        Ok(Self { intermediates, given, key, has_failed, fingerprint, not_after, marks })
    }

    /// Returns whether this was made from the same objects, and they are unmodified.
    fn is_of(&self, chain: &StackRef<X509>, key: &PKeyRef<Private>) -> bool {
        ptr::eq(self.given.as_ptr(), key.as_ptr())
            && !self.has_failed.get()
            && self.marks.len() == chain.len()
            && chain.iter().zip(&self.marks).all(|(one, mark)| mark.is_of(one))
    }
}

/// Returns the certificates of a chain without the leaf.
pub fn intermediates(chain: &StackRef<X509>) -> Result<Stack<X509>, SslError> {
    certificate::chain(chain.iter().skip(1).map(X509Ref::to_owned))
}

/// Returns the fingerprint of a chain and its key. The public key represents the private one.
fn fingerprint(chain: &StackRef<X509>, key: &PKeyRef<Private>) -> Result<Fingerprint, ErrorStack> {
    let mut parts = vec![key.public_key_to_der()?];
    for certificate in chain {
        parts.push(certificate.to_der()?);
    }
    Ok(Fingerprint::of(parts.iter().map(Vec::as_slice)))
}

/// Signs test data, which requires the private key, wherever it is kept. No digest is given, so
/// that OpenSSL uses the default of the key's type: not every key works with every digest.
fn try_to_sign(key: &PKeyRef<Private>) -> Result<(), SslError> {
    Signer::new_without_digest(key)
        .and_then(|mut signer| signer.sign_oneshot_to_vec(b"test"))
        .map(|_| ())
        .map_err(|errors| SslError::new("EVP_DigestSign", errors))
}

#[cfg(test)]
mod tests {
    use openssl::ec::{EcGroup, EcKey};
    use openssl::nid::Nid;
    use openssl::rsa::Rsa;

    use super::*;
    use crate::openssl::test_certificate::self_signed;

    #[test]
    fn a_private_key_signs_and_a_public_one_does_not() {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let keys = [
            PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap(),
            PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap(),
            PKey::generate_ed25519().unwrap(),
            PKey::generate_ed448().unwrap(),
        ];
        for key in keys {
            assert!(try_to_sign(&key).is_ok(), "{:?}", key.id());

            let public = PKey::public_key_from_der(&key.public_key_to_der().unwrap()).unwrap();
            // SAFETY: this is the same object, with the type that a pointer from Lua code gets.
            let public = unsafe { PKeyRef::from_ptr(public.as_ptr()) };
            assert!(try_to_sign(public).is_err(), "{:?}", key.id());
        }
    }

    #[test]
    fn what_was_found_out_is_kept_with_the_certificate() {
        let key = PKey::generate_ed25519().unwrap();
        let chain = |names: &[&str]| {
            let mut chain = Stack::new().unwrap();
            for name in names {
                chain.push(self_signed(&key, name, 1 << 30)).unwrap();
            }
            chain
        };
        let made = |chain: &StackRef<X509>, key: &PKeyRef<Private>| {
            Rc::clone(&ClientCertificate::of(chain, key).unwrap().rest)
        };
        let (one, two) = (chain(&["leaf", "one"]), chain(&["leaf", "one"]));
        let first = made(&one, &key);
        assert!(Rc::ptr_eq(&first, &made(&one, &key)));
        assert!(!Rc::ptr_eq(&first, &made(&two, &key)));
        // A different key object with the same content, and other intermediates.
        let same_key = PKey::private_key_from_pkcs8(&key.private_key_to_pkcs8().unwrap()).unwrap();
        assert!(!Rc::ptr_eq(&first, &made(&one, &same_key)));
        assert!(Rc::ptr_eq(&first, &made(&one, &key)));
        assert_eq!(made(&one, &same_key).fingerprint, first.fingerprint);
        // It is freed with the certificate.
        assert!(Rc::strong_count(&first) > 1);
        drop(one);
        clear_cache();
        assert_eq!(Rc::strong_count(&first), 1);
    }

    #[test]
    fn a_certificate_that_is_signed_again_is_another_one() {
        let key = PKey::generate_ed25519().unwrap();
        let mut chain = Stack::new().unwrap();
        chain.push(self_signed(&key, "leaf", 1 << 30)).unwrap();
        let before = ClientCertificate::of(&chain, &key).unwrap().fingerprint();
        assert_eq!(ClientCertificate::of(&chain, &key).unwrap().fingerprint(), before);

        let other = self_signed(&key, "other", 1 << 30);
        // SAFETY: both certificates are valid. Lua code could modify one in place by FFI like this.
        unsafe {
            let leaf = chain.get(0).unwrap().as_ptr();
            let name = other.subject_name().as_ptr();
            assert_eq!(openssl_sys::X509_set_subject_name(leaf, name), 1);
            assert!(openssl_sys::X509_sign(leaf, key.as_ptr(), ptr::null()) > 0);
        }
        assert_ne!(ClientCertificate::of(&chain, &key).unwrap().fingerprint(), before);
    }

    #[test]
    fn the_content_of_a_chain_makes_its_fingerprint() {
        let key = PKey::generate_ed25519().unwrap();
        let certificate = |name, not_after| self_signed(&key, name, not_after);
        let fingerprint = |certificates: &[&X509]| {
            let mut chain = Stack::new().unwrap();
            for certificate in certificates {
                // A different object with the same content.
                chain.push(X509::from_der(&certificate.to_der().unwrap()).unwrap()).unwrap();
            }
            ClientCertificate::of(&chain, &key).unwrap().fingerprint()
        };
        let (leaf, one, two) =
            (certificate("leaf", 1 << 30), certificate("one", 1), certificate("two", 1));

        assert_eq!(fingerprint(&[&leaf, &one]), fingerprint(&[&leaf, &one]));
        let renewed = certificate("leaf", (1 << 30) + 1);
        let all = [
            fingerprint(&[&leaf]),
            fingerprint(&[&renewed]),
            fingerprint(&[&leaf, &one]),
            fingerprint(&[&leaf, &two]),
            fingerprint(&[&leaf, &one, &two]),
            fingerprint(&[&leaf, &two, &one]),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(!all[index + 1..].contains(one), "{index}");
        }
    }
}
