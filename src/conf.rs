// SPDX-License-Identifier: Apache-2.0

//! What the module keeps for a configuration, and how it is found.

#![allow(unsafe_code, reason = "what a module keeps has no type for nginx")]

use std::any::Any;
use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

use ngx::ffi::{NGX_HTTP_LOC_CONF_OFFSET, NGX_HTTP_MAIN_CONF_OFFSET, NGX_HTTP_SRV_CONF_OFFSET};

use crate::client::asking::Asking;
use crate::client::binding;
use crate::client::header_names::Stripping;
use crate::client::protocols::Protocols;
use crate::client::session_source::Sessions;
use crate::nginx::conf_parser::{ConfParser, Level};
use crate::nginx::cycle::Cycle;
use crate::nginx::directive::ConfLevel;
use crate::nginx::request::Request;
use crate::nginx::round_robin::Balancer;
use crate::nginx::server::Server;
use crate::nginx::this_module;
use crate::nginx::upstream_block::UpstreamBlock;
use crate::nginx::variable::VariableIndex;
use crate::status::zone::Zone;
use crate::upstream::handshake::connection::SharedSessionCache;
use crate::upstream::handshake::lua_handshake::{LuaHandshake, LuaHandshakeConf};
use crate::upstream::handshake::session_cache::{SessionCache, SessionCacheSettings};
use crate::upstream::handshake::trust::TrustedFiles;
use crate::upstream::location::enforcement::LocationEnforcement;
use crate::upstream::location::inherited::Inherited;
use crate::upstream::location::pass::{self, Handler, Pass};
use crate::upstream::peer::blocks::Blocks;
use crate::upstream::peer::keepalive::Keepalive;

/// What the module keeps for `http {}`.
#[derive(Default)]
pub struct MainConf {
    /// Lives as long as the configuration.
    pub loaded: OnceCell<Box<dyn Any>>,
    /// `kong_tls_session_cache`; `None` is `off`.
    pub session_cache: OnceCell<Option<SessionCacheSettings>>,
    sessions: OnceCell<SharedSessionCache>,
    /// The `upstream {}` blocks.
    pub blocks: OnceCell<Blocks>,
    /// Where `kong_tls_status` takes its numbers from.
    pub status: OnceCell<Zone>,
    /// What locations trust.
    pub trusted_files: RefCell<TrustedFiles>,
    /// What nginx does with requests that go to an upstream.
    pub pass_handlers: pass::Handlers,
    /// Where `$ssl_client_verify` is.
    pub ssl_client_verify: OnceCell<VariableIndex>,
    /// Which directives say what servers speak.
    pub protocols: OnceCell<Protocols>,
    /// Whether Lua code may ask clients for a certificate.
    pub asking: Asking,
    /// What the sessions of clients are bound to.
    pub resumption: OnceCell<binding::Configuration>,
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
    pub sessions: OnceCell<Sessions>,
    /// Whether a server has `ssl_certificate_by_lua*`.
    pub certificate_by_lua: Cell<bool>,
    /// `kong_tls_strip_headers`; shared with what says it.
    pub strip_headers: OnceCell<Rc<Stripping>>,
    /// Whether a plugin has said, in this process, that a server is the gateway, whose headers are
    /// for us to set.
    pub is_gateway: Cell<bool>,
}

impl ServerConf {
    /// Whether it has `kong_tls_strip_headers on`.
    pub fn strips_headers(&self) -> bool {
        self.strip_headers.get().is_some_and(|stripping| **stripping != Stripping::Off)
    }

    /// Takes over what the configuration of `http {}` says, where that of a server says nothing.
    pub fn inherit(&self, around: &Self) {
        self.certificate_by_lua
            .set(self.certificate_by_lua.get() || around.certificate_by_lua.get());
        if let Some(stripping) = around.strip_headers.get() {
            self.strip_headers.get_or_init(|| Rc::clone(stripping));
        }
    }
}

/// What the module keeps for a location.
#[derive(Default)]
pub struct LocationConf {
    /// `kong_tls_certificate_verify`
    pub enforcement: LocationEnforcement,
    /// `kong_tls_required`
    pub required: Inherited,
    /// `kong_tls_allow_plaintext`
    pub allow_plaintext: Inherited,
    /// Lua code in the handshakes of the location.
    pub lua_handshake: LuaHandshakeConf,
    /// The last of each pass directive, which is how nginx has them.
    pub passes: RefCell<[Option<Rc<Pass>>; pass::COUNT]>,
}

impl LocationConf {
    /// Takes over what the block around has, where this one says nothing.
    pub fn inherit(&self, around: &Self) {
        self.required.merge(&around.required);
        self.allow_plaintext.merge(&around.allow_plaintext);
        self.lua_handshake.merge(&around.lua_handshake);
    }
}

// SAFETY: `module.rs` makes these of the levels.
unsafe impl ConfLevel for MainConf {
    const OFFSET: usize = NGX_HTTP_MAIN_CONF_OFFSET;
}

