// SPDX-License-Identifier: Apache-2.0

//! Differences between versions of nginx.
//!
//! * 1.23.0: a location without TLS directives of its own shares the TLS context of the enclosing
//!   block. What the module keeps with a context depends on those directives alone
//!   (`upstream/handshake/context.rs`).
//! * 1.25.0: QUIC, with a bitfield in `ngx_http_addr_conf_t` ([`is_quic`], `bitfields.c`).
//! * 1.25.1: `http2` is a directive as well as a parameter of `listen`. Like all directives that
//!   some versions lack, it is looked up by name when the configuration is read
//!   (`client/protocols.rs`).
//! * 1.29.2: nginx chooses the server by name in a ClientHello callback. So
//!   `ssl_client_hello_by_lua*` is that of this server, and no longer that of the address's default
//!   server. This module has no such callback, and looks the server up each time
//!   (`nginx/server.rs`).
//! * 1.29.4: HTTP/2 to services (`proxy_http_version 2`). The request may offer its own protocols
//!   by ALPN, in place of the context's (`nginx/upstream.rs`, `bitfields.c`).
//! * 1.29.7: `keepalive` is on in each `upstream {}` block, and matches connections by peer and
//!   location. nginx identifies the location by the address of its configuration
//!   (`upstream/location/conf_copy.rs`). In a block with `kong_tls_keepalive` alone, nginx must not
//!   keep any connection (`upstream/peer/keepalive.rs`).
//! * 1.30: the bitfields of a request begin in the middle of a word (`bitfields.c`).

use std::cell::Cell;

use ngx::ffi::{nginx_version, ngx_http_addr_conf_t};

use crate::nginx::bitfields;

/// Whether nginx may match idle connections by the address of their location's configuration.
pub const KEEPS_BY_LOCATION: bool = nginx_version >= 1_029_007;

/// Returns whether an address is for QUIC; always `false` before nginx 1.25.0.
pub fn is_quic(address: &Cell<ngx_http_addr_conf_t>) -> bool {
    bitfields::address_quic(address)
}
