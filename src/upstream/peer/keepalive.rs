// SPDX-License-Identifier: Apache-2.0

//! `kong_tls_keepalive`: idle connections to the servers of an `upstream {}` block, or to the peers
//! of locations that are in none, kept by address and TLS identity. Its numbers mean the same as
//! those of nginx's `keepalive` and related directives.

#![allow(unsafe_code, reason = "who uses a connection, has no type")]

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use ngx::ffi::ngx_connection_t;

use crate::bounded::BoundedCache;
use crate::nginx::connection::{Connection, close_upstream_connection};
use crate::nginx::detour::Target;
use crate::nginx::idle::{self, HoldIdle};
use crate::nginx::peer::Peer;
use crate::nginx::request::Request;
use crate::nginx::sockaddr::Address;
use crate::nginx::{process, time};
use crate::status::counters::{self, Counter};
use crate::upstream::handshake::connection::UpstreamConnection;
use crate::upstream::identity::IdentityDigest;
use crate::upstream::peer::idle_connections::{IdleConnections, IdleKey};

/// The parameters of the directive.
#[derive(Clone, Copy, Debug)]
pub struct KeepaliveSettings {
    /// The maximum number of idle connections.
    pub connections: NonZeroUsize,
    /// How long a connection may be idle, in milliseconds.
    pub timeout: usize,
    /// How many requests a connection may serve.
    pub requests: usize,
    /// How long a connection may be used, in milliseconds.
    pub time: usize,
}

/// The idle connections of a block, or of locations.
///
/// The `data` of an idle connection points here instead of at a request. So this must not begin
/// with the signature of a request, see `Request::from_upstream_connection`.
#[repr(C)]
pub struct Keepalive {
    no_signature: u32,
    settings: KeepaliveSettings,
    idle: RefCell<IdleConnections<NonNull<ngx_connection_t>>>,
    /// The addresses of the names that nginx's resolvers have looked up last.
    names: RefCell<BoundedCache<LookedUpName, LookedUp>>,
}

/// A name that a resolver looks up.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct LookedUpName {
    /// The address of the location's resolver, which lives as long as the configuration. Others may
    /// know other addresses.
    resolver: usize,
    host: Box<[u8]>,
    port: u16,
}

impl LookedUpName {
    /// Returns the name that is the target of `request`.
    pub fn of(request: Request<'_>, target: Target<'_>) -> Self {
        Self {
            resolver: request.resolver().addr(),
            host: target.host().to_ascii_lowercase().into(),
            port: target.port(),
        }
    }
}

/// What nginx's resolver has found.
struct LookedUp {
    addresses: Vec<Address>,
    /// In milliseconds of the monotonic clock.
    until: u64,
}

/// How long the addresses of a name are used again, in milliseconds. nginx's resolver has a cache
/// of its own; but it connects as soon as it has looked a name up.
const LOOKED_UP_FOR: u64 = 10 * 1000;

/// The most bytes that the names and their addresses take.
const MOST_BYTES_OF_NAMES: usize = 1024 * 1024;

impl Keepalive {
    pub fn new(settings: KeepaliveSettings) -> Self {
        let idle = RefCell::new(IdleConnections::new(settings.connections));
        let names = BoundedCache::new(settings.connections, MOST_BYTES_OF_NAMES);
        Self { no_signature: 0, settings, idle, names: RefCell::new(names) }
    }

    /// Returns the addresses of a name that nginx's resolver has looked up lately.
    pub fn addresses_of(&self, name: &LookedUpName, now: u64) -> Option<Vec<Address>> {
        let mut names = self.names.borrow_mut();
        let known = names.get(name)?;
        (now < known.until).then(|| known.addresses.clone())
    }

    /// Notes the addresses that nginx's resolver has found for a name.
    pub fn note_addresses(&self, name: &LookedUpName, addresses: Vec<Address>, now: u64) {
        if addresses.is_empty() {
            return;
        }
        let bytes =
            name.host.len() + size_of_val(&*addresses) + size_of::<(LookedUpName, LookedUp)>();
        let until = now + LOOKED_UP_FOR;
        self.names.borrow_mut().insert(name.clone(), LookedUp { addresses, until }, bytes);
    }

