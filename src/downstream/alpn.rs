//! `disable_http2_alpn`
//!
//! nginx chooses the protocol in a callback of its own, which OpenSSL does not give back. On servers
//! that may speak HTTP/2, ours takes its place, and chooses what nginx would, less `h2` where a
//! connection has it disabled.

use std::ffi::{c_int, c_uchar, c_uint, c_void};
use std::ptr;

use foreign_types::ForeignTypeRef;
use ngx::ffi::ngx_conf_t;
use openssl::ssl::SslRef;
use openssl_sys::SSL;

use super::connection::{DownstreamConnection, DownstreamError, client_ssl};
use super::handshake;
use crate::nginx::connection::process_log;
use crate::nginx::panic::guard;
use crate::nginx::request::Request;
use crate::nginx::server::{ClientConnection, Servers};
use crate::openssl::session;
use crate::openssl::ssl::select_alpn;

/// What nginx offers (`NGX_HTTP_V2_ALPN_PROTO NGX_HTTP_ALPN_PROTOS`), in wire format.
const WITH_HTTP2: &[u8] = b"\x02h2\x08http/1.1\x08http/1.0\x08http/0.9";
/// The same without HTTP/2.
const WITHOUT_HTTP2: &[u8] = b"\x08http/1.1\x08http/1.0\x08http/0.9";

/// Withholds HTTP/2 from the client. Phase: client_hello, which comes before the choice.
pub fn disable_http2_alpn(request: Request<'_>) -> Result<(), DownstreamError> {
    let ssl = client_ssl(request)?;
    // What is malformed, OpenSSL refuses when it comes to it.
    let name = session::server_name_of_client_hello(ssl).unwrap_or_default();
    handshake::watch(ssl, name)?.http2_disabled.set(true);
    Ok(())
}

/// Installs our callback on the servers that may speak HTTP/2. To be called in *postconfiguration*.
///
/// # Safety
/// `cf` must be valid, and inside `http {}`, with all of it read.
pub unsafe fn postconfiguration(cf: *mut ngx_conf_t) {
    // SAFETY: by contract.
    let Some(servers) = (unsafe { Servers::new(cf) }) else {
        return;
    };
    for server in servers.with_http2() {
        if let Some(context) = servers.ssl_context(server) {
            // SAFETY: the context is valid, the callback lives as long as the program.
            unsafe {
                openssl_sys::SSL_CTX_set_alpn_select_cb__fixed_rust(
                    context.as_ptr(),
                    Some(select),
                    ptr::null_mut(),
                );
            }
        }
    }
}

unsafe extern "C" fn select(
    ssl: *mut SSL,
    out: *mut *const c_uchar,
    out_length: *mut c_uchar,
    offered: *const c_uchar,
    offered_length: c_uint,
    _argument: *mut c_void,
) -> c_int {
    guard("ALPN callback", process_log(), openssl_sys::SSL_TLSEXT_ERR_ALERT_FATAL, || {
        // SAFETY: OpenSSL calls with a valid SSL, list and places for the answer.
        let (ssl, offered) = unsafe {
            (SslRef::from_ptr(ssl), std::slice::from_raw_parts(offered, offered_length as usize))
        };
        let supported = if may_speak_http2(ssl) { WITH_HTTP2 } else { WITHOUT_HTTP2 };

        // RFC 7301, section 3.2: no protocol in common is a fatal `no_application_protocol`.
        let Some(chosen) = select_alpn(supported, offered) else {
            return openssl_sys::SSL_TLSEXT_ERR_ALERT_FATAL;
        };
        // SAFETY: as above. The choice is a part of the client's list, which OpenSSL copies it from,
        // and shorter than 256 bytes.
        unsafe {
            *out = chosen.as_ptr();
            *out_length = chosen.len() as c_uchar;
        }
        openssl_sys::SSL_TLSEXT_ERR_OK
    })
}

fn may_speak_http2(ssl: &SslRef) -> bool {
    if DownstreamConnection::find(ssl).is_some_and(|state| state.http2_disabled.get()) {
        return false;
    }
    // SAFETY: the protocol is chosen in the handshake, on servers that we have the callback of.
    unsafe { ClientConnection::in_handshake(ssl) }.is_some_and(ClientConnection::may_speak_http2)
}
