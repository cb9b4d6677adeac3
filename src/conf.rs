// SPDX-License-Identifier: Apache-2.0

//! What the module keeps for a configuration, and how it is found.

#![allow(unsafe_code, reason = "which type nginx has where, is said here")]

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

use ngx::ffi::{NGX_HTTP_LOC_CONF_OFFSET, NGX_HTTP_MAIN_CONF_OFFSET, NGX_HTTP_SRV_CONF_OFFSET};
use openssl::ssl::{SslContext, SslContextRef};

use crate::client::asking::Asking;
use crate::client::binding;
use crate::client::header_names::Stripping;
use crate::client::lua_code::LuaCode;
use crate::client::protocols::Protocols;
use crate::client::session_source::Sessions;
use crate::nginx::conf_parser::ConfParser;
use crate::nginx::directive::ConfLevel;
use crate::nginx::own_conf::OwnConf;
use crate::nginx::request::Request;
use crate::nginx::request_handler::Handler;
use crate::nginx::round_robin::Balancer;
use crate::nginx::shared_zone::{Zone, ZoneError};
use crate::nginx::upstream_block::UpstreamBlock;
use crate::nginx::upstream_conf::TLS_MODULES;
use crate::nginx::variable::VariableIndex;
use crate::openssl::fingerprint::Fingerprint;
use crate::session_zone::zone::SessionZone;
use crate::status::counters::Counters;
use crate::upstream::handshake::context::LocationContexts;
use crate::upstream::handshake::lua_handshake::{LuaHandshake, LuaHandshakeConf};
use crate::upstream::handshake::session_cache::SessionCacheSettings;
use crate::upstream::handshake::sessions::ServiceSessions;
use crate::upstream::handshake::trust::TrustedFiles;
use crate::upstream::identity::ContextId;
use crate::upstream::location::enforcement::LocationEnforcement;
use crate::upstream::location::inherited::Inherited;
use crate::upstream::location::pass::{self, Pass};
use crate::upstream::peer::blocks::Blocks;
use crate::upstream::peer::keepalive::Keepalive;
use crate::written_directives::WrittenDirectives;

/// The value of `kong_tls_session_cache`.
#[derive(Clone, Copy)]
pub enum SessionCacheConf {
    Off,
    /// Each worker has its own sessions.
    OfWorkers(SessionCacheSettings),
    /// All workers share them.
    Shared(SessionZone, SessionCacheSettings),
}

/// The module's configuration of `http {}`.
#[derive(Default)]
pub struct MainConf {
    /// `kong_tls_session_cache`
    pub session_cache: OnceCell<SessionCacheConf>,
    service_sessions: OnceCell<Rc<ServiceSessions>>,
    /// The `upstream {}` blocks.
    pub blocks: OnceCell<Blocks>,
    /// The shared memory zone of the counters that `kong_tls_status` shows.
    pub status: OnceCell<Zone<Counters>>,
    /// The trusted stores of locations.
    pub trusted_files: RefCell<TrustedFiles>,
    /// nginx's own content handlers for the pass directives.
    pub pass_handlers: pass::Handlers,
    /// The index of `$ssl_client_verify`.
    pub ssl_client_verify: OnceCell<VariableIndex>,
    /// The directives that decide which protocols servers offer.
    pub protocols: OnceCell<Protocols>,
    /// Whether Lua code may ask clients for a certificate.
    pub asking: Asking,
    /// The Lua code that may ask them.
    pub lua_code: LuaCode,
    /// This configuration, as the sessions of clients know it.
    pub resumption: OnceCell<binding::Configuration>,
    /// The TLS contexts whose ticket keys the module makes.
    pub ticket_contexts: RefCell<Vec<SslContext>>,
}

/// The module's configuration of an `upstream {}` block or a `server {}`.
#[derive(Default)]
pub struct ServerConf {
    /// `kong_tls_keepalive` of an `upstream {}` block.
    pub keepalive: OnceCell<Keepalive>,
    /// Whether the `upstream {}` block has nginx's own `keepalive`.
    pub nginx_keepalive: Cell<bool>,
    /// The balancer of the `upstream {}` block.
    pub balancer: Cell<Balancer>,
    /// Where the sessions of the server's clients are kept.
    pub sessions: OnceCell<Sessions>,
    /// What is written in the server's TLS directives.
    pub written_tls: WrittenDirectives,
    /// Digest of what decides the server's TLS context, if that can be told.
    pub tls: OnceCell<Fingerprint>,
    /// What is written in the directives of Lua code that may ask clients.
    pub written_lua: WrittenDirectives,
    /// Whether the server has `ssl_certificate_by_lua*`.
    pub certificate_by_lua: Cell<bool>,
    /// `kong_tls_strip_headers`; shared with the enclosing block that sets it.
    pub strip_headers: OnceCell<Rc<Stripping>>,
    /// Whether a plugin in this process has said that the server is the gateway, so that only the
    /// module may set its guarded headers.
    pub is_gateway: Cell<bool>,
}

