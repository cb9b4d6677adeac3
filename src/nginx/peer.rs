//! The peer that a request's upstream connection goes to.

use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use ngx::ffi::{ngx_connection_t, ngx_peer_connection_t, sockaddr, socklen_t};

use super::bitfields;
use super::connection::Connection;
use crate::address::Address;

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

    /// The address of the peer that was chosen; `None` before one is. Not to be asked for once the peer
    /// was released.
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

/// # Safety
/// `sockaddr` must be NULL or valid for `length` bytes.
unsafe fn address(sockaddr: *const sockaddr, length: socklen_t) -> Option<Address> {
    if sockaddr.is_null() {
        return None;
    }
    // SAFETY: by contract.
    Address::new(unsafe { std::slice::from_raw_parts(sockaddr.cast(), length as usize) })
}
