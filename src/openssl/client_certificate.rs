//! A certificate to present to an upstream, with its key.

use foreign_types::ForeignTypeRef;
use openssl::pkey::{PKey, PKeyRef, Private};
use openssl::ssl::SslRef;
use openssl::stack::{Stack, StackRef};
use openssl::x509::{X509, X509Ref};

use super::error::SslError;
use super::lua_object::InvalidObject;
use super::object_cache::HoldsItsObjects;
use super::{ssl, sys};

/// A certificate, its intermediates, and the key that belongs to it.
///
/// Holds references to the objects it was made from; none is copied.
pub struct ClientCertificate {
    leaf: X509,
    intermediates: Stack<X509>,
    key: PKey<Private>,
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
    /// No memory for the references.
    #[error("chain: {0}")]
    References(SslError),
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

        // SAFETY: both objects are valid, and only compared.
        let result = unsafe { sys::X509_check_private_key(leaf.as_ptr(), key.as_ptr()) };
        SslError::check("X509_check_private_key", result)
            .map_err(|_| InvalidCertificate::KeyMismatch)?;

        Ok(Self { leaf, intermediates, key: key.to_owned() })
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
        // of key, and may choose any of them.
        ssl::clear_certificates(ssl);

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

impl HoldsItsObjects for ClientCertificate {
    fn addresses(&self) -> Vec<usize> {
        let key = self.key.as_ptr() as usize;
        let leaf = self.leaf.as_ptr() as usize;
        let intermediates =
            self.intermediates.iter().map(|certificate| certificate.as_ptr() as usize);
        [key, leaf].into_iter().chain(intermediates).collect()
    }
}
