// SPDX-License-Identifier: Apache-2.0

//! Handles a client's request before any of its phases: see `misdirected.rs` and
//! `guarded_headers.rs`.

use ngx::ffi::{
    NGX_DECLINED, NGX_HTTP_INTERNAL_SERVER_ERROR, NGX_HTTP_MISDIRECTED_REQUEST, ngx_int_t,
};

use crate::client::{guarded_headers, misdirected};
use crate::conf::{MainConf, ServerConf};
use crate::nginx::conf_parser::ConfParser;
use crate::nginx::own_conf::OwnConf;
use crate::nginx::pool::OutOfMemory;
use crate::nginx::request::Request;
use crate::nginx::request_handler::RequestHandler;
use crate::nginx::server::Servers;

/// Makes nginx call the handler for each request, if any server needs it. To be called in
/// *postconfiguration*.
pub fn postconfiguration(parser: ConfParser<'_>, main_conf: &MainConf) -> Result<(), OutOfMemory> {
    let Some(servers) = Servers::new(parser) else {
        return Ok(());
    };
    let is_stripped = servers
        .all()
        .any(|server| ServerConf::of_server(server).is_some_and(ServerConf::strips_headers));
    if main_conf.asking.has_phase() || is_stripped {
        servers.handle_each_request::<PostRead>()?;
    }
    Ok(())
}

struct PostRead;

impl RequestHandler for PostRead {
    const NAME: &'static str = "request";

    fn handle(request: Request<'_>) -> ngx_int_t {
        let misdirected = misdirected::check(request);
        if let Some(misdirected) = &misdirected {
            request.log().info(format_args!("misdirected request: {misdirected}"));
            request.go_to_server_of_connection();
        }
        // Before the error is returned: an error page may read the headers too.
        if let Err(error) = guarded_headers::strip_early(request) {
            request.log().error(format_args!("could not take headers from the request: {error}"));
            return NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;
        }
        if misdirected.is_some() {
            return NGX_HTTP_MISDIRECTED_REQUEST as ngx_int_t;
        }
        NGX_DECLINED as ngx_int_t
    }
}
