// SPDX-License-Identifier: Apache-2.0

//! URLs, as nginx parses them.

use std::mem::zeroed;

use ngx::ffi::{NGX_OK, ngx_int_t, ngx_parse_url, ngx_url_t};

use crate::nginx::configuration::bytes;
use crate::nginx::request::Request;

/// Returns the host of the URL `text`, which has no scheme. `None` if `text` names a port or is not
/// a valid URL.
pub fn host_without_port<'a>(request: Request<'a>, text: &'a [u8]) -> Option<&'a [u8]> {
    // SAFETY: nginx expects a zeroed `ngx_url_t`. It only reads the text; what it allocates is in
    // the request's pool.
    unsafe {
        let mut url: ngx_url_t = zeroed();
        url.url.len = text.len();
        url.url.data = text.as_ptr().cast_mut();
        super::bitfields::set_url_uri_part(&raw mut url, 1);
        super::bitfields::set_url_no_resolve(&raw mut url, 1);
        let status = ngx_parse_url(request.pool().as_ptr(), &raw mut url);
        let has_no_port = super::bitfields::url_no_port(&raw const url) != 0;
        (status == NGX_OK as ngx_int_t && has_no_port).then(|| bytes(url.host))
    }
}
