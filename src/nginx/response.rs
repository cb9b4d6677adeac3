// SPDX-License-Identifier: Apache-2.0

//! Sends a complete response.

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

    // SAFETY: the request is valid, and no part of its response was sent. The strings that are set
    // are static, the rest is in the request's pool; each allocation is checked.
    unsafe {
        let r = request.as_ptr();
        let status = ngx_http_discard_request_body(r);
        if status != NGX_OK as ngx_int_t {
            return status;
        }

        // Allocate before the header is sent: afterwards there is no way to answer with an error.
        let buffer = ngx_create_temp_buf((*r).pool, body.len());
        if buffer.is_null() {
            return FAILED;
        }
        let header = ngx_list_push(&raw mut (*r).headers_out.headers).cast::<ngx_table_elt_t>();
        if header.is_null() {
            return FAILED;
        }
        header.write_bytes(0, 1);
        (*header).hash = 1;
        (*header).key = string("Cache-Control");
        (*header).value = string("no-store");

        (*r).headers_out.status = NGX_HTTP_OK as usize;
        (*r).headers_out.content_length_n = body.len() as i64;
        (*r).headers_out.content_type = string(content_type);
        // Filters compare the type without its parameters.
        let media_type = content_type.split(';').next().unwrap_or_default();
        (*r).headers_out.content_type_len = media_type.len();
        let status = ngx_http_send_header(r);
        if status != NGX_OK as ngx_int_t || bitfields::request_header_only(r) != 0 {
            return status;
        }

        (*buffer).last.copy_from_nonoverlapping(body.as_ptr(), body.len());
        (*buffer).last = (*buffer).last.add(body.len());
        bitfields::set_buffer_last_buf(buffer, request.is_main().into());
        bitfields::set_buffer_last_in_chain(buffer, 1);
        let mut chain = ngx_chain_t { buf: buffer, next: std::ptr::null_mut() };
        ngx_http_output_filter(r, &raw mut chain)
    }
}
