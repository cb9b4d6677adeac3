// SPDX-License-Identifier: Apache-2.0

//! Verification of certificate chains outside of handshakes.

use std::ffi::c_int;

use openssl::error::ErrorStack;
use openssl::stack::{Stack, StackRef};
use openssl::x509::store::X509StoreRef;
use openssl::x509::verify::X509VerifyParamRef;
use openssl::x509::{X509, X509Ref, X509StoreContext, X509StoreContextRef, X509VerifyResult};

use crate::openssl::error::SslError;
use crate::openssl::ssl::reason;
use crate::openssl::store::{self, Lists};
use crate::openssl::{certificate, folder, revocation, sys};

/// The purpose that a certificate must allow (RFC 5280, section 4.2.1.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    ClientAuth,
    ServerAuth,
    Any,
}

impl Purpose {
    /// Returns the purpose with this name: that of an extended key usage, or OpenSSL's.
    pub fn by_name(name: &[u8]) -> Option<Self> {
        match name {
            b"clientAuth" | b"sslclient" => Some(Self::ClientAuth),
            b"serverAuth" | b"sslserver" => Some(Self::ServerAuth),
            b"any" => Some(Self::Any),
            _ => None,
        }
    }

    /// Returns the `X509_PURPOSE_*` number.
    fn number(self) -> c_int {
        match self {
            Self::ClientAuth => 1,
            Self::ServerAuth => 2,
            Self::Any => openssl_sys::X509_PURPOSE_ANY,
        }
    }

    /// Returns the `X509_TRUST_*` number: what a certificate in the store must be trusted for if it
    /// has trust settings (`openssl x509 -addtrust`, `-addreject`).
    fn trust(self) -> Option<c_int> {
        match self {
            Self::ClientAuth => Some(2),
            Self::ServerAuth => Some(3),
            Self::Any => None,
        }
    }
}

/// The parameters of a verification.
#[derive(Clone, Copy, Default)]
pub struct Terms {
    pub purpose: Option<Purpose>,
    /// The most intermediates allowed.
    pub depth: Option<u32>,
    /// The time to verify for instead of now, in seconds since the epoch.
    pub at: Option<i64>,
}

/// Why a chain was rejected.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The certificate that was rejected, counted from 1, with its subject.
    #[error("{reason} (certificate {number}: {subject}){}", unreadable.as_ref().map(|words| format!("; {words}")).unwrap_or_default())]
    Rejected {
        reason: &'static str,
        number: usize,
        subject: String,
        /// Why something that may have been needed could not be read.
        unreadable: Option<String>,
    },
    #[error(transparent)]
    Ssl(#[from] SslError),
}

/// OpenSSL's security level: at least 112 bits of security for keys and digests. Debian uses this
/// level for TLS, and OpenSSL since 3.2.
const SECURITY_LEVEL: c_int = 2;

/// Returns the parameters of a context, which has them once it is initialised.
pub fn parameters(context: &X509StoreContextRef) -> Result<&X509VerifyParamRef, SslError> {
    sys::X509_STORE_CTX_get0_param(context)
        .ok_or_else(|| SslError::take("X509_STORE_CTX_get0_param"))
}

fn set(context: &mut X509StoreContextRef, terms: Terms) -> Result<(), SslError> {
    let Terms { purpose, depth, at } = terms;
    sys::X509_STORE_CTX_set_verify_cb(context, revocation::judge_each);
    let parameters = parameters(context)?;
    sys::X509_VERIFY_PARAM_set_auth_level(parameters, SECURITY_LEVEL);
    if let Some(purpose) = purpose {
        let set = sys::X509_VERIFY_PARAM_set_purpose(parameters, purpose.number());
        SslError::check("X509_VERIFY_PARAM_set_purpose", set)?;
        if let Some(trust) = purpose.trust() {
            let set = sys::X509_VERIFY_PARAM_set_trust(parameters, trust);
            SslError::check("X509_VERIFY_PARAM_set_trust", set)?;
        }
    }
    if let Some(depth) = depth {
        let depth = c_int::try_from(depth).unwrap_or(c_int::MAX);
        sys::X509_VERIFY_PARAM_set_depth(parameters, depth);
    }
    if let Some(at) = at {
        sys::X509_VERIFY_PARAM_set_time(parameters, at);
    }
    Ok(())
}

