// SPDX-License-Identifier: Apache-2.0

//! What became of the TLS connection to the service, for variables.

use openssl::ssl::SslRef;
use openssl::x509::{X509, X509VerifyResult};

use crate::openssl::ssl;
use crate::upstream::handshake::connection::UpstreamConnection;
use crate::upstream::identity::IdentityDigest;

/// How the verification of the service has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {
    /// It was not asked for.
    None,
    Success,
    Failed(X509VerifyResult),
}

/// The TLS of a connection whose handshake has begun.
pub struct Outcome {
    /// `None` before the handshake was done.
    pub negotiated: Option<Negotiated>,
    pub verified: Verified,
    pub certificate: Option<X509>,
    /// `None` for a request that has no settings of its own.
    pub identity: Option<IdentityDigest>,
}

/// What a handshake agreed upon.
#[derive(Clone, Copy)]
pub struct Negotiated {
    pub protocol: &'static str,
    pub cipher: &'static str,
    pub session_reused: bool,
}

impl Outcome {
    /// What there is to know of `ssl` now.
    ///
    /// `verifies` says whether the request has the service verified; `has_failed`, that nginx has
    /// given the connection up for it.
    pub fn of(ssl: &SslRef, is_done: bool, verifies: bool, has_failed: bool) -> Self {
        let negotiated = is_done.then(|| Negotiated {
            protocol: ssl.version_str(),
            cipher: ssl::cipher_name(ssl),
            session_reused: ssl.session_reused(),
        });
        let connection = UpstreamConnection::of(ssl);
        // A connection that was kept was verified by the request that made it.
        let verifies = verifies || connection.is_some_and(UpstreamConnection::verifies);
        let verified = match (verifies, ssl.verify_result()) {
            (false, _) => Verified::None,
            // nginx's check of the name leaves no trace in the result.
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
            identity: connection.and_then(UpstreamConnection::identity),
        }
    }
}
