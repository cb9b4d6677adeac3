// SPDX-License-Identifier: Apache-2.0

//! A worker's caches that belong to no request, connection or configuration.

use crate::client::{certificate_request, intermediates, names};
use crate::lua::x509;
use crate::openssl::{client_certificate, store, tls_options};
use crate::upstream::identity::digests;

/// Clears all of them.
pub fn clear_caches() {
    x509::clear_cache();
    client_certificate::clear_cache();
    store::clear_cache();
    certificate_request::clear_cache();
    intermediates::clear_cache();
    names::clear_cache();
    digests::clear_cache();
    tls_options::clear_cache();
}
