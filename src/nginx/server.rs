// SPDX-License-Identifier: Apache-2.0

//! The servers of the configuration, and the connections of their clients.

use std::ptr::{self, NonNull};

use foreign_types::ForeignTypeRef;
use ngx::ffi::{
    ngx_array_push, ngx_hash_find_combined, ngx_hash_key, ngx_http_connection_t,
    ngx_http_core_main_conf_t, ngx_http_core_srv_conf_t, ngx_http_handler_pt, ngx_http_header_t,
    ngx_http_headers_in, ngx_http_phases_NGX_HTTP_POST_READ_PHASE, ngx_http_request_t,
    ngx_http_ssl_srv_conf_t, ngx_int_t,
};
use openssl::ssl::{SslContextRef, SslRef};

use crate::nginx::conf_parser::{ConfParser, Level};
use crate::nginx::configuration::{self, ModuleIndex, ServerFlag};
use crate::nginx::connection::Connection;
use crate::nginx::pool::OutOfMemory;
use crate::nginx::{bitfields, version};

/// A `server {}`.
#[derive(Clone, Copy)]
pub struct Server<'a>(&'a ngx_http_core_srv_conf_t);

impl<'a> Server<'a> {
    /// What a module keeps for `http {}`.
    ///
    /// # Safety
    /// `T` must be what the module with `index` keeps there.
    pub unsafe fn main_configuration<T>(self, index: ModuleIndex) -> Option<&'a T> {
        // SAFETY: by contract. The configuration lives as long as its servers.
        unsafe { Some(index.of((*self.0.ctx).main_conf)?.as_ref()) }
    }

    /// What a module keeps for the server.
    ///
    /// # Safety
    /// `T` must be what the module with `index` keeps there.
    pub unsafe fn configuration<T>(self, index: ModuleIndex) -> Option<&'a T> {
        // SAFETY: as above.
        unsafe { Some(index.of((*self.0.ctx).srv_conf)?.as_ref()) }
    }
}

/// The servers of a configuration that has been read.
pub struct Servers<'a> {
    main: &'a ngx_http_core_main_conf_t,
    ssl_module: ModuleIndex,
}

impl<'a> Servers<'a> {
    /// The servers, when all of `http {}` is read; `None` if this nginx has no TLS.
    pub fn new(parser: ConfParser<'a>) -> Option<Self> {
        let core = parser.module(c"ngx_http_core_module")?.index();
        let ssl_module = parser.module(c"ngx_http_ssl_module")?.index();
        // SAFETY: the structure is that of the nginx we were built for, and lives as long as the
        // configuration.
        let main = unsafe { parser.configuration(Level::Main, core)?.as_ref() };
        Some(Self { main, ssl_module })
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = Server<'a>> {
        // SAFETY: nginx keeps pointers to servers there.
        let servers: &'a [*mut ngx_http_core_srv_conf_t] =
            unsafe { configuration::elements(&self.main.servers) };
        // SAFETY: a server lives as long as the configuration.
        servers.iter().map(|server| Server(unsafe { &**server }))
    }

    /// The TLS context of one of them, if it has any.
    pub fn ssl_context(&self, server: Server<'a>) -> Option<&'a SslContextRef> {
        // SAFETY: the structure is that of the nginx we were built for; a context lives as long as
        // the configuration.
        unsafe {
            let ssl = server.configuration::<ngx_http_ssl_srv_conf_t>(self.ssl_module)?;
            let context = NonNull::new(ssl.ssl.ctx)?;
            Some(SslContextRef::from_ptr(context.as_ptr().cast()))
        }
    }
}

impl Servers<'_> {
    /// Has nginx call `handler` for each request of a client, before any other phase.
    ///
    /// # Safety
    /// To be called in *postconfiguration*, before nginx makes its table of handlers. `handler`
    /// must be a handler of a phase.
    pub unsafe fn add_post_read_handler(&self, handler: Handler) -> Result<(), OutOfMemory> {
        let main = ptr::from_ref(self.main).cast_mut();
        // SAFETY: by contract. While it reads a configuration nginx adds to these arrays, and we
        // are in its only thread.
        unsafe {
            let phase = ngx_http_phases_NGX_HTTP_POST_READ_PHASE as usize;
            let handlers = &raw mut (*main).phases[phase].handlers;
            let place = ngx_array_push(handlers).cast::<ngx_http_handler_pt>();
            NonNull::new(place).ok_or(OutOfMemory)?.write(Some(handler));
        }
        Ok(())
    }
}