impl ServerConf {
    /// Returns whether the server has `kong_tls_strip_headers on`.
    pub fn strips_headers(&self) -> bool {
        self.strip_headers.get().is_some_and(|stripping| **stripping != Stripping::Off)
    }

    /// Takes over the values of `http {}` that the server does not set itself.
    pub fn inherit(&self, around: &Self) {
        self.certificate_by_lua
            .set(self.certificate_by_lua.get() || around.certificate_by_lua.get());
        if let Some(stripping) = around.strip_headers.get() {
            self.strip_headers.get_or_init(|| Rc::clone(stripping));
        }
        self.written_tls.merge(&around.written_tls);
        self.written_lua.merge(&around.written_lua);
    }
}

/// The module's configuration of a location.
#[derive(Default)]
pub struct LocationConf {
    /// `kong_tls_certificate_verify`
    pub enforcement: LocationEnforcement,
    /// `kong_tls_required`
    pub required: Inherited,
    /// `kong_tls_allow_plaintext`
    pub allow_plaintext: Inherited,
    /// `kong_tls_keepalive`: idle connections to peers that are in no `upstream {}` block; shared
    /// with the enclosing block that sets it. `None` if they are not kept.
    pub keepalive: OnceCell<Option<Rc<Keepalive>>>,
    /// Lua code in the handshakes of the location.
    pub lua_handshake: LuaHandshakeConf,
    /// What is written in the TLS directives, for each of nginx's modules that have any.
    pub written_tls: [WrittenDirectives; TLS_MODULES.len()],
    /// The TLS contexts of the location.
    pub contexts: LocationContexts,
    /// For each pass directive, the last one in the location: nginx uses the last one too.
    pub passes: RefCell<[Option<Rc<Pass>>; pass::COUNT]>,
}

impl LocationConf {
    /// Takes over the values of the enclosing block that the location does not set itself.
    pub fn inherit(&self, around: &Self) {
        self.required.merge(&around.required);
        self.allow_plaintext.merge(&around.allow_plaintext);
        if let Some(keepalive) = around.keepalive.get() {
            self.keepalive.get_or_init(|| keepalive.clone());
        }
        self.lua_handshake.merge(&around.lua_handshake);
        for (written, around) in self.written_tls.iter().zip(&around.written_tls) {
            written.merge(around);
        }
    }
}

impl LocationConf {
    /// Returns the idle connections to peers that are in no `upstream {}` block, if they are kept.
    pub fn keepalive(&self) -> Option<&Keepalive> {
        self.keepalive.get()?.as_deref()
    }
}

impl MainConf {
    /// Completes the configuration, once all of `http {}` was read.
    pub fn complete_session_cache(&self, parser: ConfParser<'_>) -> Result<(), ZoneError> {
        if self.session_cache.get().is_none() {
            let settings = SessionCacheSettings::DEFAULT;
            let conf = match SessionZone::add_default(parser)? {
                Some(zone) => SessionCacheConf::Shared(zone, settings),
                None => SessionCacheConf::OfWorkers(settings),
            };
            self.session_cache.get_or_init(|| conf);
        }
        Ok(())
    }

    /// Returns the sessions with services; `None` if they are not kept.
    pub fn sessions(&self) -> Option<Rc<ServiceSessions>> {
        let (zone, settings) = match *self.session_cache.get()? {
            SessionCacheConf::Off => return None,
            SessionCacheConf::OfWorkers(settings) => (None, settings),
            SessionCacheConf::Shared(zone, settings) => (Some(zone), settings),
        };
        Some(Rc::clone(
            self.service_sessions.get_or_init(|| Rc::new(ServiceSessions::new(settings, zone))),
        ))
    }

    /// Returns the zone that all workers share, if there is one.
    pub fn session_zone(&self) -> Option<SessionZone> {
        match *self.session_cache.get()? {
            SessionCacheConf::Shared(zone, _) => Some(zone),
            SessionCacheConf::Off | SessionCacheConf::OfWorkers(_) => None,
        }
    }

