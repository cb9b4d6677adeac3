// SPDX-License-Identifier: Apache-2.0

//! Detects which locations have `proxy_ssl_certificate_by_lua*` and `proxy_ssl_verify_by_lua*`.

use std::ffi::CStr;

use crate::conf::LocationConf;
use crate::nginx::conf_parser::ConfParser;
use crate::nginx::directive::{ForeignDirective, Read, ReadAlong};
use crate::nginx::own_conf::OwnConf;

const MODULE: &CStr = c"ngx_http_lua_module";

/// The number of directives for the certificate, which come first in the list.
const OF_CERTIFICATE: usize = 2;

struct LuaDirectives;

impl ReadAlong for LuaDirectives {
    fn directives() -> &'static [ForeignDirective] {
        static DIRECTIVES: [ForeignDirective; 4] = [
            ForeignDirective::new(MODULE, "proxy_ssl_certificate_by_lua_block"),
            ForeignDirective::new(MODULE, "proxy_ssl_certificate_by_lua_file"),
            ForeignDirective::new(MODULE, "proxy_ssl_verify_by_lua_block"),
            ForeignDirective::new(MODULE, "proxy_ssl_verify_by_lua_file"),
        ];
        &DIRECTIVES
    }

    fn read(parser: ConfParser<'_>, number: usize, read: impl FnOnce() -> Read) -> Read {
        let result = read();
        if let (Read::Done, Some(location)) = (result, LocationConf::of_parser(parser)) {
            let lua_handshake = &location.lua_handshake;
            let flag = if number < OF_CERTIFICATE {
                &lua_handshake.certificate
            } else {
                &lua_handshake.verify
            };
            // A duplicate directive is the Lua module's error to report.
            let _ = flag.set(true);
        }
        result
    }
}

/// Wraps the directives. To be called in *preconfiguration*.
pub fn preconfiguration(parser: ConfParser<'_>) {
    LuaDirectives::wrap(parser);
}

/// Restores the directives. To be called in *postconfiguration*.
pub fn postconfiguration(parser: ConfParser<'_>) {
    LuaDirectives::restore(parser);
}
