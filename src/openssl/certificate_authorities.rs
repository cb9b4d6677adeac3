// SPDX-License-Identifier: Apache-2.0

//! Certificate authorities for clients' certificates: the names that a server sends, and the store
//! that the certificates are verified with.

use std::collections::HashSet;
use std::mem::ManuallyDrop;
use std::rc::Rc;

use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::ssl::SslRef;
use openssl::stack::{Stack, StackRef};
use openssl::x509::store::{X509Store, X509StoreRef};
use openssl::x509::{X509, X509Name, X509Ref};
use openssl_sys::OPENSSL_STACK;

use crate::openssl::error::SslError;
use crate::openssl::fingerprint::{Encoding, Fingerprint};
use crate::openssl::object_cache::HoldsItsObjects;
use crate::openssl::{certificate, ssl, store, sys};

/// The maximum size of the names, each with its two length bytes. All extensions of a
/// `CertificateRequest` share 65,535 bytes (RFC 8446, section 4.3.2), of which the signature
/// algorithms need some.
const MAX_NAMES: usize = 65_535 - 512;

/// Why a list of authorities was refused.
#[derive(Debug, thiserror::Error)]
pub enum InvalidAuthorities {
    /// The names do not fit into a TLS message.
    #[error(
        "ca_certs: the names of {count} authorities take {bytes} bytes, and TLS allows for {MAX_NAMES}"
    )]
    TooLong {
        /// The number of names.
        count: usize,
        /// Their size.
        bytes: usize,
    },
    /// OpenSSL could not copy a name or build the store.
    #[error("ca_certs: {0}")]
    Ssl(#[from] SslError),
}

/// Returns the names of authorities, without duplicates, if they fit into a TLS message.
pub fn names(certificates: &StackRef<X509>) -> Result<Stack<X509Name>, InvalidAuthorities> {
    let name_error = |errors| SslError::new("X509_NAME_dup", errors);
    let mut names = Stack::new().map_err(name_error)?;
    let mut seen = HashSet::new();
    let mut bytes = 0;

    for certificate in certificates {
        let encoded = certificate.subject_name().to_der().map_err(name_error)?;
        let length = encoded.len();
        // A root and its successor may share a name, which is sent once.
        if seen.insert(encoded) {
            bytes += 2 + length;
            let name = certificate.subject_name().to_owned().map_err(name_error)?;
            names.push(name).map_err(name_error)?;
        }
    }
    if bytes > MAX_NAMES {
        return Err(InvalidAuthorities::TooLong { count: names.len(), bytes });
    }
    Ok(names)
}

/// A list of authorities in the forms that a handshake needs.
pub struct CertificateAuthorities {
    certificates: Vec<X509>,
    partial_chain: bool,
    base: X509Store,
    names: Stack<X509Name>,
    store: X509Store,
    fingerprint: Fingerprint,
}

impl CertificateAuthorities {
    /// Copies the names and builds the store. With `partial_chain`, intermediates among the
    /// certificates are trusted like roots. `base` is the server's store, whose revocation lists
    /// apply as well.
    pub fn new(
        certificates: &StackRef<X509>,
        partial_chain: bool,
        base: &X509StoreRef,
    ) -> Result<Self, InvalidAuthorities> {
        let names = names(certificates)?;
        let mut encoding = Encoding::new();
        encoding.flag(partial_chain);
        for one in certificates {
            certificate::encode(&mut encoding, one)?;
        }
        Ok(Self {
            certificates: certificates.iter().map(X509Ref::to_owned).collect(),
            partial_chain,
            base: store::reference(base)?,
            names,
            store: store::trusting(certificates, partial_chain, base)?,
            fingerprint: encoding.into(),
        })
    }

    /// Returns the store that clients' certificates are verified with.
    pub fn store(&self) -> &X509StoreRef {
        &self.store
    }

