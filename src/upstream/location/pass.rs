//! The directives that send the requests of a location to an upstream: `proxy_pass` and its like.
//!
//! What nginx makes of them it keeps to itself: whether `proxy_pass https://$name` has TLS is not
//! to be seen from outside. So ours stand before them while the configuration is read, note what
//! they say, and take the place of the handler that they give to the location.

use std::cell::{Cell, RefCell};
use std::ffi::{c_char, c_void};
use std::ptr;
use std::rc::Rc;

use ngx::ffi::{
    ngx_command_t, ngx_conf_t, ngx_http_handler_pt, ngx_http_request_t, ngx_http_upstream_conf_t,
    ngx_int_t,
};

use crate::directives::{NGX_CONF_ERROR, NGX_CONF_OK};
use crate::module;
use crate::nginx::bitfields;
use crate::nginx::complex_value::{CompilationFailed, ComplexValue, EvaluationFailed};
use crate::nginx::configuration::{self, Module, ModuleIndex, Place};
use crate::nginx::connection::process_log;
use crate::nginx::directive::ForeignDirective;
use crate::nginx::panic::guard;
use crate::nginx::request::Request;
use crate::upstream::handshake::lua_handshake::LuaHandshakeConf;
use crate::upstream::location::content;
use crate::upstream::location::enforcement::{LocationEnforcement, Violation};
use crate::upstream::location::inherited::Inherited;
use crate::upstream::location::pass_url::{Destination, Scheme, Schemes, has_variable};

/// A directive of nginx whose module begins its configuration of a location with an
/// `ngx_http_upstream_conf_t`.
pub struct PassDirective {
    foreign: ForeignDirective,
    /// What takes the place of its content handler.
    handler: Handler,
    schemes: Schemes,
    /// The directive that has a service with TLS verified.
    pub verify: Option<&'static str>,
}

impl PassDirective {
    pub fn name(&self) -> &'static str {
        self.foreign.name
    }
}

/// How many there are.
const COUNT: usize = 6;

static PASS_DIRECTIVES: [PassDirective; COUNT] = [
    PassDirective {
        foreign: ForeignDirective::new(c"ngx_http_proxy_module", "proxy_pass"),
        handler: content::handle::<0>,
        schemes: Schemes { plain: Some("http://"), tls: Some("https://") },
        verify: Some("proxy_ssl_verify"),
    },
    PassDirective {
        foreign: ForeignDirective::new(c"ngx_http_grpc_module", "grpc_pass"),
        handler: content::handle::<1>,
        schemes: Schemes { plain: Some("grpc://"), tls: Some("grpcs://") },
        verify: Some("grpc_ssl_verify"),
    },
    PassDirective {
        foreign: ForeignDirective::new(c"ngx_http_uwsgi_module", "uwsgi_pass"),
        handler: content::handle::<2>,
        schemes: Schemes { plain: Some("uwsgi://"), tls: Some("suwsgi://") },
        verify: Some("uwsgi_ssl_verify"),
    },
    PassDirective {
        foreign: ForeignDirective::new(c"ngx_http_fastcgi_module", "fastcgi_pass"),
        handler: content::handle::<3>,
        schemes: Schemes { plain: None, tls: None },
        verify: None,
    },
    PassDirective {
        foreign: ForeignDirective::new(c"ngx_http_scgi_module", "scgi_pass"),
        handler: content::handle::<4>,
        schemes: Schemes { plain: None, tls: None },
        verify: None,
    },
    PassDirective {
        foreign: ForeignDirective::new(c"ngx_http_memcached_module", "memcached_pass"),
        handler: content::handle::<5>,
        schemes: Schemes { plain: None, tls: None },
        verify: None,
    },
];

/// What a location has of these directives.
pub struct Pass {
    pub directive: &'static PassDirective,
    /// As it is written.
    pub url: String,
    pub scheme: Scheme,
    /// Whether it has `$kong_upstream_target` in it.
    pub names_target: bool,
    /// Where it has variables, the URL for a request.
    value: Option<ComplexValue>,
    pub place: Place,
    /// Where the configuration of the directive's module is.
    pub module: ModuleIndex,
}

/// What we keep for a location.
#[derive(Default)]
pub struct LocationConf {
    pub enforcement: LocationEnforcement,
    /// `kong_tls_required`
    pub required: Inherited,
    /// `kong_tls_allow_plaintext`
    pub allow_plaintext: Inherited,
    /// Lua code in the handshakes of the location.
    pub lua_handshake: LuaHandshakeConf,
    /// The last of each, which is how nginx has them.
    passes: RefCell<[Option<Rc<Pass>>; COUNT]>,
}

/// The content handlers that nginx has for the directives.
#[derive(Default)]
pub struct Handlers([Cell<Option<Handler>>; COUNT]);

/// Puts ours before the directives. To be called in *preconfiguration*.
///
/// # Safety
/// `cf` must be valid.
pub unsafe fn preconfiguration(cf: *mut ngx_conf_t) {
    for directive in &PASS_DIRECTIVES {
        // SAFETY: `cf` is valid, and `read` answers for all of these.
        unsafe { directive.foreign.wrap(cf, read) };
    }
}

