// SPDX-License-Identifier: Apache-2.0

//! Where sessions of clients are found that are not in tickets.

use openssl::ssl::{SslContext, SslRef, SslSession};

use crate::openssl::error::SslError;
use crate::openssl::session::{self, GetSessionCallback};

/// The sources of sessions for the clients of an address, other than tickets. They are kept for the
/// default server, with whose context handshakes begin.
pub struct Sessions {
    /// The context, if it uses OpenSSL's internal cache. OpenSSL would resume a session from there
    /// without calling any callback, so the module searches it instead.
    pub internal: Option<SslContext>,
    /// The callback installed before the module's, which finds other sessions.
    pub callback: Option<GetSessionCallback>,
}

impl Sessions {
    /// Searches OpenSSL's internal cache, as OpenSSL would have done first.
    pub fn find_in_internal_cache(
        &self,
        ssl: &SslRef,
        id: &[u8],
    ) -> Result<Option<SslSession>, SslError> {
        match &self.internal {
            Some(context) => session::find_in_internal_cache(context, ssl, id),
            None => Ok(None),
        }
    }
}
