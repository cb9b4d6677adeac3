// SPDX-License-Identifier: Apache-2.0

//! The content handler of locations with `kong_tls_status`.

#![allow(unsafe_code, reason = "nginx calls it")]

use std::ptr::NonNull;

use ngx::ffi::{
    NGX_HTTP_BAD_REQUEST, NGX_HTTP_INTERNAL_SERVER_ERROR, NGX_HTTP_NOT_ALLOWED, ngx_http_request_t,
    ngx_int_t,
};

use crate::nginx::connection::process_log;
use crate::nginx::panic::guard;
use crate::nginx::pool::OutOfMemory;
use crate::nginx::request::Request;
use crate::nginx::response;
use crate::status::counters;
use crate::status::format::Format;

pub unsafe extern "C" fn handle(r: *mut ngx_http_request_t) -> ngx_int_t {
    let failed = NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;
    guard("kong_tls_status", process_log(), failed, || {
        // SAFETY: nginx calls content handlers with a valid request.
        let request = unsafe { Request::from_ptr(NonNull::new_unchecked(r)) };
        if !request.is_get_or_head() {
            return NGX_HTTP_NOT_ALLOWED as ngx_int_t;
        }
        // Several header lines form one list (RFC 9110, section 5.3).
        let accept: Vec<_> = request.headers(b"accept").map(String::from_utf8_lossy).collect();
        let accept = (!accept.is_empty()).then(|| accept.join(","));
        let Ok(format) = Format::negotiate(request.argument("format"), accept.as_deref()) else {
            return NGX_HTTP_BAD_REQUEST as ngx_int_t;
        };
        let body = format.render(counters::current());
        let status = response::send(request, format.content_type(), body.as_bytes());
        if status == failed {
            request.log().error(format_args!("kong_tls_status: {OutOfMemory}"));
        }
        status
    })
}
