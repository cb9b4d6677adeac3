// SPDX-License-Identifier: Apache-2.0

//! Servers of the configuration, and connections of their clients.

use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::slice;

use ngx::ffi::{
    ngx_array_push, ngx_hash_find_combined, ngx_hash_key, ngx_http_addr_conf_t,
    ngx_http_conf_ctx_t, ngx_http_connection_t, ngx_http_core_main_conf_t,
    ngx_http_core_srv_conf_t, ngx_http_handler_pt, ngx_http_header_t, ngx_http_headers_in,
    ngx_http_in_addr_t, ngx_http_in6_addr_t, ngx_http_phases_NGX_HTTP_POST_READ_PHASE,
    ngx_http_port_t, ngx_http_ssl_srv_conf_t,
};
use openssl::ssl::{SslContextRef, SslRef};

use crate::nginx::conf_parser::{ConfParser, Level};
use crate::nginx::configuration::{self, ModuleIndex, ServerFlag};
use crate::nginx::connection::Connection;
use crate::nginx::pool::OutOfMemory;
use crate::nginx::request_handler::{RequestHandler, handle};
use crate::nginx::upstream::context_of;
use crate::nginx::{bitfields, version};

/// A `server {}` block.
#[derive(Clone, Copy)]
pub struct Server<'a>(&'a ngx_http_core_srv_conf_t);

impl<'a> Server<'a> {
    /// Returns a module's configuration for `http {}`.
    ///
    /// # Safety
    /// `T` must be the type of the main configuration of the module with `index`.
    pub unsafe fn main_configuration<T>(self, index: ModuleIndex) -> Option<&'a T> {
        // SAFETY: these arrays live as long as the server. The caller ensures the type `T`.
        unsafe { index.of(self.context().main_conf).map(|of| of.as_ref()) }
    }

    /// Returns a module's configuration for the server.
    ///
    /// # Safety
    /// `T` must be the type of the server configuration of the module with `index`.
    pub unsafe fn configuration<T>(self, index: ModuleIndex) -> Option<&'a T> {
        // SAFETY: these arrays live as long as the server. The caller ensures the type `T`.
        unsafe { index.of(self.context().srv_conf).map(|of| of.as_ref()) }
    }

    fn context(self) -> &'a ngx_http_conf_ctx_t {
        // SAFETY: nginx sets the context when it makes the server, and it lives as long.
        unsafe { &*self.0.ctx }
    }
}

/// The servers of a configuration.
pub struct Servers<'a> {
    main: &'a ngx_http_core_main_conf_t,
    ssl_module: ModuleIndex,
}

impl<'a> Servers<'a> {
    /// Returns the servers, once `http {}` has been read; `None` if this nginx has no TLS.
    pub fn new(parser: ConfParser<'a>) -> Option<Self> {
        let core = parser.module(c"ngx_http_core_module")?.index();
        let ssl_module = parser.module(c"ngx_http_ssl_module")?.index();
        // SAFETY: this is the core module's type in the nginx that the module was built for. It
        // lives as long as the configuration.
        let main = unsafe { parser.configuration(Level::Main, core)?.as_ref() };
        Some(Self { main, ssl_module })
    }

