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

#![allow(unsafe_code, reason = "nginx's settings have no type")]

use std::ffi::c_void;
use std::ptr::NonNull;

use foreign_types::ForeignTypeRef;
use openssl::ssl::{SslContextRef, SslRef};
use openssl::x509::X509VerifyResult;

use crate::client::connection::ClientState;
use crate::nginx::ocsp;
use crate::openssl::error::SslError;
use crate::openssl::{ssl, store};

/// Returns nginx's OCSP settings of a context.
fn settings(context: &SslContextRef) -> Option<NonNull<c_void>> {
    // SAFETY: the context is valid, and the index is nginx's.
    NonNull::new(unsafe {
        openssl_sys::SSL_CTX_get_ex_data(context.as_ptr(), ocsp::context_index()?)
    })
}

/// Returns whether a server has `ssl_ocsp on` or `ssl_ocsp leaf`.
pub fn is_on(context: &SslContextRef) -> bool {
    settings(context).is_some()
}

/// Disables session reuse for a client that is asked, if nginx queries an OCSP responder. Phase:
/// certificate.
pub fn prepare(ssl: &SslRef) -> Result<(), SslError> {
    if is_on(ssl.ssl_context()) { ssl::disable_session_reuse(ssl) } else { Ok(()) }
}

/// Makes nginx verify the OCSP response with what the client was verified with. To be called at the
/// end of the handshake.
pub fn trust(ssl: &SslRef, state: &ClientState) -> Result<(), SslError> {
    let verification = state.verification.borrow();
    let (Some(verification), Some(settings), Some(index)) =
        (verification.as_ref(), settings(ssl.ssl_context()), ocsp::context_index())
    else {
        return Ok(());
    };
    if ssl.verify_result() != X509VerifyResult::OK || ssl.session_reused() {
        return Ok(());
    }
    let store = store::reference(&verification.store)?;
    // SAFETY: `settings` is what nginx keeps at `index` of contexts. It is in the configuration's
    // pool, and a configuration outlives its connections.
    unsafe { ssl::replace_context(ssl, store, index, settings) }
}
