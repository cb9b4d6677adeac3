// SPDX-License-Identifier: Apache-2.0

//! What nginx calls an HTTP module for: to read a configuration, and as processes start and end.

use std::ffi::{c_char, c_void};
use std::fmt::Display;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use ngx::ffi::{
    NGX_ERROR, NGX_HTTP_LOC_CONF_OFFSET, NGX_HTTP_MAIN_CONF_OFFSET, NGX_HTTP_MODULE,
    NGX_HTTP_SRV_CONF_OFFSET, NGX_OK, ngx_command_t, ngx_conf_t, ngx_cycle_t, ngx_http_module_t,
    ngx_int_t, ngx_module_t, ngx_uint_t,
};

use crate::nginx::conf_parser::{ConfParser, NGX_CONF_ERROR, NGX_CONF_OK};
use crate::nginx::connection::process_log;
use crate::nginx::cycle::Cycle;
use crate::nginx::directive::ConfLevel;
use crate::nginx::panic::guard;
use crate::nginx::this_module;

/// What is wrong with the configuration has been logged.
pub struct Reported;

/// This module.
pub trait HttpModule: 'static {
    type MainConf: ConfLevel + Default + 'static;
    type ServerConf: ConfLevel + Default + 'static;
    type LocationConf: ConfLevel + Default + 'static;
    /// Why a configuration can't use the module; logged as `[emerg]`.
    type Error: Display;

    /// Runs before `http {}` is read.
    fn preconfiguration(parser: ConfParser<'_>) -> Result<(), Self::Error>;

    /// Runs after `http {}` was read.
    fn postconfiguration(parser: ConfParser<'_>) -> Result<(), Self::Error>;

    /// Completes the configuration of a server with that of `http {}`.
    fn merge_server(around: &Self::ServerConf, server: &Self::ServerConf);

    /// Completes the configuration of a location with that of its enclosing block.
    fn merge_location(
        parser: ConfParser<'_>,
        around: &Self::LocationConf,
        location: &Self::LocationConf,
    ) -> Result<(), Reported>;

    /// Runs when the configuration is complete, before processes start.
    fn start(cycle: Cycle<'_>);

    /// Runs as a process starts to serve the configuration.
    fn start_process(cycle: Cycle<'_>);

    /// Runs as a process ends.
    fn end_process();
}

/// Returns the part of the module that is for HTTP.
pub const fn context<M: HttpModule>() -> ngx_http_module_t {
    const {
        assert!(M::MainConf::OFFSET == NGX_HTTP_MAIN_CONF_OFFSET);
        assert!(M::ServerConf::OFFSET == NGX_HTTP_SRV_CONF_OFFSET);
        assert!(M::LocationConf::OFFSET == NGX_HTTP_LOC_CONF_OFFSET);
    }
    ngx_http_module_t {
        preconfiguration: Some(preconfiguration::<M>),
        postconfiguration: Some(postconfiguration::<M>),
        create_main_conf: Some(create_conf::<M::MainConf>),
        init_main_conf: None,
        create_srv_conf: Some(create_conf::<M::ServerConf>),
        merge_srv_conf: Some(merge_server::<M>),
        create_loc_conf: Some(create_conf::<M::LocationConf>),
        merge_loc_conf: Some(merge_location::<M>),
    }
}

/// Returns the module, of which `context` is made by [`context`].
pub const fn module<M: HttpModule>(
    context: *const ngx_http_module_t,
    commands: *mut ngx_command_t,
) -> ngx_module_t {
    ngx_module_t {
        ctx: context.cast_mut().cast(),
        commands,
        type_: NGX_HTTP_MODULE as ngx_uint_t,
        init_module: Some(init_module::<M>),
        init_process: Some(init_process::<M>),
        exit_process: Some(exit_process::<M>),
        ..ngx_module_t::default()
    }
}

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
            // SAFETY: each configuration that loads the module has one of these in its pool, and
            // this was the last.
            unsafe { this_module::forget_indexes() }
        }
    }
}

