// SPDX-License-Identifier: Apache-2.0

//! Connections and their TLS.

use std::ffi::{c_int, c_void};
use std::io;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use foreign_types::ForeignTypeRef;
use ngx::ffi::{
    NGX_AGAIN, NGX_OK, ngx_close_connection, ngx_connection_t, ngx_destroy_pool, ngx_event_t,
    ngx_handle_read_event, ngx_int_t, ngx_log_t, ngx_ssl_connection_index, ngx_ssl_connection_t,
    ngx_ssl_shutdown,
};
use openssl::ssl::{SslRef, SslSessionRef};

use crate::nginx::bitfields;
use crate::nginx::log::Log;
use crate::nginx::peer::Peer;
use crate::nginx::pool::Pool;
use crate::openssl::ssl;

/// A connection to a client or to an upstream server.
#[derive(Clone, Copy)]
pub struct Connection<'a>(NonNull<ngx_connection_t>, PhantomData<&'a ngx_connection_t>);

impl<'a> Connection<'a> {
    /// # Safety
    /// `connection` must be valid for `'a`.
    pub unsafe fn from_ptr(connection: NonNull<ngx_connection_t>) -> Self {
        Self(connection, PhantomData)
    }

    /// Returns the connection that nginx made `ssl` for.
    pub fn from_ssl(ssl: &'a SslRef) -> Option<Self> {
        // SAFETY: `ssl` is valid. nginx keeps the connection at this index of each SSL object that
        // it makes, and frees the SSL object before the connection. The SSL objects of others have
        // NULL there.
        unsafe {
            let connection =
                openssl_sys::SSL_get_ex_data(ssl.as_ptr(), ngx_ssl_connection_index as c_int);
            Some(Self::from_ptr(NonNull::new(connection.cast())?))
        }
    }

    pub fn as_ptr(self) -> *mut ngx_connection_t {
        self.0.as_ptr()
    }

