// SPDX-License-Identifier: Apache-2.0

//! Lua code that takes part in the handshake with a service: `proxy_ssl_certificate_by_lua*` and
//! `proxy_ssl_verify_by_lua*`, which the Lua module has since 0.10.30 where nginx has OpenResty's
//! patch.
//!
//! What that code chooses, and how it judges, depends on the request, and nobody can tell
//! beforehand. So where a location has one of these directives, no connection and no session serves
//! another request, unless the request itself sets its certificate, and no Lua code judges the
//! service.

use crate::upstream::location::inherited::Inherited;

/// What a location has of these directives.
#[derive(Default)]
pub struct LuaHandshakeConf {
    /// Whether there is `proxy_ssl_certificate_by_lua*`.
    pub certificate: Inherited,
    /// Whether there is `proxy_ssl_verify_by_lua*`.
    pub verify: Inherited,
}

impl LuaHandshakeConf {
    /// Takes over what the block around has.
    pub fn merge(&self, around: &Self) {
        let Self { certificate, verify } = self;
        certificate.merge(&around.certificate);
        verify.merge(&around.verify);
    }

    /// `None` if no Lua code takes part.
    pub fn get(&self) -> Option<LuaHandshake> {
        let Self { certificate, verify } = self;
        let judges_service = verify.is_on();
        (certificate.is_on() || judges_service).then_some(LuaHandshake { judges_service })
    }
}

/// What Lua code does in the handshakes of a location.
#[derive(Clone, Copy)]
pub struct LuaHandshake {
    judges_service: bool,
}

impl LuaHandshake {
    /// Whether there is `proxy_ssl_verify_by_lua*`.
    pub fn judges_service(self) -> bool {
        self.judges_service
    }
}
