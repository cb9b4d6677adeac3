// SPDX-License-Identifier: Apache-2.0

//! What differs between versions of nginx.
//!
//! * 1.23.0: a location without TLS directives of its own has the context of the block around it.
//!   What we
//!   keep with a context follows from those directives alone (`upstream/locations.rs`).
//! * 1.25.0: QUIC, of which `ngx_http_addr_conf_t` has a bit ([`is_quic`], `bitfields.c`).
//! * 1.25.1: `http2` is a directive, beside the parameter of `listen`. Like all directives that not
//!   every
//!   version has, it is found by its name when the configuration is read (`client/protocols.rs`).
//! * 1.29.2: nginx has a ClientHello callback, in which it chooses the server by its name. So the
//!   phase
//!   `ssl_client_hello_by_lua*` is that of this server, and no longer of the address's default one. We have
//!   no such callback, and find the server of a client anew each time (`nginx/server.rs`).
//! * 1.29.4: HTTP/2 for services (`proxy_http_version 2`). It is the request that offers it, and no
//!   longer the
//!   context alone (`nginx/upstream.rs`, `bitfields.c`).
//! * 1.29.7: `keepalive` is on in each `upstream {}` block, by address and location. nginx knows
//!   the
//!   location by the address of its configuration (`upstream/conf_copy.rs`), and where
//!   `kong_tls_keepalive` is alone it must not keep a thing (`upstream/keepalive.rs`).
//! * 1.30: the bitfields of a request begin in the middle of a word (`bitfields.c`).

use ngx::ffi::{nginx_version, ngx_http_addr_conf_t};

use crate::nginx::bitfields;

/// Whether nginx may know idle connections by the address of their location's configuration.
pub const KEEPS_BY_LOCATION: bool = nginx_version >= 1_029_007;

/// Whether an address is for QUIC. nginx 1.25.0 is the first that has it.
///
/// # Safety
/// `address` must be valid.
pub unsafe fn is_quic(address: *const ngx_http_addr_conf_t) -> bool {
    // SAFETY: by contract.
    unsafe { bitfields::address_quic(address) != 0 }
}