/// Leaves the directives as they were. To be called in *postconfiguration*.
///
/// # Safety
/// `cf` must be valid.
pub unsafe fn postconfiguration(cf: *mut ngx_conf_t) {
    for directive in &PASS_DIRECTIVES {
        // SAFETY: `cf` is valid.
        unsafe { directive.foreign.restore(cf) };
    }
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
            let mut known = PASS_DIRECTIVES.iter().enumerate();
            let Some((number, directive)) = known.find(|(_, known)| known.foreign.is(command))
            else {
                return NGX_CONF_ERROR;
            };
            let status = directive.foreign.read(cf, command, conf).unwrap_or(NGX_CONF_ERROR);
            // A configuration that failed before it was complete has left ours in place, and this
            // one may be without our module.
            if status == NGX_CONF_OK
                && module::is_loaded(cf)
                && note(cf, number, directive).is_err()
            {
                return NGX_CONF_ERROR;
            }
            status
        }
    })
}

/// Keeps what the directive, which nginx has just read, says of its location.
///
/// # Safety
/// `cf` must be valid, and at the directive.
unsafe fn note(
    cf: *mut ngx_conf_t,
    number: usize,
    directive: &'static PassDirective,
) -> Result<(), CompilationFailed> {
    // SAFETY: by contract; the core module, and ours, have their configuration of each location in
    // its place.
    unsafe {
        let (Some(main_conf), Some(location), Some(core), Some(module)) = (
            module::main_conf(cf),
            module::location_conf(cf),
            configuration::core_location(cf),
            Module::find(cf, directive.foreign.module).map(Module::index),
        ) else {
            return Ok(());
        };
        let arguments = configuration::arguments(cf);
        let url = arguments.first().copied().unwrap_or_default();
        let value = url.contains(&b'$').then(|| ComplexValue::compile(cf, url)).transpose()?;
        let pass = Pass {
            directive,
            url: String::from_utf8_lossy(url).into_owned(),
            scheme: Scheme::of(url, directive.schemes.tls),
            names_target: has_variable(url, b"kong_upstream_target"),
            value,
            place: Place::current(cf),
            module,
        };
        location.passes.borrow_mut()[number] = Some(Rc::new(pass));
        main_conf.pass_handlers.0[number].set(core.as_ref().handler);
        (*core.as_ptr()).handler = Some(directive.handler);
    }
    Ok(())
}

impl Pass {
    /// Where the request is to go, if that is said by variables.
    pub fn evaluate<'a>(
        &self,
        request: Request<'a>,
    ) -> Option<Result<Destination<'a>, EvaluationFailed>> {
        let value = self.value.as_ref()?;
        let schemes = self.directive.schemes;
        Some(value.evaluate(request).map(|url| Destination::of(url, schemes)))
    }
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
    location.required.merge(&around.required);
    location.allow_plaintext.merge(&around.allow_plaintext);
    location.lua_handshake.merge(&around.lua_handshake);

    // SAFETY: by contract. The configuration of a directive's module begins with an
    // `ngx_http_upstream_conf_t`.
    unsafe {
        let (Some(main_conf), Some(core)) =
            (module::main_conf(cf), configuration::core_location(cf))
        else {
            return Ok(());
        };
        let core = core.as_ptr();
        // An `if` and a `limit_except` go where the location around them goes, if they don't say.
        let is_part =
            bitfields::location_noname(core) != 0 || bitfields::location_lmt_excpt(core) != 0;
        let around = around.passes.borrow();
        let mut passes = location.passes.borrow_mut();
        for (number, directive) in PASS_DIRECTIVES.iter().enumerate() {
            if is_part && passes[number].is_none() {
                passes[number].clone_from(&around[number]);
            }
            let Some(pass) = &passes[number] else {
                continue;
            };
            // What nginx has given to a `limit_except`.
            if is_same((*core).handler, main_conf.pass_handlers.0[number].get()) {
                (*core).handler = Some(directive.handler);
            }
            if is_same((*core).handler, Some(directive.handler)) {
                let conf =
                    pass.module.of::<ngx_http_upstream_conf_t>(configuration::context(cf).loc_conf);
                let verifies = conf.is_some_and(|conf| conf.as_ref().ssl_verify == 1);
                let name = String::from_utf8_lossy(configuration::bytes((*core).name));
                location.enforcement.check(&name, pass, verifies)?;
            }
        }
    }
    Ok(())
}

fn is_same(one: ngx_http_handler_pt, other: ngx_http_handler_pt) -> bool {
    one.zip(other).is_some_and(|(one, other)| ptr::fn_addr_eq(one, other))
}

/// A content handler.
pub type Handler = unsafe extern "C" fn(*mut ngx_http_request_t) -> ngx_int_t;

/// Of the directive with this number: what the location of `request` has of it, and the handler
/// that nginx has for it.
///
/// The location may have none of it: a request goes from one `if` to the next with the handler of
/// the first, and nginx calls that where the last has left the request.
pub fn of(request: Request<'_>, number: usize) -> Option<(Option<Rc<Pass>>, Handler)> {
    let pass = module::location_conf_of(request)?.passes.borrow().get(number)?.clone();
    let handler = module::main_conf_of(request)?.pass_handlers.0.get(number)?.get()?;
    Some((pass, handler))
}
