// SPDX-License-Identifier: Apache-2.0

//! Checks of what an authority says about the certificates that it has issued: OCSP answers and
//! revocation lists.

use openssl::nid::Nid;
use openssl::x509::store::{X509Store, X509StoreBuilder};
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{X509, X509Ref};

use crate::openssl::error::SslError;
use crate::openssl::store::being_built;
use crate::openssl::sys;

/// What is said about a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Good,
    Revoked,
    /// The authority does not know the certificate.
    Unknown,
}

impl Status {
    /// Returns the name of the status.
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Revoked => "revoked",
            Self::Unknown => "unknown",
        }
    }
}

/// For how long something counts, in seconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    pub since: i64,
    pub until: i64,
}

/// The seconds for which something counts that does not say for how long.
pub const BRIEF: i64 = 60;
/// The seconds by which the clock of an authority may be ahead.
pub const SKEW: i64 = 60;

/// Why something does not count now.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotNow {
    #[error("it is not valid yet: is the clock right?")]
    Early,
    #[error("it has expired")]
    Late,
}

impl Period {
    /// Returns the period of something that is valid `since`, and until `until` if it says so.
    pub fn of(since: i64, until: Option<i64>, now: i64) -> Result<Self, NotNow> {
        if since > now.saturating_add(SKEW) {
            return Err(NotNow::Early);
        }
        let until = until.unwrap_or_else(|| now.saturating_add(BRIEF));
        if until <= now || until <= since {
            return Err(NotNow::Late);
        }
        Ok(Self { since, until })
    }
}

/// A signature can be forged.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is signed with {0}, which is too weak")]
pub struct WeakSignature(&'static str);

/// Checks that the digest of a signature algorithm is one that nobody finds collisions of.
pub fn check_signature(algorithm: Nid) -> Result<(), WeakSignature> {
    let digest = algorithm.signature_algorithms().map(|algorithms| algorithms.digest);
    match digest {
        Some(Nid::MD4) => Err(WeakSignature("MD4")),
        Some(Nid::MD5 | Nid::MD5_SHA1) => Err(WeakSignature("MD5")),
        Some(Nid::SHA1) => Err(WeakSignature("SHA-1")),
        _ => Ok(()),
    }
}

/// Returns a store that trusts `issuer` and nothing else, at the date `now`.
pub fn store(issuer: &X509Ref, now: i64) -> Result<X509Store, SslError> {
    /// OpenSSL's security level: at least 112 bits.
    const SECURITY_LEVEL: i32 = 2;

    let failed = |function| move |errors| SslError::new(function, errors);
    let mut builder = X509StoreBuilder::new().map_err(failed("X509_STORE_new"))?;
    builder.add_cert(plain(issuer)?).map_err(failed("X509_STORE_add_cert"))?;
    builder.set_flags(X509VerifyFlags::PARTIAL_CHAIN).map_err(failed("X509_STORE_set_flags"))?;
    let parameters = sys::X509_STORE_get0_param(being_built(&builder));
    sys::X509_VERIFY_PARAM_set_auth_level(parameters, SECURITY_LEVEL);
    // Only what the issuer itself has issued.
    sys::X509_VERIFY_PARAM_set_depth(parameters, 0);
    sys::X509_VERIFY_PARAM_set_time(parameters, now);
    Ok(builder.build())
}

/// Returns a certificate without what OpenSSL keeps beside it: it may be trusted for clients only.
pub fn plain(certificate: &X509Ref) -> Result<X509, SslError> {
    let der = certificate.to_der().map_err(|errors| SslError::new("i2d_X509", errors))?;
    X509::from_der(&der).map_err(|errors| SslError::new("d2i_X509", errors))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods() {
        let period = |since, until| Period::of(since, until, 1000);
        assert_eq!(period(900, Some(1100)), Ok(Period { since: 900, until: 1100 }));
        assert_eq!(period(1060, Some(1100)), Ok(Period { since: 1060, until: 1100 }));
        assert_eq!(period(1061, Some(1100)), Err(NotNow::Early));
        assert_eq!(period(900, Some(1000)), Err(NotNow::Late));
        assert_eq!(period(1050, Some(1050)), Err(NotNow::Late));
        assert_eq!(period(1000, None), Ok(Period { since: 1000, until: 1060 }));
        assert_eq!(period(0, None), Ok(Period { since: 0, until: 1060 }));
        assert_eq!(period(i64::MAX, Some(i64::MAX)), Err(NotNow::Early));
    }

    #[test]
    fn weak_signatures() {
        assert_eq!(check_signature(Nid::ECDSA_WITH_SHA256), Ok(()));
        assert_eq!(check_signature(Nid::UNDEF), Ok(()));
        assert_eq!(check_signature(Nid::SHA1WITHRSAENCRYPTION), Err(WeakSignature("SHA-1")));
        assert_eq!(check_signature(Nid::MD5WITHRSAENCRYPTION), Err(WeakSignature("MD5")));
    }
}