// SAFETY: `module.rs` makes these of the levels.
unsafe impl ConfLevel for ServerConf {
    const OFFSET: usize = NGX_HTTP_SRV_CONF_OFFSET;
}

// SAFETY: `module.rs` makes these of the levels.
unsafe impl ConfLevel for LocationConf {
    const OFFSET: usize = NGX_HTTP_LOC_CONF_OFFSET;
}

// ---- while a configuration is read --------------------------------------------------------------

/// What we keep for the configuration that is being read.
pub fn main_conf(parser: ConfParser<'_>) -> Option<&MainConf> {
    // SAFETY: ours is in its place, and lives as long as the configuration.
    unsafe { Some(parser.configuration(Level::Main, this_module::index())?.as_ref()) }
}

/// What we keep for the `upstream {}` block or the server that is being read.
pub fn server_conf(parser: ConfParser<'_>) -> Option<&ServerConf> {
    // SAFETY: ours is in its place, and lives as long as the configuration.
    unsafe { Some(parser.configuration(Level::Server, this_module::index())?.as_ref()) }
}

/// What we keep for the location that is being read or merged.
pub fn location_conf(parser: ConfParser<'_>) -> Option<&LocationConf> {
    // SAFETY: ours is in its place, and lives as long as the configuration.
    unsafe { Some(parser.configuration(Level::Location, this_module::index())?.as_ref()) }
}

// ---- of what is there ---------------------------------------------------------------------------

impl MainConf {
    /// Of the configuration of a server.
    pub fn of_server(server: Server<'_>) -> Option<&Self> {
        // SAFETY: ours is in its place.
        unsafe { server.main_configuration(this_module::index()) }
    }

    /// Of a cycle whose configuration is read, if it has `http {}`.
    pub fn of_cycle(cycle: Cycle<'_>) -> Option<&Self> {
        // SAFETY: ours is in its place.
        unsafe { cycle.main_configuration(this_module::index()) }
    }
}

impl ServerConf {
    /// Of a server.
    pub fn of_server(server: Server<'_>) -> Option<&Self> {
        // SAFETY: ours is in its place.
        unsafe { server.configuration(this_module::index()) }
    }

    /// Of an `upstream {}` block, unless nginx has made it itself.
    fn of_block<'a>(block: UpstreamBlock) -> Option<&'a Self> {
        // SAFETY: ours is in its place.
        unsafe { block.configuration(this_module::index()) }
    }
}

// ---- of a request -------------------------------------------------------------------------------

/// What we keep for `http {}` of `request`.
pub fn main_conf_of(request: Request<'_>) -> Option<&MainConf> {
    // SAFETY: ours is in its place, and the configuration of a request outlives it.
    unsafe { Some(request.main_configuration(this_module::index())?.as_ref()) }
}

/// What we keep for the location of `request`.
pub fn location_conf_of(request: Request<'_>) -> Option<&LocationConf> {
    // SAFETY: ours is in its place, and the configuration of a request outlives it.
    unsafe { Some(request.location_configuration(this_module::index())?.as_ref()) }
}

/// What we keep for the server of `request`.
pub fn server_conf_of(request: Request<'_>) -> Option<&ServerConf> {
    // SAFETY: ours is in its place, and the configuration of a request outlives it.
    unsafe { Some(request.server_configuration(this_module::index())?.as_ref()) }
}

/// The `upstream {}` blocks of the configuration of `request`.
pub fn blocks(request: Request<'_>) -> Option<&Blocks> {
    main_conf_of(request)?.blocks.get()
}

/// Whether the configuration of `request` has an `upstream {}` block of this name.
pub fn has_block(request: Request<'_>, name: &[u8]) -> bool {
    blocks(request).is_some_and(|blocks| matches!(blocks.names.find(name), Ok(Some(_))))
}

/// Of the pass directive with this number: what the location of `request` has of it, and the
/// handler that nginx has for it.
///
/// The location may have none of it: a request goes from one `if` to the next with the handler of
/// the first, and nginx calls that where the last has left the request.
pub fn pass_of(request: Request<'_>, number: usize) -> Option<(Option<Rc<Pass>>, Handler)> {
    let pass = location_conf_of(request)?.passes.borrow().get(number)?.clone();
    let handler = main_conf_of(request)?.pass_handlers.0.get(number)?.get()?;
    Some((pass, handler))
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

// ---- of a block ---------------------------------------------------------------------------------

/// The idle connections of `block`, if it has `kong_tls_keepalive`.
pub fn keepalive<'a>(block: UpstreamBlock) -> Option<&'a Keepalive> {
    ServerConf::of_block(block)?.keepalive.get()
}

/// Whether `block` has nginx's own `keepalive`.
pub fn has_nginx_keepalive(block: UpstreamBlock) -> bool {
    ServerConf::of_block(block).is_some_and(|conf| conf.nginx_keepalive.get())
}

/// Who chooses the servers of `block`. nginx has made one without a configuration itself.
pub fn balancer(block: UpstreamBlock) -> Balancer {
    ServerConf::of_block(block).map_or(Balancer::Default, |conf| conf.balancer.get())
}