    /// Returns whether it matters, and can be told, what the Lua code is that may ask clients.
    pub fn tells_lua_code(&self) -> bool {
        let is_open = self.lua_code.is_open.get();
        self.asking.is_possible() && !is_open && self.session_zone().is_some()
    }
}

// SAFETY: it is what `HttpModule` of `module.rs` has as its main configuration.
unsafe impl ConfLevel for MainConf {
    const OFFSET: usize = NGX_HTTP_MAIN_CONF_OFFSET;
}

// SAFETY: it is what `HttpModule` of `module.rs` has as its server configurations.
unsafe impl ConfLevel for ServerConf {
    const OFFSET: usize = NGX_HTTP_SRV_CONF_OFFSET;
}

// SAFETY: it is what `HttpModule` of `module.rs` has as its location configurations.
unsafe impl ConfLevel for LocationConf {
    const OFFSET: usize = NGX_HTTP_LOC_CONF_OFFSET;
}

// ---- of a request -------------------------------------------------------------------------------

/// Returns the `upstream {}` blocks of the configuration of `request`.
pub fn blocks(request: Request<'_>) -> Option<&Blocks> {
    MainConf::of_request(request)?.blocks.get()
}

/// Returns whether the configuration of `request` has an `upstream {}` block named `name`.
pub fn has_block(request: Request<'_>, name: &[u8]) -> bool {
    blocks(request).is_some_and(|blocks| matches!(blocks.names.find(name), Ok(Some(_))))
}

/// Returns the pass directive with this number in the location of `request`, and nginx's own
/// content handler for it.
///
/// The location may not have that directive: a request that moves from one `if` block to the next
/// keeps the handler of the first, and nginx calls it in the location where the request ends up.
pub fn pass_of(request: Request<'_>, number: usize) -> Option<(Option<Rc<Pass>>, Handler)> {
    let pass = LocationConf::of_request(request)?.passes.borrow().get(number)?.clone();
    let handler = MainConf::of_request(request)?.pass_handlers.0.get(number)?.get()?;
    Some((pass, handler))
}

/// Returns the sessions with services; `None` if they are not kept.
pub fn sessions(request: Request<'_>) -> Option<Rc<ServiceSessions>> {
    MainConf::of_request(request)?.sessions()
}

/// Returns whether Lua code may ask clients of the server of `request` for a certificate.
pub fn may_be_asked(request: Request<'_>) -> bool {
    MainConf::of_request(request).is_some_and(|main_conf| main_conf.asking.is_possible())
        && ServerConf::of_request(request).is_some_and(|server| server.certificate_by_lua.get())
}

/// Returns whether the service of `request` is verified, whatever the request asks for.
pub fn enforces_verification(request: Request<'_>) -> bool {
    LocationConf::of_request(request).is_some_and(|location| location.enforcement.is_enforced())
}

/// Returns what decides `context`, if it is one of the location of `request`.
pub fn context_id(request: Request<'_>, context: &SslContextRef) -> Option<ContextId> {
    LocationConf::of_request(request)?.contexts.id(context)
}

/// Returns what Lua code does in handshakes with the service of `request`, if it takes part.
pub fn lua_handshake(request: Request<'_>) -> Option<LuaHandshake> {
    LocationConf::of_request(request)?.lua_handshake.get()
}

// ---- of a block ---------------------------------------------------------------------------------

/// Returns the idle connections of `block`, if it has `kong_tls_keepalive`.
pub fn keepalive<'a>(block: UpstreamBlock) -> Option<&'a Keepalive> {
    ServerConf::of_block(block)?.keepalive.get()
}

/// Returns the idle connections to peers of the location of `request` that are in no `upstream {}`
/// block, if they are kept.
pub fn keepalive_of_location(request: Request<'_>) -> Option<&Keepalive> {
    LocationConf::of_request(request)?.keepalive()
}

/// Returns whether `block` has nginx's own `keepalive`.
pub fn has_nginx_keepalive(block: UpstreamBlock) -> bool {
    ServerConf::of_block(block).is_some_and(|conf| conf.nginx_keepalive.get())
}

/// Returns the balancer of `block`. A block without a configuration was made by nginx implicitly.
pub fn balancer(block: UpstreamBlock) -> Balancer {
    ServerConf::of_block(block).map_or(Balancer::Default, |conf| conf.balancer.get())
}