/// Whether nginx itself reads the header `name` of requests, and keeps where it is.
pub fn reads_header(name: &[u8]) -> bool {
    let mut next = (&raw const ngx_http_headers_in).cast::<ngx_http_header_t>();
    loop {
        // SAFETY: an element of nginx's own list, which nobody changes, and which ends with an
        // empty name.
        unsafe {
            let known = configuration::bytes((*next).name);
            if known.is_empty() {
                return false;
            }
            if known.eq_ignore_ascii_case(name) {
                return true;
            }
            next = next.add(1);
        }
    }
}

/// What nginx calls in a phase.
pub type Handler = unsafe extern "C" fn(*mut ngx_http_request_t) -> ngx_int_t;

/// The connection of a client that has not sent a request yet.
#[derive(Clone, Copy)]
pub struct ClientConnection<'a>(&'a ngx_http_connection_t);

impl<'a> ClientConnection<'a> {
    /// The connection of `ssl`.
    ///
    /// # Safety
    /// `ssl` must be that of a client of one of [`Servers`], in its first handshake.
    pub unsafe fn in_handshake(ssl: &'a SslRef) -> Option<Self> {
        let data = Connection::from_ssl(ssl)?.data()?;
        // SAFETY: until the first request is made, a client's connection belongs to an
        // `ngx_http_connection_t`; nginx's own callbacks rely on it too.
        Some(Self(unsafe { data.cast().as_ref() }))
    }

    /// What tells the addresses of a configuration apart to which clients come: the same in all
    /// workers.
    pub fn address(self) -> usize {
        self.0.addr_conf.addr()
    }

    /// Whether the address that it came to has the parameter `http2` of `listen`.
    pub fn came_to_http2(self) -> bool {
        // SAFETY: nginx sets the field when it makes the structure.
        unsafe { bitfields::address_http2(self.0.addr_conf) != 0 }
    }

    /// Whether the client speaks QUIC.
    pub fn speaks_quic(self) -> bool {
        // SAFETY: as above.
        unsafe { version::is_quic(self.0.addr_conf) }
    }

    /// The value of a directive for the server whose name the client asks for.
    pub fn is_on(self, flag: ServerFlag) -> bool {
        // SAFETY: as above; a server has configurations of all modules.
        unsafe { flag.is_on((*self.0.conf_ctx).srv_conf) }
    }

    /// The server that nginx has for the `name` which the client asks for; `None` if that is not
    /// known beforehand.
    pub fn server_of(self, name: Option<&[u8]>) -> Option<Server<'a>> {
        let mut host = name.unwrap_or_default().to_ascii_lowercase();
        if host.last() == Some(&b'.') {
            host.pop();
        }
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
        if !host.iter().all(is_plain) {
            return None;
        }
        // SAFETY: as above. The names of an address are in a table of its servers, where nginx only
        // reads the name that it looks for.
        unsafe {
            let Some(names) =
                (*self.0.addr_conf).virtual_names.as_mut().filter(|_| !host.is_empty())
            else {
                return Some(self.default_server());
            };
            let found = ngx_hash_find_combined(
                &raw mut names.names,
                ngx_hash_key(host.as_mut_ptr(), host.len()),
                host.as_mut_ptr(),
                host.len(),
            );
            match found.cast::<ngx_http_core_srv_conf_t>().as_ref() {
                Some(server) => Some(Server(server)),
                // Regular expressions: only nginx knows.
                None if names.nregex > 0 => None,
                None => Some(self.default_server()),
            }
        }
    }

    /// The server whose TLS context the handshake began with.
    pub fn default_server(self) -> Server<'a> {
        // SAFETY: as above; an address has a default server.
        Server(unsafe { &*(*self.0.addr_conf).default_server })
    }
}
