// SPDX-License-Identifier: Apache-2.0

//! Handlers of requests: content handlers, and those of a phase.

use std::ptr::NonNull;

use ngx::ffi::{NGX_HTTP_INTERNAL_SERVER_ERROR, ngx_http_request_t, ngx_int_t};

use crate::nginx::connection::process_log;
use crate::nginx::panic::guard;
use crate::nginx::request::Request;

/// Handles requests.
pub trait RequestHandler {
    /// What a panic is logged under.
    const NAME: &'static str;

    /// Returns what nginx is to do next: `NGX_*`, or the HTTP status that the request ends with.
    fn handle(request: Request<'_>) -> ngx_int_t;
}

/// The type of nginx's handlers.
pub type Handler = unsafe extern "C" fn(*mut ngx_http_request_t) -> ngx_int_t;

/// Calls `T`, for nginx.
pub unsafe extern "C" fn handle<T: RequestHandler>(r: *mut ngx_http_request_t) -> ngx_int_t {
    guard(T::NAME, process_log(), NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t, || {
        // SAFETY: nginx calls its handlers with a valid request. Even if that is finalized in the
        // handler, nginx drops the handler's reference to it only afterwards.
        T::handle(unsafe { Request::from_ptr(NonNull::new_unchecked(r)) })
    })
}
