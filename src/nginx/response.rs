// SPDX-License-Identifier: Apache-2.0

//! Sends a complete response.

use std::cell::Cell;
use std::ptr::{self, NonNull};

use ngx::ffi::{
    NGX_HTTP_INTERNAL_SERVER_ERROR, NGX_HTTP_OK, NGX_OK, ngx_chain_t, ngx_create_temp_buf,
    ngx_http_discard_request_body, ngx_http_output_filter, ngx_http_send_header, ngx_int_t,
    ngx_list_push, ngx_table_elt_t,
};

use crate::nginx::bitfields;
use crate::nginx::configuration::string;
use crate::nginx::request::Request;

/// Answers `request` with `body`, uncacheable. Returns the value for a content handler to return.
pub fn send(request: Request<'_>, content_type: &'static str, body: &[u8]) -> ngx_int_t {
    const FAILED: ngx_int_t = NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;

    let r = request.as_ptr();
    // SAFETY: the request is valid, and nginx only notes what to do with its body.
    let status = unsafe { ngx_http_discard_request_body(r) };
    if status != NGX_OK as ngx_int_t {
        return status;
    }

    // Allocate before the header is sent: afterwards there is no way to answer with an error.
    // SAFETY: the pool is valid. The buffer is NULL, or in the pool.
    let buffer = unsafe { ngx_create_temp_buf(request.pool().as_ptr(), body.len()).as_mut() };
    let Some(buffer) = buffer else {
        return FAILED;
    };
    // From here on, the header is part of the response: it must be written at once.
    // SAFETY: this is a list of headers, and a new one is NULL, or in the pool.
    let header = unsafe { ngx_list_push(&raw mut (*r).headers_out.headers) };
    let Some(mut header) = NonNull::new(header.cast::<ngx_table_elt_t>()) else {
        return FAILED;
    };
    // SAFETY: nothing else refers to the new header, and zero is a value of all its fields.
    let header = unsafe {
        header.write_bytes(0, 1);
        header.as_mut()
    };
    header.hash = 1;
    header.key = string("Cache-Control");
    header.value = string("no-store");

    // SAFETY: the headers are part of the request, and nothing else refers to them.
    let headers = unsafe { &mut (*r).headers_out };
    headers.status = NGX_HTTP_OK as usize;
    headers.content_length_n = body.len() as i64;
    headers.content_type = string(content_type);
    // Filters compare the type without its parameters.
    headers.content_type_len = content_type.split(';').next().unwrap_or_default().len();
    // SAFETY: the request is valid, and its headers are complete.
    let status = unsafe { ngx_http_send_header(r) };
    if status != NGX_OK as ngx_int_t || request.is_header_only() {
        return status;
    }

    // SAFETY: the buffer has room for the body, and is empty.
    unsafe {
        buffer.last.copy_from_nonoverlapping(body.as_ptr(), body.len());
        buffer.last = buffer.last.add(body.len());
    }
    bitfields::set_buffer_last_buf(Cell::from_mut(buffer), request.is_main());
    bitfields::set_buffer_last_in_chain(Cell::from_mut(buffer), true);
    let mut chain = ngx_chain_t { buf: buffer, next: ptr::null_mut() };
    // SAFETY: nginx copies the chain, and the buffer is in the request's pool.
    unsafe { ngx_http_output_filter(r, &raw mut chain) }
}
