// SPDX-License-Identifier: Apache-2.0

//! URLs, as nginx parses them.

use std::cell::Cell;
use std::mem::zeroed;

use ngx::ffi::{NGX_OK, ngx_int_t, ngx_parse_url, ngx_str_t, ngx_url_t};

use crate::nginx::bitfields;
use crate::nginx::configuration::bytes;
use crate::nginx::request::Request;

/// Returns the host of the URL `text`, which has no scheme. `None` if `text` names a port or is not
/// a valid URL.
pub fn host_without_port<'a>(request: Request<'a>, text: &'a [u8]) -> Option<&'a [u8]> {
    // SAFETY: nginx expects a zeroed structure, in which all fields have a value.
    let mut url: ngx_url_t = unsafe { zeroed() };
    url.url = ngx_str_t { len: text.len(), data: text.as_ptr().cast_mut() };
    bitfields::set_url_uri_part(Cell::from_mut(&mut url), true);
    bitfields::set_url_no_resolve(Cell::from_mut(&mut url), true);
    // SAFETY: nginx only reads the text. What it allocates is in the request's pool.
    let status = unsafe { ngx_parse_url(request.pool().as_ptr(), &raw mut url) };
    let has_no_port = bitfields::url_no_port(Cell::from_mut(&mut url));
    // SAFETY: the host is a part of the text.
    (status == NGX_OK as ngx_int_t && has_no_port).then(|| unsafe { bytes(url.host) })
}
