// SPDX-License-Identifier: Apache-2.0

//! What a client's certificate is verified with.

use openssl::x509::store::X509Store;

/// What a client's certificate is verified with, if not with what the server trusts.
pub struct ClientVerification {
    pub store: X509Store,
    /// The maximum number of intermediates, if it differs from the server's.
    pub depth: Option<u32>,
    /// Whether the store lacks the server's revocation lists, which apply nevertheless.
    pub lacks_lists: bool,
}
