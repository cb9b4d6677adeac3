//! The one hook into the handshakes of clients that one of our functions was called for, or that resume
//! a session of such a handshake.

use std::ffi::c_int;

use foreign_types::ForeignTypeRef;
use openssl::ssl::SslRef;
use openssl_sys::SSL;

use super::connection::DownstreamConnection;
use super::{client_certificate, resumption};
use crate::nginx::connection::{Connection, process_log};
use crate::nginx::panic::guard;
use crate::openssl::ssl::{self, HandshakeEvent};

/// Has us told how the handshake of `ssl` goes on.
pub fn watch(ssl: &SslRef) {
    // SAFETY: `info_callback` calls the one of the context.
    unsafe { ssl::set_connection_info_callback(ssl, info_callback) };
}

/// Takes the place of the callback of the context, for one connection.
unsafe extern "C" fn info_callback(ssl: *const SSL, r#where: c_int, ret: c_int) {
    guard("client handshake", process_log(), (), || {
        // SAFETY: OpenSSL calls with a valid SSL.
        let ssl = unsafe { SslRef::from_ptr(ssl.cast_mut()) };
        if let Some(of_context) = ssl::info_callback(ssl.ssl_context()) {
            // SAFETY: as OpenSSL would call it.
            unsafe { of_context(ssl.as_ptr(), r#where, ret) };
        }
        let is_first = Connection::from_ssl(ssl)
            .and_then(Connection::tls)
            .is_some_and(|tls| !tls.handshaked());
        let Some(state) = DownstreamConnection::find(ssl).filter(|_| is_first) else {
            return;
        };
        resumption::take_binding(ssl, state);
        resumption::bind(ssl, state);
        if HandshakeEvent::from_where(r#where) == Some(HandshakeEvent::Done) {
            client_certificate::count_answer(ssl, state);
        }
    });
}
