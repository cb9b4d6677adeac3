// SPDX-License-Identifier: Apache-2.0

//! Decides which error a verification reports, with precedence for revocation.
//!
//! OpenSSL keeps only the last error of a chain, and calls the verify callback for each. If the
//! callback lets the verification go on, a later error would replace that of a revoked certificate.

use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{X509StoreContextRef, X509VerifyResult};

use crate::openssl::{folder, slot, store, sys};

/// Returns whether an error means that a certificate is revoked, or that this is unknown.
pub fn is_of_revocation(error: c_int) -> bool {
    /// `X509_V_ERR_OCSP_*`, which the `openssl` crate lacks.
    const OCSP: std::ops::RangeInclusive<c_int> = 73..=75;

    error == openssl_sys::X509_V_ERR_CERT_REVOKED || is_of_lists(error) || OCSP.contains(&error)
}

/// Returns whether an error concerns a revocation list itself, not a certificate on it.
fn is_of_lists(error: c_int) -> bool {
    matches!(
        error,
        openssl_sys::X509_V_ERR_UNABLE_TO_GET_CRL
            | openssl_sys::X509_V_ERR_UNABLE_TO_DECRYPT_CRL_SIGNATURE
            | openssl_sys::X509_V_ERR_CRL_SIGNATURE_FAILURE
            | openssl_sys::X509_V_ERR_CRL_NOT_YET_VALID
            | openssl_sys::X509_V_ERR_CRL_HAS_EXPIRED
            | openssl_sys::X509_V_ERR_ERROR_IN_CRL_LAST_UPDATE_FIELD
            | openssl_sys::X509_V_ERR_ERROR_IN_CRL_NEXT_UPDATE_FIELD
            | openssl_sys::X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER
            | openssl_sys::X509_V_ERR_KEYUSAGE_NO_CRL_SIGN
            | openssl_sys::X509_V_ERR_UNHANDLED_CRITICAL_CRL_EXTENSION
            | openssl_sys::X509_V_ERR_DIFFERENT_CRL_SCOPE
            | openssl_sys::X509_V_ERR_CRL_PATH_VALIDATION_ERROR
    )
}

/// Returns which of two successive errors counts: an error about revocation is only replaced by
/// `X509_V_ERR_CERT_REVOKED`.
fn weightier(first: c_int, last: c_int) -> c_int {
    let is_kept = is_of_revocation(first)
        && (first == openssl_sys::X509_V_ERR_CERT_REVOKED
            || last != openssl_sys::X509_V_ERR_CERT_REVOKED);
    if is_kept { first } else { last }
}

/// The reason for which OpenSSL calls a verify callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The current certificate has passed the checks so far.
    Good,
    /// The verification has found an error.
    Bad,
    /// A list is missing that can't be there, or has expired in a store that accepts this. This is
    /// no error; the previous result is restored.
    Nothing,
    /// The verification has found an error, but there is no memory to remember it: it must end.
    Lost,
}

/// Classifies the call of a verify callback, and sets the result of the verification to the error
/// that counts. Must be called first in each call of a callback.
pub fn found(context: &X509StoreContextRef, preverified: bool) -> Found {
    // SAFETY: the verification is running, and its store outlives it.
    let store = unsafe { sys::X509_STORE_CTX_get0_store(context) };
    found_by(context, preverified, store.is_some_and(store::accepts_expired))
}

fn found_by(context: &X509StoreContextRef, preverified: bool, accepts_expired: bool) -> Found {
    let result = context.error().as_raw();
    if preverified {
        if !folder::hides_list(context, flags(context)) || is_at_partial_end(context) {
            return Found::Good;
        }
        // OpenSSL itself takes an unreadable list for a missing one, and so has found no error.
        set_error(context, openssl_sys::X509_V_ERR_UNABLE_TO_GET_CRL);
        let is_kept = remember(context, openssl_sys::X509_V_ERR_UNABLE_TO_GET_CRL);
        return if is_kept { Found::Bad } else { Found::Lost };
    }
    let Some(before) = remembered(context) else {
        return Found::Lost;
    };
    let is_accepted = accepts_expired && result == openssl_sys::X509_V_ERR_CRL_HAS_EXPIRED;
    if is_accepted || is_of_lists(result) && is_at_partial_end(context) {
        set_error(context, before);
        return Found::Nothing;
    }
    let error = weightier(before, result);
    set_error(context, error);
    if remember(context, error) { Found::Bad } else { Found::Lost }
}

