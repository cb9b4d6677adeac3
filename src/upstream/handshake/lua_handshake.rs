//! Lua code that takes part in the handshake with a service: `proxy_ssl_certificate_by_lua*` and
//! `proxy_ssl_verify_by_lua*`, which the Lua module has since 0.10.30 where nginx has OpenResty's
//! patch.
//!
//! What that code chooses, and how it judges, depends on the request, and nobody can tell
//! beforehand. So where a location has one of these directives, no connection and no session serves
//! another request, unless the request itself sets its certificate, and no Lua code judges the
//! service.

use std::ffi::{c_char, c_void};

use ngx::ffi::{ngx_command_t, ngx_conf_t};

use crate::directives::{NGX_CONF_ERROR, NGX_CONF_OK};
use crate::module;
use crate::nginx::connection::process_log;
use crate::nginx::directive::ForeignDirective;
use crate::nginx::panic::guard;
use crate::upstream::location::inherited::Inherited;

/// What a location has of these directives.
#[derive(Default)]
pub struct LuaHandshakeConf {
    certificate: Inherited,
    verify: Inherited,
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

const MODULE: &std::ffi::CStr = c"ngx_http_lua_module";

static CERTIFICATE: [ForeignDirective; 2] = [
    ForeignDirective::new(MODULE, "proxy_ssl_certificate_by_lua_block"),
    ForeignDirective::new(MODULE, "proxy_ssl_certificate_by_lua_file"),
];

static VERIFY: [ForeignDirective; 2] = [
    ForeignDirective::new(MODULE, "proxy_ssl_verify_by_lua_block"),
    ForeignDirective::new(MODULE, "proxy_ssl_verify_by_lua_file"),
];

/// Puts ours before the directives. To be called in *preconfiguration*.
///
/// # Safety
/// `cf` must be valid.
pub unsafe fn preconfiguration(cf: *mut ngx_conf_t) {
    for directive in CERTIFICATE.iter().chain(&VERIFY) {
        // SAFETY: `cf` is valid, and `read` answers for all of these.
        unsafe { directive.wrap(cf, read) };
    }
}

/// Leaves the directives as they were. To be called in *postconfiguration*.
///
/// # Safety
/// `cf` must be valid.
pub unsafe fn postconfiguration(cf: *mut ngx_conf_t) {
    for directive in CERTIFICATE.iter().chain(&VERIFY) {
        // SAFETY: `cf` is valid.
        unsafe { directive.restore(cf) };
    }
}

/// nginx calls where it reads one of the directives.
unsafe extern "C" fn read(
    cf: *mut ngx_conf_t,
    command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    guard("directive of the Lua module", process_log(), NGX_CONF_ERROR, || {
        // SAFETY: nginx calls with a valid `cf` at a directive whose `set` is ours.
        unsafe {
            let is_this = |directive: &&ForeignDirective| directive.is(command);
            let certificate = CERTIFICATE.iter().find(is_this);
            let Some(directive) = certificate.or_else(|| VERIFY.iter().find(is_this)) else {
                return NGX_CONF_ERROR;
            };
            let status = directive.read(cf, command, conf).unwrap_or(NGX_CONF_ERROR);
            // See `pass::read`.
            if status == NGX_CONF_OK && module::is_loaded(cf) {
                if let Some(location) = module::location_conf(cf) {
                    let LuaHandshakeConf { certificate: chooses, verify: judges } =
                        &location.lua_handshake;
                    let flag = if certificate.is_some() { chooses } else { judges };
                    // That it stands there twice is for the Lua module to refuse.
                    let _ = flag.set(true);
                }
            }
            status
        }
    })
}
