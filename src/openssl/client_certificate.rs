//! A certificate to present to an upstream, with its key.

use foreign_types::ForeignTypeRef;
use openssl::error::ErrorStack;
use openssl::pkey::{PKey, PKeyRef, Private};
use openssl::sign::Signer;
use openssl::ssl::SslRef;
use openssl::stack::{Stack, StackRef};
use openssl::x509::{X509, X509Ref};

use super::certificate::{has_key, not_after};
use super::error::SslError;
use super::fingerprint::Fingerprint;
use super::lua_object::InvalidObject;
use super::object_cache::HoldsItsObjects;
use super::signature_algorithms::describe_key;
use super::{ssl, sys};

/// A certificate, its intermediates, and the key that belongs to it.
///
/// Holds references to the objects it was made from; none is copied.
pub struct ClientCertificate {
    leaf: X509,
    intermediates: Stack<X509>,
    key: PKey<Private>,
    fingerprint: Fingerprint,
    not_after: i64,
}

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
    /// `chain` has the leaf first.
    pub fn new(chain: &StackRef<X509>, key: &PKeyRef<Private>) -> Result<Self, InvalidCertificate> {
        let mut certificates = chain.iter().map(X509Ref::to_owned);
        let leaf = certificates.next().ok_or(InvalidObject::EmptyChain)?;

        let references =
            |errors| InvalidCertificate::References(SslError::new("OPENSSL_sk_push", errors));
        let mut intermediates = Stack::new().map_err(references)?;
        for certificate in certificates {
            intermediates.push(certificate).map_err(references)?;
        }

        if !has_key(&leaf, key) {
            return Err(InvalidCertificate::KeyMismatch);
        }
        // Of a public half alone, that is no proof.
        try_to_sign(key).map_err(InvalidCertificate::CannotSign)?;

        let fingerprint = fingerprint(chain, key)
            .map_err(|errors| InvalidCertificate::Encoding(SslError::new("i2d_X509", errors)))?;
        let not_after = not_after(&leaf).map_err(InvalidCertificate::NotAfter)?;
        Ok(Self { leaf, intermediates, key: key.to_owned(), fingerprint, not_after })
    }

    /// Of the certificates and the key.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// When the certificate ends, in seconds since the epoch.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// What the key is, for people.
    pub fn describe_key(&self) -> String {
        describe_key(&self.key)
    }

    /// What identifies the objects: the key, then the certificates in their order.
    pub fn addresses_of(chain: &StackRef<X509>, key: &PKeyRef<Private>, into: &mut Vec<usize>) {
        into.clear();
        into.push(key.as_ptr() as usize);
        into.extend(chain.iter().map(|certificate| certificate.as_ptr() as usize));
    }

    /// Makes `ssl` present this certificate, and no other that it was configured with.
    pub fn present(&self, ssl: &SslRef) -> Result<(), SslError> {
        // What a location has configured must go first: OpenSSL keeps one certificate for each type
        // of key, and may choose any of them. A callback of the location would come after us.
        ssl::clear_certificates(ssl);
        ssl::set_certificate_callback(ssl, None);

        // SAFETY: all of the objects are valid, and the SSL takes references of its own.
        unsafe {
            SslError::check(
                "SSL_use_certificate",
                openssl_sys::SSL_use_certificate(ssl.as_ptr(), self.leaf.as_ptr()),
            )?;
            SslError::check(
                "SSL_use_PrivateKey",
                openssl_sys::SSL_use_PrivateKey(ssl.as_ptr(), self.key.as_ptr()),
            )?;
            SslError::check(
                "SSL_set1_chain",
                sys::SSL_set1_chain(ssl.as_ptr(), self.intermediates.as_ptr()),
            )
        }
    }
}

/// The public half of the key stands for both.
fn fingerprint(chain: &StackRef<X509>, key: &PKeyRef<Private>) -> Result<Fingerprint, ErrorStack> {
    let mut parts = vec![key.public_key_to_der()?];
    for certificate in chain {
        parts.push(certificate.to_der()?);
    }
    Ok(Fingerprint::of(parts.iter().map(Vec::as_slice)))
}

/// Signs something, which takes the private half of a key, wherever that is kept. Not every key goes with
/// every digest, or with any: each has one that OpenSSL takes of itself.
fn try_to_sign(key: &PKeyRef<Private>) -> Result<(), SslError> {
    Signer::new_without_digest(key)
        .and_then(|mut signer| signer.sign_oneshot_to_vec(b"test"))
        .map(|_| ())
        .map_err(|errors| SslError::new("EVP_DigestSign", errors))
}

impl HoldsItsObjects for ClientCertificate {
    fn addresses(&self) -> Vec<usize> {
        let key = self.key.as_ptr() as usize;
        let leaf = self.leaf.as_ptr() as usize;
        let intermediates =
            self.intermediates.iter().map(|certificate| certificate.as_ptr() as usize);
        [key, leaf].into_iter().chain(intermediates).collect()
    }
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
    fn the_content_of_a_chain_makes_its_fingerprint() {
        let key = PKey::generate_ed25519().unwrap();
        let certificate = |name, not_after| self_signed(&key, name, not_after);
        let fingerprint = |certificates: &[&X509]| {
            let mut chain = Stack::new().unwrap();
            for certificate in certificates {
                // Another object with the same content.
                chain.push(X509::from_der(&certificate.to_der().unwrap()).unwrap()).unwrap();
            }
            ClientCertificate::new(&chain, &key).unwrap().fingerprint()
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
