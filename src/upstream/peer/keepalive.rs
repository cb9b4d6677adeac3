// SPDX-License-Identifier: Apache-2.0

//! `kong_tls_keepalive`: idle connections to the servers of an `upstream {}` block, kept by address

#![allow(unsafe_code, reason = "nginx calls it")]
//! and TLS identity. What the numbers mean is as for `keepalive` and its directives.

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use ngx::ffi::{ngx_connection_t, ngx_event_t};

use crate::nginx::connection::{Connection, close_upstream_connection, process_log};
use crate::nginx::panic::guard;
use crate::nginx::peer::Peer;
use crate::nginx::sockaddr::Address;
use crate::nginx::{process, time};
use crate::status::counters::{self, Counter};
use crate::upstream::handshake::connection::UpstreamConnection;
use crate::upstream::identity::IdentityDigest;
use crate::upstream::peer::idle_connections::{IdleConnections, IdleKey};

/// What the directive says.
#[derive(Clone, Copy, Debug)]
pub struct KeepaliveSettings {
    /// How many connections may be idle.
    pub connections: NonZeroUsize,
    /// Milliseconds that a connection may be idle.
    pub timeout: usize,
    /// How many requests a connection may serve.
    pub requests: usize,
    /// Milliseconds that a connection may be used for.
    pub time: usize,
}

/// The idle connections of a block.
///
/// An idle connection has a pointer to this as its data, in the place of a request: it must not
/// begin with a request's signature, see `Request::from_upstream_connection`.
#[repr(C)]
pub struct Keepalive {
    no_signature: u32,
    settings: KeepaliveSettings,
    idle: RefCell<IdleConnections<NonNull<ngx_connection_t>>>,
}

impl Keepalive {
    pub fn new(settings: KeepaliveSettings) -> Self {
        let idle = RefCell::new(IdleConnections::new(settings.connections));
        Self { no_signature: 0, settings, idle }
    }

    /// A connection to the address of `peer` that was made under `identity`.
    pub fn take<'a>(&self, peer: Peer<'a>, identity: IdentityDigest) -> Option<Connection<'a>> {
        let key = IdleKey { identity, peer: peer.address()? };
        let connection = self.idle.borrow_mut().take(&key)?;
        counters::count(Counter::IdleConnectionReused);

        // SAFETY: connections are closed only together with their removal from here.
        unsafe {
            let connection = Connection::from_ptr(connection);
            connection.unpark(peer);
            if let Some(known) = known(connection) {
                known.came_back();
            }
            Some(connection)
        }
    }

    /// Whether there is a connection to the address of `peer`, of whatever identity.
    pub fn has_peer(&self, peer: Peer<'_>) -> bool {
        peer.address().is_some_and(|address| self.idle.borrow().has_peer(&address))
    }

    /// Keeps the connection of `peer` to `address`, which nobody needs any more, if another request
    /// may use it.
    ///
    /// The address is what the peer had before it was released: with it, nginx may free that.
    pub fn put(&self, peer: Peer<'_>, address: Option<Address>) {
        let Some(connection) = peer.connection().filter(|connection| self.is_reusable(*connection))
        else {
            return;
        };
        let Some((identity, peer_address)) = made_under(connection).zip(address) else {
            return;
        };
        let key = IdleKey { identity, peer: peer_address };
        let Some(taken) = peer.take_connection() else {
            return;
        };

        let oldest = self.idle.borrow_mut().put(key, taken, is_passing(connection));
        if let Some(oldest) = oldest {
            counters::count(Counter::IdleConnectionClosed);
            // SAFETY: it was idle, and is in no cache any more.
            unsafe { close_upstream_connection(oldest.as_ptr()) };
        }
        // SAFETY: the connection is ours, and this block's configuration outlives it.
        unsafe { connection.park(NonNull::from(self).cast(), self.settings.timeout, on_read) };
        if connection.has_something_to_read() {
            // SAFETY: as nginx would call it.
            unsafe { on_read(connection.read_event()) };
        }
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

/// The identity of a connection whose handshake is done.
pub fn made_under(connection: Connection<'_>) -> Option<IdentityDigest> {
    let tls = connection.tls().filter(|tls| tls.handshaked())?;
    UpstreamConnection::of(tls.ssl()).and_then(UpstreamConnection::identity)
}

fn is_passing(connection: Connection<'_>) -> bool {
    known(connection).is_some_and(UpstreamConnection::is_passing)
}

fn known(connection: Connection<'_>) -> Option<&UpstreamConnection> {
    UpstreamConnection::of(connection.tls()?.ssl())
}

/// nginx calls when something arrives on an idle connection, when its time is over, and when the
/// process is to end.
unsafe extern "C" fn on_read(event: *mut ngx_event_t) {
    guard("idle upstream connection", process_log(), (), || {
        // SAFETY: nginx calls with the read event of a connection that `put` has made idle, whose
        // data is the `Keepalive` that has it.
        unsafe {
            let connection = NonNull::new_unchecked((*event).data.cast::<ngx_connection_t>());
            let handle = Connection::from_ptr(connection);
            if !handle.must_close() && handle.is_silent() {
                return;
            }
            let keepalive: &Keepalive = &*(*connection.as_ptr()).data.cast();
            keepalive.idle.borrow_mut().remove(connection);
            counters::count(Counter::IdleConnectionClosed);
            close_upstream_connection(connection.as_ptr());
        }
    });
}
