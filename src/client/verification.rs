// SPDX-License-Identifier: Apache-2.0

//! With what a client is verified.

use openssl::x509::store::X509Store;

/// With what a client's certificate is verified, where it is not what the server trusts.
pub struct ClientVerification {
    pub store: X509Store,
    /// How many intermediates there may be, where it is not what the server has.
    pub depth: Option<u32>,
    /// Whether the store does not have the server's revocation lists, which hold all the same.
    pub lacks_lists: bool,
}
