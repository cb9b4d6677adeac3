// SPDX-License-Identifier: Apache-2.0

//! Certificate authorities that a client's certificate may come from: the list of their names that
//! a server sends, and the store that the certificate is verified with.

use std::collections::HashSet;
use std::rc::Rc;

use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::ssl::SslRef;
use openssl::stack::{Stack, StackRef};
use openssl::x509::store::{X509Store, X509StoreRef};
use openssl::x509::{X509, X509Name, X509Ref};
use openssl_sys::{SSL, stack_st_X509_NAME};

use crate::openssl::error::SslError;
use crate::openssl::object_cache::HoldsItsObjects;
use crate::openssl::{ssl, store, sys};

/// The most bytes that the names may take, each with the two bytes of its length. All extensions of
/// a `CertificateRequest` together are limited to 65,535 bytes (RFC 8446, section 4.3.2), and the
/// signature algorithms need some of them.
const MAX_NAMES: usize = 65_535 - 512;

/// Why a list of authorities was refused.
#[derive(Debug, thiserror::Error)]
pub enum InvalidAuthorities {
    /// TLS can't carry the names.
    #[error(
        "ca_certs: the names of {count} authorities take {bytes} bytes, and TLS allows for {MAX_NAMES}"
    )]
    TooLong {
        /// How many names there are.
        count: usize,
        /// What they take.
        bytes: usize,
    },
    /// OpenSSL could not copy a name or build the store.
    #[error("ca_certs: {0}")]
    Ssl(#[from] SslError),
}

/// The names of authorities, if TLS can carry them.
pub fn names(certificates: &StackRef<X509>) -> Result<Stack<X509Name>, InvalidAuthorities> {
    let name_error = |errors| SslError::new("X509_NAME_dup", errors);
    let mut names = Stack::new().map_err(name_error)?;
    let mut seen = HashSet::new();
    let mut bytes = 0;

    for certificate in certificates {
        let encoded = certificate.subject_name().to_der().map_err(name_error)?;
        let length = encoded.len();
        // A root and its successor have one name, which is sent once.
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
}

impl CertificateAuthorities {
    /// With `partial_chain`, an intermediate among them is trusted as a root is. `base` is the
    /// store of the server, whose revocation lists hold here too.
    pub fn new(
        certificates: &StackRef<X509>,
        partial_chain: bool,
        base: &X509StoreRef,
    ) -> Result<Self, InvalidAuthorities> {
        let names = names(certificates)?;
        Ok(Self {
            certificates: certificates.iter().map(X509Ref::to_owned).collect(),
            partial_chain,
            base: store::reference(base)?,
            names,
            store: store::trusting(certificates, partial_chain, base)?,
        })
    }

    /// What a client's certificate is verified with.
    pub fn store(&self) -> &X509StoreRef {
        &self.store
    }

    /// What identifies the list: whether intermediates are trusted, the server's store, then the
    /// certificates in their order.
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

/// Authorities whose names an SSL sends, without a copy of the names.
///
/// An SSL owns its list of names, and frees each of them. Here the list is a shallow copy, emptied
/// when this value is dropped, before the SSL can free anything: it holds a reference to the SSL,
/// and so drops it last.
pub struct AnnouncedAuthorities {
    _ssl: OwnedSsl,
    list: *mut stack_st_X509_NAME,
    // Holds the names that `list` points at.
    _authorities: Rc<CertificateAuthorities>,
}

impl AnnouncedAuthorities {
    /// Makes `ssl` send the names, and verify the client's certificate with the store.
    ///
    /// `previous` is what was announced on this SSL before: dropped here, and so emptied, before
    /// the SSL frees its list.
    pub fn announce(
        ssl: &SslRef,
        authorities: Rc<CertificateAuthorities>,
        previous: Option<Self>,
    ) -> Result<Self, SslError> {
        drop(previous);
        announce_no_names(ssl)?;
        ssl::set_verify_store(ssl, Some(&authorities.store))?;

        let owner = OwnedSsl::reference(ssl)?;
        // SAFETY: the names are a valid stack. The SSL takes the copy of it, and frees the list it
        // had: none, or one that a former value of this type has emptied. nginx and the Lua module
        // use another list (`SSL_set_client_CA_list`), so that nobody else frees this one.
        unsafe {
            let list: *mut stack_st_X509_NAME =
                sys::OPENSSL_sk_dup(authorities.names.as_ptr().cast()).cast();
            if list.is_null() {
                return Err(SslError::take("OPENSSL_sk_dup"));
            }
            sys::SSL_set0_CA_list(ssl.as_ptr(), list);
            Ok(Self { _ssl: owner, list, _authorities: authorities })
        }
    }
}

impl Drop for AnnouncedAuthorities {
    fn drop(&mut self) {
        // SAFETY: `self._ssl` still holds the SSL, and the SSL the list. Emptied, the list is freed
        // without the names, which belong to `self._authorities`.
        unsafe { sys::OPENSSL_sk_zero(self.list.cast()) }
    }
}

/// Makes `ssl` send the names of no authorities, and verify with what the server trusts.
pub fn announce_none(ssl: &SslRef) -> Result<(), SslError> {
    announce_no_names(ssl)?;
    ssl::set_verify_store(ssl, None)
}

/// Unsets the list that nginx (`ssl_client_certificate`) or the Lua module may have set: it would
/// be sent in place of ours.
fn announce_no_names(ssl: &SslRef) -> Result<(), SslError> {
    // SAFETY: the SSL is valid; it takes the empty list. NULL would mean the list of the context.
    unsafe {
        let current = sys::SSL_get_client_CA_list(ssl.as_ptr());
        if !current.is_null() && openssl_sys::OPENSSL_sk_num(current.cast()) > 0 {
            let empty = openssl_sys::OPENSSL_sk_new_null();
            if empty.is_null() {
                return Err(SslError::take("OPENSSL_sk_new_null"));
            }
            openssl_sys::SSL_set_client_CA_list(ssl.as_ptr(), empty.cast());
        }
    }
    Ok(())
}

/// A reference to an SSL.
struct OwnedSsl(*mut SSL);

impl OwnedSsl {
    fn reference(ssl: &SslRef) -> Result<Self, SslError> {
        // SAFETY: the SSL is valid.
        SslError::check("SSL_up_ref", unsafe { sys::SSL_up_ref(ssl.as_ptr()) })?;
        Ok(Self(ssl.as_ptr()))
    }
}

impl Drop for OwnedSsl {
    fn drop(&mut self) {
        // SAFETY: releases the reference taken above.
        unsafe { openssl_sys::SSL_free(self.0) }
    }
}
