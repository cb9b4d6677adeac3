// SPDX-License-Identifier: Apache-2.0

//! Access to nginx's bitfields. See `bitfields.c`.
//!
//! Each function reads or writes one field of the structure that it gets. Those are unsafe whose
//! value nginx trusts with memory: a length, a pointer, a timer.

#![allow(missing_docs, reason = "named after the structure and the field")]

use std::cell::Cell;
use std::ffi::{c_uint, c_void};

use ngx::ffi::{
    ngx_buf_t, ngx_connection_t, ngx_event_t, ngx_http_addr_conf_t, ngx_http_core_loc_conf_t,
    ngx_http_request_t, ngx_http_upstream_t, ngx_msec_t, ngx_peer_connection_t,
    ngx_ssl_connection_t, ngx_str_t, ngx_url_t, ngx_variable_value_t,
};

// SAFETY: `bitfields.c` defines these functions, with pointers, to which a reference to a `Cell` is
// the same. The safe ones read a field, or set one by which nginx chooses between valid ways.
unsafe extern "C" {
    pub safe fn request_filter_finalize(it: &Cell<ngx_http_request_t>) -> bool;
    pub safe fn request_header_only(it: &Cell<ngx_http_request_t>) -> bool;
    pub safe fn request_request_body_no_buffering(it: &Cell<ngx_http_request_t>) -> bool;
    pub safe fn request_internal(it: &Cell<ngx_http_request_t>) -> bool;
    pub safe fn upstream_keepalive(it: &Cell<ngx_http_upstream_t>) -> bool;
    pub safe fn set_upstream_keepalive(it: &Cell<ngx_http_upstream_t>, value: bool);
    pub safe fn upstream_request_body_sent(it: &Cell<ngx_http_upstream_t>) -> bool;
    pub safe fn set_upstream_request_body_sent(it: &Cell<ngx_http_upstream_t>, value: bool);
    pub safe fn upstream_request_sent(it: &Cell<ngx_http_upstream_t>) -> bool;
    /// Returns NULL before nginx 1.29.4.
    pub safe fn upstream_ssl_alpn_protocol(it: &Cell<ngx_http_upstream_t>) -> *const ngx_str_t;
    pub safe fn upstream_ssl(it: &Cell<ngx_http_upstream_t>) -> bool;
    pub safe fn peer_cached(it: &Cell<ngx_peer_connection_t>) -> bool;
    pub safe fn set_peer_cached(it: &Cell<ngx_peer_connection_t>, value: bool);
    /// Returns NULL before nginx 1.29.6.
    pub safe fn peer_sid(it: &Cell<ngx_peer_connection_t>) -> *mut c_void;
    pub fn set_peer_sid(it: &Cell<ngx_peer_connection_t>, value: *mut c_void);
    pub safe fn peer_log_error(it: &Cell<ngx_peer_connection_t>) -> c_uint;
    pub safe fn connection_error(it: &Cell<ngx_connection_t>) -> bool;
    pub safe fn connection_close(it: &Cell<ngx_connection_t>) -> bool;
    /// nginx calls the read handler of an idle connection when the worker ends.
    pub fn set_connection_idle(it: &Cell<ngx_connection_t>, value: bool);
    pub safe fn set_connection_log_error(it: &Cell<ngx_connection_t>, value: c_uint);
    pub safe fn ssl_handshaked(it: &Cell<ngx_ssl_connection_t>) -> bool;
    pub safe fn set_ssl_handshake_rejected(it: &Cell<ngx_ssl_connection_t>, value: bool);
    pub safe fn set_ssl_no_send_shutdown(it: &Cell<ngx_ssl_connection_t>, value: bool);
    pub safe fn set_ssl_no_wait_shutdown(it: &Cell<ngx_ssl_connection_t>, value: bool);
    pub safe fn set_event_delayed(it: &Cell<ngx_event_t>, value: bool);
    pub safe fn event_eof(it: &Cell<ngx_event_t>) -> bool;
    pub safe fn event_error(it: &Cell<ngx_event_t>) -> bool;
    pub safe fn event_ready(it: &Cell<ngx_event_t>) -> bool;
    pub safe fn set_event_ready(it: &Cell<ngx_event_t>, value: bool);
    pub safe fn event_timedout(it: &Cell<ngx_event_t>) -> bool;
    pub safe fn event_timer_set(it: &Cell<ngx_event_t>) -> bool;
    pub safe fn location_lmt_excpt(it: &Cell<ngx_http_core_loc_conf_t>) -> bool;
    pub safe fn location_noname(it: &Cell<ngx_http_core_loc_conf_t>) -> bool;
    pub safe fn address_http2(it: &Cell<ngx_http_addr_conf_t>) -> bool;
    pub safe fn set_buffer_last_buf(it: &Cell<ngx_buf_t>, value: bool);
    pub safe fn set_buffer_last_in_chain(it: &Cell<ngx_buf_t>, value: bool);
    /// The text of the variable must have this length.
    pub fn set_variable_len(it: &Cell<ngx_variable_value_t>, value: c_uint);
    pub safe fn set_variable_no_cacheable(it: &Cell<ngx_variable_value_t>, value: bool);
    /// A variable that is found must have a text.
    pub fn set_variable_not_found(it: &Cell<ngx_variable_value_t>, value: bool);
    /// A variable that is valid must have a text, or not be found.
    pub fn set_variable_valid(it: &Cell<ngx_variable_value_t>, value: bool);
    pub safe fn set_url_uri_part(it: &Cell<ngx_url_t>, value: bool);
    pub safe fn set_url_no_resolve(it: &Cell<ngx_url_t>, value: bool);
    pub safe fn url_no_port(it: &Cell<ngx_url_t>) -> bool;
    /// The event must last until the timer is deleted.
    pub fn event_add_timer(it: &Cell<ngx_event_t>, timer: ngx_msec_t);
    /// The timer must be set.
    pub fn event_del_timer(it: &Cell<ngx_event_t>);
    pub safe fn address_quic(it: &Cell<ngx_http_addr_conf_t>) -> bool;
}
