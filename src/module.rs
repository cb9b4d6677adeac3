// SPDX-License-Identifier: Apache-2.0

//! The module as nginx sees it, and what it does when nginx reads a configuration.

#![allow(unsafe_code, reason = "nginx calls it")]

use std::ffi::{c_char, c_void};
use std::fmt::Display;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use ngx::ffi::{
    NGX_ERROR, NGX_HTTP_MODULE, NGX_OK, ngx_conf_t, ngx_cycle_t, ngx_http_module_t, ngx_int_t,
    ngx_module_t, ngx_uint_t,
};

use crate::client::{alpn, certificate_by_lua, post_read, resumption};
use crate::conf::{self, LocationConf, MainConf, ServerConf};
use crate::directives::NGX_HTTP_KONG_TLS_COMMANDS;
use crate::lua::preload;
use crate::nginx::conf_parser::{ConfParser, NGX_CONF_ERROR, NGX_CONF_OK};
use crate::nginx::connection::process_log;
use crate::nginx::cycle::Cycle;
use crate::nginx::panic::guard;
use crate::nginx::{layout, this_module};
use crate::openssl::{folder, version};
use crate::upstream::handshake::lua_directives;
use crate::upstream::location::enforcement::Violation;
use crate::upstream::location::install::{self, InvalidLocation};
use crate::upstream::peer::{balancers, choice};
use crate::{variables, worker};

static NGX_HTTP_KONG_TLS_MODULE_CTX: ngx_http_module_t = ngx_http_module_t {
    preconfiguration: Some(preconfiguration),
    postconfiguration: Some(postconfiguration),
    create_main_conf: Some(create_main_conf),
    init_main_conf: None,
    create_srv_conf: Some(create_conf::<ServerConf>),
    merge_srv_conf: Some(merge_srv_conf),
    create_loc_conf: Some(create_conf::<LocationConf>),
    merge_loc_conf: Some(merge_loc_conf),
};

#[allow(missing_docs, reason = "what nginx looks for in a file that it loads")]
mod exports {
    use super::ngx_http_kong_tls_module;

    ngx::ngx_modules!(ngx_http_kong_tls_module);
}

/// The module.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "nginx's name for it")]
pub static mut ngx_http_kong_tls_module: ngx_module_t = ngx_module_t {
    ctx: (&raw const NGX_HTTP_KONG_TLS_MODULE_CTX).cast_mut().cast(),
    commands: (&raw mut NGX_HTTP_KONG_TLS_COMMANDS).cast(),
    type_: NGX_HTTP_MODULE as ngx_uint_t,
    init_module: Some(init_module),
    init_process: Some(init_process),
    exit_process: Some(exit_process),
    ..ngx_module_t::default()
};

/// The number of configurations that load the module: more than one during a reload.
static LOADED: AtomicUsize = AtomicUsize::new(0);

/// A configuration that loads the module.
///
/// The shared object stays in memory after nginx has unloaded it (see build.rs), and with it the
/// module's indexes. They are reset with the last configuration, as unloading the file would.
struct Loaded;

impl Loaded {
    fn new() -> Self {
        LOADED.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        if LOADED.fetch_sub(1, Ordering::Relaxed) == 1 {
            // SAFETY: this was the last configuration that loads the module.
            unsafe { this_module::forget_indexes() }
        }
    }
}

