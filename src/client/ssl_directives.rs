// SPDX-License-Identifier: Apache-2.0

//! Notes what is written in the TLS directives of servers: see `written_directives.rs`.

use crate::conf::ServerConf;
use crate::nginx::conf_parser::ConfParser;
use crate::nginx::directive::{ForeignDirective, Read, ReadAlong};
use crate::nginx::own_conf::OwnConf;

/// What the names of the directives begin with.
const PREFIX: &str = "ssl_";

struct SslDirectives;

impl ReadAlong for SslDirectives {
    fn directives() -> &'static [ForeignDirective] {
        static DIRECTIVES: [ForeignDirective; 1] =
            [ForeignDirective::beginning_with(c"ngx_http_ssl_module", PREFIX)];
        &DIRECTIVES
    }

    fn read(parser: ConfParser<'_>, _number: usize, read: impl FnOnce() -> Read) -> Read {
        // nginx has read the arguments, and may change them.
        if let Some(server) = ServerConf::of_parser(parser) {
            let name = parser.directive();
            let name = name.strip_prefix(PREFIX.as_bytes()).unwrap_or(name);
            server.written_tls.note(name, &parser.arguments());
        }
        read()
    }
}

/// Wraps the directives. To be called in *preconfiguration*.
pub fn preconfiguration(parser: ConfParser<'_>) {
    SslDirectives::wrap(parser);
}

/// Restores the directives. To be called in *postconfiguration*.
pub fn postconfiguration(parser: ConfParser<'_>) {
    SslDirectives::restore(parser);
}
