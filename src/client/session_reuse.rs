// SPDX-License-Identifier: Apache-2.0

//! `disable_session_reuse`

use crate::client::connection::{ClientError, client_ssl};
use crate::nginx::request::Request;
use crate::openssl::ssl;

/// Makes the session of this handshake impossible to resume. Phase: certificate, which comes before
/// the server's first flight.
pub fn disable_session_reuse(request: Request<'_>) -> Result<(), ClientError> {
    ssl::disable_session_reuse(client_ssl(request)?)?;
    Ok(())
}
