//! The directives that send the requests of a location to an upstream: `proxy_pass` and its like.
//!
//! What nginx makes of them it keeps to itself: whether `proxy_pass https://$name` has TLS, and where
//! the location's own numbers stand, is not to be seen from outside. So ours stand before them while
//! the configuration is read, note what they say, and take the place of the handler that they give to
//! the location.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_char, c_void};
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::atomic::{AtomicPtr, Ordering};

use ngx::ffi::{
    NGX_DONE, NGX_HTTP_INTERNAL_SERVER_ERROR, NGX_HTTP_SERVICE_UNAVAILABLE, ngx_command_t,
    ngx_conf_t, ngx_http_handler_pt, ngx_http_request_t, ngx_http_upstream_conf_t, ngx_int_t,
};

use super::enforcement::{LocationEnforcement, Violation};
use super::forwarding::{Forwarding, Timeouts};
use super::own_configuration;
use crate::directives::{NGX_CONF_ERROR, NGX_CONF_OK};
use crate::module;
use crate::nginx::configuration::{self, Module, ModuleIndex, Place};
use crate::nginx::connection::process_log;
use crate::nginx::log::LogLevel;
use crate::nginx::panic::guard;
use crate::nginx::pool::OutOfMemory;
use crate::nginx::request::Request;
use crate::request::RequestState;
use crate::status::counters::{self, Counter};

/// A directive of nginx whose module begins its configuration of a location with an
/// `ngx_http_upstream_conf_t`.
pub struct PassDirective {
    module: &'static CStr,
    pub name: &'static str,
    /// What a URL with TLS begins with, and the directive that has the service verified then.
    tls_scheme: Option<&'static str>,
    pub verify: Option<&'static str>,
}

static PASS_DIRECTIVES: [PassDirective; 6] = [
    PassDirective {
        module: c"ngx_http_proxy_module",
        name: "proxy_pass",
        tls_scheme: Some("https://"),
        verify: Some("proxy_ssl_verify"),
    },
    PassDirective {
        module: c"ngx_http_grpc_module",
        name: "grpc_pass",
        tls_scheme: Some("grpcs://"),
        verify: Some("grpc_ssl_verify"),
    },
    PassDirective {
        module: c"ngx_http_uwsgi_module",
        name: "uwsgi_pass",
        tls_scheme: Some("suwsgi://"),
        verify: Some("uwsgi_ssl_verify"),
    },
    PassDirective {
        module: c"ngx_http_fastcgi_module",
        name: "fastcgi_pass",
        tls_scheme: None,
        verify: None,
    },
    PassDirective {
        module: c"ngx_http_scgi_module",
        name: "scgi_pass",
        tls_scheme: None,
        verify: None,
    },
    PassDirective {
        module: c"ngx_http_memcached_module",
        name: "memcached_pass",
        tls_scheme: None,
        verify: None,
    },
];

/// What nginx calls when it reads each of these directives.
static ORIGINALS: [AtomicPtr<c_void>; PASS_DIRECTIVES.len()] =
    [const { AtomicPtr::new(ptr::null_mut()) }; PASS_DIRECTIVES.len()];

type SetDirective =
    unsafe extern "C" fn(*mut ngx_conf_t, *mut ngx_command_t, *mut c_void) -> *mut c_char;

/// Whether a location speaks TLS to its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Tls,
    Plain,
    /// It depends on the request.
    Variable,
}

/// What a location has of these directives.
pub struct Pass {
    pub directive: &'static PassDirective,
    /// As it is written.
    pub url: String,
    pub scheme: Scheme,
    pub place: Place,
    /// The handler that the directive has given to the location.
    handler: ngx_http_handler_pt,
    /// Where the configuration of the directive's module is.
    module: ModuleIndex,
}

/// What we keep for a location.
#[derive(Default)]
pub struct LocationConf {
    pub enforcement: LocationEnforcement,
    /// nginx goes by the last one, if there are several.
    pass: RefCell<Option<Rc<Pass>>>,
}

