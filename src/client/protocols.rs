// SPDX-License-Identifier: Apache-2.0

//! The protocols that the servers of a configuration offer to their clients (ALPN; RFC 7301).

use crate::nginx::conf_parser::ConfParser;
use crate::nginx::configuration::ServerFlag;
use crate::nginx::server::ClientConnection;

/// What nginx offers (`NGX_HTTP_V2_ALPN_PROTO NGX_HTTP_ALPN_PROTOS`), in wire format.
const WITH_HTTP2: &[u8] = b"\x02h2\x08http/1.1\x08http/1.0\x08http/0.9";
/// The same without HTTP/2.
const WITHOUT_HTTP2: &[u8] = b"\x08http/1.1\x08http/1.0\x08http/0.9";
/// HTTP/3 over QUIC (`NGX_HTTP_V3_ALPN_PROTO`).
const HTTP3: &[u8] = b"\x02h3";
/// `hq-interop` over QUIC (`NGX_HTTP_V3_HQ_ALPN_PROTO`).
const HTTP3_HQ: &[u8] = b"\x0ahq-interop";
/// Both protocols over QUIC.
const HTTP3_OR_HQ: &[u8] = b"\x02h3\x0ahq-interop";

/// The directives of a server that enable protocols, as far as this nginx has them.
#[derive(Debug)]
pub struct Protocols {
    http2: Option<ServerFlag>,
    http3: Option<ServerFlag>,
    http3_hq: Option<ServerFlag>,
}

impl Protocols {
    pub fn find(parser: ConfParser<'_>) -> Self {
        let flag = |module, directive| parser.module(module)?.server_flag(directive);
        Self {
            http2: flag(c"ngx_http_v2_module", b"http2"),
            http3: flag(c"ngx_http_v3_module", b"http3"),
            http3_hq: flag(c"ngx_http_v3_module", b"http3_hq"),
        }
    }

    /// Returns what nginx would offer to `client`, without HTTP/2 if `http2_disabled`; `None` for
    /// nothing.
    pub fn of(&self, client: ClientConnection<'_>, http2_disabled: bool) -> Option<&'static [u8]> {
        let is_on = |flag: Option<ServerFlag>| flag.is_some_and(|flag| client.is_on(flag));
        if client.speaks_quic() {
            return match (is_on(self.http3), is_on(self.http3_hq)) {
                (true, true) => Some(HTTP3_OR_HQ),
                (true, false) => Some(HTTP3),
                (false, true) => Some(HTTP3_HQ),
                (false, false) => None,
            };
        }
        let speaks_http2 = client.came_to_http2() || is_on(self.http2);
        Some(if speaks_http2 && !http2_disabled { WITH_HTTP2 } else { WITHOUT_HTTP2 })
    }
}
