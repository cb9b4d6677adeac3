// SPDX-License-Identifier: Apache-2.0

//! The peer of a request's upstream connection.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use ngx::ffi::{ngx_connection_t, ngx_peer_connection_t, sockaddr, socklen_t};

use crate::nginx::bitfields;
use crate::nginx::connection::Connection;
use crate::nginx::sockaddr::Address;

/// `ngx_peer_connection_t`
#[derive(Clone, Copy)]
pub struct Peer<'a>(NonNull<ngx_peer_connection_t>, PhantomData<&'a ngx_peer_connection_t>);

impl<'a> Peer<'a> {
    /// # Safety
    /// `peer` must be valid for `'a`.
    pub unsafe fn from_ptr(peer: NonNull<ngx_peer_connection_t>) -> Self {
        Self(peer, PhantomData)
    }

    pub fn as_ptr(self) -> *mut ngx_peer_connection_t {
        self.0.as_ptr()
    }

    /// Returns the address of the chosen peer; `None` before one is chosen. Must not be called
    /// after the peer was released: nginx may have freed the address.
    pub fn address(self) -> Option<Address> {
        // SAFETY: the peer is valid, and its address is valid until nginx releases it.
        unsafe { address((*self.as_ptr()).sockaddr, (*self.as_ptr()).socklen) }
    }

    /// Returns the local address to bind the connection to (`proxy_bind`), if one is set.
    pub fn local(self) -> Option<Address> {
        // SAFETY: the peer is valid, and `local` is NULL or lives as long as the request.
        unsafe {
            let local = (*self.as_ptr()).local.as_ref()?;
            address(local.sockaddr, local.socklen)
        }
    }

    /// Returns the connection to the peer, if there is one.
    pub fn connection(self) -> Option<Connection<'a>> {
        // SAFETY: the peer is valid, and its connection is NULL or valid.
        unsafe { Some(Connection::from_ptr(NonNull::new((*self.as_ptr()).connection)?)) }
    }

    /// Returns whether the connection is a reused idle one.
    pub fn is_cached(self) -> bool {
        // SAFETY: the peer is valid for `'a`: see `from_ptr`.
        unsafe { bitfields::peer_cached(self.as_ptr()) != 0 }
    }

    /// Makes nginx treat the connection as a new one, so that its failure counts as the peer's.
    pub fn set_not_cached(self) {
        // SAFETY: the peer is valid for `'a`: see `from_ptr`.
        unsafe { bitfields::set_peer_cached(self.as_ptr(), 0) }
    }

    /// Returns the peer that was chosen: the fields that nginx resets when the peer is released.
    pub fn chosen(self) -> Chosen {
        // SAFETY: the peer is valid for `'a`: see `from_ptr`.
        unsafe {
            let peer = &*self.as_ptr();
            Chosen {
                sockaddr: peer.sockaddr,
                length: peer.socklen,
                tries: peer.tries,
                session_id: bitfields::peer_sid(self.as_ptr()),
            }
        }
    }

    /// Sets the peer to `chosen` again.
    ///
    /// # Safety
    /// `chosen` must be the last peer of this connection, and its balancer must not have released
    /// it.
    pub unsafe fn choose_again(self, chosen: Chosen) {
        let Chosen { sockaddr, length, tries, session_id } = chosen;
        // SAFETY: the peer is valid; the caller ensures that the balancer still holds `chosen`, and
        // so its address and session.
        unsafe {
            let peer = &mut *self.as_ptr();
            peer.sockaddr = sockaddr;
            peer.socklen = length;
            peer.tries = tries;
            bitfields::set_peer_sid(self.as_ptr(), session_id);
        }
    }

    /// Makes nginx try at least once more.
    pub fn have_another_try(self) {
        // SAFETY: the peer is valid for `'a`: see `from_ptr`.
        unsafe { (*self.as_ptr()).tries = (*self.as_ptr()).tries.max(1) }
    }

    /// Takes the connection away from the peer, so that nginx does not close it.
    pub fn take_connection(self) -> Option<NonNull<ngx_connection_t>> {
        // SAFETY: the peer is valid for `'a`: see `from_ptr`.
        unsafe {
            let connection = NonNull::new((*self.as_ptr()).connection);
            (*self.as_ptr()).connection = ptr::null_mut();
            bitfields::set_peer_cached(self.as_ptr(), 0);
            connection
        }
    }

    /// Gives the peer an idle connection to reuse.
    pub fn reuse(self, connection: Connection<'a>) {
        // SAFETY: the peer and the connection are valid.
        unsafe {
            (*self.as_ptr()).connection = connection.as_ptr();
            bitfields::set_peer_cached(self.as_ptr(), 1);
        }
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
/// `sockaddr` must be NULL or valid for `length` bytes.
unsafe fn address(sockaddr: *const sockaddr, length: socklen_t) -> Option<Address> {
    if sockaddr.is_null() {
        return None;
    }
    // SAFETY: the caller ensures that `sockaddr`, which is not NULL, is valid for `length` bytes.
    Address::new(unsafe { std::slice::from_raw_parts(sockaddr.cast(), length as usize) })
}