/// Puts ours before the directives. To be called in *preconfiguration*.
///
/// # Safety
/// `cf` must be valid.
pub unsafe fn preconfiguration(cf: *mut ngx_conf_t) {
    // SAFETY: `cf` is valid. The directives of a module are in memory that can be written, and nginx
    // reads them in this process alone.
    unsafe {
        for (directive, original) in PASS_DIRECTIVES.iter().zip(&ORIGINALS) {
            let Some(command) = Module::find(cf, directive.module)
                .and_then(|module| module.directive(directive.name.as_bytes()))
            else {
                continue;
            };
            let command = &mut *command.as_ptr();
            if let Some(set) =
                command.set.filter(|set| !ptr::fn_addr_eq(*set, read as SetDirective))
            {
                original.store(set as *mut c_void, Ordering::Relaxed);
                command.set = Some(read);
            }
        }
    }
}

/// Leaves the directives as they were. To be called in *postconfiguration*.
///
/// # Safety
/// `cf` must be valid.
pub unsafe fn postconfiguration(cf: *mut ngx_conf_t) {
    // SAFETY: as above.
    unsafe {
        for (directive, original) in PASS_DIRECTIVES.iter().zip(&ORIGINALS) {
            let command = Module::find(cf, directive.module)
                .and_then(|module| module.directive(directive.name.as_bytes()));
            if let (Some(command), Some(set)) = (command, original_of(original)) {
                (*command.as_ptr()).set = Some(set);
            }
        }
    }
}

fn original_of(original: &AtomicPtr<c_void>) -> Option<SetDirective> {
    let set = original.load(Ordering::Relaxed);
    // SAFETY: only `preconfiguration` stores there, a function of this type.
    (!set.is_null()).then(|| unsafe { std::mem::transmute::<*mut c_void, SetDirective>(set) })
}

/// nginx calls where it reads one of the directives.
unsafe extern "C" fn read(
    cf: *mut ngx_conf_t,
    command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    guard("pass directive", process_log(), NGX_CONF_ERROR, || {
        // SAFETY: nginx calls with a valid `cf` at a directive whose `set` is ours.
        unsafe {
            let name = configuration::bytes((*command).name);
            let known = PASS_DIRECTIVES
                .iter()
                .zip(&ORIGINALS)
                .find(|(directive, _)| directive.name.as_bytes() == name);
            let Some((directive, original)) =
                known.and_then(|(directive, original)| Some((directive, original_of(original)?)))
            else {
                return NGX_CONF_ERROR;
            };
            let status = original(cf, command, conf);
            // A configuration that failed before it was complete has left ours in place, and this
            // one may be without our module.
            if status == NGX_CONF_OK && module::is_loaded(cf) {
                note(cf, directive);
            }
            status
        }
    })
}

/// Keeps what the directive, which nginx has just read, says of its location.
///
/// # Safety
/// `cf` must be valid, and at the directive.
unsafe fn note(cf: *mut ngx_conf_t, directive: &'static PassDirective) {
    // SAFETY: by contract; the core module, and ours, have their configuration of each location in
    // its place.
    unsafe {
        let (Some(location), Some(core), Some(module)) = (
            module::location_conf(cf),
            configuration::core_location(cf),
            Module::find(cf, directive.module).map(Module::index),
        ) else {
            return;
        };
        let arguments = configuration::arguments(cf);
        let url = arguments.first().copied().unwrap_or_default();
        let pass = Pass {
            directive,
            url: String::from_utf8_lossy(url).into_owned(),
            scheme: scheme(url, directive.tls_scheme),
            place: Place::current(cf),
            handler: core.as_ref().handler,
            module,
        };
        location.pass.replace(Some(Rc::new(pass)));
        (*core.as_ptr()).handler = Some(handle);
    }
}

/// The scheme of `url`, of which `tls` is the one with TLS. A variable may be all of it, or begin
/// before it ends.
fn scheme(url: &[u8], tls: Option<&str>) -> Scheme {
    let Some(tls) = tls else {
        return Scheme::Plain;
    };
    if url.get(..tls.len()).is_some_and(|start| start.eq_ignore_ascii_case(tls.as_bytes())) {
        return Scheme::Tls;
    }
    let separator = b"://";
    let end = url.windows(separator.len()).position(|bytes| bytes == separator);
    if url[..end.unwrap_or(url.len())].contains(&b'$') { Scheme::Variable } else { Scheme::Plain }
}

