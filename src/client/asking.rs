//! Which servers Lua code may ask the clients of for a certificate.
//!
//! That is where nginx can't know that clients are verified, and we keep guard in its place. Who
//! can't ask, because there is no `ssl_certificate_by_lua*` or because nobody has loaded
//! `resty.kong.tls` or `resty.kong.pdk`, has nginx as it is.

use std::cell::Cell;
use std::ffi::{c_char, c_void};
use std::sync::atomic::{AtomicBool, Ordering};

use ngx::ffi::{ngx_command_t, ngx_conf_t};

use crate::directives::{NGX_CONF_ERROR, NGX_CONF_OK};
use crate::module::{self, MainConf, ServerConf};
use crate::nginx::connection::process_log;
use crate::nginx::directive::ForeignDirective;
use crate::nginx::panic::guard;
use crate::nginx::server::Servers;

static CERTIFICATE_BY_LUA: [ForeignDirective; 2] = [
    ForeignDirective::new(c"ngx_http_lua_module", "ssl_certificate_by_lua_block"),
    ForeignDirective::new(c"ngx_http_lua_module", "ssl_certificate_by_lua_file"),
];

/// Whether Lua code has loaded a library with the function, since a configuration began to be read.
static LIBRARY_LOADED: AtomicBool = AtomicBool::new(false);

/// To be called when Lua code gets hold of the function.
pub fn library_is_loaded() {
    LIBRARY_LOADED.store(true, Ordering::Relaxed);
}

/// What we keep for `http {}`.
#[derive(Default)]
pub struct Asking {
    /// Whether a server has `ssl_certificate_by_lua*`.
    has_phase: Cell<bool>,
    /// Whether the library was loaded when the configuration was complete.
    library_loaded: Cell<bool>,
}

impl Asking {
    /// Whether Lua code may ask a client of whatever server.
    pub fn is_possible(&self) -> bool {
        let is_loaded = self.library_loaded.get() || LIBRARY_LOADED.load(Ordering::Relaxed);
        self.has_phase.get() && is_loaded
    }

    /// Whether a server has `ssl_certificate_by_lua*`.
    pub fn has_phase(&self) -> bool {
        self.has_phase.get()
    }

    /// Keeps that the library is loaded, if it is: the next configuration may be without. To be
    /// called when the configuration is complete, with all that `init_by_lua*` has done.
    pub fn complete(&self) {
        self.library_loaded.set(LIBRARY_LOADED.load(Ordering::Relaxed));
    }
}

/// Puts ours before the directives. To be called in *preconfiguration*.
///
/// # Safety
/// `cf` must be valid.
pub unsafe fn preconfiguration(cf: *mut ngx_conf_t) {
    LIBRARY_LOADED.store(false, Ordering::Relaxed);
    for directive in &CERTIFICATE_BY_LUA {
        // SAFETY: `cf` is valid by contract, and `note` is a function that reads a directive.
        unsafe { directive.wrap(cf, note) };
    }
}

/// Leaves the directives as they were, and keeps which servers have them. To be called in
/// *postconfiguration*.
///
/// # Safety
/// `cf` must be valid, and inside `http {}`, with all of it read, and `main_conf` ours of it.
pub unsafe fn postconfiguration(cf: *mut ngx_conf_t, main_conf: &MainConf) {
    // SAFETY: `cf` is valid and inside `http {}` by contract; what is at our index is our
    // configuration.
    unsafe {
        for directive in &CERTIFICATE_BY_LUA {
            directive.restore(cf);
        }
        let has_phase = Servers::new(cf).is_some_and(|servers| {
            servers.all().any(|server| {
                let conf: Option<&ServerConf> = server.configuration(module::index());
                conf.is_some_and(|conf| conf.certificate_by_lua.get())
            })
        });
        main_conf.asking.has_phase.set(has_phase);
    }
}

/// nginx calls where it reads one of the directives.
unsafe extern "C" fn note(
    cf: *mut ngx_conf_t,
    command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    guard("ssl_certificate_by_lua", process_log(), NGX_CONF_ERROR, || {
        // SAFETY: nginx calls with a valid `cf`, at a directive whose `set` is ours, in `http {}`
        // or in a server.
        unsafe {
            let mut known = CERTIFICATE_BY_LUA.iter();
            let Some(directive) = known.find(|directive| directive.is(command)) else {
                return NGX_CONF_ERROR;
            };
            // The Lua module reads on behind the name of a block.
            let server = module::is_loaded(cf).then(|| module::server_conf(cf)).flatten();
            let status = directive.read(cf, command, conf).unwrap_or(NGX_CONF_ERROR);
            // See `pass::read`.
            if let Some(server) = server.filter(|_| status == NGX_CONF_OK) {
                server.certificate_by_lua.set(true);
            }
            status
        }
    })
}