/// Runs `step` of reading the configuration. An error is logged as `[emerg]`, and ends the reading.
///
/// # Safety
/// `cf` must be the valid parser of nginx, inside `http {}`.
unsafe fn configure<E: Display>(
    name: &str,
    cf: *mut ngx_conf_t,
    step: impl FnOnce(ConfParser<'_>) -> Result<(), E>,
) -> ngx_int_t {
    guard(name, process_log(), NGX_ERROR as ngx_int_t, || {
        // SAFETY: `cf` is nginx's valid parser, inside `http {}`, as this function's caller
        // ensures.
        let parser = unsafe { ConfParser::from_ptr(cf) };
        match step(parser) {
            Ok(()) => NGX_OK as ngx_int_t,
            Err(error) => {
                parser.error(format_args!("{error}"));
                NGX_ERROR as ngx_int_t
            }
        }
    })
}

/// Why a configuration can't use the module.
#[derive(Debug, thiserror::Error)]
enum ConfigurationError {
    #[error(transparent)]
    Version(#[from] version::WrongOpenSsl),
    #[error(transparent)]
    Layout(#[from] layout::WrongLayout),
    #[error(transparent)]
    Package(#[from] crate::nginx::lua::PackageNotRegistered),
    #[error(transparent)]
    Variable(#[from] crate::nginx::variable::RegistrationFailed),
    #[error(transparent)]
    Ssl(#[from] crate::openssl::error::SslError),
    #[error(transparent)]
    OutOfMemory(#[from] crate::nginx::pool::OutOfMemory),
    #[error("the configuration of http {{}} is missing")]
    NoMainConf,
}

unsafe extern "C" fn preconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    let step = |parser: ConfParser<'_>| -> Result<(), ConfigurationError> {
        version::check()?;
        layout::check()?;
        preload::preconfiguration(parser)?;
        folder::report_to(|words| process_log().error(format_args!("{words}")));
        install::preconfiguration(parser);
        balancers::preconfiguration(parser);
        lua_directives::preconfiguration(parser);
        certificate_by_lua::preconfiguration(parser);
        variables::preconfiguration(parser)?;
        Ok(())
    };
    // SAFETY: nginx calls *preconfiguration* with its valid parser, at the beginning of `http {}`.
    unsafe { configure("preconfiguration", cf, step) }
}

unsafe extern "C" fn postconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    let step = |parser: ConfParser<'_>| -> Result<(), ConfigurationError> {
        install::postconfiguration(parser);
        balancers::postconfiguration(parser);
        lua_directives::postconfiguration(parser);
        let main_conf = conf::main_conf(parser).ok_or(ConfigurationError::NoMainConf)?;
        certificate_by_lua::postconfiguration(parser, main_conf);
        alpn::postconfiguration(parser, main_conf);
        resumption::postconfiguration(parser, main_conf)?;
        post_read::postconfiguration(parser, main_conf)?;
        main_conf.blocks.get_or_init(|| choice::postconfiguration(parser));
        Ok(())
    };
    // SAFETY: nginx calls *postconfiguration* with its valid parser, after all of `http {}` was
    // read.
    unsafe { configure("postconfiguration", cf, step) }
}

unsafe extern "C" fn create_main_conf(cf: *mut ngx_conf_t) -> *mut c_void {
    let main_conf = MainConf::default();
    let _ = main_conf.loaded.set(Box::new(Loaded::new()));
    // SAFETY: nginx calls this with its valid parser, at the beginning of `http {}`.
    unsafe { keep(cf, main_conf) }
}

unsafe extern "C" fn create_conf<T: Default + 'static>(cf: *mut ngx_conf_t) -> *mut c_void {
    // SAFETY: nginx calls this with its valid parser, inside `http {}`.
    unsafe { keep(cf, T::default()) }
}

/// Moves the module's configuration of a block into the configuration's pool.
///
/// # Safety
/// `cf` must be the valid parser of nginx, inside `http {}`.
unsafe fn keep<T: 'static>(cf: *mut ngx_conf_t, conf: T) -> *mut c_void {
    guard("configuration", process_log(), ptr::null_mut(), || {
        // SAFETY: `cf` is nginx's valid parser, inside `http {}`, as this function's caller
        // ensures.
        let parser = unsafe { ConfParser::from_ptr(cf) };
        let kept = parser.pool().keep(conf);
        kept.map_or(ptr::null_mut(), |kept| ptr::from_ref(kept).cast_mut().cast())
    })
}

unsafe extern "C" fn merge_srv_conf(
    _cf: *mut ngx_conf_t,
    around: *mut c_void,
    server: *mut c_void,
) -> *mut c_char {
    guard("merge of a server", process_log(), NGX_CONF_ERROR, || {
        // SAFETY: nginx passes what `create_conf::<ServerConf>` made for `http {}` and for the
        // server.
        let (around, server): (&ServerConf, &ServerConf) =
            unsafe { (&*around.cast(), &*server.cast()) };
        server.inherit(around);
        NGX_CONF_OK
    })
}

unsafe extern "C" fn merge_loc_conf(
    cf: *mut ngx_conf_t,
    around: *mut c_void,
    location: *mut c_void,
) -> *mut c_char {
    guard("merge of a location", process_log(), NGX_CONF_ERROR, || {
        // SAFETY: nginx passes its valid parser, while it merges a location, and what
        // `create_conf::<LocationConf>` made for that location and its enclosing block.
        let (parser, around, location): (_, &LocationConf, &LocationConf) =
            unsafe { (ConfParser::from_ptr(cf), &*around.cast(), &*location.cast()) };
        match install::merge_loc_conf(parser, around, location) {
            Ok(()) => return NGX_CONF_OK,
            Err(InvalidLocation::Violation(Violation { message, place })) => {
                parser.error_at(&place, format_args!("{message}"));
            }
            Err(InvalidLocation::Error(error)) => parser.error(format_args!("{error}")),
        }
        NGX_CONF_ERROR
    })
}

unsafe extern "C" fn init_module(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    guard("start of the configuration", process_log(), NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx passes a valid cycle, whose configuration is complete.
        if let Some(main_conf) = MainConf::of_cycle(unsafe { Cycle::from_ptr(cycle) }) {
            main_conf.asking.complete();
        }
        NGX_OK as ngx_int_t
    })
}

unsafe extern "C" fn init_process(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    guard("start of the process", process_log(), NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx passes the valid cycle whose configuration the process serves.
        let main_conf = MainConf::of_cycle(unsafe { Cycle::from_ptr(cycle) });
        if let Some(zone) = main_conf.and_then(|main_conf| main_conf.status.get()) {
            zone.count_there();
        }
        NGX_OK as ngx_int_t
    })
}

unsafe extern "C" fn exit_process(_cycle: *mut ngx_cycle_t) {
    guard("exit of the process", process_log(), (), worker::clear_caches);
}