    /// Forgets the addresses of a name, which nginx's resolver has to look up again.
    pub fn forget_addresses(&self, name: &LookedUpName) {
        self.names.borrow_mut().remove(name);
    }

    /// Takes an idle connection to the address of `peer` that was made under `identity`.
    pub fn take<'a>(&self, peer: Peer<'a>, identity: IdentityDigest) -> Option<Connection<'a>> {
        // SAFETY: the peer was chosen, and is in use until this returns.
        let key = IdleKey { identity, peer: unsafe { peer.borrow_address() }? };
        let connection = self.idle.borrow_mut().take(&key)?;
        counters::count(Counter::IdleConnectionReused);

        // SAFETY: an idle connection is closed only when it is removed from here, so it is valid.
        let connection = unsafe { Connection::from_ptr(connection) };
        // SAFETY: the connection was just taken out, so nothing else uses it.
        unsafe { connection.unpark(peer) };
        if let Some(known) = known(connection) {
            known.came_back();
        }
        Some(connection)
    }

    /// Returns whether there is an idle connection to the address of `peer`, of any identity.
    pub fn has_peer(&self, peer: Peer<'_>) -> bool {
        // SAFETY: the peer was chosen, and is in use until this returns.
        let address = unsafe { peer.borrow_address() };
        address.is_some_and(|address| self.idle.borrow().has_peer(address))
    }

    /// Keeps the connection of `peer` to `address` as idle, if another request may use it.
    ///
    /// `address` has the bytes of the peer's `sockaddr` before the release, which may free them.
    pub fn put(&self, peer: Peer<'_>, address: Option<&[u8]>) {
        let Some(connection) = peer.connection().filter(|connection| self.is_reusable(*connection))
        else {
            return;
        };
        let known = known(connection).filter(|_| is_shaken(connection));
        let Some((identity, peer_address)) =
            known.and_then(UpstreamConnection::identity).zip(address)
        else {
            return;
        };
        let is_passing = known.is_some_and(UpstreamConnection::is_passing);
        let key = IdleKey { identity, peer: peer_address };
        // SAFETY: the peer is being released, or chosen: nginx does not use its connection.
        let Some(taken) = (unsafe { peer.take_connection() }) else {
            return;
        };

        let oldest = self.idle.borrow_mut().put(&key, taken, is_passing);
        if let Some(oldest) = oldest {
            counters::count(Counter::IdleConnectionClosed);
            // SAFETY: the connection was idle and was just taken out of the cache, so nothing else
            // uses it.
            unsafe { close_upstream_connection(oldest) };
        }
        // SAFETY: the connection was taken from the peer, so nothing else uses it. The
        // configuration, which holds `self`, outlives the connection. `no_signature` is no
        // signature.
        unsafe { idle::park(connection, self, self.settings.timeout) };
    }

    fn is_reusable(&self, connection: Connection<'_>) -> bool {
        let KeepaliveSettings { connections: _, timeout: _, requests, time } = self.settings;
        let age = time::monotonic().saturating_sub(connection.start_time());
        connection.is_usable()
            && connection.requests() < requests
            && age <= time as u64
            && !process::is_ending()
            && connection.wait_for_events()
    }
}

/// Returns the identity of a connection whose handshake is done.
pub fn made_under(connection: Connection<'_>) -> Option<IdentityDigest> {
    let known = known(connection).filter(|_| is_shaken(connection))?;
    known.identity()
}

/// Returns whether the handshake of a connection is done.
fn is_shaken(connection: Connection<'_>) -> bool {
    connection.tls().is_some_and(|tls| tls.handshaked())
}

fn known(connection: Connection<'_>) -> Option<&UpstreamConnection> {
    UpstreamConnection::of(connection.tls()?.ssl())
}

impl HoldIdle for Keepalive {
    fn take_out(&self, connection: NonNull<ngx_connection_t>) {
        self.idle.borrow_mut().remove(connection);
        counters::count(Counter::IdleConnectionClosed);
    }
}
