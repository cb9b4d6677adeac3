// SPDX-License-Identifier: Apache-2.0

//! Detects which servers have `ssl_certificate_by_lua*`.

use crate::client::asking;
use crate::conf::{MainConf, ServerConf};
use crate::nginx::conf_parser::ConfParser;
use crate::nginx::directive::{ForeignDirective, Read, ReadAlong};
use crate::nginx::own_conf::OwnConf;
use crate::nginx::server::Servers;

struct CertificateByLua;

impl ReadAlong for CertificateByLua {
    fn directives() -> &'static [ForeignDirective] {
        static DIRECTIVES: [ForeignDirective; 2] = [
            ForeignDirective::new(c"ngx_http_lua_module", "ssl_certificate_by_lua_block"),
            ForeignDirective::new(c"ngx_http_lua_module", "ssl_certificate_by_lua_file"),
        ];
        &DIRECTIVES
    }

    fn read(parser: ConfParser<'_>, _number: usize, read: impl FnOnce() -> Read) -> Read {
        // Get the server before that: for a block, the Lua module reads on past the directive's
        // name.
        let server = ServerConf::of_parser(parser);
        let result = read();
        if let (Read::Done, Some(server)) = (result, server) {
            server.certificate_by_lua.set(true);
        }
        result
    }
}

/// Wraps the directives. To be called in *preconfiguration*.
pub fn preconfiguration(parser: ConfParser<'_>) {
    asking::begin();
    CertificateByLua::wrap(parser);
}

/// Restores the directives, and records whether any server has them. To be called in
/// *postconfiguration*.
pub fn postconfiguration(parser: ConfParser<'_>, main_conf: &MainConf) {
    CertificateByLua::restore(parser);
    let has_phase = Servers::new(parser).is_some_and(|servers| {
        servers.all().any(|server| {
            ServerConf::of_server(server).is_some_and(|conf| conf.certificate_by_lua.get())
        })
    });
    main_conf.asking.set_has_phase(has_phase);
}
