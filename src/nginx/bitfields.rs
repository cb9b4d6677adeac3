// SPDX-License-Identifier: Apache-2.0

//! Access to nginx's bitfields. See `bitfields.c`.
//!
//! Each function reads or writes one field of the structure that it gets a pointer to, which must
//! be valid.

#![allow(missing_docs, reason = "named after the structure and the field")]

use std::ffi::{c_uint, c_void};

use ngx::ffi::{
    ngx_buf_t, ngx_connection_t, ngx_event_t, ngx_http_addr_conf_t, ngx_http_core_loc_conf_t,
    ngx_http_request_t, ngx_http_upstream_t, ngx_msec_t, ngx_peer_connection_t,
    ngx_ssl_connection_t, ngx_str_t, ngx_url_t, ngx_variable_value_t,
};

unsafe extern "C" {
    pub fn request_filter_finalize(it: *const ngx_http_request_t) -> c_uint;
    pub fn request_header_only(it: *const ngx_http_request_t) -> c_uint;
    pub fn request_request_body_no_buffering(it: *const ngx_http_request_t) -> c_uint;
    pub fn request_internal(it: *const ngx_http_request_t) -> c_uint;
    pub fn upstream_keepalive(it: *const ngx_http_upstream_t) -> c_uint;
    pub fn set_upstream_keepalive(it: *mut ngx_http_upstream_t, value: c_uint);
    pub fn upstream_request_body_sent(it: *const ngx_http_upstream_t) -> c_uint;
    pub fn set_upstream_request_body_sent(it: *mut ngx_http_upstream_t, value: c_uint);
    pub fn upstream_request_sent(it: *const ngx_http_upstream_t) -> c_uint;
    /// Returns NULL before nginx 1.29.4.
    pub fn upstream_ssl_alpn_protocol(it: *const ngx_http_upstream_t) -> *const ngx_str_t;
    pub fn upstream_ssl(it: *const ngx_http_upstream_t) -> c_uint;
    pub fn peer_cached(it: *const ngx_peer_connection_t) -> c_uint;
    pub fn set_peer_cached(it: *mut ngx_peer_connection_t, value: c_uint);
    /// Returns NULL before nginx 1.29.6.
    pub fn peer_sid(it: *const ngx_peer_connection_t) -> *mut c_void;
    pub fn set_peer_sid(it: *mut ngx_peer_connection_t, value: *mut c_void);
    pub fn peer_log_error(it: *const ngx_peer_connection_t) -> c_uint;
    pub fn connection_error(it: *const ngx_connection_t) -> c_uint;
    pub fn connection_close(it: *const ngx_connection_t) -> c_uint;
    pub fn set_connection_idle(it: *mut ngx_connection_t, value: c_uint);
    pub fn set_connection_log_error(it: *mut ngx_connection_t, value: c_uint);
    pub fn ssl_handshaked(it: *const ngx_ssl_connection_t) -> c_uint;
    pub fn set_ssl_handshake_rejected(it: *mut ngx_ssl_connection_t, value: c_uint);
    pub fn set_ssl_no_send_shutdown(it: *mut ngx_ssl_connection_t, value: c_uint);
    pub fn set_ssl_no_wait_shutdown(it: *mut ngx_ssl_connection_t, value: c_uint);
    pub fn set_event_delayed(it: *mut ngx_event_t, value: c_uint);
    pub fn event_eof(it: *const ngx_event_t) -> c_uint;
    pub fn event_error(it: *const ngx_event_t) -> c_uint;
    pub fn event_ready(it: *const ngx_event_t) -> c_uint;
    pub fn set_event_ready(it: *mut ngx_event_t, value: c_uint);
    pub fn event_timedout(it: *const ngx_event_t) -> c_uint;
    pub fn event_timer_set(it: *const ngx_event_t) -> c_uint;
    pub fn location_lmt_excpt(it: *const ngx_http_core_loc_conf_t) -> c_uint;
    pub fn location_noname(it: *const ngx_http_core_loc_conf_t) -> c_uint;
    pub fn address_http2(it: *const ngx_http_addr_conf_t) -> c_uint;
    pub fn set_buffer_last_buf(it: *mut ngx_buf_t, value: c_uint);
    pub fn set_buffer_last_in_chain(it: *mut ngx_buf_t, value: c_uint);
    pub fn set_variable_len(it: *mut ngx_variable_value_t, value: c_uint);
    pub fn set_variable_no_cacheable(it: *mut ngx_variable_value_t, value: c_uint);
    pub fn set_variable_not_found(it: *mut ngx_variable_value_t, value: c_uint);
    pub fn set_variable_valid(it: *mut ngx_variable_value_t, value: c_uint);
    pub fn set_url_uri_part(it: *mut ngx_url_t, value: c_uint);
    pub fn set_url_no_resolve(it: *mut ngx_url_t, value: c_uint);
    pub fn url_no_port(it: *const ngx_url_t) -> c_uint;
    pub fn event_add_timer(it: *mut ngx_event_t, timer: ngx_msec_t);
    pub fn event_del_timer(it: *mut ngx_event_t);
    pub fn address_quic(it: *const ngx_http_addr_conf_t) -> c_uint;
}
