//! `disable_http2_alpn`
//!
//! nginx chooses the protocol in a callback of its own, which OpenSSL does not give back. Ours
//! takes its place, and chooses what nginx would, less `h2` where a connection has it disabled.

use std::ffi::{c_int, c_uchar, c_uint, c_void};
use std::ptr;

use foreign_types::ForeignTypeRef;
use ngx::ffi::ngx_conf_t;
use openssl::ssl::SslRef;
use openssl_sys::SSL;

use crate::client::connection::{DownstreamConnection, DownstreamError, client_ssl};
use crate::client::hook;
use crate::module::{self, MainConf};
use crate::nginx::configuration::{Module, ServerFlag};
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
/// Over QUIC (`NGX_HTTP_V3_ALPN_PROTO`, `NGX_HTTP_V3_HQ_ALPN_PROTO`).
const HTTP3: &[u8] = b"\x02h3";
/// As above.
const HTTP3_HQ: &[u8] = b"\x0ahq-interop";
/// As above.
const HTTP3_OR_HQ: &[u8] = b"\x02h3\x0ahq-interop";

/// Withholds HTTP/2 from the client. Phase: client_hello, which comes before the choice.
pub fn disable_http2_alpn(request: Request<'_>) -> Result<(), DownstreamError> {
    let ssl = client_ssl(request)?;
    // What is malformed, OpenSSL refuses when it comes to it.
    let name = session::server_name_of_client_hello(ssl).unwrap_or_default();
    hook::watch(ssl, name)?.http2_disabled.set(true);
    Ok(())
}

/// The directives of a server that say what it speaks, as far as this nginx has them.
#[derive(Debug)]
pub struct Protocols {
    http2: Option<ServerFlag>,
    http3: Option<ServerFlag>,
    http3_hq: Option<ServerFlag>,
}

impl Protocols {
    /// # Safety
    /// `cf` must be valid.
    unsafe fn find(cf: *mut ngx_conf_t) -> Self {
        // SAFETY: by contract.
        let flag = |module, directive| unsafe { Module::find(cf, module)?.server_flag(directive) };
        Self {
            http2: flag(c"ngx_http_v2_module", b"http2"),
            http3: flag(c"ngx_http_v3_module", b"http3"),
            http3_hq: flag(c"ngx_http_v3_module", b"http3_hq"),
        }
    }

    /// What nginx would offer to a client, but for HTTP/2 if that is disabled; `None` for nothing.
    fn of(&self, client: ClientConnection<'_>, http2_disabled: bool) -> Option<&'static [u8]> {
        let is_on = |flag: Option<ServerFlag>| flag.is_some_and(|flag| client.is_on(flag));
        if client.speaks_quic() {
            return match (is_on(self.http3), is_on(self.http3_hq)) {
                (true, true) => Some(HTTP3_OR_HQ),
                (true, false) => Some(HTTP3),
                (false, true) => Some(HTTP3_HQ),
                (false, false) => None,
            };
        }
        let speaks_http2 = client.came_to_http2() || is_on(self.http2);
        Some(if speaks_http2 && !http2_disabled { WITH_HTTP2 } else { WITHOUT_HTTP2 })
    }
}

/// Installs our callback on all servers. To be called in *postconfiguration*.
///
/// # Safety
/// `cf` must be valid, and inside `http {}`, with all of it read, and `main_conf` ours of it.
pub unsafe fn postconfiguration(cf: *mut ngx_conf_t, main_conf: &MainConf) {
    // SAFETY: by contract.
    let Some(servers) = (unsafe { Servers::new(cf) }) else {
        return;
    };
    // SAFETY: by contract.
    main_conf.protocols.get_or_init(|| unsafe { Protocols::find(cf) });
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
        // SAFETY: OpenSSL calls with a valid SSL, list and places for the answer.
        let (ssl, offered) = unsafe {
            (SslRef::from_ptr(ssl), std::slice::from_raw_parts(offered, offered_length as usize))
        };
        // RFC 7301, section 3.2: no protocol in common is a fatal `no_application_protocol`.
        let Some(chosen) = supported(ssl).and_then(|supported| select_alpn(supported, offered))
        else {
            return openssl_sys::SSL_TLSEXT_ERR_ALERT_FATAL;
        };
        // SAFETY: both places are OpenSSL's, which calls with valid ones. The choice is a part of
        // the client's list, which OpenSSL copies it from, and shorter than 256 bytes.
        unsafe {
            *out = chosen.as_ptr();
            *out_length = chosen.len() as c_uchar;
        }
        openssl_sys::SSL_TLSEXT_ERR_OK
    })
}

/// What the server of `ssl` offers its client.
fn supported(ssl: &SslRef) -> Option<&'static [u8]> {
    let http2_disabled =
        DownstreamConnection::find(ssl).is_some_and(|state| state.http2_disabled.get());
    // SAFETY: the protocol is chosen in the handshake, on servers that we have the callback of;
    // ours is in its place.
    unsafe {
        let client = ClientConnection::in_handshake(ssl)?;
        let main_conf: &MainConf = client.default_server().main_configuration(module::index())?;
        main_conf.protocols.get()?.of(client, http2_disabled)
    }
}
