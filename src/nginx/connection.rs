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

/// A connection, to a client or to an upstream.
#[derive(Clone, Copy)]
pub struct Connection<'a>(NonNull<ngx_connection_t>, PhantomData<&'a ngx_connection_t>);

impl<'a> Connection<'a> {
    /// # Safety
    /// `connection` must be valid for `'a`.
    pub unsafe fn from_ptr(connection: NonNull<ngx_connection_t>) -> Self {
        Self(connection, PhantomData)
    }

    /// The connection that nginx made `ssl` for.
    pub fn from_ssl(ssl: &'a SslRef) -> Option<Self> {
        // SAFETY: `ssl` is valid. nginx keeps the connection at this index of each SSL that it
        // makes, and uses no SSL after its connection; an SSL of somebody else has NULL there.
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
        // SAFETY: a connection in use has a log.
        unsafe { Log::from_ptr(NonNull::new_unchecked(self.0.as_ref().log)) }
    }

    pub fn pool(self) -> Option<Pool<'a>> {
        // SAFETY: where a connection has a pool, it lives as long as the connection.
        unsafe { Some(Pool::from_ptr(NonNull::new(self.0.as_ref().pool)?)) }
    }

    /// What the connection belongs to; what it is depends on who uses the connection.
    pub fn data(self) -> Option<NonNull<c_void>> {
        // SAFETY: the connection is valid.
        NonNull::new(unsafe { self.0.as_ref().data })
    }

    /// The TLS of the connection, if it has any.
    pub fn tls(self) -> Option<Tls<'a>> {
        // SAFETY: where a connection has TLS, it lives as long as the connection is in use.
        unsafe { Some(Tls(NonNull::new(self.0.as_ref().ssl)?, PhantomData)) }
    }

    /// How many requests the connection has served.
    pub fn requests(self) -> usize {
        // SAFETY: the connection is valid.
        unsafe { self.0.as_ref().requests }
    }

    /// When the connection was made, by the monotonic clock.
    pub fn start_time(self) -> u64 {
        // SAFETY: the connection is valid.
        unsafe { self.0.as_ref().start_time as u64 }
    }

    /// Whether nothing has gone wrong on the connection, and its peer has not closed it.
    pub fn is_usable(self) -> bool {
        // SAFETY: a connection in use has its two events.
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

    /// Makes nginx call the handler of the connection when something arrives.
    pub fn wait_for_events(self) -> bool {
        // SAFETY: the connection is valid.
        unsafe { ngx_handle_read_event(self.0.as_ref().read, 0) == NGX_OK as ngx_int_t }
    }

    /// Whether nginx knows of something that has arrived.
    pub fn has_something_to_read(self) -> bool {
        // SAFETY: a connection in use has its two events.
        unsafe { bitfields::event_ready(self.0.as_ref().read) != 0 || self.has_buffered_data() }
    }

    /// Whether OpenSSL has taken something from the socket that nobody has read yet.
    fn has_buffered_data(self) -> bool {
        self.tls().is_some_and(|tls| ssl::has_pending(tls.ssl()))
    }

    pub fn read_event(self) -> *mut ngx_event_t {
        // SAFETY: the connection is valid.
        unsafe { self.0.as_ref().read }
    }

    /// Whether an idle connection has to go: it was idle for too long, or the process ends.
    pub fn must_close(self) -> bool {
        // SAFETY: a connection in use has its two events.
        unsafe {
            bitfields::connection_close(self.0.as_ptr()) != 0
                || bitfields::event_timedout(self.0.as_ref().read) != 0
        }
    }

    /// Makes the connection wait for another request for `timeout` milliseconds, in the care of
    /// `owner`: nginx calls `on_read` when anything happens to it.
    ///
    /// # Safety
    /// Nobody else may use the connection, and `owner` must outlive it.
    pub unsafe fn park(
        self,
        owner: NonNull<c_void>,
        timeout: usize,
        on_read: unsafe extern "C" fn(*mut ngx_event_t),
    ) {
        // SAFETY: the connection is ours by contract, and has its events and a pool. The log of the
        // cycle outlives it.
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
            // Whatever the peer does to an idle connection is no error.
            self.demote_errors();
            self.log_to((*ngx::ffi::ngx_cycle).log);
        }
    }

    /// Makes an idle connection one of `peer`.
    ///
    /// # Safety
    /// The connection must be idle, and in nobody's care.
    pub unsafe fn unpark(self, peer: Peer<'_>) {
        // SAFETY: as above. The log of the peer outlives its use of the connection.
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
    /// `log` must be valid as long as the connection logs to it.
    unsafe fn log_to(self, log: *mut ngx_log_t) {
        // SAFETY: the connection is valid, and has its events and a pool.
        unsafe {
            let connection = self.as_ptr();
            (*connection).log = log;
            (*(*connection).read).log = log;
            (*(*connection).write).log = log;
            (*(*connection).pool).log = log;
        }
    }

    /// Whether the peer of an idle connection has neither closed it nor sent anything that is meant
    /// for a request. What TLS itself sends, such as a new session, is taken in.
    pub fn is_silent(self) -> bool {
        // SAFETY: the connection is valid, with an open socket; one byte fits.
        unsafe {
            let mut byte = 0_u8;
            let connection = self.as_ptr();
            let read = (*connection).read;

            // Looked at before TLS does: a connection that was closed or reset needs no words.
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
                // What is no TLS is no error of anybody's, and nginx before 1.28.1 has no words for
                // all of it: it would call it critical.
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

    /// Makes nginx log errors on this connection as it would for `peer`.
    pub fn restore_errors(self, peer: Peer<'_>) {
        // SAFETY: the connection and the peer are valid.
        unsafe {
            bitfields::set_connection_log_error(
                self.0.as_ptr(),
                bitfields::peer_log_error(peer.as_ptr()),
            );
        }
    }

    /// Whether an error has been found on the connection: a client has gone.
    pub fn has_error(self) -> bool {
        // SAFETY: the connection is valid.
        unsafe { bitfields::connection_error(self.0.as_ptr()) != 0 }
    }

    /// Whether nginx has waited in vain for the peer.
    pub fn is_timed_out(self) -> bool {
        // SAFETY: a connection in use has its two events.
        unsafe {
            bitfields::event_timedout(self.0.as_ref().read) != 0
                || bitfields::event_timedout(self.0.as_ref().write) != 0
        }
    }

    /// Makes nginx log what it says of errors on this connection at level `info`.
    pub fn demote_errors(self) {
        // SAFETY: the connection is valid; the field is nginx's choice of level.
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
    /// OpenSSL's part.
    pub fn ssl(self) -> &'a SslRef {
        // SAFETY: nginx sets the field when it makes the structure, and frees both together.
        unsafe { SslRef::from_ptr(self.0.as_ref().connection.cast()) }
    }

    /// Whether nginx has seen the first handshake end.
    pub fn handshaked(self) -> bool {
        // SAFETY: the structure is valid.
        unsafe { bitfields::ssl_handshaked(self.0.as_ptr()) != 0 }
    }

    /// The session that the peer has given, while nginx saves it.
    pub fn session(self) -> Option<&'a SslSessionRef> {
        // SAFETY: where the field is set, it is to a session that is valid until the callback
        // returns.
        unsafe {
            let session = NonNull::new(self.0.as_ref().session)?;
            Some(SslSessionRef::from_ptr(session.as_ptr().cast()))
        }
    }

    /// Makes nginx call `save` for each session that the peer gives.
    pub fn save_sessions_by(self, save: unsafe extern "C" fn(*mut ngx_connection_t)) {
        // SAFETY: the structure is valid.
        unsafe { (*self.0.as_ptr()).save_session = Some(save) }
    }

    /// Makes nginx keep none of the sessions that this connection brings.
    pub fn save_no_session(self) {
        // SAFETY: the structure is valid; nginx checks the field for NULL before each use.
        unsafe { (*self.0.as_ptr()).save_session = None }
    }

    /// Makes nginx call the failure that follows a rejection, instead of an error of OpenSSL's.
    pub fn set_handshake_rejected(self) {
        // SAFETY: the structure is valid.
        unsafe { bitfields::set_ssl_handshake_rejected(self.0.as_ptr(), 1) }
    }
}

unsafe extern "C" fn ignore_event(_event: *mut ngx_event_t) {}

/// Closes an upstream connection that no request owns, as nginx closes those of its keepalive
/// cache: without waiting for the peer's `close_notify`.
///
/// # Safety
/// `connection` must be valid, and nobody may use it afterwards.
pub unsafe fn close_upstream_connection(connection: *mut ngx_connection_t) {
    // SAFETY: valid by contract. With both flags set, `ngx_ssl_shutdown` frees the TLS at once;
    // what remains is the pool and the connection.
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

/// The log of the process, for callbacks that have no better one.
pub fn process_log() -> Log<'static> {
    // SAFETY: `ngx_cycle` is set before any module is loaded, always has a log, and the log of the
    // current cycle outlives the callback that writes to it.
    unsafe {
        let log: *mut ngx_log_t = (*ngx::ffi::ngx_cycle).log;
        Log::from_ptr(NonNull::new_unchecked(log))
    }
}