/// Verifies `leaf` against `store`, with the intermediates in `chain`, which may also contain the
/// leaf. Returns the chain that was verified, from the leaf to what is trusted, and the first date
/// after `now` at which the result may change, in seconds since the epoch; `None` if there is none.
pub fn verify(
    store: &X509StoreRef,
    leaf: &X509Ref,
    chain: &StackRef<X509>,
    terms: Terms,
    now: i64,
) -> (Result<Stack<X509>, Failure>, Option<i64>) {
    // Until the dates are known, the result may change at once.
    let mut next = Some(now);
    let mut judge = || {
        let error = |errors: ErrorStack| SslError::new("X509_STORE_CTX_init", errors);
        let mut context = X509StoreContext::new().map_err(error)?;
        context
            .init(store, leaf, chain, |context| {
                if let Err(error) = set(context, terms) {
                    return Ok(Err(error.into()));
                }
                let is_good = context.verify_cert()?;
                if let Ok(dates) = dates(store, context) {
                    next = dates.into_iter().filter(|date| *date > now).min();
                }
                let result = context.error();
                if is_good && result == X509VerifyResult::OK {
                    let verified = context.chain().into_iter().flatten().map(X509Ref::to_owned);
                    return Ok(certificate::chain(verified).map_err(Failure::from));
                }
                let number = context.error_depth() as usize + 1;
                let current = context.current_cert();
                let subject = current.map(certificate::subject);
                let subject = subject.and_then(Result::ok).unwrap_or_default();
                let unreadable = current
                    .filter(|_| is_of_what_is_missing(result))
                    .and_then(|current| folder::problem(store, current.issuer_name()));
                Ok(Err(Failure::Rejected { reason: reason(result), number, subject, unreadable }))
            })
            .map_err(error)?
    };
    let verdict = judge();
    // nginx would report errors left in the queue as errors of a later call.
    drop(ErrorStack::get());
    (verdict, next)
}

/// Returns whether an error means that a certificate or list was not found.
fn is_of_what_is_missing(result: X509VerifyResult) -> bool {
    matches!(
        result.as_raw(),
        openssl_sys::X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT
            | openssl_sys::X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY
            | openssl_sys::X509_V_ERR_UNABLE_TO_GET_CRL
    )
}

/// Verifies the peer of a running `verification` by `store` and nothing else, with the parameters
/// that `verification` has, but for the most intermediates allowed, which `depth` replaces.
pub fn verify_by(
    verification: &X509StoreContextRef,
    store: &X509StoreRef,
    depth: u32,
) -> X509VerifyResult {
    let result = verify_again(verification, store, |context| {
        let (Ok(own), Ok(given)) = (parameters(context), parameters(verification)) else {
            return false;
        };
        let is_set = sys::X509_VERIFY_PARAM_set1(own, given) == 1;
        let depth = c_int::try_from(depth).unwrap_or(c_int::MAX);
        sys::X509_VERIFY_PARAM_set_depth(own, depth);
        is_set
    });
    // nginx would report errors left in the queue as errors of a later call.
    drop(ErrorStack::get());
    result
}

/// Checks the chain of a successful `verification` against the revocation lists of `base` as well.
pub fn check_lists(verification: &X509StoreContextRef, base: &X509StoreRef) -> X509VerifyResult {
    // SAFETY: the verification is running, and its store outlives it.
    let store = unsafe { sys::X509_STORE_CTX_get0_store(verification) };
    let (Some(store), Ok(lists)) = (store, Lists::of(base)) else {
        return X509VerifyResult::APPLICATION_VERIFICATION;
    };
    verify_again(verification, store, |context| {
        sys::X509_STORE_CTX_set_verify_cb(context, revocation::judge_each_by_date);
        // SAFETY: the lists outlive the verification, which ends within this function.
        unsafe { sys::X509_STORE_CTX_set0_crls(context, lists.as_ptr().cast()) };
        let flags = store::revocation_flags(base).bits();
        parameters(context)
            .is_ok_and(|parameters| sys::X509_VERIFY_PARAM_set_flags(parameters, flags) == 1)
    })
}

/// Verifies the peer of a running `verification` once more, by `store`, in a context of its own that
/// `prepare` completes. If that can't be done, the result is a failure.
fn verify_again(
    verification: &X509StoreContextRef,
    store: &X509StoreRef,
    prepare: impl FnOnce(&mut X509StoreContextRef) -> bool,
) -> X509VerifyResult {
    // SAFETY: the verification is running, and its leaf outlives it.
    let leaf = unsafe { sys::X509_STORE_CTX_get0_cert(verification) };
    // SAFETY: the verification is running, and its chain outlives it.
    let chain = unsafe { sys::X509_STORE_CTX_get0_untrusted(verification) };
    let judge = || {
        let mut context = X509StoreContext::new().ok()?;
        let result = context.init(store, leaf?, chain?, |context| {
            sys::X509_STORE_CTX_set_verify_cb(context, revocation::judge_each);
            let is_good = prepare(context) && context.verify_cert()?;
            Ok(match context.error() {
                X509VerifyResult::OK if !is_good => X509VerifyResult::APPLICATION_VERIFICATION,
                result => result,
            })
        });
        result.ok()
    };
    judge().unwrap_or(X509VerifyResult::APPLICATION_VERIFICATION)
}

