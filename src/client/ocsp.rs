// SPDX-License-Identifier: Apache-2.0

//! `ssl_ocsp`, for clients that Lua code asks for a certificate.
//!
//! nginx verifies an OCSP response with what the connection's context trusts, which may differ from
//! what the client was verified with. So when the handshake is done, such a connection gets a
//! context of its own, with that trusted store and nginx's OCSP settings. The context needs nothing
//! else: what handshakes and sessions need is no longer used, or is in the context that the
//! connection began with.
//!
//! For a resumed session, nginx would have to build the chain again, without the intermediates. So
//! these clients get no session to resume.

use openssl::ssl::SslRef;
use openssl::x509::X509VerifyResult;

use crate::client::connection::ClientState;
use crate::nginx::ocsp;
use crate::openssl::error::SslError;
use crate::openssl::{ssl, store};

/// Disables session reuse for a client that is asked, if nginx queries an OCSP responder. Phase:
/// certificate.
pub fn prepare(ssl: &SslRef, state: &ClientState) -> Result<(), SslError> {
    if ocsp::is_on(ssl.ssl_context()) {
        ssl::disable_session_reuse(ssl)?;
        state.reuse_disabled.set(true);
    }
    Ok(())
}

/// Makes nginx verify the OCSP response with what the client was verified with. To be called at the
/// end of the handshake.
pub fn trust(ssl: &SslRef, state: &ClientState) -> Result<(), SslError> {
    let verification = state.verification.borrow();
    let Some(verification) = verification.as_ref().filter(|_| ocsp::is_on(ssl.ssl_context()))
    else {
        return Ok(());
    };
    if ssl.verify_result() != X509VerifyResult::OK || ssl.session_reused() {
        return Ok(());
    }
    ocsp::trust(ssl, store::reference(&verification.store)?)
}
