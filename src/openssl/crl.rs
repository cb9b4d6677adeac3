// SPDX-License-Identifier: Apache-2.0

//! Revocation lists of a certificate's distribution points (RFC 5280, sections 4.2.1.13 and 5).

use std::cmp::Ordering;

use foreign_types::ForeignTypeRef;
use openssl::asn1::{Asn1IntegerRef, Asn1StringRef};
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::stack::Stack;
use openssl::x509::{
    DistPoint, X509Crl, X509CrlRef, X509Ref, X509RevokedRef, X509StoreContext, X509VerifyResult,
};

use crate::openssl::error::SslError;
use crate::openssl::fingerprint::Fingerprint;
use crate::openssl::issuer::{self, NotNow, Period, Status, WeakSignature};
use crate::openssl::pem::{self, InvalidPem};
use crate::openssl::ssl::reason;
use crate::openssl::store::Lists;
use crate::openssl::verification::parameters;
use crate::openssl::{certificate, sys};

/// Why a list does not count.
#[derive(Debug, thiserror::Error)]
pub enum InvalidList {
    #[error("it is no revocation list: {0}")]
    Malformed(SslError),
    #[error(transparent)]
    Pem(#[from] InvalidPem),
    #[error("there are several lists")]
    Several,
    #[error("other bytes follow it")]
    Trailing,
    #[error("it only has the changes to another one (a delta CRL)")]
    Delta,
    /// Anybody could send it again for ever.
    #[error("it does not say until when it is valid (nextUpdate)")]
    Endless,
    #[error(transparent)]
    Weak(#[from] WeakSignature),
    #[error("{0}")]
    Rejected(&'static str),
    #[error(transparent)]
    NotNow(#[from] NotNow),
    #[error(transparent)]
    Ssl(#[from] SslError),
}

/// Returns the URLs that a certificate names for lists.
pub fn urls(certificate: &X509Ref) -> Result<Vec<String>, SslError> {
    let points = openssl_sys::NID_crl_distribution_points;
    // SAFETY: this extension is a stack of distribution points.
    let points: Option<Stack<DistPoint>> = unsafe { certificate::extension(certificate, points) }?;
    let mut urls = Vec::new();
    for point in points.iter().flatten() {
        let names = point.distpoint().and_then(|point| point.fullname());
        urls.extend(names.into_iter().flatten().filter_map(|name| name.uri()).map(str::to_owned));
    }
    Ok(urls)
}

/// Returns a digest of all that decides whether a list of `issuer` is for a certificate: lists that
/// were checked for one certificate count for each with the same digest.
pub fn scope(certificate: &X509Ref, issuer: &X509Ref) -> Result<Fingerprint, SslError> {
    /// `EXFLAG_CA` of `X509_get_extension_flags(3)`.
    const AUTHORITY: u32 = 0x10;

    let issuer = issuer.to_der().map_err(|errors| SslError::new("i2d_X509", errors))?;
    let is_authority = sys::X509_get_extension_flags(certificate) & AUTHORITY != 0;
    let points = openssl_sys::NID_crl_distribution_points;
    let place = sys::X509_get_ext_by_NID(certificate, points, -1);
    let points = sys::X509_get_ext(certificate, place);
    let points = points.and_then(|points| sys::X509_EXTENSION_get_data(points));
    let points = points.map_or(&b""[..], |points| points.as_slice());
    Ok(Fingerprint::of([&*issuer, points, &[is_authority.into(), (place >= 0).into()]]))
}

/// Parses a list in DER or PEM.
pub fn parse(bytes: &[u8]) -> Result<X509Crl, InvalidList> {
    let parsed = parsed(bytes);
    drop(ErrorStack::get());
    parsed
}

fn parsed(bytes: &[u8]) -> Result<X509Crl, InvalidList> {
    /// The tag of a SEQUENCE, with which DER begins.
    const SEQUENCE: u8 = 0x30;

    if bytes.first() != Some(&SEQUENCE) {
        let mut lists = pem::revocation_lists(bytes)?;
        let list = lists.pop().ok_or(InvalidList::Several)?;
        return if lists.is_empty() { Ok(list) } else { Err(InvalidList::Several) };
    }
    let list = X509Crl::from_der(bytes)
        .map_err(|errors| InvalidList::Malformed(SslError::new("d2i_X509_CRL", errors)))?;
    if der(&list)?.len() != bytes.len() {
        return Err(InvalidList::Trailing);
    }
    Ok(list)
}

/// Returns a list in DER.
fn der(list: &X509CrlRef) -> Result<Vec<u8>, SslError> {
    list.to_der().map_err(|errors| SslError::new("i2d_X509_CRL", errors))
}

/// Checks that `list` is a complete list of `issuer`, for certificates like this one of that issuer,
/// and valid now. Returns for how long.
pub fn check(
    list: &X509CrlRef,
    certificate: &X509Ref,
    issuer: &X509Ref,
    now: i64,
) -> Result<Period, InvalidList> {
    let checked = checked(list, certificate, issuer, now);
    // nginx would report errors left in the queue as errors of a later call.
    drop(ErrorStack::get());
    checked
}

fn checked(
    list: &X509CrlRef,
    certificate: &X509Ref,
    issuer: &X509Ref,
    now: i64,
) -> Result<Period, InvalidList> {
    // OpenSSL takes these for complete lists, unless it is told to use them as what they are.
    if sys::X509_CRL_get_ext_by_NID(list, openssl_sys::NID_delta_crl, -1) >= 0 {
        return Err(InvalidList::Delta);
    }
    issuer::check_signature(Nid::from_raw(sys::X509_CRL_get_signature_nid(list)))?;
    let since = certificate::seconds(list.last_update())?;
    let until = certificate::seconds(list.next_update().ok_or(InvalidList::Endless)?)?;
    let period = Period::of(since, Some(until), now)?;

    let result = verify(list, certificate, issuer, now)?;
    match result.as_raw() {
        // OpenSSL looks for the certificate only in a list that it has accepted.
        openssl_sys::X509_V_OK | openssl_sys::X509_V_ERR_CERT_REVOKED => Ok(period),
        openssl_sys::X509_V_ERR_UNABLE_TO_GET_CRL => {
            Err(InvalidList::Rejected("it is not a complete list of the certificate's issuer"))
        }
        _ => Err(InvalidList::Rejected(reason(result))),
    }
}

/// Has OpenSSL verify the certificate by its issuer and the list.
fn verify(
    list: &X509CrlRef,
    certificate: &X509Ref,
    issuer: &X509Ref,
    now: i64,
) -> Result<X509VerifyResult, SslError> {
    let failed = |function| move |errors| SslError::new(function, errors);
    // A list that begins within the next seconds counts: see `Period::of`.
    let store = issuer::store(issuer, now.max(certificate::seconds(list.last_update())?))?;
    let lists = Lists::new([list])?;
    let none = certificate::chain([])?;
    let mut context = X509StoreContext::new().map_err(failed("X509_STORE_CTX_new"))?;
    context
        .init(&store, certificate, &none, |context| {
            // SAFETY: the lists outlive the verification, which ends within this function.
            unsafe { sys::X509_STORE_CTX_set0_crls(context, lists.as_ptr().cast()) };
            let flags = openssl_sys::X509_V_FLAG_CRL_CHECK;
            let is_set = parameters(context)
                .is_ok_and(|parameters| sys::X509_VERIFY_PARAM_set_flags(parameters, flags) == 1);
            let is_good = is_set && context.verify_cert()?;
            Ok(match context.error() {
                X509VerifyResult::OK if !is_good => X509VerifyResult::APPLICATION_VERIFICATION,
                result => result,
            })
        })
        .map_err(failed("X509_STORE_CTX_init"))
}

/// The length of a serial number in a [`digest`]: its sign and kind, and its bytes, aligned to the
/// right.
const SERIAL: usize = 1 + LONGEST;
/// The most bytes of a serial number (RFC 5280, section 4.1.2.2). Of a longer one, it is a hash.
const LONGEST: usize = 20;

/// Returns what a list says in a form that needs no parsing: the serial numbers of the certificates
/// that it revokes, sorted. OpenSSL's own form takes ten times the memory, and a long time to make.
pub fn digest(list: &X509CrlRef) -> Vec<u8> {
    let revoked = list.get_revoked().into_iter().flatten();
    let mut serials: Vec<_> = revoked
        .filter(|revoked| !is_removed(revoked))
        .map(|revoked| serial(revoked.serial_number()))
        .collect();
    serials.sort_unstable();
    serials.concat()
}

/// Returns whether an entry takes a certificate off the list: its reason is removeFromCRL.
fn is_removed(revoked: &X509RevokedRef) -> bool {
    /// An ENUMERATED with the value 8, in DER.
    const REMOVE: &[u8] = &[0x0a, 1, 8];

    let place = sys::X509_REVOKED_get_ext_by_NID(revoked, openssl_sys::NID_crl_reason, -1);
    let reason = sys::X509_REVOKED_get_ext(revoked, place);
    let reason = reason.and_then(|reason| sys::X509_EXTENSION_get_data(reason));
    reason.is_some_and(|reason| reason.as_slice() == REMOVE)
}

fn serial(number: &Asn1IntegerRef) -> [u8; SERIAL] {
    // SAFETY: a number is an `ASN1_STRING`, which has its type in it.
    let bytes = unsafe { Asn1StringRef::from_ptr(number.as_ptr().cast()) };
    let is_negative = sys::ASN1_STRING_type(bytes) != openssl_sys::V_ASN1_INTEGER;
    let bytes = bytes.as_slice();
    let mut serial = [0; SERIAL];
    let is_long = bytes.len() > LONGEST;
    let hash = is_long.then(|| Fingerprint::of([bytes]).digest());
    let bytes = hash.as_ref().map_or(bytes, |hash| &hash[..LONGEST]);
    serial[0] = u8::from(is_negative) | u8::from(is_long) << 1;
    serial[SERIAL - bytes.len()..].copy_from_slice(bytes);
    serial
}

/// Returns whether a list that was checked revokes a certificate, by the list's [`digest`].
pub fn status(digest: &[u8], certificate: &X509Ref) -> Status {
    let wanted = serial(certificate.serial_number());
    let number = |place: usize| &digest[place * SERIAL..][..SERIAL];
    let (mut from, mut until) = (0, digest.len() / SERIAL);
    while from < until {
        let middle = (from + until) / 2;
        match number(middle).cmp(&wanted) {
            Ordering::Less => from = middle + 1,
            Ordering::Greater => until = middle,
            Ordering::Equal => return Status::Revoked,
        }
    }
    Status::Good
}

#[cfg(test)]
mod tests {
    use openssl::bn::BigNum;
    use openssl::x509::X509;

    use super::*;

    const LIST: &[u8] = include_bytes!("../../fuzz/seeds/revocation/crl");
    const PEM: &[u8] = include_bytes!("../../fuzz/seeds/revocation/crl-pem");
    const NOW: i64 = 1_800_000_000;

    fn certificates() -> [X509; 2] {
        let chain = pem::certificates(include_bytes!("../../fuzz/revocation.pem")).unwrap();
        chain.try_into().unwrap()
    }

    fn said(list: &[u8], now: i64) -> String {
        let [certificate, issuer] = certificates();
        let status = parse(list).and_then(|list| {
            check(&list, &certificate, &issuer, now)?;
            Ok(status(&digest(&list), &certificate))
        });
        status.map_or_else(|error| error.to_string(), |status| status.name().to_owned())
    }

    #[test]
    fn a_list_counts_in_its_time() {
        assert_eq!(said(LIST, NOW), "good");
        assert_eq!(said(PEM, NOW), "good");
        assert_eq!(said(LIST, NOW * 3), "it has expired");
        assert_eq!(said(LIST, 1_700_000_000), "it is not valid yet: is the clock right?");
        assert!(ErrorStack::get().errors().is_empty());
    }

    #[test]
    fn each_byte_counts() {
        for place in 0..LIST.len() {
            let mut forged = LIST.to_vec();
            forged[place] ^= 1;
            assert_ne!(said(&forged, NOW), "good", "{place}");
        }
        assert!(ErrorStack::get().errors().is_empty());
    }

    #[test]
    fn texts_that_are_no_list() {
        assert_eq!(said(&[LIST, b"x"].concat(), NOW), "other bytes follow it");
        assert_eq!(said(&[PEM, PEM].concat(), NOW), "there are several lists");
        assert_eq!(said(b"", NOW), "no revocation list in PEM format found");
        assert!(said(&LIST[..LIST.len() - 1], NOW).starts_with("it is no revocation list"));
    }

    #[test]
    fn serial_numbers_are_found() {
        let number = |text: &str| BigNum::from_hex_str(text).unwrap().to_asn1_integer().unwrap();
        let certificate = |text: &str| {
            let mut builder = X509::builder().unwrap();
            builder.set_serial_number(&number(text)).unwrap();
            builder.build()
        };
        let long = "1".repeat(60);
        let all = [
            "0",
            "1",
            "-1",
            "7f",
            "80",
            "ff",
            "-ff",
            "100",
            "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF",
            &long,
        ];
        for count in 0..=all.len() {
            let mut serials: Vec<_> =
                all[..count].iter().map(|text| serial(&number(text))).collect();
            serials.sort_unstable();
            let digest = serials.concat();
            for (place, text) in all.iter().enumerate() {
                let expected = if place < count { Status::Revoked } else { Status::Good };
                assert_eq!(status(&digest, &certificate(text)), expected, "{text} of {count}");
            }
        }
        // The list has one number more than that of the certificate.
        assert_eq!(digest(&parse(LIST).unwrap()), serial(&number("1001")));
    }

    #[test]
    fn lists_are_for_a_kind_of_certificate() {
        let [certificate, issuer] = certificates();
        assert_eq!(urls(&certificate).unwrap(), ["http://a.test/a.crl"]);
        assert!(urls(&issuer).unwrap().is_empty());
        let of = |certificate, issuer| scope(certificate, issuer).unwrap();
        assert_eq!(of(&certificate, &issuer), of(&certificate, &issuer));
        assert_ne!(of(&certificate, &issuer), of(&issuer, &issuer));
        assert_ne!(of(&certificate, &issuer), of(&certificate, &certificate));
        // The list is for users only. Since 3.6, OpenSSL looks for no list of what is trusted itself.
        let checked = check(&parse(LIST).unwrap(), &issuer, &issuer, NOW);
        let is_looked_for = openssl::version::number() < 0x3060_0000;
        assert_eq!(matches!(checked, Err(InvalidList::Rejected(_))), is_looked_for, "{checked:?}");
    }
}