    /// Writes the key of a list into `into`: whether intermediates are trusted, and the addresses
    /// of the server's store and of the certificates, in order.
    pub fn addresses_of(
        certificates: &StackRef<X509>,
        partial_chain: bool,
        base: &X509StoreRef,
        into: &mut Vec<usize>,
    ) {
        into.clear();
        into.push(partial_chain.into());
        into.push(base.as_ptr() as usize);
        into.extend(certificates.iter().map(|certificate| certificate.as_ptr() as usize));
    }
}

impl HoldsItsObjects for CertificateAuthorities {
    fn addresses(&self) -> Vec<usize> {
        let base = self.base.as_ptr() as usize;
        let certificates =
            self.certificates.iter().map(|certificate| certificate.as_ptr() as usize);
        [self.partial_chain.into(), base].into_iter().chain(certificates).collect()
    }
}

/// Authorities whose names an SSL object sends, without copies of the names.
///
/// An SSL object owns its list of names, and frees each of them. Here the list is a shallow copy
/// that is emptied when this value is dropped. This value holds a reference to the SSL object, so
/// the list is emptied before the SSL object is freed.
pub struct AnnouncedAuthorities {
    _ssl: ssl::Reference,
    list: *mut OPENSSL_STACK,
    // Keeps the names alive that `list` points at.
    authorities: Rc<CertificateAuthorities>,
}

impl AnnouncedAuthorities {
    /// Makes `ssl` send the names, and verify the client's certificate with the store.
    ///
    /// `previous` is what was announced on this SSL object before. It is dropped first, which
    /// empties its list before the SSL object frees the list.
    pub fn announce(
        ssl: &SslRef,
        authorities: Rc<CertificateAuthorities>,
        previous: Option<Self>,
    ) -> Result<Self, SslError> {
        drop(previous);
        announce_no_names(ssl)?;
        ssl::set_verify_store(ssl, Some(&authorities.store))?;

        let owner = ssl::Reference::to(ssl)?;
        // SAFETY: the names are a valid stack, of which this makes a shallow copy.
        let list = unsafe { sys::OPENSSL_sk_dup(authorities.names.as_ptr().cast()) };
        if list.is_null() {
            return Err(SslError::take("OPENSSL_sk_dup"));
        }
        // SAFETY: the SSL object takes ownership of the copy and frees its previous list, which is
        // NULL or was emptied by a dropped value of this type. nginx and the Lua module use another
        // list (`SSL_set_client_CA_list`), so nothing else frees this one.
        unsafe { sys::SSL_set0_CA_list(ssl, list.cast()) };
        Ok(Self { _ssl: owner, list, authorities })
    }

    /// Returns a digest of the authorities, and of how they are trusted.
    pub fn fingerprint(&self) -> Fingerprint {
        self.authorities.fingerprint
    }
}

impl Drop for AnnouncedAuthorities {
    fn drop(&mut self) {
        // SAFETY: `self._ssl` keeps the SSL object alive, and with it the list. Emptied, the list
        // is freed without the names, which belong to `self.authorities`.
        unsafe { sys::OPENSSL_sk_zero(self.list) }
    }
}

/// Makes `ssl` send no authorities, and verify with the store of its context.
pub fn announce_none(ssl: &SslRef) -> Result<(), SslError> {
    announce_no_names(ssl)?;
    ssl::set_verify_store(ssl, None)
}

/// Empties the list that nginx (`ssl_client_certificate`) or the Lua module may have set, which
/// would be sent instead.
fn announce_no_names(ssl: &SslRef) -> Result<(), SslError> {
    // SAFETY: this only looks whether the list has any names; nothing frees it meanwhile.
    let has_names =
        unsafe { sys::SSL_get_client_CA_list(ssl) }.is_some_and(|list| !list.is_empty());
    if has_names {
        // NULL would select the list of the context.
        let empty = Stack::<X509Name>::new()
            .map_err(|errors| SslError::new("OPENSSL_sk_new_null", errors))?;
        // SAFETY: the SSL object takes ownership of the empty list. Nobody has borrowed the former.
        unsafe { sys::SSL_set_client_CA_list(ssl, ManuallyDrop::new(empty).as_ptr()) };
    }
    Ok(())
}
