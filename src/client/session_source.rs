// SPDX-License-Identifier: Apache-2.0

//! Where the sessions of clients are, but for those in tickets.

use openssl::ssl::{SslContext, SslRef, SslSession};

use crate::openssl::error::SslError;
use crate::openssl::session::{self, GetSessionCallback};

/// Where the sessions of the clients of an address are, but for those in tickets. Of the default
/// server, whose context the handshakes begin with.
pub struct Sessions {
    /// The context, if it has OpenSSL's own cache. OpenSSL would take a session from there without
    /// asking anybody, so it is us who look.
    pub internal: Option<SslContext>,
    /// Who was to find others.
    pub callback: Option<GetSessionCallback>,
}

impl Sessions {
    /// Looks where OpenSSL would have looked first.
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