/// Completes what we keep for the location that is being merged, and checks it.
///
/// # Safety
/// `cf` must be valid, and in the merge of a location; nginx's own modules have merged theirs.
pub unsafe fn merge_loc_conf(
    cf: *mut ngx_conf_t,
    around: &LocationConf,
    location: &LocationConf,
) -> Result<(), Violation> {
    location.enforcement.merge(&around.enforcement)?;

    // SAFETY: by contract. The configuration of a directive's module begins with an
    // `ngx_http_upstream_conf_t`.
    unsafe {
        let Some(core) = configuration::core_location(cf) else {
            return Ok(());
        };
        let own = location.pass.borrow().clone();
        if let Some(pass) = own {
            // Where another directive has taken its place, the location goes to no upstream.
            if !is_same(core.as_ref().handler, Some(handle)) {
                return Ok(());
            }
            let conf =
                pass.module.of::<ngx_http_upstream_conf_t>(configuration::context(cf).loc_conf);
            let verifies = conf.is_some_and(|conf| conf.as_ref().ssl_verify == 1);
            let name = String::from_utf8_lossy(configuration::bytes(core.as_ref().name));
            return location.enforcement.check(&name, &pass, verifies);
        }
        // An `if` and a `limit_except` have the handler of the location around them.
        let core = &mut *core.as_ptr();
        if core.noname() != 0 || core.lmt_excpt() != 0 {
            if let Some(pass) = around.pass.borrow().clone() {
                location.pass.replace(Some(Rc::clone(&pass)));
                if is_same(core.handler, pass.handler) {
                    core.handler = Some(handle);
                }
            }
        }
    }
    Ok(())
}

fn is_same(one: ngx_http_handler_pt, other: ngx_http_handler_pt) -> bool {
    one.zip(other).is_some_and(|(one, other)| ptr::fn_addr_eq(one, other))
}

thread_local! {
    /// The request whose upstream is about to be chosen.
    static CHOOSING: Cell<*const ngx_http_request_t> = const { Cell::new(ptr::null()) };
    /// Set if nothing was chosen: why, and what the log of the request was told to write.
    static TARGET_MISSING: Cell<Option<(MissingTarget, LogLevel)>> = const { Cell::new(None) };
}

/// Whether nginx wants to know where to send `request`, by a variable.
pub fn is_choosing_upstream(request: Request<'_>) -> bool {
    CHOOSING.get() == request.as_ptr().cast_const() && request.has_incomplete_upstream()
}

/// Why a request has no target.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum MissingTarget {
    #[error(
        "neither kong.service.set_upstream nor kong.service.set_target was called for the request"
    )]
    NotSet,
    #[error("out of memory")]
    OutOfMemory,
}