/// Returns the dates at which the certificates of the verified chain, including its root, and the
/// revocation lists of the store begin and end to be valid.
fn dates(store: &X509StoreRef, context: &X509StoreContextRef) -> Result<Vec<i64>, SslError> {
    let mut dates = Vec::new();
    for one in context.chain().into_iter().flatten() {
        dates.push(certificate::not_before(one)?);
        dates.push(certificate::not_after(one)?);
    }
    if !store::revocation_flags(store).is_empty() {
        for list in store::revocation_lists(store) {
            dates.push(certificate::seconds(list.last_update())?);
            if let Some(end) = list.next_update() {
                dates.push(certificate::seconds(end)?);
            }
        }
    }
    Ok(dates)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openssl::store::Sources;
    use crate::openssl::test_certificate::{Authority, Leaf};

    #[test]
    fn a_chain_that_leads_to_the_store_is_good() {
        let root = Authority::root("root");
        let below = root.authority("below");
        let leaf = below.leaf(Leaf { name: "leaf", not_after: 1 << 31, usage: Some("clientAuth") });
        let store =
            store::build(&Sources { pem: Some(&root.pem()), ..Sources::default() }).unwrap();
        let mut chain = Stack::new().unwrap();
        chain.push(below.certificate.clone()).unwrap();
        let nothing = Stack::new().unwrap();

        let said = |chain: &StackRef<X509>, terms| match verify(&store, &leaf, chain, terms, 0).0 {
            Ok(verified) => {
                let subjects = verified.iter().map(|one| certificate::subject(one).unwrap());
                assert!(subjects.eq(["CN=leaf", "CN=below", "CN=root"]));
                "good".to_owned()
            }
            Err(failure) => failure.to_string(),
        };
        let purpose = |purpose| Terms { purpose: Some(purpose), ..Terms::default() };
        assert_eq!(said(&chain, Terms::default()), "good");
        assert_eq!(said(&chain, purpose(Purpose::ClientAuth)), "good");
        assert_eq!(said(&chain, purpose(Purpose::Any)), "good");
        let server = said(&chain, purpose(Purpose::ServerAuth));
        assert!(server.contains("(certificate 1: CN=leaf)"), "{server}");
        assert_eq!(
            said(&nothing, Terms::default()),
            "unable to get local issuer certificate (certificate 1: CN=leaf)"
        );
        assert_eq!(said(&chain, Terms { depth: Some(1), ..Terms::default() }), "good");
        let deep = said(&chain, Terms { depth: Some(0), ..Terms::default() });
        assert!(deep.contains("chain too long"), "{deep}");
        assert_eq!(
            said(&chain, Terms { at: Some(1 << 32), ..Terms::default() }),
            "certificate has expired (certificate 1: CN=leaf)"
        );
        assert!(ErrorStack::get().errors().is_empty());
    }

    #[test]
    fn a_verdict_holds_until_the_next_date() {
        let root = Authority::root("root");
        let leaf = root.leaf(Leaf { name: "leaf", not_after: 1 << 31, usage: None });
        let pem = root.pem();
        let store = store::build(&Sources { pem: Some(&pem), ..Sources::default() }).unwrap();
        let nothing = Stack::new().unwrap();
        let dates = [
            certificate::not_before(&leaf).unwrap(),
            certificate::not_after(&leaf).unwrap(),
            certificate::not_before(&root.certificate).unwrap(),
            certificate::not_after(&root.certificate).unwrap(),
        ];
        let until = |now| verify(&store, &leaf, &nothing, Terms::default(), now);
        for now in [0, 1 << 30, dates[1] - 1, dates[1], dates[3] - 1, dates[3]] {
            let expected = dates.into_iter().filter(|date| *date > now).min();
            let (result, next) = until(now);
            assert!(result.is_ok());
            assert_eq!(next, expected, "{now}");
        }
        // The date is also returned for a rejected chain.
        let terms = Terms { at: Some(1 << 32), ..Terms::default() };
        let (result, next) = verify(&store, &leaf, &nothing, terms, 1 << 30);
        assert!(result.is_err());
        assert_eq!(next, dates.into_iter().filter(|date| *date > 1 << 30).min());
    }

    #[test]
    fn purposes_have_names() {
        assert_eq!(Purpose::by_name(b"clientAuth"), Some(Purpose::ClientAuth));
        assert_eq!(Purpose::by_name(b"sslserver"), Some(Purpose::ServerAuth));
        assert_eq!(Purpose::by_name(b"client"), None);
    }
}
