// SPDX-License-Identifier: Apache-2.0

//! The peer of a request's upstream connection.

use std::cell::Cell;
use std::ffi::{c_uint, c_void};
use std::ptr::{self, NonNull};

use ngx::ffi::{ngx_connection_t, ngx_peer_connection_t, sockaddr, socklen_t};

use crate::nginx::bitfields;
use crate::nginx::configuration::slice;
use crate::nginx::connection::Connection;
use crate::nginx::log::Log;
use crate::nginx::sockaddr::Address;

/// `ngx_peer_connection_t`
#[derive(Clone, Copy)]
pub struct Peer<'a>(&'a Cell<ngx_peer_connection_t>);

impl<'a> Peer<'a> {
    /// # Safety
    /// `peer` must be valid for `'a`.
    pub unsafe fn from_ptr(peer: NonNull<ngx_peer_connection_t>) -> Self {
        // SAFETY: the caller ensures that `peer` is valid for `'a`.
        Self(unsafe { peer.cast().as_ref() })
    }

    pub fn as_ptr(self) -> *mut ngx_peer_connection_t {
        self.0.as_ptr()
    }

    /// Returns the fields of the structure, as they are now.
    pub(super) fn get(self) -> ngx_peer_connection_t {
        self.0.get()
    }

    /// Returns the log of the connection to the peer, that of the request.
    pub fn log(self) -> Log<'a> {
        // SAFETY: nginx sets the log when it makes the upstream. It is that of the client's
        // connection, and outlives the request.
        unsafe { Log::from_ptr(NonNull::new_unchecked(self.0.get().log)) }
    }

    /// Returns the level at which nginx logs errors on the connection.
    pub fn log_error(self) -> c_uint {
        bitfields::peer_log_error(self.0)
    }

    /// Returns the address of the chosen peer; `None` before one is chosen. Must not be called
    /// after the peer was released: nginx may have freed the address.
    pub fn address(self) -> Option<Address> {
        // SAFETY: nothing releases the peer before this returns.
        Address::new(unsafe { self.borrow_address() }?)
    }

    /// Returns the bytes of the address of the chosen peer; `None` before one is chosen.
    ///
    /// # Safety
    /// The peer must not be released, nor another one be chosen, as long as the bytes are used.
    pub unsafe fn borrow_address(self) -> Option<&'a [u8]> {
        let ngx_peer_connection_t { sockaddr, socklen, .. } = self.0.get();
        // SAFETY: the address of a peer is NULL, or valid until nginx releases the peer.
        let bytes = unsafe { sockaddr_bytes(sockaddr, socklen) };
        (!bytes.is_empty()).then_some(bytes)
    }

    /// Returns the local address to bind the connection to (`proxy_bind`), if one is set: the bytes
    /// of its `sockaddr`.
    pub fn local(self) -> Option<&'a [u8]> {
        // SAFETY: `local` is NULL, or lives as long as the request, with its address.
        unsafe { self.0.get().local.as_ref().map(|it| sockaddr_bytes(it.sockaddr, it.socklen)) }
    }

    /// Returns the connection to the peer, if there is one.
    pub fn connection(self) -> Option<Connection<'a>> {
        let connection = NonNull::new(self.0.get().connection)?;
        // SAFETY: nginx resets the field when it closes the connection.
        Some(unsafe { Connection::from_ptr(connection) })
    }

    /// Returns whether the connection is a reused idle one.
    pub fn is_cached(self) -> bool {
        bitfields::peer_cached(self.0)
    }

    /// Makes nginx treat the connection as a new one, so that its failure counts as the peer's.
    pub fn set_not_cached(self) {
        bitfields::set_peer_cached(self.0, false);
    }

    /// Returns the peer that was chosen: the fields that nginx resets when the peer is released.
    pub fn chosen(self) -> Chosen {
        let ngx_peer_connection_t { sockaddr, socklen, tries, .. } = self.0.get();
        Chosen { sockaddr, length: socklen, tries, session_id: bitfields::peer_sid(self.0) }
    }

    /// Sets the peer to `chosen` again.
    ///
    /// # Safety
    /// `chosen` must be the last peer of this connection, and its balancer must not have released
    /// it.
    pub unsafe fn choose_again(self, chosen: Chosen) {
        let Chosen { sockaddr, length, tries, session_id } = chosen;
        self.set_tries(tries);
        // SAFETY: the caller ensures that the balancer still holds `chosen`, and so its address and
        // session.
        unsafe {
            (*self.as_ptr()).sockaddr = sockaddr;
            (*self.as_ptr()).socklen = length;
            bitfields::set_peer_sid(self.0, session_id);
        }
    }

    /// Returns how many more peers nginx may try.
    pub fn tries(self) -> usize {
        self.0.get().tries
    }

    pub(super) fn set_tries(self, tries: usize) {
        // SAFETY: the peer is valid for `'a`, and nginx only counts the number down to 0.
        unsafe { (*self.as_ptr()).tries = tries }
    }

    /// Makes nginx try at least once more.
    pub fn have_another_try(self) {
        self.set_tries(self.tries().max(1));
    }

    /// Takes the connection away from the peer, so that nginx does not close it.
    ///
    /// # Safety
    /// The request must be done with the peer, or about to get another connection: nginx uses the
    /// connection of a peer in between.
    pub unsafe fn take_connection(self) -> Option<NonNull<ngx_connection_t>> {
        let connection = NonNull::new(self.0.get().connection);
        // SAFETY: nginx takes NULL for a peer without a connection.
        unsafe { (*self.as_ptr()).connection = ptr::null_mut() };
        self.set_not_cached();
        connection
    }

    /// Gives the peer an idle connection to reuse.
    ///
    /// # Safety
    /// Nothing else may use the connection: nginx closes it with the request.
    pub unsafe fn reuse(self, connection: Connection<'a>) {
        // SAFETY: the connection is open, and from now on nginx closes it.
        unsafe { (*self.as_ptr()).connection = connection.as_ptr() };
        bitfields::set_peer_cached(self.0, true);
    }
}

/// A chosen peer.
#[derive(Clone, Copy)]
pub struct Chosen {
    sockaddr: *mut sockaddr,
    length: socklen_t,
    tries: usize,
    /// The session of `sticky`.
    session_id: *mut c_void,
}

/// # Safety
/// `sockaddr` must be NULL or valid for `length` bytes, as long as the slice is used.
unsafe fn sockaddr_bytes<'a>(sockaddr: *const sockaddr, length: socklen_t) -> &'a [u8] {
    // SAFETY: the caller ensures that `sockaddr` is NULL or valid for `length` bytes.
    unsafe { slice(sockaddr.cast(), length as usize) }
}
