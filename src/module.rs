//! The module as nginx sees it: what it does when a configuration is read.

use std::cell::{OnceCell, RefCell};
use std::ffi::{c_char, c_void};
use std::ptr::{self, NonNull};
use std::rc::Rc;

use ngx::ffi::{
    NGX_ERROR, NGX_HTTP_MODULE, NGX_OK, ngx_conf_t, ngx_cycle_t, ngx_http_module_t,
    ngx_http_upstream_srv_conf_t, ngx_int_t, ngx_module_t, ngx_uint_t,
};

use crate::directives::{
    NGX_CONF_ERROR, NGX_CONF_OK, NGX_HTTP_KONG_TLS_COMMANDS, SessionCacheSettings,
};
use crate::downstream::{alpn, client_certificate};
use crate::lua::{api, preload};
use crate::nginx::configuration::{self, ModuleIndex};
use crate::nginx::connection::process_log;
use crate::nginx::log::configuration_error;
use crate::nginx::panic::guard;
use crate::nginx::pool::Pool;
use crate::nginx::request::Request;
use crate::upstream::connection::SharedSessionCache;
use crate::upstream::keepalive::Keepalive;
use crate::upstream::locations::{self, TrustedFiles};
use crate::upstream::peer::{self, Balancers};
use crate::upstream::session_cache::SessionCache;
use crate::variables;

static NGX_HTTP_KONG_TLS_MODULE_CTX: ngx_http_module_t = ngx_http_module_t {
    preconfiguration: Some(preconfiguration),
    postconfiguration: Some(postconfiguration),
    create_main_conf: Some(create_main_conf),
    init_main_conf: None,
    create_srv_conf: Some(create_srv_conf),
    merge_srv_conf: None,
    create_loc_conf: Some(create_loc_conf),
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
    exit_process: Some(exit_process),
    ..ngx_module_t::default()
};

/// The index of the module in the arrays of configurations and request contexts.
pub fn index() -> ModuleIndex {
    // SAFETY: nginx sets the index before it calls anything of ours, and not while we run.
    ModuleIndex::new(unsafe { (&raw const ngx_http_kong_tls_module.ctx_index).read() })
}

/// What the module keeps for `http {}`.
#[derive(Default)]
pub struct MainConf {
    /// `kong_tls_session_cache`; `None` is `off`.
    pub session_cache: OnceCell<Option<SessionCacheSettings>>,
    sessions: OnceCell<SharedSessionCache>,
    balancers: OnceCell<Balancers>,
    trusted_files: RefCell<TrustedFiles>,
}

/// What the module keeps for an `upstream {}` block. (nginx makes one for each `server {}` too.)
#[derive(Default)]
pub struct BlockConf {
    /// `kong_tls_keepalive`
    pub keepalive: OnceCell<Keepalive>,
}

/// How the `upstream {}` blocks of the configuration of `request` choose a peer.
pub fn balancers(request: Request<'_>) -> Option<&Balancers> {
    // SAFETY: the configuration of a request outlives it, and has ours in its place.
    unsafe {
        let main_conf = index().of::<MainConf>((*request.as_ptr()).main_conf)?;
        main_conf.as_ref().balancers.get()
    }
}

/// The cache of upstream sessions of this worker; `None` if it is off.
pub fn session_cache(request: Request<'_>) -> Option<SharedSessionCache> {
    // SAFETY: as above.
    let main_conf = unsafe { index().of::<MainConf>((*request.as_ptr()).main_conf)?.as_ref() };

    let settings = *main_conf.session_cache.get_or_init(|| Some(SessionCacheSettings::DEFAULT));
    let SessionCacheSettings { entries, timeout } = settings?;
    let cache = main_conf
        .sessions
        .get_or_init(|| Rc::new(RefCell::new(SessionCache::new(entries, timeout as u64))));
    Some(Rc::clone(cache))
}

