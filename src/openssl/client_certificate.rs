// SPDX-License-Identifier: Apache-2.0

//! A certificate to present to an upstream, with its key.

use std::cell::RefCell;
use std::ptr;
use std::rc::Rc;

use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::error::ErrorStack;
use openssl::pkey::{PKey, PKeyRef, Private};
use openssl::sign::Signer;
use openssl::ssl::SslRef;
use openssl::stack::{Stack, StackRef};
use openssl::x509::{X509, X509Ref};

use crate::openssl::certificate::{has_key, not_after};
use crate::openssl::error::SslError;
use crate::openssl::fingerprint::Fingerprint;
use crate::openssl::lua_object::InvalidObject;
use crate::openssl::recent::{Recent, Seen};
use crate::openssl::signature_algorithms::describe_key;
use crate::openssl::slot::Slot;
use crate::openssl::ssl;

/// A certificate, its intermediates, and the key that belongs to it.
///
/// Holds references to the objects it was made from; none is copied.
pub struct ClientCertificate {
    leaf: X509,
    rest: Rc<Rest>,
}

/// What goes with a certificate, and what was found out about all of it. It is kept with the
/// certificate, and so holds no reference to that.
struct Rest {
    intermediates: Stack<X509>,
    key: PKey<Private>,
    fingerprint: Fingerprint,
    not_after: i64,
    /// What tells all of the certificates, in their order.
    marks: Vec<Mark>,
}

/// What tells a certificate: where it is, and the end of its signature. Who changes it in its place has
/// to sign it again, and in all algorithms the end of a signature is as good as random.
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

    /// Whether `certificate` is the one that it was made of, and as it was.
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

/// Drops those that this worker keeps.
pub fn clear_cache() {
    RECENT.with(Recent::clear);
}

/// With how many keys and intermediates a certificate is kept: with one, as a rule.
const COMBINATIONS: usize = 4;

/// Why a certificate and key were refused.
#[derive(Debug, thiserror::Error)]
pub enum InvalidCertificate {
    /// Not the objects that they should be.
    #[error(transparent)]
    Object(#[from] InvalidObject),
    /// The key is of another certificate.
    #[error("key does not belong to the first certificate of chain")]
    KeyMismatch,
    /// A public key, of which the other half is elsewhere.
    #[error("key cannot sign: {0}")]
    CannotSign(SslError),
    /// No memory for the references.
    #[error("chain: {0}")]
    References(SslError),
    /// OpenSSL has no encoding of an object.
    #[error("chain or key: {0}")]
    Encoding(SslError),
    /// The end of the certificate's validity is no date.
    #[error("chain: {0}")]
    NotAfter(SslError),
}

impl ClientCertificate {
    /// The certificate that was made of `chain` and `key`, if these are as they were, or a new one.
    /// `chain` has the leaf first.
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
        // Some plugins make one for each request.
        if seen == Seen::Again {
            RECENT.with(|recent| recent.put(address, Rc::clone(&made)));
        }
        Ok(made)
    }