/// Runs `step` of reading the configuration.
///
/// # Safety
/// `cf` must be nginx's valid parser, inside `http {}`.
unsafe fn configure<E: Display>(
    name: &str,
    cf: *mut ngx_conf_t,
    step: impl FnOnce(ConfParser<'_>) -> Result<(), E>,
) -> ngx_int_t {
    guard(name, process_log(), NGX_ERROR as ngx_int_t, || {
        // SAFETY: the caller ensures that `cf` is nginx's valid parser, inside `http {}`.
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

unsafe extern "C" fn preconfiguration<M: HttpModule>(cf: *mut ngx_conf_t) -> ngx_int_t {
    // SAFETY: nginx calls *preconfiguration* with its valid parser, at the beginning of `http {}`.
    unsafe { configure("preconfiguration", cf, M::preconfiguration) }
}

unsafe extern "C" fn postconfiguration<M: HttpModule>(cf: *mut ngx_conf_t) -> ngx_int_t {
    // SAFETY: nginx calls *postconfiguration* with its valid parser, inside `http {}`.
    unsafe { configure("postconfiguration", cf, M::postconfiguration) }
}

/// Makes the module's configuration of a block, in the pool of the configuration.
unsafe extern "C" fn create_conf<T: ConfLevel + Default + 'static>(
    cf: *mut ngx_conf_t,
) -> *mut c_void {
    guard("configuration", process_log(), ptr::null_mut(), || {
        // SAFETY: nginx calls this with its valid parser, inside `http {}`.
        let pool = unsafe { ConfParser::from_ptr(cf) }.pool();
        // A pool drops last what it was given first.
        if T::OFFSET == NGX_HTTP_MAIN_CONF_OFFSET && pool.keep(Loaded::new()).is_err() {
            return ptr::null_mut();
        }
        let kept = pool.keep(T::default());
        kept.map_or(ptr::null_mut(), |kept| ptr::from_ref(kept).cast_mut().cast())
    })
}

unsafe extern "C" fn merge_server<M: HttpModule>(
    _cf: *mut ngx_conf_t,
    around: *mut c_void,
    server: *mut c_void,
) -> *mut c_char {
    guard("merge of a server", process_log(), NGX_CONF_ERROR, || {
        // SAFETY: nginx passes what `create_conf` made for `http {}` and for the server.
        let (around, server) = unsafe { (&*around.cast(), &*server.cast()) };
        M::merge_server(around, server);
        NGX_CONF_OK
    })
}

unsafe extern "C" fn merge_location<M: HttpModule>(
    cf: *mut ngx_conf_t,
    around: *mut c_void,
    location: *mut c_void,
) -> *mut c_char {
    guard("merge of a location", process_log(), NGX_CONF_ERROR, || {
        // SAFETY: nginx passes its valid parser, while it merges a location, and what `create_conf`
        // made for that location and its enclosing block.
        let (parser, around, location) =
            unsafe { (ConfParser::from_ptr(cf), &*around.cast(), &*location.cast()) };
        match M::merge_location(parser, around, location) {
            Ok(()) => NGX_CONF_OK,
            Err(Reported) => NGX_CONF_ERROR,
        }
    })
}

unsafe extern "C" fn init_module<M: HttpModule>(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    guard("start of the configuration", process_log(), NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx passes a valid cycle, whose configuration is complete.
        M::start(unsafe { Cycle::from_ptr(cycle) });
        NGX_OK as ngx_int_t
    })
}

unsafe extern "C" fn init_process<M: HttpModule>(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    guard("start of the process", process_log(), NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx passes the valid cycle whose configuration the process serves.
        M::start_process(unsafe { Cycle::from_ptr(cycle) });
        NGX_OK as ngx_int_t
    })
}

unsafe extern "C" fn exit_process<M: HttpModule>(_cycle: *mut ngx_cycle_t) {
    guard("exit of the process", process_log(), (), M::end_process);
}
