//! Stores of trusted certificates.

use std::path::Path;

use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::ssl::SslFiletype;
use openssl::stack::StackRef;
use openssl::x509::X509;
use openssl::x509::store::{X509Lookup, X509Store, X509StoreBuilder, X509StoreRef};
use openssl::x509::verify::X509VerifyFlags;

use super::error::SslError;
use super::sys;

/// Another reference to the same store; the `openssl` crate has no way to take one.
pub fn reference(store: &X509StoreRef) -> Result<X509Store, SslError> {
    // SAFETY: the store is valid, and the new owner gets the reference just taken.
    unsafe {
        SslError::check("X509_STORE_up_ref", sys::X509_STORE_up_ref(store.as_ptr()))?;
        Ok(X509Store::from_ptr(store.as_ptr()))
    }
}

/// How a store verifies.
fn flags(store: &X509StoreRef) -> X509VerifyFlags {
    // SAFETY: the store is valid; its parameters belong to it.
    let flags =
        unsafe { sys::X509_VERIFY_PARAM_get_flags(sys::X509_STORE_get0_param(store.as_ptr())) };
    X509VerifyFlags::from_bits_retain(flags)
}

/// Whether revocation lists are checked, of the leaf or of the whole chain.
pub fn revocation_flags(store: &X509StoreRef) -> X509VerifyFlags {
    flags(store) & (X509VerifyFlags::CRL_CHECK | X509VerifyFlags::CRL_CHECK_ALL)
}

/// A store in which each of `certificates` is trusted by itself, be it a root or an intermediate.
/// The revocation lists of `base`, and whether they are checked, hold for it too.
pub fn trusting(certificates: &StackRef<X509>, base: &X509StoreRef) -> Result<X509Store, SslError> {
    let mut builder =
        X509StoreBuilder::new().map_err(|errors| SslError::new("X509_STORE_new", errors))?;
    for certificate in certificates {
        builder
            .add_cert(certificate.to_owned())
            .map_err(|errors| SslError::new("X509_STORE_add_cert", errors))?;
    }

    // SAFETY: `base` is valid; its parameters and objects belong to it. Adding a list to another
    // store takes a reference.
    unsafe {
        let flags = sys::X509_VERIFY_PARAM_get_flags(sys::X509_STORE_get0_param(base.as_ptr()));
        let flags = X509VerifyFlags::from_bits_retain(flags as _) | X509VerifyFlags::PARTIAL_CHAIN;
        builder.set_flags(flags).map_err(|errors| SslError::new("X509_STORE_set_flags", errors))?;

        let objects = sys::X509_STORE_get0_objects(base.as_ptr()).cast();
        for index in 0..openssl_sys::OPENSSL_sk_num(objects) {
            let object = openssl_sys::OPENSSL_sk_value(objects, index).cast();
            if sys::X509_OBJECT_get_type(object) == sys::X509_LU_CRL {
                let list = sys::X509_OBJECT_get0_X509_CRL(object);
                let result = sys::X509_STORE_add_crl(builder.as_ptr(), list);
                SslError::check("X509_STORE_add_crl", result)?;
            }
        }
    }
    Ok(builder.build())
}

/// A store of the certificates in the file `trusted`, which checks the revocation lists in the file
/// `revoked` where there is one: as nginx has them for `proxy_ssl_verify on`.
pub fn from_files(trusted: &Path, revoked: Option<&Path>) -> Result<X509Store, SslError> {
    let mut builder =
        X509StoreBuilder::new().map_err(|errors| SslError::new("X509_STORE_new", errors))?;
    let lookup = builder
        .add_lookup(X509Lookup::file())
        .map_err(|errors| SslError::new("X509_STORE_add_lookup", errors))?;

    lookup
        .load_cert_file(trusted, SslFiletype::PEM)
        .map_err(|errors| SslError::new("X509_load_cert_file", errors))?;
    if let Some(revoked) = revoked {
        lookup
            .load_crl_file(revoked, SslFiletype::PEM)
            .map_err(|errors| SslError::new("X509_load_crl_file", errors))?;
        builder
            .set_flags(X509VerifyFlags::CRL_CHECK | X509VerifyFlags::CRL_CHECK_ALL)
            .map_err(|errors| SslError::new("X509_STORE_set_flags", errors))?;
    }
    Ok(builder.build())
}
