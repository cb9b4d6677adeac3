// SPDX-License-Identifier: Apache-2.0

//! Checks that bindgen and the C compiler agree on the layout of nginx's structures.
//!
//! Bitfields are accessed in C (`bitfields.rs`), because bindgen gets some wrong. That may shift
//! the fields around them, so the offsets of the other fields are compared when the module is
//! loaded.

use std::ffi::{CStr, c_char};
use std::mem::offset_of;

use ngx::ffi::{
    ngx_buf_t, ngx_connection_t, ngx_event_t, ngx_http_addr_conf_t, ngx_http_connection_t,
    ngx_http_core_loc_conf_t, ngx_http_core_main_conf_t, ngx_http_headers_in_t, ngx_http_request_t,
    ngx_http_upstream_conf_t, ngx_http_upstream_headers_in_t, ngx_http_upstream_peer_t,
    ngx_http_upstream_srv_conf_t, ngx_http_upstream_state_t, ngx_http_upstream_t,
    ngx_peer_connection_t, ngx_ssl_connection_t, ngx_url_t, ngx_variable_value_t,
};

use crate::nginx::configuration::until;

/// The C compiler has a field at another offset than bindgen.
#[derive(Debug, thiserror::Error)]
#[error(
    "this module was built with wrong bindings: {field} is at {expected:?} in nginx, and at {found:?} \
     for the module. Please report it, with the output of \"nginx -V\""
)]
pub struct WrongLayout {
    field: String,
    expected: usize,
    found: Option<usize>,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Field {
    name: *const c_char,
    offset: usize,
}

unsafe extern "C" {
    /// Defined in `bitfields.c`. The last element has a NULL name.
    #[link_name = "nginx_fields"]
    static NGINX_FIELDS: [Field; 1];
}

macro_rules! fields {
    ($($structure:ident: $($field:ident),+;)+) => {
        &[$($((
            concat!(stringify!($structure), ".", stringify!($field)),
            offset_of!($structure, $field),
        )),+),+]
    };
}

const FIELDS: &[(&str, usize)] = fields! {
    ngx_http_request_t: connection, ctx, main_conf, srv_conf, loc_conf, upstream, pool, headers_in, headers_out, main, parent, uri, method, upstream_states, http_connection;
    ngx_http_upstream_t: peer, conf, ssl_name, upstream, state, headers_in;
    ngx_http_upstream_headers_in_t: status_n;
    ngx_http_upstream_state_t: bytes_received;
    ngx_http_headers_in_t: headers, server;
    ngx_http_connection_t: addr_conf, conf_ctx;
    ngx_http_core_main_conf_t: servers, phases;
    ngx_peer_connection_t: connection, sockaddr, socklen, name, tries, get, free, notify, data, set_session, save_session, log;
    ngx_connection_t: data, read, write, fd, pool, log, ssl, sockaddr, sent, start_time, requests, addr_text;
    ngx_ssl_connection_t: connection, save_session, handler;
    ngx_event_t: data, handler, log;
    ngx_http_core_loc_conf_t: name, handler, resolver, error_pages;
    ngx_http_addr_conf_t: default_server, virtual_names;
    ngx_http_upstream_conf_t: upstream, connect_timeout, send_timeout, read_timeout, next_upstream, next_upstream_timeout, next_upstream_tries, ssl, ssl_session_reuse, ssl_name, ssl_server_name, ssl_verify, ssl_certificate, ssl_certificate_key;
    ngx_url_t: url, host;
    ngx_buf_t: pos, last;
    ngx_variable_value_t: data;
    ngx_http_upstream_srv_conf_t: srv_conf, peer;
    ngx_http_upstream_peer_t: init_upstream;
};

/// Compares the offsets of all fields.
pub fn check() -> Result<(), WrongLayout> {
    let first = (&raw const NGINX_FIELDS).cast::<Field>().cast_mut();
    // SAFETY: the array is static, and its last element has a NULL name.
    for field in unsafe { until(first, |field| field.name.is_null()) } {
        let Field { name, offset: expected } = field.get();
        // SAFETY: the names are static C strings.
        let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
        let found = match name.as_ref() {
            // Structures that Rust code copies, or that are in arrays.
            "sizeof(ngx_http_upstream_conf_t)" => Some(size_of::<ngx_http_upstream_conf_t>()),
            "sizeof(ngx_http_request_t)" => Some(size_of::<ngx_http_request_t>()),
            "sizeof(ngx_http_upstream_t)" => Some(size_of::<ngx_http_upstream_t>()),
            "sizeof(ngx_http_upstream_state_t)" => Some(size_of::<ngx_http_upstream_state_t>()),
            "sizeof(ngx_variable_value_t)" => Some(size_of::<ngx_variable_value_t>()),
            name => FIELDS.iter().find(|(known, _)| *known == name).map(|(_, offset)| *offset),
        };
        if found != Some(expected) {
            return Err(WrongLayout { field: name.into_owned(), expected, found });
        }
    }
    Ok(())
}
