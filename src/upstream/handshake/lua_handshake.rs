// SPDX-License-Identifier: Apache-2.0

//! Lua code that takes part in the handshake with a service: `proxy_ssl_certificate_by_lua*` and
//! `proxy_ssl_verify_by_lua*`, which the Lua module has since 0.10.30, on an nginx with OpenResty's
//! patch.
//!
//! The certificate such code chooses, and its verdict, depend on the request and can't be known
//! beforehand. So where a location has one of these directives, its connections and sessions serve
//! no other request, unless the request itself sets its certificate and no Lua code verifies the
//! service.

use crate::upstream::location::inherited::Inherited;

/// Which of these directives a location has.
#[derive(Default)]
pub struct LuaHandshakeConf {
    /// Whether the location has `proxy_ssl_certificate_by_lua*`.
    pub certificate: Inherited,
    /// Whether the location has `proxy_ssl_verify_by_lua*`.
    pub verify: Inherited,
}

impl LuaHandshakeConf {
    /// Merges the values of the enclosing block.
    pub fn merge(&self, around: &Self) {
        let Self { certificate, verify } = self;
        certificate.merge(&around.certificate);
        verify.merge(&around.verify);
    }

    /// Returns what Lua code does in the location's handshakes, `None` if it takes no part.
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
    /// Returns whether the location has `proxy_ssl_verify_by_lua*`.
    pub fn judges_service(self) -> bool {
        self.judges_service
    }
}
