// SPDX-License-Identifier: Apache-2.0

//! URLs, as nginx reads them.

use std::mem::zeroed;

use ngx::ffi::{NGX_OK, ngx_int_t, ngx_parse_url, ngx_url_t};

use crate::nginx::configuration::bytes;
use crate::nginx::request::Request;

/// The host of `text`, which is a URL without a scheme, where it names no port. `None` if it does,
/// or if it is none.
pub fn host_without_port<'a>(request: Request<'a>, text: &'a [u8]) -> Option<&'a [u8]> {
    // SAFETY: the structure is nginx's, for which zero is empty. nginx only reads the text; what it
    // makes of it lives in the pool of the request.
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
