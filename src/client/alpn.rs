// SPDX-License-Identifier: Apache-2.0

//! `disable_http2_alpn`
//!
//! nginx selects the protocol in an ALPN callback of its own, which OpenSSL does not return. This
//! module's callback replaces it, and selects what nginx would, without `h2` where it is disabled
//! for the connection.

#![allow(unsafe_code, reason = "OpenSSL calls it")]

use std::ffi::{c_int, c_uchar, c_uint, c_void};
use std::ptr;

use foreign_types::ForeignTypeRef;
use openssl::ssl::SslRef;
use openssl_sys::SSL;

use crate::client::connection::{ClientError, ClientState, client_ssl};
use crate::client::hook;
use crate::client::protocols::Protocols;
use crate::conf::MainConf;
use crate::nginx::conf_parser::ConfParser;
use crate::nginx::connection::process_log;
use crate::nginx::own_conf::OwnConf;
use crate::nginx::panic::guard;
use crate::nginx::request::Request;
use crate::nginx::server::{ClientConnection, Servers};
use crate::openssl::session;
use crate::openssl::ssl::select_alpn;

/// Disables HTTP/2 for the client. Phase: client_hello, which comes before the selection.
pub fn disable_http2_alpn(request: Request<'_>) -> Result<(), ClientError> {
    let ssl = client_ssl(request)?;
    // OpenSSL itself refuses a malformed extension later.
    let name = session::server_name_of_client_hello(ssl).unwrap_or_default();
    hook::watch(ssl, name)?.http2_disabled.set(true);
    Ok(())
}

/// Installs the ALPN callback on all servers. To be called in *postconfiguration*.
pub fn postconfiguration(parser: ConfParser<'_>, main_conf: &MainConf) {
    let Some(servers) = Servers::new(parser) else {
        return;
    };
    main_conf.protocols.get_or_init(|| Protocols::find(parser));
    for server in servers.all() {
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
        // SAFETY: OpenSSL calls its ALPN callback with a valid SSL, a valid list of
        // `offered_length` bytes, and valid output pointers.
        let (ssl, offered) = unsafe {
            (SslRef::from_ptr(ssl), std::slice::from_raw_parts(offered, offered_length as usize))
        };
        // RFC 7301, section 3.2: without a common protocol, the server sends a fatal
        // `no_application_protocol` alert.
        let Some(chosen) = supported(ssl).and_then(|supported| select_alpn(supported, offered))
        else {
            return openssl_sys::SSL_TLSEXT_ERR_ALERT_FATAL;
        };
        // SAFETY: OpenSSL passes valid output pointers. `chosen` is part of the client's list, from
        // which OpenSSL copies it, and is shorter than 256 bytes.
        unsafe {
            *out = chosen.as_ptr();
            *out_length = chosen.len() as c_uchar;
        }
        openssl_sys::SSL_TLSEXT_ERR_OK
    })
}

/// Returns the protocols that the server of `ssl` supports, in ALPN wire format.
fn supported(ssl: &SslRef) -> Option<&'static [u8]> {
    let http2_disabled = ClientState::find(ssl).is_some_and(|state| state.http2_disabled.get());
    // SAFETY: OpenSSL selects the protocol during the handshake, and the callback is installed only
    // on contexts of HTTP servers.
    let client = unsafe { ClientConnection::in_handshake(ssl)? };
    MainConf::of_server(client.default_server())?.protocols.get()?.of(client, http2_disabled)
}