    /// Returns all servers.
    pub fn all(&self) -> impl Iterator<Item = Server<'a>> {
        // SAFETY: `servers` holds pointers to the servers' configurations.
        let servers: &'a [*mut ngx_http_core_srv_conf_t] =
            unsafe { configuration::elements(&self.main.servers) };
        // SAFETY: a server lives as long as the configuration.
        servers.iter().map(|server| Server(unsafe { &**server }))
    }

    /// Returns the TLS context of a server, if it has one.
    pub fn ssl_context(&self, server: Server<'a>) -> Option<&'a SslContextRef> {
        let ssl = self.ssl_configuration(server)?;
        // SAFETY: the context is NULL, or lives as long as the configuration.
        unsafe { context_of(&raw const ssl.ssl) }
    }

    /// Returns whether nginx itself may know sessions of the server's clients after a reload: by
    /// ticket keys from files, or by a shared cache, which also has keys from nginx 1.23.2 on.
    pub fn keeps_sessions(&self, server: Server<'a>) -> bool {
        self.ssl_configuration(server)
            .is_none_or(|ssl| !ssl.session_ticket_keys.is_null() || !ssl.shm_zone.is_null())
    }

    fn ssl_configuration(&self, server: Server<'a>) -> Option<&'a ngx_http_ssl_srv_conf_t> {
        // SAFETY: this is the TLS module's type in the nginx that the module was built for.
        unsafe { server.configuration(self.ssl_module) }
    }
}

/// Returns whether nginx itself parses the request header `name` and keeps a pointer to it.
pub fn reads_header(name: &[u8]) -> bool {
    let first = (&raw mut ngx_http_headers_in).cast::<ngx_http_header_t>();
    // SAFETY: nginx's list is static, and ends with an empty name.
    let mut known = unsafe { configuration::until(first, |header| header.name.len == 0) };
    // SAFETY: the names of the list are static.
    known.any(|known| unsafe { configuration::bytes(known.get().name) }.eq_ignore_ascii_case(name))
}

/// An address of a port: `ngx_http_in_addr_t` or `ngx_http_in6_addr_t`.
trait AddressOfPort: Sized {
    fn conf(&self) -> *const ngx_http_addr_conf_t;

    fn ip(&self) -> &[u8];
}

impl AddressOfPort for ngx_http_in_addr_t {
    fn conf(&self) -> *const ngx_http_addr_conf_t {
        &raw const self.conf
    }

    fn ip(&self) -> &[u8] {
        // SAFETY: an address is an integer, of this size.
        unsafe { slice::from_raw_parts((&raw const self.addr).cast(), size_of_val(&self.addr)) }
    }
}

impl AddressOfPort for ngx_http_in6_addr_t {
    fn conf(&self) -> *const ngx_http_addr_conf_t {
        &raw const self.conf
    }

    fn ip(&self) -> &[u8] {
        // SAFETY: an address is an array of bytes, of this size.
        unsafe { slice::from_raw_parts((&raw const self.addr6).cast(), size_of_val(&self.addr6)) }
    }
}

/// A client's connection that has not made a request yet.
///
/// nginx makes an `ngx_http_connection_t` the owner of such a connection; its own callbacks rely on
/// it too. After the first handshake of a connection, nginx allows no other.
#[derive(Clone, Copy)]
pub struct ClientConnection<'a> {
    http: &'a ngx_http_connection_t,
    connection: Connection<'a>,
}

impl<'a> ClientConnection<'a> {
    /// Returns the connection of `ssl`, if its first handshake is not over.
    pub fn find(ssl: &'a SslRef) -> Option<Self> {
        let connection = Connection::from_ssl(ssl)?;
        if !ssl.is_server() || connection.tls()?.handshaked() {
            return None;
        }
        // SAFETY: the module gets SSL objects only from requests, and from callbacks on the
        // contexts of servers and locations. Excluded above are connections to services, in which
        // nginx is the client, and those that may have made a request.
        let http = unsafe { connection.data()?.cast().as_ref() };
        Some(Self { http, connection })
    }

    /// Returns what identifies the address that the connection came to among those of `listen`. It
    /// is the same in all workers and configurations.
    pub fn address(self) -> Option<Vec<u8>> {
        let listening = self.connection.listening()?;
        let mut address = listening.type_.to_ne_bytes().to_vec();
        // SAFETY: nginx has bound the socket to this address, which lives as long as the socket.
        let socket = unsafe {
            let length = listening.socklen as usize;
            slice::from_raw_parts(listening.sockaddr.cast::<u8>(), length)
        };
        address.extend(socket);
        // Several addresses may share a socket that is bound to all addresses of the machine.
        // SAFETY: `servers` is the port of a listening socket of HTTP, whose addresses have the
        // type of its family.
        let of_port = unsafe {
            let port = listening.servers.cast::<ngx_http_port_t>().as_ref()?;
            match i32::from((*listening.sockaddr).sa_family) {
                libc::AF_INET => self.ip_of::<ngx_http_in_addr_t>(port),
                libc::AF_INET6 => self.ip_of::<ngx_http_in6_addr_t>(port),
                _ => Some(&[][..]),
            }
        };
        address.extend(of_port?);
        Some(address)
    }

