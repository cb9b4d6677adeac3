// SPDX-License-Identifier: Apache-2.0

//! Notes the Lua code that may ask clients for a certificate, and which servers have any.
//!
//! Nothing but Lua code decides which clients are asked, and with what. So what tells whether a new
//! configuration asks them alike, is that code: the texts of the directives below, and what
//! `init_by_lua*` has loaded and made (`lua/at_init.rs`).

use std::cell::Cell;
use std::fs;

use crate::client::asking;
use crate::conf::{MainConf, ServerConf};
use crate::nginx::conf_parser::ConfParser;
use crate::nginx::directive::{ForeignDirective, Read, ReadAlong};
use crate::nginx::lua::Vm;
use crate::nginx::own_conf::OwnConf;
use crate::nginx::server::Servers;
use crate::openssl::fingerprint::Fingerprint;

/// What is known of the Lua code of a configuration, beside the texts that servers have.
#[derive(Default)]
pub struct LuaCode {
    /// Whether the code is more than what was read with the configuration.
    pub is_open: Cell<bool>,
    /// The VM of the configuration.
    pub vm: Cell<Option<Vm>>,
    /// Digest of what `init_by_lua*` has loaded and made, if that can be told.
    pub at_init: Cell<Option<Fingerprint>>,
}

const CERTIFICATE: &str = "ssl_certificate_by_lua";
const CODE_CACHE: &str = "lua_code_cache";

struct LuaDirectives;

impl ReadAlong for LuaDirectives {
    fn directives() -> &'static [ForeignDirective] {
        const fn all(beginning: &'static str) -> ForeignDirective {
            ForeignDirective::beginning_with(c"ngx_http_lua_module", beginning)
        }
        static DIRECTIVES: [ForeignDirective; 6] = [
            all("init_by_lua"),
            all("init_worker_by_lua"),
            all("ssl_client_hello_by_lua"),
            all(CERTIFICATE),
            all("lua_package_"),
            all(CODE_CACHE),
        ];
        &DIRECTIVES
    }

    fn read(parser: ConfParser<'_>, _number: usize, read: impl FnOnce() -> Read) -> Read {
        // Get these before: for a block, the Lua module reads on past the directive's name.
        let (server, main_conf) = (ServerConf::of_parser(parser), MainConf::of_parser(parser));
        let name = parser.directive();
        let result = read();
        if let (Read::Done, Some(server), Some(main_conf)) = (result, server, main_conf) {
            note(parser, name, server, &main_conf.lua_code);
        }
        result
    }
}

fn note(parser: ConfParser<'_>, name: &[u8], server: &ServerConf, lua_code: &LuaCode) {
    if name.starts_with(CERTIFICATE.as_bytes()) {
        server.certificate_by_lua.set(true);
    }
    let arguments = parser.arguments();
    if name == CODE_CACHE.as_bytes() {
        // In any location: requests there get a VM of their own, which reads all files anew.
        let is_on = arguments.first().is_some_and(|value| value.eq_ignore_ascii_case(b"on"));
        lua_code.is_open.set(lua_code.is_open.get() || !is_on);
        return;
    }
    // A block, a file and a text in quotes are forms of one directive: one of them in a server
    // replaces any other of `http {}`.
    let forms = [&b"_block"[..], b"_file"];
    let form = forms.into_iter().find(|form| name.ends_with(form)).unwrap_or_default();
    let name = name.strip_suffix(form).unwrap_or(name);
    let text = match (arguments.as_slice(), form) {
        ([path], b"_file") => parser.full_name_in_prefix(path).and_then(|path| fs::read(path).ok()),
        ([text], _) => Some(text.to_vec()),
        // The Lua module has kept the text elsewhere.
        _ => None,
    };
    match text {
        Some(text) => {
            let digest = Fingerprint::of([&text[..]]).digest();
            server.written_lua.note(name, &[form, &digest]);
        }
        None => lua_code.is_open.set(true),
    }
}

/// Wraps the directives. To be called in *preconfiguration*.
pub fn preconfiguration(parser: ConfParser<'_>) {
    asking::begin();
    LuaDirectives::wrap(parser);
}

/// Restores the directives, and records whether any server has `ssl_certificate_by_lua*`. To be
/// called in *postconfiguration*.
pub fn postconfiguration(parser: ConfParser<'_>, main_conf: &MainConf) {
    LuaDirectives::restore(parser);
    main_conf.lua_code.vm.set(Vm::of_parser(parser));
    let has_phase = Servers::new(parser).is_some_and(|servers| {
        servers.all().any(|server| {
            ServerConf::of_server(server).is_some_and(|conf| conf.certificate_by_lua.get())
        })
    });
    main_conf.asking.set_has_phase(has_phase);
}
