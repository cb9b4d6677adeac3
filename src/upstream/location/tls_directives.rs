// SPDX-License-Identifier: Apache-2.0

//! Notes what is written in the TLS directives of nginx's modules: see `written_directives.rs`.

use crate::conf::LocationConf;
use crate::nginx::conf_parser::ConfParser;
use crate::nginx::directive::{ForeignDirective, Read, ReadAlong};
use crate::nginx::own_conf::OwnConf;
use crate::nginx::upstream_conf::TLS_MODULES;

struct TlsDirectives;

impl ReadAlong for TlsDirectives {
    fn directives() -> &'static [ForeignDirective] {
        static DIRECTIVES: [ForeignDirective; TLS_MODULES.len()] = {
            const fn all_of(number: usize) -> ForeignDirective {
                let module = &TLS_MODULES[number];
                ForeignDirective::beginning_with(module.name, module.prefix)
            }
            [all_of(0), all_of(1), all_of(2)]
        };
        &DIRECTIVES
    }

    fn read(parser: ConfParser<'_>, number: usize, read: impl FnOnce() -> Read) -> Read {
        // nginx has read the arguments, and may change them.
        if let Some(location) = LocationConf::of_parser(parser) {
            let prefix = TLS_MODULES[number].prefix.as_bytes();
            let name = parser.directive();
            let name = name.strip_prefix(prefix).unwrap_or(name);
            location.written_tls[number].note(name, &parser.arguments());
        }
        read()
    }
}

/// Wraps the directives. To be called in *preconfiguration*.
pub fn preconfiguration(parser: ConfParser<'_>) {
    TlsDirectives::wrap(parser);
}

/// Restores the directives. To be called in *postconfiguration*.
pub fn postconfiguration(parser: ConfParser<'_>) {
    TlsDirectives::restore(parser);
}
