// SPDX-License-Identifier: Apache-2.0

//! Asks whether a certificate is revoked (OCSP, RFC 6960): makes requests, and checks answers.

use std::ffi::c_int;
use std::ptr;

use foreign_types::ForeignTypeRef;
use openssl::asn1::{Asn1GeneralizedTimeRef, Asn1TimeRef};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::ocsp::{
    OcspBasicResponseRef, OcspCertId, OcspCertStatus, OcspFlag, OcspRequest, OcspRequestRef,
    OcspResponse, OcspResponseStatus,
};
use openssl::stack::Stack;
use openssl::x509::{AccessDescription, X509, X509Ref};

use crate::openssl::error::SslError;
use crate::openssl::issuer::{self, NotNow, Period, Status, WeakSignature};
use crate::openssl::{certificate, sys};

/// The length of a nonce in bytes (RFC 9654, section 2.1).
const NONCE: c_int = 32;

/// What an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: Status,
    pub period: Period,
}

/// Why an answer does not count.
#[derive(Debug, thiserror::Error)]
pub enum InvalidAnswer {
    #[error("it is no OCSP response: {0}")]
    Malformed(SslError),
    #[error("other bytes follow it")]
    Trailing,
    #[error("the responder says {0}")]
    NotSuccessful(&'static str),
    #[error("its nonce is not that of the request")]
    Nonce,
    #[error("it has a critical extension that is not known")]
    CriticalExtension,
    #[error(transparent)]
    Weak(#[from] WeakSignature),
    #[error(
        "it is signed neither by the certificate's issuer nor by a responder that the issuer has \
         authorised: {0}"
    )]
    Signature(SslError),
    #[error("it is about another certificate")]
    OtherCertificate,
    #[error(transparent)]
    NotNow(#[from] NotNow),
    #[error(transparent)]
    Ssl(#[from] SslError),
}

/// Returns the URLs of the responders that a certificate names (RFC 5280, section 4.2.2.1).
pub fn urls(certificate: &X509Ref) -> Result<Vec<String>, SslError> {
    let info_access = openssl_sys::NID_info_access;
    // SAFETY: this extension is a stack of access descriptions.
    let places: Option<Stack<AccessDescription>> =
        unsafe { certificate::extension(certificate, info_access) }?;
    let of_ocsp = places.iter().flatten().filter(|place| place.method().nid() == Nid::AD_OCSP);
    Ok(of_ocsp.filter_map(|place| place.location().uri()).map(str::to_owned).collect())
}

/// Returns a request, in DER, about a certificate that `issuer` has issued.
pub fn request(certificate: &X509Ref, issuer: &X509Ref) -> Result<Vec<u8>, SslError> {
    let failed = |function| move |errors| SslError::new(function, errors);
    let mut request = OcspRequest::new().map_err(failed("OCSP_REQUEST_new"))?;
    request.add_id(id(certificate, issuer)?).map_err(failed("OCSP_request_add0_id"))?;
    // SAFETY: the request is valid. Without a value, OpenSSL makes a random one of that length.
    let added = unsafe { sys::OCSP_request_add1_nonce(&request, ptr::null_mut(), NONCE) };
    SslError::check("OCSP_request_add1_nonce", added)?;
    request.to_der().map_err(failed("i2d_OCSP_REQUEST"))
}

/// Returns what identifies a certificate. The digest is the one that every responder knows, and
/// that answers made in advance have (RFC 5019, section 2.1.1); it protects nothing.
fn id(certificate: &X509Ref, issuer: &X509Ref) -> Result<OcspCertId, SslError> {
    OcspCertId::from_cert(MessageDigest::sha1(), certificate, issuer)
        .map_err(|errors| SslError::new("OCSP_cert_to_id", errors))
}

/// Checks an answer to `request`, which is about a certificate that `issuer` has issued.
pub fn check(
    request: &[u8],
    answer: &[u8],
    certificate: &X509Ref,
    issuer: &X509Ref,
    now: i64,
) -> Result<Answer, InvalidAnswer> {
    let checked = checked(request, answer, certificate, issuer, now);
    // nginx would report errors left in the queue as errors of a later call.
    drop(ErrorStack::get());
    checked
}

fn checked(
    request: &[u8],
    answer: &[u8],
    certificate: &X509Ref,
    issuer: &X509Ref,
    now: i64,
) -> Result<Answer, InvalidAnswer> {
    let failed = |function| move |errors| SslError::new(function, errors);
    let request = OcspRequest::from_der(request).map_err(failed("d2i_OCSP_REQUEST"))?;
    let malformed =
        |function| move |errors| InvalidAnswer::Malformed(SslError::new(function, errors));
    let response = OcspResponse::from_der(answer).map_err(malformed("d2i_OCSP_RESPONSE"))?;
    if response.to_der().map_err(failed("i2d_OCSP_RESPONSE"))?.len() != answer.len() {
        return Err(InvalidAnswer::Trailing);
    }
    if response.status() != OcspResponseStatus::SUCCESSFUL {
        return Err(InvalidAnswer::NotSuccessful(name(response.status())));
    }
    let basic = response.basic().map_err(malformed("OCSP_response_get1_basic"))?;
    check_extensions(&request, &basic)?;
    check_signature(&basic, issuer, now)?;

    let id = id(certificate, issuer)?;
    let found = basic.find_status(&id).ok_or(InvalidAnswer::OtherCertificate)?;
    let since = seconds(found.this_update)?;
    let until = found.next_update().map(seconds).transpose()?;
    let status = match found.status {
        OcspCertStatus::GOOD => Status::Good,
        OcspCertStatus::REVOKED => Status::Revoked,
        _ => Status::Unknown,
    };
    // An answer without an end may be as old as its sender likes, unless it has the nonce.
    if until.is_none() && nonce(&request, &basic) != Nonce::Same {
        Period::of(since, Some(since.saturating_add(issuer::BRIEF + issuer::SKEW)), now)?;
    }
    Ok(Answer { status, period: Period::of(since, until, now)? })
}

/// Returns the name of a status in RFC 6960, section 4.2.1.
fn name(status: OcspResponseStatus) -> &'static str {
    match status {
        OcspResponseStatus::MALFORMED_REQUEST => "malformedRequest",
        OcspResponseStatus::INTERNAL_ERROR => "internalError",
        OcspResponseStatus::TRY_LATER => "tryLater",
        OcspResponseStatus::SIG_REQUIRED => "sigRequired",
        OcspResponseStatus::UNAUTHORIZED => "unauthorized: it does not answer for this certificate",
        _ => "something unknown",
    }
}

/// How the nonce of an answer compares.
#[derive(PartialEq, Eq)]
enum Nonce {
    Same,
    /// The answer has none: it may be made in advance.
    None,
    Other,
}

fn nonce(request: &OcspRequestRef, basic: &OcspBasicResponseRef) -> Nonce {
    match sys::OCSP_check_nonce(request, basic) {
        1 => Nonce::Same,
        -1 => Nonce::None,
        _ => Nonce::Other,
    }
}

/// Checks the nonce, and that no other extension says that it must be understood.
fn check_extensions(
    request: &OcspRequestRef,
    basic: &OcspBasicResponseRef,
) -> Result<(), InvalidAnswer> {
    if nonce(request, basic) == Nonce::Other {
        return Err(InvalidAnswer::Nonce);
    }
    let of_nonce =
        sys::OCSP_BASICRESP_get_ext_by_NID(basic, openssl_sys::NID_id_pkix_OCSP_Nonce, -1);
    let mut place = -1;
    loop {
        place = sys::OCSP_BASICRESP_get_ext_by_critical(basic, 1, place);
        match place {
            ..0 => return Ok(()),
            place if place == of_nonce => {}
            _ => return Err(InvalidAnswer::CriticalExtension),
        }
    }
}

/// Checks that the issuer has signed an answer, or a responder whose certificate it has issued for
/// that purpose (RFC 6960, section 4.2.2.2).
///
/// The store has nothing but the issuer, so nobody else can sign. OpenSSL looks for the signer in
/// the given certificates and in those of the answer, and verifies it by the store, for OCSP. The
/// flag forbids that a root signs for other authorities, and all other flags would leave out checks.
fn check_signature(
    basic: &OcspBasicResponseRef,
    issuer: &X509Ref,
    now: i64,
) -> Result<(), InvalidAnswer> {
    if let Some(algorithm) = sys::OCSP_resp_get0_tbs_sigalg(basic) {
        issuer::check_signature(algorithm.object().nid())?;
    }
    let store = issuer::store(issuer, now)?;
    let signers: Stack<X509> = certificate::chain([issuer::plain(issuer)?])?;
    basic
        .verify(&signers, &store, OcspFlag::NO_EXPLICIT)
        .map_err(|errors| InvalidAnswer::Signature(SslError::new("OCSP_basic_verify", errors)))
}

fn seconds(time: &Asn1GeneralizedTimeRef) -> Result<i64, SslError> {
    // SAFETY: both types are `ASN1_STRING`, which has its type in it, and `ASN1_TIME_diff(3)` takes
    // a GeneralizedTime too.
    certificate::seconds(unsafe { Asn1TimeRef::from_ptr(time.as_ptr().cast()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openssl::pem;

    const ANSWER: &[u8] = include_bytes!("../../fuzz/seeds/revocation/ocsp");
    const WITH_NONCE: &[u8] = include_bytes!("../../fuzz/seeds/revocation/ocsp-nonce");
    const UNAUTHORIZED: &[u8] = include_bytes!("../../fuzz/seeds/revocation/unauthorized");
    const NOW: i64 = 1_800_000_000;

    fn certificates() -> [X509; 2] {
        let chain = pem::certificates(include_bytes!("../../fuzz/revocation.pem")).unwrap();
        chain.try_into().unwrap()
    }

    fn said(answer: &[u8], now: i64) -> String {
        let [certificate, issuer] = certificates();
        let request = request(&certificate, &issuer).unwrap();
        match check(&request, answer, &certificate, &issuer, now) {
            Ok(answer) => answer.status.name().to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn an_answer_counts_in_its_time() {
        assert_eq!(said(ANSWER, NOW), "good");
        assert_eq!(said(ANSWER, NOW * 2), "it has expired");
        let early = said(ANSWER, 1_700_000_000);
        // The signer's own certificate is not valid yet either.
        assert!(early.contains("it is signed neither"), "{early}");
        assert!(ErrorStack::get().errors().is_empty());
    }

    #[test]
    fn each_byte_counts() {
        for place in 0..ANSWER.len() {
            let mut forged = ANSWER.to_vec();
            forged[place] ^= 1;
            // The certificate in the answer is not signed: nobody needs it, as the issuer is known.
            if said(&forged, NOW) == "good" {
                let [_, issuer] = certificates();
                let certificate = issuer.to_der().unwrap();
                let begin = ANSWER.len() - certificate.len() - 4;
                assert!(place >= begin, "{place} of {}", ANSWER.len());
            }
        }
        assert!(ErrorStack::get().errors().is_empty());
    }

    #[test]
    fn answers_that_do_not_count() {
        assert_eq!(said(WITH_NONCE, NOW), "its nonce is not that of the request");
        assert!(said(UNAUTHORIZED, NOW).starts_with("the responder says unauthorized"));
        assert_eq!(said(&[ANSWER, b"x"].concat(), NOW), "other bytes follow it");
        for malformed in [&b""[..], b"x", &ANSWER[..ANSWER.len() - 1]] {
            assert!(said(malformed, NOW).starts_with("it is no OCSP response"));
        }
        // About the issuer itself.
        let [certificate, issuer] = certificates();
        let request = request(&issuer, &issuer).unwrap();
        let error = check(&request, ANSWER, &issuer, &issuer, NOW).unwrap_err();
        assert!(matches!(error, InvalidAnswer::OtherCertificate), "{error}");
        // Of another authority.
        let other = certificate;
        let error = check(&request, ANSWER, &issuer, &other, NOW).unwrap_err();
        assert!(matches!(error, InvalidAnswer::Signature(_)), "{error}");
    }

    #[test]
    fn a_certificate_names_its_responders() {
        let [certificate, issuer] = certificates();
        assert_eq!(urls(&certificate).unwrap(), ["http://a.test/"]);
        assert!(urls(&issuer).unwrap().is_empty());
    }

    #[test]
    fn each_request_has_another_nonce() {
        let [certificate, issuer] = certificates();
        let made = || request(&certificate, &issuer).unwrap();
        assert_ne!(made(), made());
    }
}
