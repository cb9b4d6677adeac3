// SPDX-License-Identifier: Apache-2.0

//! What nginx adds to the error lines of a request ("client: ..., request: ..., upstream: ...").

use std::cell::Cell;
use std::ptr::{self, NonNull};

use ngx::ffi::{ngx_http_log_handler_pt, ngx_http_request_t, u_char};

use crate::nginx::connection::process_log;
use crate::nginx::panic::guard;
use crate::nginx::request::Request;

/// Adds to the error lines of a request.
pub trait LogContext {
    /// Returns what to add to a line about `request`. Must write no line itself.
    fn describe(request: Request<'_>) -> String;

    /// Adds to all error lines from now on that are about `request`, or about another one of the
    /// same client's request.
    fn add_to(request: Request<'_>)
    where
        Self: Sized,
    {
        let main = request.main().as_ptr();
        let ours: Function = add::<Self>;
        // SAFETY: the main request outlives its subrequests.
        let Some(handler) = (unsafe { (*main).log_handler }) else {
            return;
        };
        if ptr::fn_addr_eq(handler, ours) {
            return;
        }
        // nginx itself has one function for all requests.
        let original = ORIGINAL.get().unwrap_or(handler);
        if !ptr::fn_addr_eq(handler, original) {
            return;
        }
        ORIGINAL.set(Some(original));
        // SAFETY: the function calls the one that it replaces, with its arguments.
        unsafe { (*main).log_handler = Some(ours) };
    }
}

/// `ngx_http_log_handler_pt`
type Function = unsafe extern "C" fn(
    *mut ngx_http_request_t,
    *mut ngx_http_request_t,
    *mut u_char,
    usize,
) -> *mut u_char;

thread_local! {
    static ORIGINAL: Cell<ngx_http_log_handler_pt> = const { Cell::new(None) };
}

/// Writes at most `length` bytes to `buffer`, and returns their end.
unsafe extern "C" fn add<T: LogContext>(
    main: *mut ngx_http_request_t,
    current: *mut ngx_http_request_t,
    buffer: *mut u_char,
    length: usize,
) -> *mut u_char {
    let end = match ORIGINAL.get() {
        // SAFETY: the original function gets its own arguments.
        Some(original) => unsafe { original(main, current, buffer, length) },
        None => buffer,
    };
    // SAFETY: nginx passes the request that the line is about, or NULL.
    let request = NonNull::new(current).map(|current| unsafe { Request::from_ptr(current) });
    let text = guard("error line", process_log(), String::new(), || {
        request.map(T::describe).unwrap_or_default()
    });
    // SAFETY: the original function has written to the buffer, and returns the end of that.
    let written = unsafe { end.offset_from(buffer) };
    let room = length.saturating_sub(usize::try_from(written).unwrap_or(usize::MAX));
    let added = text.len().min(room);
    // SAFETY: there is room for as many bytes behind what was written.
    unsafe {
        ptr::copy_nonoverlapping(text.as_ptr(), end, added);
        end.add(added)
    }
}