    pub fn log(self) -> Log<'a> {
        // SAFETY: an open connection has a log.
        unsafe { Log::from_ptr(NonNull::new_unchecked(self.0.as_ref().log)) }
    }

    pub fn pool(self) -> Option<Pool<'a>> {
        // SAFETY: the connection is valid, and its pool, if any, lives as long as the connection.
        unsafe { Some(Pool::from_ptr(NonNull::new(self.0.as_ref().pool)?)) }
    }

    /// Returns the owner of the connection; its type depends on who uses the connection.
    pub fn data(self) -> Option<NonNull<c_void>> {
        // SAFETY: the connection is valid for `'a`: see `from_ptr`.
        NonNull::new(unsafe { self.0.as_ref().data })
    }

    /// Returns the TLS state of the connection, if it uses TLS.
    pub fn tls(self) -> Option<Tls<'a>> {
        // SAFETY: the connection is valid, and its TLS state, if any, lives while the connection is
        // used.
        unsafe { Some(Tls(NonNull::new(self.0.as_ref().ssl)?, PhantomData)) }
    }

    /// Returns how many requests the connection has served.
    pub fn requests(self) -> usize {
        // SAFETY: the connection is valid for `'a`: see `from_ptr`.
        unsafe { self.0.as_ref().requests }
    }

    /// Returns when the connection was made, in milliseconds of the monotonic clock.
    pub fn start_time(self) -> u64 {
        // SAFETY: the connection is valid for `'a`: see `from_ptr`.
        unsafe { self.0.as_ref().start_time as u64 }
    }

    /// Returns whether the connection has had no error or timeout, and its peer has not closed it.
    pub fn is_usable(self) -> bool {
        // SAFETY: an open connection has a read and a write event.
        unsafe {
            let Self(connection, _) = self;
            let (read, write) = (connection.as_ref().read, connection.as_ref().write);
            let is_broken = bitfields::event_eof(read) != 0
                || bitfields::event_error(read) != 0
                || bitfields::event_timedout(read) != 0
                || bitfields::event_error(write) != 0
                || bitfields::event_timedout(write) != 0;
            !is_broken
        }
    }

    /// Makes nginx call the connection's read handler when data arrive.
    pub fn wait_for_events(self) -> bool {
        // SAFETY: the connection is valid, and has a read event.
        unsafe { ngx_handle_read_event(self.0.as_ref().read, 0) == NGX_OK as ngx_int_t }
    }

    /// Returns whether nginx knows that data have arrived.
    pub fn has_something_to_read(self) -> bool {
        // SAFETY: an open connection has a read event.
        unsafe { bitfields::event_ready(self.0.as_ref().read) != 0 || self.has_buffered_data() }
    }

    /// Returns whether OpenSSL has read data from the socket that nobody has consumed.
    fn has_buffered_data(self) -> bool {
        self.tls().is_some_and(|tls| ssl::has_pending(tls.ssl()))
    }

    pub fn read_event(self) -> *mut ngx_event_t {
        // SAFETY: the connection is valid for `'a`: see `from_ptr`.
        unsafe { self.0.as_ref().read }
    }

    /// Returns whether an idle connection must be closed: its timeout has passed, or the process
    /// ends.
    pub fn must_close(self) -> bool {
        // SAFETY: an open connection has a read event.
        unsafe {
            bitfields::connection_close(self.0.as_ptr()) != 0
                || bitfields::event_timedout(self.0.as_ref().read) != 0
        }
    }

    /// Makes the connection idle for up to `timeout` milliseconds, owned by `owner`. nginx calls
    /// `on_read` when data arrive or the time is over.
    ///
    /// # Safety
    /// Nothing else may use the connection, and `owner` must outlive it.
    pub unsafe fn park(
        self,
        owner: NonNull<c_void>,
        timeout: usize,
        on_read: unsafe extern "C" fn(*mut ngx_event_t),
    ) {
        // SAFETY: the caller ensures that nothing else uses the connection. An open connection has
        // both events and a pool, and the log of the cycle outlives it.
        unsafe {
            let connection = self.as_ptr();
            let (read, write) = ((*connection).read, (*connection).write);

            bitfields::set_event_delayed(read, 0);
            bitfields::event_add_timer(read, timeout);
            if bitfields::event_timer_set(write) != 0 {
                bitfields::event_del_timer(write);
            }
            (*write).handler = Some(ignore_event);
            (*read).handler = Some(on_read);
            (*connection).data = owner.as_ptr();
            bitfields::set_connection_idle(connection, 1);
            // Errors on an idle connection only mean that the peer has gone.
            self.demote_errors();
            self.log_to((*ngx::ffi::ngx_cycle).log);
        }
    }

    /// Makes an idle connection the connection of `peer`.
    ///
    /// # Safety
    /// The connection must be idle, and its former owner must not use it any more.
    pub unsafe fn unpark(self, peer: Peer<'_>) {
        // SAFETY: the caller ensures that nothing else uses the connection. An open connection has
        // both events and a pool, and the peer's log outlives the peer's use of the connection.
        unsafe {
            let connection = self.as_ptr();
            bitfields::set_connection_idle(connection, 0);
            (*connection).sent = 0;
            (*connection).data = ptr::null_mut();
            bitfields::set_connection_log_error(
                connection,
                bitfields::peer_log_error(peer.as_ptr()),
            );
            self.log_to((*peer.as_ptr()).log);
            if bitfields::event_timer_set((*connection).read) != 0 {
                bitfields::event_del_timer((*connection).read);
            }
        }
    }

    /// # Safety
    /// `log` must stay valid until the connection gets another log.
    unsafe fn log_to(self, log: *mut ngx_log_t) {
        // SAFETY: an open connection has both events and a pool; the caller ensures that `log` is
        // valid.
        unsafe {
            let connection = self.as_ptr();
            (*connection).log = log;
            (*(*connection).read).log = log;
            (*(*connection).write).log = log;
            (*(*connection).pool).log = log;
        }
    }

    /// Returns whether the peer of an idle connection has neither closed it nor sent application
    /// data. Consumes TLS messages, such as new session tickets.
    pub fn is_silent(self) -> bool {
        // SAFETY: the connection is valid, with an open socket and a read event; `byte` has room
        // for one byte.
        unsafe {
            let mut byte = 0_u8;
            let connection = self.as_ptr();
            let read = (*connection).read;

            // Peek before OpenSSL reads: a closed or reset connection needs no log line.
            let peeked = libc::recv((*connection).fd, (&raw mut byte).cast(), 1, libc::MSG_PEEK);
            let is_open = match peeked {
                0 => false,
                1.. => true,
                _ => io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock,
            };
            if !is_open {
                return false;
            }
            if peeked > 0 || self.has_buffered_data() {
                let Some(receive) = (*connection).recv else {
                    return false;
                };
                // Bytes that are not TLS are not worth a log line either; nginx before 1.28.1 would
                // log some of the resulting errors at level `crit`.
                let level = self.log().silence();
                let received = receive(connection, &raw mut byte, 1);
                self.log().set_level(level);
                if received != NGX_AGAIN as isize {
                    return false;
                }
            }
            bitfields::set_event_ready(read, 0);
        }
        self.wait_for_events()
    }

    /// Restores the level at which nginx logs errors on this connection to that of `peer`.
    pub fn restore_errors(self, peer: Peer<'_>) {
        // SAFETY: the connection and the peer are valid.
        unsafe {
            bitfields::set_connection_log_error(
                self.0.as_ptr(),
                bitfields::peer_log_error(peer.as_ptr()),
            );
        }
    }

    /// Returns whether the connection has failed, for example because the client has closed it.
    pub fn has_error(self) -> bool {
        // SAFETY: the connection is valid for `'a`: see `from_ptr`.
        unsafe { bitfields::connection_error(self.0.as_ptr()) != 0 }
    }

    /// Returns whether the connection has timed out.
    pub fn is_timed_out(self) -> bool {
        // SAFETY: an open connection has a read and a write event.
        unsafe {
            bitfields::event_timedout(self.0.as_ref().read) != 0
                || bitfields::event_timedout(self.0.as_ref().write) != 0
        }
    }

    /// Makes nginx log errors on this connection at level `info`.
    pub fn demote_errors(self) {
        // SAFETY: the connection is valid for `'a`: see `from_ptr`.
        unsafe {
            bitfields::set_connection_log_error(
                self.0.as_ptr(),
                ngx::ffi::ngx_connection_log_error_e_NGX_ERROR_INFO as std::ffi::c_uint,
            );
        }
    }
}

