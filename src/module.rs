//! The module as nginx sees it: what it does when a configuration is read.

use std::cell::{Cell, OnceCell, RefCell};
use std::ffi::{c_char, c_void};
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ngx::ffi::{
    NGX_ERROR, NGX_HTTP_MODULE, NGX_OK, ngx_conf_t, ngx_cycle_t, ngx_http_module_t,
    ngx_http_upstream_srv_conf_t, ngx_int_t, ngx_module_t, ngx_uint_t,
};

use crate::client::asking::{self, Asking};
use crate::client::guarded_headers::GuardedHeaders;
use crate::client::header_names::Stripping;
use crate::client::{alpn, certificate_request, intermediates, names, post_read, resumption};
use crate::directives::{
    NGX_CONF_ERROR, NGX_CONF_OK, NGX_HTTP_KONG_TLS_COMMANDS, SessionCacheSettings,
};
use crate::lua::{preload, x509};
use crate::nginx::configuration::{self, Module, ModuleIndex};
use crate::nginx::connection::process_log;
use crate::nginx::layout;
use crate::nginx::log::{configuration_error, configuration_error_at};
use crate::nginx::panic::guard;
use crate::nginx::peer::Peer;
use crate::nginx::pool::Pool;
use crate::nginx::request::Request;
use crate::nginx::round_robin::{self, Balancer};
use crate::openssl::{self, folder, version};
use crate::status::zone::Zone;
use crate::upstream::handshake::connection::SharedSessionCache;
use crate::upstream::handshake::context::{self, TrustedFiles};
use crate::upstream::handshake::lua_handshake::{self, LuaHandshake};
use crate::upstream::handshake::session_cache::SessionCache;
use crate::upstream::location::enforcement::Violation;
use crate::upstream::location::pass::{self, LocationConf};
use crate::upstream::peer::balancers;
use crate::upstream::peer::choice::{self, Blocks};
use crate::upstream::peer::keepalive::{self, Keepalive};
use crate::variables;

static NGX_HTTP_KONG_TLS_MODULE_CTX: ngx_http_module_t = ngx_http_module_t {
    preconfiguration: Some(preconfiguration),
    postconfiguration: Some(postconfiguration),
    create_main_conf: Some(create_main_conf),
    init_main_conf: None,
    create_srv_conf: Some(create_srv_conf),
    merge_srv_conf: Some(merge_srv_conf),
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
    init_module: Some(init_module),
    init_process: Some(init_process),
    exit_process: Some(exit_process),
    ..ngx_module_t::default()
};

/// The index of the module in the arrays of configurations and request contexts.
pub fn index() -> ModuleIndex {
    // SAFETY: nginx sets the index before it calls anything of ours, and not while we run.
    ModuleIndex::new(unsafe { (&raw const ngx_http_kong_tls_module.ctx_index).read() })
}

/// How many configurations load the module: more than one while nginx goes from one to the next.
static LOADED: AtomicUsize = AtomicUsize::new(0);

/// A configuration that loads the module.
///
/// Our file stays in memory when nginx is done with it (see build.rs), and with it the indexes,
/// which nginx takes for free and may give to another module. So they go with the last
/// configuration, as they would with the file.
struct Loaded;

impl Default for Loaded {
    fn default() -> Self {
        LOADED.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        if LOADED.fetch_sub(1, Ordering::Relaxed) == 1 {
            let unset = ngx_module_t::default();
            // SAFETY: nginx has no configuration any more in which the module has a place.
            unsafe {
                (&raw mut ngx_http_kong_tls_module.index).write(unset.index);
                (&raw mut ngx_http_kong_tls_module.ctx_index).write(unset.ctx_index);
            }
        }
    }
}

/// What the module keeps for `http {}`.
#[derive(Default)]
pub struct MainConf {
    _loaded: Loaded,
    /// `kong_tls_session_cache`; `None` is `off`.
    pub session_cache: OnceCell<Option<SessionCacheSettings>>,
    sessions: OnceCell<SharedSessionCache>,
    blocks: OnceCell<Blocks>,
    /// Where `kong_tls_status` takes its numbers from.
    pub status: OnceCell<Zone>,
    trusted_files: RefCell<TrustedFiles>,
    /// What nginx does with requests that go to an upstream.
    pub pass_handlers: pass::Handlers,
    /// Which directives say what servers speak.
    pub protocols: OnceCell<alpn::Protocols>,
    /// Whether Lua code may ask clients for a certificate.
    pub asking: Asking,
    /// What the sessions of clients are bound to.
    pub resumption: OnceCell<resumption::Configuration>,
}

