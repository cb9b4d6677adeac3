// SPDX-License-Identifier: Apache-2.0

//! The content handler of locations with `kong_tls_status`.

use std::cell::RefCell;

use ngx::ffi::{
    NGX_HTTP_BAD_REQUEST, NGX_HTTP_INTERNAL_SERVER_ERROR, NGX_HTTP_NOT_ALLOWED, ngx_int_t,
};

use crate::conf::MainConf;
use crate::nginx::own_conf::OwnConf;
use crate::nginx::pool::OutOfMemory;
use crate::nginx::request::Request;
use crate::nginx::request_handler::RequestHandler;
use crate::nginx::{response, time};
use crate::session_zone::zone::SessionZone;
use crate::status::format::Format;
use crate::status::history::History;
use crate::status::{Status, counters};

thread_local! {
    /// What this worker has shown before.
    static HISTORY: RefCell<History> = const { RefCell::new(History::new()) };
}

pub struct StatusPage;

impl RequestHandler for StatusPage {
    const NAME: &'static str = "kong_tls_status";

    fn handle(request: Request<'_>) -> ngx_int_t {
        if !request.is_get_or_head() {
            return NGX_HTTP_NOT_ALLOWED as ngx_int_t;
        }
        // Several header lines form one list (RFC 9110, section 5.3).
        let accept: Vec<_> = request.headers(b"accept").map(String::from_utf8_lossy).collect();
        let accept = (!accept.is_empty()).then(|| accept.join(","));
        let Ok(format) = Format::negotiate(request.argument("format"), accept.as_deref()) else {
            return NGX_HTTP_BAD_REQUEST as ngx_int_t;
        };
        let counters = counters::current();
        let now = u64::try_from(time::now().date).unwrap_or_default();
        let zone = MainConf::of_request(request).and_then(MainConf::session_zone);
        let session_zone = zone.and_then(SessionZone::totals);
        let body = HISTORY.with_borrow_mut(|history| {
            let recent = match format {
                Format::Html => history.advance(time::monotonic(), counters),
                Format::Json | Format::Prometheus => None,
            };
            format.render(&Status { recent, session_zone, ..Status::of(counters, now) })
        });
        let status = response::send(request, format.content_type(), body.as_bytes());
        if status == NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t {
            request.log().error(format_args!("kong_tls_status: {OutOfMemory}"));
        }
        status
    }
}
