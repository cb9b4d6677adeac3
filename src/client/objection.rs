// SPDX-License-Identifier: Apache-2.0

//! nginx's objection to a client's certificate that no plugin may overrule.
//!
//! A plugin may accept a chain that does not lead to what the server trusts: it may trust other
//! authorities. It can't know better that a certificate was revoked, or that its revocation status
//! could not be determined.

use openssl::x509::X509VerifyResult;

use crate::nginx::connection::Connection;
use crate::nginx::ocsp;
use crate::openssl::{revocation, store};

/// Returns the objection in nginx's words, as in `$ssl_client_verify`; `None` if there is none.
pub fn of(connection: Connection<'_>) -> Option<&'static str> {
    let ssl = connection.tls()?.ssl();
    if let Some(words) = ocsp::refusal(connection) {
        return Some(words);
    }
    let result = ssl.verify_result();
    if result == X509VerifyResult::OK {
        return None;
    }
    // For a chain that is not trusted, nginx does not query OCSP, and revocation lists are not
    // decisive. So where revocation is checked at all, such a failure is an objection too.
    let context = ssl.ssl_context();
    let is_checked =
        || ocsp::is_on(context) || !store::revocation_flags(context.cert_store()).is_empty();
    (revocation::is_of_revocation(result.as_raw()) || is_checked()).then(|| result.error_string())
}
