// SPDX-License-Identifier: Apache-2.0

//! `disable_session_reuse`

use crate::client::connection::{ClientError, ClientState, client_ssl};
use crate::nginx::request::Request;
use crate::openssl::ssl;

/// Makes the session of this handshake impossible to resume. Phase: certificate, which comes before
/// the server's first flight.
pub fn disable_session_reuse(request: Request<'_>) -> Result<(), ClientError> {
    let ssl = client_ssl(request)?;
    let state = ClientState::find_or_make(ssl)?;
    ssl::disable_session_reuse(ssl)?;
    state.reuse_disabled.set(true);
    Ok(())
}
