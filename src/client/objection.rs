// SPDX-License-Identifier: Apache-2.0

//! What nginx holds against a client's certificate, and nobody may overrule.
//!
//! That a chain does not lead to what the server trusts, a plugin may see otherwise: it trusts
//! others. That a certificate was revoked, or that this could not be found out, it does not know
//! better.

use openssl::x509::X509VerifyResult;

use crate::client::ocsp;
use crate::nginx::connection::Connection;
use crate::nginx::ocsp as nginx_ocsp;
use crate::openssl::{revocation, store};

/// nginx's words for it, as in `$ssl_client_verify`; `None` if there is nothing.
pub fn of(connection: Connection<'_>) -> Option<&'static str> {
    let ssl = connection.tls()?.ssl();
    if let Some(words) = nginx_ocsp::refusal(connection) {
        return Some(words);
    }
    let result = ssl.verify_result();
    if result == X509VerifyResult::OK {
        return None;
    }
    // Of a chain that does not lead to where it should, nginx does not ask, and lists say little.
    let context = ssl.ssl_context();
    let is_checked =
        || ocsp::is_on(context) || !store::revocation_flags(context.cert_store()).is_empty();
    (revocation::is_of_revocation(result.as_raw()) || is_checked()).then(|| result.error_string())
}