    fn new(
        chain: &StackRef<X509>,
        key: &PKeyRef<Private>,
    ) -> Result<(Self, Seen), InvalidCertificate> {
        // SAFETY: certificates of Lua code are used by the one thread that runs it.
        static SLOT: Slot<X509Ref, RefCell<Vec<Rc<Rest>>>> = unsafe { Slot::new() };

        let leaf = chain.get(0).ok_or(InvalidObject::EmptyChain)?;
        let known = SLOT
            .get_or_make(leaf, || Ok::<_, SslError>(RefCell::default()))
            .map_err(InvalidCertificate::References)?;
        let found = known.borrow().iter().find(|rest| rest.is_of(chain, key)).map(Rc::clone);
        let seen = if found.is_some() { Seen::Again } else { Seen::First };
        let rest = match found {
            Some(rest) => rest,
            // With a reference to itself, it would never be freed.
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

    /// Of the certificates and the key.
    pub fn fingerprint(&self) -> Fingerprint {
        self.rest.fingerprint
    }

    /// When the certificate ends, in seconds since the epoch.
    pub fn not_after(&self) -> i64 {
        self.rest.not_after
    }

    /// What the key is, for people.
    pub fn describe_key(&self) -> String {
        describe_key(&self.rest.key)
    }

    /// Makes `ssl` present this certificate, and no other that it was configured with.
    pub fn present(&self, ssl: &SslRef) -> Result<(), SslError> {
        // What a location has configured must go first: OpenSSL keeps one certificate for each type
        // of key, and may choose any of them. A callback of the location would come after us.
        ssl::clear_certificates(ssl);
        ssl::set_certificate_callback(ssl, None);

        ssl::use_certificate(ssl, &self.leaf, &self.rest.key, &self.rest.intermediates)
    }
}

impl Rest {
    fn new(chain: &StackRef<X509>, key: &PKeyRef<Private>) -> Result<Self, InvalidCertificate> {
        let leaf = chain.get(0).ok_or(InvalidObject::EmptyChain)?;
        let intermediates = intermediates(chain).map_err(InvalidCertificate::References)?;
        if !has_key(leaf, key) {
            return Err(InvalidCertificate::KeyMismatch);
        }
        // Of a public half alone, that is no proof.
        try_to_sign(key).map_err(InvalidCertificate::CannotSign)?;

        let fingerprint = fingerprint(chain, key)
            .map_err(|errors| InvalidCertificate::Encoding(SslError::new("i2d_X509", errors)))?;
        let not_after = not_after(leaf).map_err(InvalidCertificate::NotAfter)?;
        let marks = chain.iter().map(Mark::new).collect();
        Ok(Self { intermediates, key: key.to_owned(), fingerprint, not_after, marks })
    }

    /// Whether it was made of these very objects, and they are as they were.
    fn is_of(&self, chain: &StackRef<X509>, key: &PKeyRef<Private>) -> bool {
        ptr::eq(self.key.as_ptr(), key.as_ptr())
            && self.marks.len() == chain.len()
            && chain.iter().zip(&self.marks).all(|(one, mark)| mark.is_of(one))
    }
}

/// The certificates of a chain but for the leaf.
pub fn intermediates(chain: &StackRef<X509>) -> Result<Stack<X509>, SslError> {
    let references = |errors| SslError::new("OPENSSL_sk_push", errors);
    let mut intermediates = Stack::new().map_err(references)?;
    for certificate in chain.iter().skip(1).map(X509Ref::to_owned) {
        intermediates.push(certificate).map_err(references)?;
    }
    Ok(intermediates)
}

/// The public half of the key stands for both.
fn fingerprint(chain: &StackRef<X509>, key: &PKeyRef<Private>) -> Result<Fingerprint, ErrorStack> {
    let mut parts = vec![key.public_key_to_der()?];
    for certificate in chain {
        parts.push(certificate.to_der()?);
    }
    Ok(Fingerprint::of(parts.iter().map(Vec::as_slice)))
}

/// Signs something, which takes the private half of a key, wherever that is kept. Not every key
/// goes with every digest, or with any: each has one that OpenSSL takes of itself.
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
            // SAFETY: the same object under the type that a pointer from Lua gets.
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
        // Another object of the same key, and other intermediates.
        let same_key = PKey::private_key_from_pkcs8(&key.private_key_to_pkcs8().unwrap()).unwrap();
        assert!(!Rc::ptr_eq(&first, &made(&one, &same_key)));
        assert!(Rc::ptr_eq(&first, &made(&one, &key)));
        assert_eq!(made(&one, &same_key).fingerprint, first.fingerprint);
        // It goes with the certificate.
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
        // SAFETY: both are valid; in place, as Lua code could do it by FFI.
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
                // Another object with the same content.
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