/// What the module keeps for an `upstream {}` block, or a `server {}`.
#[derive(Default)]
pub struct ServerConf {
    /// `kong_tls_keepalive`, of a block.
    pub keepalive: OnceCell<Keepalive>,
    /// Whether the block has nginx's own `keepalive`.
    pub nginx_keepalive: Cell<bool>,
    /// Who chooses the servers of a block.
    pub balancer: Cell<Balancer>,
    /// Where the sessions of the clients of a server are.
    pub sessions: OnceCell<resumption::Sessions>,
    /// Whether a server has `ssl_certificate_by_lua*`.
    pub certificate_by_lua: Cell<bool>,
    /// `kong_tls_strip_headers`; shared with what says it.
    pub strip_headers: OnceCell<Rc<Stripping>>,
    /// What plugins say of the headers of a server.
    pub guarded_headers: GuardedHeaders,
}

impl ServerConf {
    /// Whether it has `kong_tls_strip_headers on`.
    pub fn strips_headers(&self) -> bool {
        self.strip_headers.get().is_some_and(|stripping| **stripping != Stripping::Off)
    }

    /// Takes over what the configuration of `http {}` says, where that of a server says nothing.
    fn inherit(&self, around: &Self) {
        self.certificate_by_lua
            .set(self.certificate_by_lua.get() || around.certificate_by_lua.get());
        if let Some(stripping) = around.strip_headers.get() {
            self.strip_headers.get_or_init(|| Rc::clone(stripping));
        }
    }
}

/// The `upstream {}` blocks of the configuration of `request`.
pub fn blocks(request: Request<'_>) -> Option<&Blocks> {
    main_conf_of(request)?.blocks.get()
}

/// Whether the configuration of `request` has an `upstream {}` block of this name.
pub fn has_block(request: Request<'_>, name: &[u8]) -> bool {
    blocks(request).is_some_and(|blocks| matches!(blocks.names.find(name), Ok(Some(_))))
}

/// The cache of upstream sessions of this worker; `None` if it is off.
pub fn session_cache(request: Request<'_>) -> Option<SharedSessionCache> {
    let main_conf = main_conf_of(request)?;

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
    // SAFETY: the block is valid by contract.
    unsafe { server_conf_of_block(block)?.keepalive.get() }
}

/// What we keep for `block`, unless nginx has made it itself.
///
/// # Safety
/// `block` must be valid, and outlive `'a`.
unsafe fn server_conf_of_block<'a>(
    block: NonNull<ngx_http_upstream_srv_conf_t>,
) -> Option<&'a ServerConf> {
    // SAFETY: a block has ours in its place; one that nginx has made itself has no such array.
    unsafe { Some(index().of::<ServerConf>(block.as_ref().srv_conf)?.as_ref()) }
}

/// Whether `block` has nginx's own `keepalive`.
///
/// # Safety
/// `block` must be valid.
pub unsafe fn has_nginx_keepalive(block: NonNull<ngx_http_upstream_srv_conf_t>) -> bool {
    // SAFETY: the block is valid by contract.
    unsafe { server_conf_of_block(block) }.is_some_and(|conf| conf.nginx_keepalive.get())
}

/// Makes the attempt at `peer`, which is about to be released, say nothing of it.
///
/// # Safety
/// `block` must be valid, and that of the peer.
pub unsafe fn forget_attempt(block: NonNull<ngx_http_upstream_srv_conf_t>, peer: Peer<'_>) {
    // SAFETY: the block is valid, and that of the peer, by contract.
    unsafe {
        // nginx has made a block without a configuration itself.
        let balancer =
            server_conf_of_block(block).map_or(Balancer::Default, |conf| conf.balancer.get());
        round_robin::forget_attempt(block, peer, balancer);
    }
}