    /// Returns the IP address of the connection's `listen` among those of a port.
    ///
    /// # Safety
    /// `T` must be the type of the port's addresses.
    unsafe fn ip_of<T: AddressOfPort + 'a>(self, port: &'a ngx_http_port_t) -> Option<&'a [u8]> {
        // SAFETY: the caller ensures the type; the array lives as long as the port.
        let addresses = unsafe { slice::from_raw_parts(port.addrs.cast::<T>(), port.naddrs) };
        let mut addresses = addresses.iter();
        addresses.find(|address| ptr::eq(address.conf(), self.http.addr_conf)).map(T::ip)
    }

    fn address_conf(self) -> &'a Cell<ngx_http_addr_conf_t> {
        // SAFETY: nginx sets `addr_conf` when it makes the structure. It lives as long as the
        // configuration, which outlives its connections.
        unsafe { &*self.http.addr_conf.cast() }
    }

    /// Returns whether the `listen` of the address has the parameter `http2`.
    pub fn came_to_http2(self) -> bool {
        bitfields::address_http2(self.address_conf())
    }

    /// Returns whether the connection is a QUIC one.
    pub fn speaks_quic(self) -> bool {
        version::is_quic(self.address_conf())
    }

    /// Returns a directive's value in the server that nginx has chosen for the connection so far.
    pub fn is_on(self, flag: ServerFlag) -> bool {
        // SAFETY: nginx sets `conf_ctx` when it makes the structure; a server has a configuration
        // of every module.
        unsafe { flag.is_on((*self.http.conf_ctx).srv_conf) }
    }

    /// Returns the server that nginx would choose for the name in the ClientHello; `None` if that
    /// can't be known in advance.
    pub fn server_of(self, name: Option<&[u8]>) -> Option<Server<'a>> {
        let mut host = name.unwrap_or_default().to_ascii_lowercase();
        if host.last() == Some(&b'.') {
            host.pop();
        }
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
        if !host.iter().all(is_plain) {
            return None;
        }
        if host.is_empty() {
            return Some(self.default_server());
        }
        // SAFETY: an address has such a hash of names, or NULL, as long as the configuration.
        let Some(names) = (unsafe { self.address_conf().get().virtual_names.as_mut() }) else {
            return Some(self.default_server());
        };
        let (start, length) = (host.as_mut_ptr(), host.len());
        // SAFETY: both functions only read `host`, at `start`.
        let found = unsafe {
            let key = ngx_hash_key(start, length);
            ngx_hash_find_combined(&raw mut names.names, key, start, length)
        };
        // SAFETY: the hash holds servers, which live as long as the configuration.
        match unsafe { found.cast::<ngx_http_core_srv_conf_t>().as_ref() } {
            Some(server) => Some(Server(server)),
            // A regular expression may match: only nginx can tell.
            None if names.nregex > 0 => None,
            None => Some(self.default_server()),
        }
    }

    /// Returns the default server of the address, whose TLS context the handshake began with.
    pub fn default_server(self) -> Server<'a> {
        // SAFETY: an address has a default server, which lives as long as the configuration.
        Server(unsafe { &*self.address_conf().get().default_server })
    }
}

impl Servers<'_> {
    /// Makes nginx call `T` for each request, before all other phases. To be called in
    /// *postconfiguration*: nginx calls the handlers of a phase in the reverse order of their
    /// registration.
    pub fn handle_each_request<T: RequestHandler>(&self) -> Result<(), OutOfMemory> {
        let phase = ngx_http_phases_NGX_HTTP_POST_READ_PHASE as usize;
        let handlers = &raw const self.main.phases[phase].handlers;
        if self.main.phases[phase].handlers.elts.is_null() {
            // nginx has not yet read `http {}`.
            return Err(OutOfMemory);
        }
        // SAFETY: nginx has made the array, in the pool of the configuration, and has a single
        // thread. It reads the array once, after *postconfiguration*.
        let place = unsafe { ngx_array_push(handlers.cast_mut()) };
        let place = NonNull::new(place.cast::<ngx_http_handler_pt>()).ok_or(OutOfMemory)?;
        // SAFETY: `place` is a new element of the array, of this type.
        unsafe { place.write(Some(handle::<T>)) };
        Ok(())
    }
}