/// `ngx_ssl_connection_t`
#[derive(Clone, Copy)]
pub struct Tls<'a>(NonNull<ngx_ssl_connection_t>, PhantomData<&'a ngx_ssl_connection_t>);

impl<'a> Tls<'a> {
    /// Returns OpenSSL's object of the connection.
    pub fn ssl(self) -> &'a SslRef {
        // SAFETY: nginx sets the field when it makes the structure, and frees the SSL object with
        // it.
        unsafe { SslRef::from_ptr(self.0.as_ref().connection.cast()) }
    }

    /// Returns whether nginx has seen the first handshake finish.
    pub fn handshaked(self) -> bool {
        // SAFETY: the structure is valid for `'a`: see `Connection::tls`.
        unsafe { bitfields::ssl_handshaked(self.0.as_ptr()) != 0 }
    }

    /// Returns the session that the peer has sent. It is set only while nginx saves it.
    pub fn session(self) -> Option<&'a SslSessionRef> {
        // SAFETY: a session in this field is valid until the callback that saves it returns.
        unsafe {
            let session = NonNull::new(self.0.as_ref().session)?;
            Some(SslSessionRef::from_ptr(session.as_ptr().cast()))
        }
    }

    /// Makes nginx call `save` for each session that the peer sends.
    pub fn save_sessions_by(self, save: unsafe extern "C" fn(*mut ngx_connection_t)) {
        // SAFETY: the structure is valid for `'a`: see `Connection::tls`.
        unsafe { (*self.0.as_ptr()).save_session = Some(save) }
    }

    /// Makes nginx save none of the sessions of this connection.
    pub fn save_no_session(self) {
        // SAFETY: the structure is valid; nginx checks the field for NULL before each use.
        unsafe { (*self.0.as_ptr()).save_session = None }
    }

    /// Makes nginx handle the failed handshake as a rejected one, without logging OpenSSL's error.
    pub fn set_handshake_rejected(self) {
        // SAFETY: the structure is valid for `'a`: see `Connection::tls`.
        unsafe { bitfields::set_ssl_handshake_rejected(self.0.as_ptr(), 1) }
    }
}

unsafe extern "C" fn ignore_event(_event: *mut ngx_event_t) {}

/// Closes an upstream connection that no request owns, as nginx closes idle ones: without waiting
/// for the peer's `close_notify`.
///
/// # Safety
/// `connection` must be valid, and nothing may use it afterwards.
pub unsafe fn close_upstream_connection(connection: *mut ngx_connection_t) {
    // SAFETY: the caller ensures that `connection` is valid and unused. With both flags set,
    // `ngx_ssl_shutdown` frees the SSL object at once, which leaves the pool and the connection.
    unsafe {
        let tls = (*connection).ssl;
        if !tls.is_null() {
            bitfields::set_ssl_no_wait_shutdown(tls, 1);
            bitfields::set_ssl_no_send_shutdown(tls, 1);
            ngx_ssl_shutdown(connection);
        }
        let pool = (*connection).pool;
        if !pool.is_null() {
            ngx_destroy_pool(pool);
        }
        ngx_close_connection(connection);
    }
}

/// Returns the log of the process, for callbacks that have no better one.
pub fn process_log() -> Log<'static> {
    // SAFETY: `ngx_cycle` is set before any module is loaded and always has a log, which outlives
    // the callback that writes to it.
    unsafe {
        let log: *mut ngx_log_t = (*ngx::ffi::ngx_cycle).log;
        Log::from_ptr(NonNull::new_unchecked(log))
    }
}
