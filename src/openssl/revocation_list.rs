// SPDX-License-Identifier: Apache-2.0

//! What tells which of two revocation lists is the newer one.

use std::cmp::Ordering;
use std::ffi::c_int;

use openssl::asn1::Asn1OctetStringRef;
use openssl::error::ErrorStack;
use openssl::x509::{X509CrlRef, X509Ref};

use crate::openssl::error::SslError;
use crate::openssl::{certificate, sys};

/// `NID_crl_number` and the like.
const CRL_NUMBER: c_int = 88;
const DELTA_CRL_INDICATOR: c_int = 140;
const ISSUING_DISTRIBUTION_POINT: c_int = 770;

/// What a list says something about: lists of the same scope replace each other (RFC 5280, section
/// 5.2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scope {
    issuer: Vec<u8>,
    distribution_point: Option<Vec<u8>>,
    is_delta: bool,
}

impl Scope {
    pub fn of(list: &X509CrlRef) -> Result<Self, SslError> {
        let issuer = list.issuer_name().to_der();
        Ok(Self {
            issuer: issuer.map_err(|errors| SslError::new("i2d_X509_NAME", errors))?,
            distribution_point: extension(list, ISSUING_DISTRIBUTION_POINT).map(<[u8]>::to_vec),
            is_delta: extension(list, DELTA_CRL_INDICATOR).is_some(),
        })
    }
}

/// When a list was issued. Later ones are greater.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Its `thisUpdate`, in seconds since the epoch.
    pub date: i64,
    /// Its CRL number, in as few bytes as possible.
    number: Option<Vec<u8>>,
}

impl Issue {
    pub fn of(list: &X509CrlRef) -> Result<Self, SslError> {
        Ok(Self {
            date: certificate::seconds(list.last_update())?,
            number: extension(list, CRL_NUMBER).and_then(number),
        })
    }

    /// Returns whether this one goes back behind `other` in its date or in its number.
    pub fn is_before(&self, other: &Self) -> bool {
        self.date < other.date || self.numbered(other) == Some(Ordering::Less)
    }

    /// Compares the numbers, if both have one.
    fn numbered(&self, other: &Self) -> Option<Ordering> {
        let (own, other) = (self.number.as_deref()?, other.number.as_deref()?);
        Some(own.len().cmp(&other.len()).then_with(|| own.cmp(other)))
    }

    /// Compares them as OpenSSL does, which uses the list of the latest date; then by their
    /// numbers.
    pub fn latest(&self, other: &Self) -> Ordering {
        let by_number = self.numbered(other).unwrap_or(Ordering::Equal);
        self.date.cmp(&other.date).then(by_number)
    }
}

/// Returns the content of an extension.
fn extension(list: &X509CrlRef, nid: c_int) -> Option<&[u8]> {
    let place = sys::X509_CRL_get_ext_by_NID(list, nid, -1);
    let extension = (place >= 0).then(|| sys::X509_CRL_get_ext(list, place)).flatten()?;
    sys::X509_EXTENSION_get_data(extension).map(Asn1OctetStringRef::as_slice)
}

/// Returns the bytes of a number in DER, which is not negative, without leading zeros.
fn number(der: &[u8]) -> Option<Vec<u8>> {
    const INTEGER: u8 = 2;
    let [INTEGER, length, bytes @ ..] = der else {
        return None;
    };
    if usize::from(*length) != bytes.len() || bytes.len() > 127 {
        return None;
    }
    Some(bytes.iter().copied().skip_while(|byte| *byte == 0).collect())
}

/// Returns whether a list is signed with the key of a certificate.
pub fn is_signed_by(list: &X509CrlRef, issuer: &X509Ref) -> bool {
    let verified = issuer.public_key().and_then(|key| list.verify(&key));
    // nginx would report errors left in the queue as errors of a later call.
    drop(ErrorStack::get());
    verified.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issue(date: i64, number: &[u8]) -> Issue {
        Issue { date, number: super::number(number) }
    }

    #[test]
    fn numbers_have_any_length() {
        assert_eq!(number(&[2, 1, 0]), Some(vec![]));
        assert_eq!(number(&[2, 2, 0, 0x80]), Some(vec![0x80]));
        assert_eq!(number(&[2, 3, 1, 2, 3]), Some(vec![1, 2, 3]));
        for wrong in [&[][..], &[2], &[2, 1], &[2, 1, 1, 1], &[3, 1, 1], &[2, 0x81, 1]] {
            assert_eq!(number(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn neither_date_nor_number_goes_back() {
        let base = issue(10, &[2, 2, 1, 0]);
        for (other, expected) in [
            (issue(10, &[2, 2, 1, 0]), false),
            (issue(9, &[2, 2, 1, 0]), true),
            (issue(9, &[2, 2, 1, 1]), true),
            (issue(11, &[2, 1, 255]), true),
            (issue(11, &[2, 2, 0, 255]), true),
            (issue(11, &[2, 2, 1, 1]), false),
            (issue(11, &[2, 3, 0, 200, 0]), false),
            (issue(10, &[]), false),
            (issue(9, &[]), true),
        ] {
            assert_eq!(other.is_before(&base), expected, "{other:?}");
        }
        assert_eq!(issue(10, &[2, 1, 1]).latest(&issue(10, &[2, 1, 2])), Ordering::Less);
        assert_eq!(issue(11, &[2, 1, 1]).latest(&issue(10, &[2, 1, 2])), Ordering::Greater);
    }
}