/// Makes a request for which nothing was chosen end with 503, and one line in the log. Returns what no
/// URL can have in the place of a host: nginx would take nothing at all for an empty text.
pub fn refuse_missing_target(request: Request<'_>, missing: MissingTarget) -> &'static [u8] {
    // Otherwise nginx would say what it thinks of the URL. It may ask more than once.
    if TARGET_MISSING.get().is_none() {
        TARGET_MISSING.set(Some((missing, request.log().silence())));
    }
    b":-"
}

/// The content handler of a location: it calls that of the directive, which begins the request's way
/// to its upstream.
unsafe extern "C" fn handle(r: *mut ngx_http_request_t) -> ngx_int_t {
    const FAILED: ngx_int_t = NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;

    guard("content handler", process_log(), FAILED, || {
        // SAFETY: nginx calls with a valid request, in a location that has this handler. What nginx's
        // own handler answers with `NGX_DONE` lives until we have returned.
        unsafe {
            let request = Request::from_ptr(NonNull::new_unchecked(r));
            let Some((pass, handler)) = pass_of(request) else {
                request.log().error(format_args!("content handler: unknown location"));
                return FAILED;
            };
            let status = match Overridden::of(request, &pass) {
                Ok(None) => choose_upstream(request, handler),
                Ok(Some(overridden)) => {
                    overridden.while_it_holds(|| choose_upstream(request, handler))
                }
                Err(error) => {
                    request.log().error(format_args!("retries and timeouts: {error}"));
                    return FAILED;
                }
            };
            if let Some((missing, level)) = TARGET_MISSING.take() {
                request.log().set_level(level);
                if status == FAILED {
                    counters::count(Counter::RefusedTarget);
                    request
                        .log()
                        .error(format_args!("\"$kong_upstream_target\" is not set: {missing}"));
                    return NGX_HTTP_SERVICE_UNAVAILABLE as ngx_int_t;
                }
            }
            status
        }
    })
}

type Handler = unsafe extern "C" fn(*mut ngx_http_request_t) -> ngx_int_t;

fn pass_of(request: Request<'_>) -> Option<(Rc<Pass>, Handler)> {
    let pass = module::location_conf_of(request)?.pass.borrow().clone()?;
    let handler = pass.handler?;
    Some((pass, handler))
}

/// # Safety
/// `handler` must be the handler of the request's location.
unsafe fn choose_upstream(request: Request<'_>, handler: Handler) -> ngx_int_t {
    // A redirect inside of the handler may come back to here.
    let outer = CHOOSING.replace(request.as_ptr());
    // SAFETY: as nginx would call it.
    let status = unsafe { handler(request.as_ptr()) };
    CHOOSING.set(outer);
    status
}

/// A location's configuration, and what a request has in its place.
///
/// nginx reads it as soon as its handler has chosen the upstream, and may have connected when the
/// handler returns: nobody gets to replace the pointer in between. So the values themselves are
/// replaced while the handler runs, and are the request's own afterwards.
struct Overridden<'a> {
    request: Request<'a>,
    state: &'a RequestState,
    shared: NonNull<ngx_http_upstream_conf_t>,
    own: NonNull<ngx_http_upstream_conf_t>,
}

impl<'a> Overridden<'a> {
    fn of(request: Request<'a>, pass: &Pass) -> Result<Option<Self>, OutOfMemory> {
        let Some(state) = RequestState::find_or_inherit(request)? else {
            return Ok(None);
        };
        let forwarding = state.forwarding.get();
        if !forwarding.overrides_location() {
            return Ok(None);
        }
        // SAFETY: the configuration of a directive's module begins with this type.
        unsafe {
            let Some(shared) = request.location_configuration(pass.module) else {
                return Ok(None);
            };
            let own = request.pool().copy(shared.as_ref())?;
            set(own, forwarding);
            Ok(Some(Self { request, state, shared, own }))
        }
    }

    fn while_it_holds(self, body: impl FnOnce() -> ngx_int_t) -> ngx_int_t {
        let Self { request, state, shared, own } = self;
        // SAFETY: both configurations are valid. nginx handles one request at a time, and has no
        // other that reads this before we have put back what was there.
        unsafe {
            let before = numbers(shared);
            set(shared, state.forwarding.get());
            let status = body();
            set(shared, before);

            let upstream = request.upstream().filter(|_| status == NGX_DONE as ngx_int_t);
            if let Some(upstream) = upstream.filter(|upstream| upstream.configuration() == shared) {
                own_configuration::adopt(upstream, state, own);
            }
            status
        }
    }
}

/// # Safety
/// `configuration` must be valid, and nobody else read it.
unsafe fn set(configuration: NonNull<ngx_http_upstream_conf_t>, forwarding: Forwarding) {
    let Forwarding { target: _, tries, timeouts } = forwarding;
    // SAFETY: by contract.
    let configuration = unsafe { &mut *configuration.as_ptr() };
    if let Some(tries) = tries {
        configuration.next_upstream_tries = tries;
    }
    if let Some(Timeouts { connect, send, read }) = timeouts {
        configuration.connect_timeout = connect;
        configuration.send_timeout = send;
        configuration.read_timeout = read;
    }
}

/// What [`set`] may replace.
///
/// # Safety
/// `configuration` must be valid.
unsafe fn numbers(configuration: NonNull<ngx_http_upstream_conf_t>) -> Forwarding {
    // SAFETY: by contract.
    let configuration = unsafe { configuration.as_ref() };
    let timeouts = Timeouts {
        connect: configuration.connect_timeout,
        send: configuration.send_timeout,
        read: configuration.read_timeout,
    };
    let tries = Some(configuration.next_upstream_tries);
    Forwarding { target: None, tries, timeouts: Some(timeouts) }
}
