// SPDX-License-Identifier: Apache-2.0

//! `ssl_ocsp`, for clients that Lua code asks.

#![allow(unsafe_code, reason = "nginx's settings have no type")]
//!
//! nginx verifies the answer of a responder with what the context of the connection trusts, and
//! that need not be what the client was verified with. So when the handshake is done, such a
//! connection gets a context of its own, which trusts that, and has nginx's settings for OCSP.
//! Nothing else is asked of it: what handshakes and sessions need is over, or in the context that
//! the connection began with.
//!
//! Of a session that is resumed, nginx would have to find the chain again, without the
//! intermediates. There is none to resume.

use std::ffi::c_void;
use std::ptr::NonNull;

use foreign_types::ForeignTypeRef;
use openssl::ssl::{SslContextRef, SslRef};
use openssl::x509::X509VerifyResult;

use crate::client::connection::ClientState;
use crate::nginx::ocsp;
use crate::openssl::error::SslError;
use crate::openssl::{ssl, store};

/// nginx's settings for OCSP in a context.
fn settings(context: &SslContextRef) -> Option<NonNull<c_void>> {
    // SAFETY: the context is valid, and the index is nginx's.
    NonNull::new(unsafe {
        openssl_sys::SSL_CTX_get_ex_data(context.as_ptr(), ocsp::context_index()?)
    })
}

/// Whether a server has `ssl_ocsp` on, or `leaf`.
pub fn is_on(context: &SslContextRef) -> bool {
    settings(context).is_some()
}

/// Leaves a client that is asked nothing to resume where nginx asks a responder. Phase:
/// certificate.
pub fn prepare(ssl: &SslRef) -> Result<(), SslError> {
    if is_on(ssl.ssl_context()) { ssl::disable_session_reuse(ssl) } else { Ok(()) }
}

/// Has nginx verify the answer with what the client was verified with. To be called at the end of
/// the handshake.
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
    // SAFETY: nginx keeps its settings as long as its own context, which lives as long as the
    // connection: the session of the SSL belongs to it.
    unsafe { ssl::replace_context(ssl, store, index, settings) }
}
