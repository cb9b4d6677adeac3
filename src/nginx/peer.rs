// SPDX-License-Identifier: Apache-2.0

//! The peer that a request's upstream connection goes to.

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

    /// The address of the peer that was chosen; `None` before one is. Not to be asked for once the
    /// peer was released.
    pub fn address(self) -> Option<Address> {
        // SAFETY: the peer is valid, and so is the address that it has until nginx releases it.
        unsafe { address((*self.as_ptr()).sockaddr, (*self.as_ptr()).socklen) }
    }

    /// The address that the connection is to be bound to (`proxy_bind`), if one was set.
    pub fn local(self) -> Option<Address> {
        // SAFETY: as above.
        unsafe {
            let local = (*self.as_ptr()).local.as_ref()?;
            address(local.sockaddr, local.socklen)
        }
    }

    /// The connection to the peer, if there is one.
    pub fn connection(self) -> Option<Connection<'a>> {
        // SAFETY: the peer is valid, and so is the connection that it has.
        unsafe { Some(Connection::from_ptr(NonNull::new((*self.as_ptr()).connection)?)) }
    }

    /// Whether the connection was idle before.
    pub fn is_cached(self) -> bool {
        // SAFETY: the peer is valid.
        unsafe { bitfields::peer_cached(self.as_ptr()) != 0 }
    }

    /// Makes nginx treat the connection as one that was made for the request: a failure is one.
    pub fn set_not_cached(self) {
        // SAFETY: the peer is valid.
        unsafe { bitfields::set_peer_cached(self.as_ptr(), 0) }
    }

    /// What the choice of the peer has set, which nginx takes back when the peer is released.
    pub fn chosen(self) -> Chosen {
        // SAFETY: the peer is valid.
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

    /// Chooses that peer again.
    ///
    /// # Safety
    /// It must be what was chosen last, and not have been released by who has chosen it.
    pub unsafe fn choose_again(self, chosen: Chosen) {
        let Chosen { sockaddr, length, tries, session_id } = chosen;
        // SAFETY: the peer is valid, the rest is the caller's promise.
        unsafe {
            let peer = &mut *self.as_ptr();
            peer.sockaddr = sockaddr;
            peer.socklen = length;
            peer.tries = tries;
            bitfields::set_peer_sid(self.as_ptr(), session_id);
        }
    }

    /// Makes nginx believe that there is another peer to try, if need be.
    pub fn have_another_try(self) {
        // SAFETY: the peer is valid.
        unsafe { (*self.as_ptr()).tries = (*self.as_ptr()).tries.max(1) }
    }

    /// Takes the connection away from the peer: nginx does not close it then.
    pub fn take_connection(self) -> Option<NonNull<ngx_connection_t>> {
        // SAFETY: the peer is valid.
        unsafe {
            let connection = NonNull::new((*self.as_ptr()).connection);
            (*self.as_ptr()).connection = ptr::null_mut();
            bitfields::set_peer_cached(self.as_ptr(), 0);
            connection
        }
    }

    /// Gives the peer a connection that was idle.
    pub fn reuse(self, connection: Connection<'a>) {
        // SAFETY: the peer and the connection are valid.
        unsafe {
            (*self.as_ptr()).connection = connection.as_ptr();
            bitfields::set_peer_cached(self.as_ptr(), 1);
        }
    }
}

/// A peer that was chosen.
#[derive(Clone, Copy)]
pub struct Chosen {
    sockaddr: *mut sockaddr,
    length: socklen_t,
    tries: usize,
    /// That of `sticky`.
    session_id: *mut c_void,
}

/// # Safety
/// `sockaddr` must be NULL or valid for `length` bytes.
unsafe fn address(sockaddr: *const sockaddr, length: socklen_t) -> Option<Address> {
    if sockaddr.is_null() {
        return None;
    }
    // SAFETY: by contract.
    Address::new(unsafe { std::slice::from_raw_parts(sockaddr.cast(), length as usize) })
}