/// The verify callback of verifications that end with the first error.
pub extern "C" fn judge_each(preverified: c_int, context: &X509StoreContextRef) -> c_int {
    let goes_on = catch_unwind(AssertUnwindSafe(|| {
        matches!(found(context, preverified == 1), Found::Good | Found::Nothing)
    }));
    goes_on.unwrap_or(false).into()
}

/// The same for lists that are not the store's own: none may have expired, whatever the store
/// accepts.
pub extern "C" fn judge_each_by_date(preverified: c_int, context: &X509StoreContextRef) -> c_int {
    let goes_on = catch_unwind(AssertUnwindSafe(|| {
        matches!(found_by(context, preverified == 1, false), Found::Good | Found::Nothing)
    }));
    goes_on.unwrap_or(false).into()
}

/// Returns whether the current certificate is a trusted intermediate that ends the chain
/// (`X509_V_FLAG_PARTIAL_CHAIN`). Its revocation list would be issued by an authority above it,
/// which is not in the chain; OpenSSL looks for that list all the same. If a list does revoke it,
/// that counts.
fn is_at_partial_end(context: &X509StoreContextRef) -> bool {
    let Some(chain) = context.chain() else {
        return false;
    };
    let is_partial = flags(context).contains(X509VerifyFlags::PARTIAL_CHAIN);
    let is_last = context.error_depth() as usize + 1 == chain.len();
    let is_self_issued =
        chain.iter().last().is_none_or(|last| last.issued(last) == X509VerifyResult::OK);
    is_partial && is_last && !is_self_issued
}

/// Returns the verification flags.
fn flags(context: &X509StoreContextRef) -> X509VerifyFlags {
    let flags = sys::X509_STORE_CTX_get0_param(context)
        .map_or(0, |parameters| sys::X509_VERIFY_PARAM_get_flags(parameters));
    X509VerifyFlags::from_bits_retain(flags)
}

fn set_error(context: &X509StoreContextRef, error: c_int) {
    sys::X509_STORE_CTX_set_error(context, error);
}

/// Returns the index at which a verification keeps the error that counts: the number itself, stored
/// in the pointer.
fn index() -> Option<c_int> {
    /// `CRYPTO_EX_INDEX_X509_STORE_CTX`
    const OF_VERIFICATIONS: c_int = 5;
    static INDEX: OnceLock<Option<c_int>> = OnceLock::new();

    *INDEX.get_or_init(|| slot::new_index(OF_VERIFICATIONS))
}

fn remembered(context: &X509StoreContextRef) -> Option<c_int> {
    let index = index()?;
    c_int::try_from(sys::X509_STORE_CTX_get_ex_data(context, index) as usize).ok()
}

fn remember(context: &X509StoreContextRef, error: c_int) -> bool {
    let (Some(index), Ok(error)) = (index(), usize::try_from(error)) else {
        return false;
    };
    // SAFETY: the index is this module's. The pointer is a number that is never followed.
    unsafe { sys::X509_STORE_CTX_set_ex_data(context, index, error as *mut c_void) == 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revoked_certificate_counts_before_all_else() {
        use openssl_sys::{
            X509_V_ERR_CERT_HAS_EXPIRED as EXPIRED, X509_V_ERR_CERT_REVOKED as REVOKED,
            X509_V_ERR_UNABLE_TO_GET_CRL as NO_LIST, X509_V_OK as OK,
        };
        for (first, last, counts) in [
            (OK, EXPIRED, EXPIRED),
            (OK, REVOKED, REVOKED),
            (EXPIRED, REVOKED, REVOKED),
            (REVOKED, EXPIRED, REVOKED),
            (REVOKED, NO_LIST, REVOKED),
            (NO_LIST, REVOKED, REVOKED),
            (NO_LIST, EXPIRED, NO_LIST),
            (EXPIRED, NO_LIST, NO_LIST),
        ] {
            assert_eq!(weightier(first, last), counts, "{first} {last}");
        }
    }

    #[test]
    fn errors_of_revocation() {
        for error in [3, 8, 11, 12, 23, 33, 44, 54, 73, 74, 75] {
            assert!(is_of_revocation(error), "{error}");
        }
        for error in [0, 2, 10, 18, 19, 20, 21, 22, 26, 62] {
            assert!(!is_of_revocation(error), "{error}");
        }
    }
}