/// The idle connections of `block`, if it has `kong_tls_keepalive`.
///
/// # Safety
/// `block` must be valid for `'a`.
pub unsafe fn keepalive<'a>(block: NonNull<ngx_http_upstream_srv_conf_t>) -> Option<&'a Keepalive> {
    // SAFETY: a block has ours in its place; one that nginx has made itself has no such array.
    unsafe { index().of::<BlockConf>(block.as_ref().srv_conf)?.as_ref().keepalive.get() }
}

/// What we keep for the configuration that is being read.
///
/// # Safety
/// `cf` must be valid, and inside `http {}`.
unsafe fn main_conf<'a>(cf: *mut ngx_conf_t) -> Option<&'a MainConf> {
    // SAFETY: ours is in its place, and lives as long as the configuration.
    unsafe { Some(index().of(configuration::context(cf).main_conf)?.as_ref()) }
}

unsafe extern "C" fn preconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    guard("preconfiguration", process_log(), NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx calls with a valid `cf`.
        unsafe {
            if let Err(package) = preload::preconfiguration(cf) {
                let package = package.to_string_lossy();
                configuration_error(cf, format_args!("could not register Lua package {package}"));
                return NGX_ERROR as ngx_int_t;
            }
            variables::preconfiguration(cf).map_or(NGX_ERROR as ngx_int_t, |()| NGX_OK as ngx_int_t)
        }
    })
}

unsafe extern "C" fn create_main_conf(cf: *mut ngx_conf_t) -> *mut c_void {
    // SAFETY: nginx calls with a valid `cf`, whose pool lives as long as the configuration.
    unsafe { keep(cf, MainConf::default()) }
}

unsafe extern "C" fn create_srv_conf(cf: *mut ngx_conf_t) -> *mut c_void {
    // SAFETY: as above.
    unsafe { keep(cf, BlockConf::default()) }
}

/// The module has no settings for a location, but nginx merges only what there is.
unsafe extern "C" fn create_loc_conf(cf: *mut ngx_conf_t) -> *mut c_void {
    // SAFETY: as above.
    unsafe { keep(cf, ()) }
}

/// # Safety
/// `cf` must be valid.
unsafe fn keep<T: 'static>(cf: *mut ngx_conf_t, configuration: T) -> *mut c_void {
    guard("configuration", process_log(), ptr::null_mut(), || {
        // SAFETY: `cf` is valid by contract, and has a pool.
        let pool = unsafe { Pool::from_ptr(NonNull::new_unchecked((*cf).pool)) };
        pool.keep(configuration)
            .map_or(ptr::null_mut(), |kept| ptr::from_ref(kept).cast_mut().cast())
    })
}

unsafe extern "C" fn merge_loc_conf(
    cf: *mut ngx_conf_t,
    _previous: *mut c_void,
    _configuration: *mut c_void,
) -> *mut c_char {
    guard("merge of a location", process_log(), NGX_CONF_ERROR, || {
        // SAFETY: nginx calls with a valid `cf`, in the merge of a location.
        unsafe {
            let Some(main_conf) = main_conf(cf) else {
                return NGX_CONF_ERROR;
            };
            match locations::merge_loc_conf(cf, &mut main_conf.trusted_files.borrow_mut()) {
                Ok(()) => NGX_CONF_OK,
                Err(error) => {
                    configuration_error(cf, format_args!("{error}"));
                    NGX_CONF_ERROR
                }
            }
        }
    })
}

unsafe extern "C" fn postconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    guard("postconfiguration", process_log(), NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx calls with a valid `cf`, when all of `http {}` is read; our configuration is
        // in its place.
        unsafe {
            alpn::postconfiguration(cf);

            let Some(main_conf) = main_conf(cf) else {
                return NGX_ERROR as ngx_int_t;
            };
            main_conf.balancers.get_or_init(|| peer::postconfiguration(cf));
        }
        NGX_OK as ngx_int_t
    })
}

unsafe extern "C" fn exit_process(_cycle: *mut ngx_cycle_t) {
    guard("exit of the process", process_log(), (), || {
        api::clear_cache();
        client_certificate::clear_cache();
    });
}
