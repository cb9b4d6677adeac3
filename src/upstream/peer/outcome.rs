// SPDX-License-Identifier: Apache-2.0

//! The outcome of the TLS connection to the service, for variables.

use std::ffi::CStr;

use openssl::ssl::SslRef;
use openssl::x509::{X509, X509VerifyResult};

use crate::openssl::ssl;
use crate::upstream::handshake::connection::{Shown, UpstreamConnection};
use crate::upstream::identity::IdentityDigest;

/// The result of verifying the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {
    /// Verification was not asked for, or is not done yet.
    None,
    Success,
    Failed(X509VerifyResult),
}

/// The TLS state of a connection whose handshake has begun.
pub struct Outcome {
    /// `None` before the handshake is done.
    pub negotiated: Option<Negotiated>,
    pub verified: Verified,
    /// The service's certificate.
    pub certificate: Option<X509>,
    /// The certificate that the service was shown, as far as that is known: for connections with an
    /// identity.
    pub client_certificate: Option<Shown>,
    /// `None` for a request without settings of its own.
    pub identity: Option<IdentityDigest>,
}

/// What a handshake has negotiated.
#[derive(Clone, Copy)]
pub struct Negotiated {
    /// Names as OpenSSL has them: they are not read unless a variable needs them.
    pub protocol: &'static CStr,
    pub cipher: &'static CStr,
    pub session_reused: bool,
}

impl Outcome {
    /// Returns the current state of `ssl`.
    ///
    /// `verifies` is whether the request verifies the service; `has_failed`, whether nginx gave up
    /// the connection because of that verification.
    pub fn of(ssl: &SslRef, is_done: bool, verifies: bool, has_failed: bool) -> Self {
        let negotiated = is_done.then(|| Negotiated {
            protocol: ssl::version_name(ssl),
            cipher: ssl::cipher_name(ssl),
            session_reused: ssl.session_reused(),
        });
        let connection = UpstreamConnection::of(ssl);
        // A reused connection was verified by the request that made it.
        let verifies = verifies || connection.is_some_and(UpstreamConnection::verifies);
        let verified = match (verifies, ssl.verify_result()) {
            (false, error) if ssl::is_own(error) => Verified::Failed(error),
            (false, _) => Verified::None,
            // nginx's check of the name does not change OpenSSL's verification result.
            (true, X509VerifyResult::OK) if has_failed => {
                Verified::Failed(ssl::hostname_mismatch())
            }
            (true, X509VerifyResult::OK) if is_done => Verified::Success,
            (true, X509VerifyResult::OK) => Verified::None,
            (true, error) => Verified::Failed(error),
        };
        Self {
            negotiated,
            verified,
            certificate: ssl.peer_certificate(),
            client_certificate: connection.and_then(|connection| connection.presented(ssl)),
            identity: connection.and_then(UpstreamConnection::identity),
        }
    }
}