/// What we keep for the configuration that is being read.
///
/// # Safety
/// `cf` must be valid, and inside `http {}`.
pub unsafe fn main_conf<'a>(cf: *mut ngx_conf_t) -> Option<&'a MainConf> {
    // SAFETY: ours is in its place, and lives as long as the configuration.
    unsafe { Some(index().of(configuration::context(cf).main_conf)?.as_ref()) }
}

unsafe extern "C" fn preconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    guard("preconfiguration", process_log(), NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx calls with a valid `cf`.
        unsafe {
            if let Err(error) = version::check() {
                configuration_error(cf, format_args!("{error}"));
                return NGX_ERROR as ngx_int_t;
            }
            if let Err(error) = layout::check() {
                configuration_error(cf, format_args!("{error}"));
                return NGX_ERROR as ngx_int_t;
            }
            if let Err(package) = preload::preconfiguration(cf) {
                let package = package.to_string_lossy();
                configuration_error(cf, format_args!("could not register Lua package {package}"));
                return NGX_ERROR as ngx_int_t;
            }
            folder::report_to(|words| process_log().error(format_args!("{words}")));
            pass::preconfiguration(cf);
            keepalive::preconfiguration(cf);
            balancers::preconfiguration(cf);
            lua_handshake::preconfiguration(cf);
            asking::preconfiguration(cf);
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
    unsafe { keep(cf, ServerConf::default()) }
}

unsafe extern "C" fn create_loc_conf(cf: *mut ngx_conf_t) -> *mut c_void {
    // SAFETY: as above.
    unsafe { keep(cf, LocationConf::default()) }
}

/// What tells apart what is this module's from what is another's.
pub fn tag() -> *mut c_void {
    (&raw mut ngx_http_kong_tls_module).cast()
}

/// Whether the configuration that is being read loads this module.
///
/// # Safety
/// `cf` must be valid.
pub unsafe fn is_loaded(cf: *mut ngx_conf_t) -> bool {
    // SAFETY: by contract.
    let found = unsafe { Module::find(cf, c"ngx_http_kong_tls_module") };
    found.is_some_and(|found| ptr::eq(found.as_ptr(), &raw const ngx_http_kong_tls_module))
}

/// What we keep for the `upstream {}` block or the server that is being read.
///
/// # Safety
/// `cf` must be valid, and inside `http {}`.
pub unsafe fn server_conf<'a>(cf: *mut ngx_conf_t) -> Option<&'a ServerConf> {
    // SAFETY: ours is in its place, and lives as long as the configuration.
    unsafe { Some(index().of(configuration::context(cf).srv_conf)?.as_ref()) }
}

/// What we keep for the location that is being read or merged.
///
/// # Safety
/// `cf` must be valid, and inside `http {}`.
pub unsafe fn location_conf<'a>(cf: *mut ngx_conf_t) -> Option<&'a LocationConf> {
    // SAFETY: ours is in its place, and lives as long as the configuration.
    unsafe { Some(index().of(configuration::context(cf).loc_conf)?.as_ref()) }
}

/// What we keep for `http {}` of `request`.
pub fn main_conf_of(request: Request<'_>) -> Option<&MainConf> {
    // SAFETY: ours is in its place, and the configuration of a request outlives it.
    unsafe { index().of::<MainConf>((*request.as_ptr()).main_conf).map(|conf| conf.as_ref()) }
}

/// What we keep for the location of `request`.
pub fn location_conf_of(request: Request<'_>) -> Option<&LocationConf> {
    // SAFETY: ours is in its place, and the configuration of a request outlives it.
    unsafe { Some(request.location_configuration(index())?.as_ref()) }
}

/// What we keep for the server of `request`.
pub fn server_conf_of(request: Request<'_>) -> Option<&ServerConf> {
    // SAFETY: ours is in its place, and the configuration of a request outlives it.
    unsafe { Some(request.server_configuration(index())?.as_ref()) }
}

/// Whether Lua code may ask the clients of the server of `request` for a certificate.
pub fn may_be_asked(request: Request<'_>) -> bool {
    main_conf_of(request).is_some_and(|main_conf| main_conf.asking.is_possible())
        && server_conf_of(request).is_some_and(|server| server.certificate_by_lua.get())
}

/// Whether the service that `request` goes to is verified, whatever the request asks for.
pub fn enforces_verification(request: Request<'_>) -> bool {
    location_conf_of(request).is_some_and(|location| location.enforcement.is_enforced())
}

/// Lua code that takes part in the handshakes with the service that `request` goes to, if there is
/// any.
pub fn lua_handshake(request: Request<'_>) -> Option<LuaHandshake> {
    location_conf_of(request)?.lua_handshake.get()
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

unsafe extern "C" fn merge_srv_conf(
    _cf: *mut ngx_conf_t,
    around: *mut c_void,
    server: *mut c_void,
) -> *mut c_char {
    guard("merge of a server", process_log(), NGX_CONF_ERROR, || {
        // SAFETY: nginx calls with what `create_srv_conf` has made for `http {}` and for the
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
        // SAFETY: nginx calls with a valid `cf`, in the merge of a location, and with what
        // `create_loc_conf` has made for it and for the block around it.
        unsafe {
            let (around, location): (&LocationConf, &LocationConf) =
                (&*around.cast(), &*location.cast());
            if let Err(Violation { message, place }) = pass::merge_loc_conf(cf, around, location) {
                configuration_error_at(cf, &place, format_args!("{message}"));
                return NGX_CONF_ERROR;
            }
            let Some(main_conf) = main_conf(cf) else {
                return NGX_CONF_ERROR;
            };
            let is_enforced = location.enforcement.is_enforced();
            let files = &mut main_conf.trusted_files.borrow_mut();
            match context::merge_loc_conf(cf, files, is_enforced) {
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
        // SAFETY: nginx calls with a valid `cf`, when all of `http {}` is read; our configuration
        // is in its place.
        unsafe {
            pass::postconfiguration(cf);
            keepalive::postconfiguration(cf);
            balancers::postconfiguration(cf);
            lua_handshake::postconfiguration(cf);
            let Some(main_conf) = main_conf(cf) else {
                return NGX_ERROR as ngx_int_t;
            };
            asking::postconfiguration(cf, main_conf);
            alpn::postconfiguration(cf, main_conf);
            if let Err(error) = resumption::postconfiguration(cf, main_conf) {
                configuration_error(cf, format_args!("{error}"));
                return NGX_ERROR as ngx_int_t;
            }
            if let Err(error) = post_read::postconfiguration(cf, main_conf) {
                configuration_error(cf, format_args!("{error}"));
                return NGX_ERROR as ngx_int_t;
            }
            main_conf.blocks.get_or_init(|| choice::postconfiguration(cf));
        }
        NGX_OK as ngx_int_t
    })
}

/// What we keep for `http {}` of a cycle, if it has that.
///
/// # Safety
/// `cycle` must be valid, with its configuration read, and outlive `'a`.
unsafe fn main_conf_of_cycle<'a>(cycle: *mut ngx_cycle_t) -> Option<&'a MainConf> {
    // SAFETY: the cycle is valid and read by contract; what is at our index is our configuration.
    unsafe {
        let configurations = configuration::main_configurations(cycle)?;
        Some(index().of::<MainConf>(configurations)?.as_ref())
    }
}

unsafe extern "C" fn init_module(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    guard("start of the configuration", process_log(), NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx calls with the cycle whose configuration is complete.
        if let Some(main_conf) = unsafe { main_conf_of_cycle(cycle) } {
            main_conf.asking.complete();
        }
        NGX_OK as ngx_int_t
    })
}

unsafe extern "C" fn init_process(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    guard("start of the process", process_log(), NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx calls with the cycle whose configuration the process is to serve.
        if let Some(zone) = unsafe { main_conf_of_cycle(cycle) }.and_then(|conf| conf.status.get())
        {
            zone.count_there();
        }
        NGX_OK as ngx_int_t
    })
}

unsafe extern "C" fn exit_process(_cycle: *mut ngx_cycle_t) {
    guard("exit of the process", process_log(), (), || {
        x509::clear_cache();
        openssl::client_certificate::clear_cache();
        openssl::store::clear_cache();
        certificate_request::clear_cache();
        intermediates::clear_cache();
        names::clear_cache();
    });
}
