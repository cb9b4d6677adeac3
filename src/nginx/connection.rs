// SPDX-License-Identifier: Apache-2.0

//! Connections and their TLS.

use std::cell::Cell;
use std::ffi::{c_int, c_uint, c_void};
use std::io;
use std::ptr::{self, NonNull};

use foreign_types::ForeignTypeRef;
use ngx::ffi::{
    NGX_AGAIN, NGX_OK, ngx_close_connection, ngx_connection_log_error_e_NGX_ERROR_INFO,
    ngx_connection_t, ngx_destroy_pool, ngx_event_t, ngx_handle_read_event, ngx_int_t,
    ngx_listening_t, ngx_ssl_connection_index, ngx_ssl_connection_t, ngx_ssl_shutdown,
};
use openssl::ssl::{SslContextRef, SslRef, SslSessionRef};

use crate::nginx::bitfields;
use crate::nginx::log::Log;
use crate::nginx::peer::Peer;
use crate::nginx::pool::{OutOfMemory, Pool};
use crate::openssl::error::SslError;
use crate::openssl::slot::PointerSlot;
use crate::openssl::ssl;

/// A connection to a client or to an upstream server.
#[derive(Clone, Copy)]
pub struct Connection<'a>(&'a Cell<ngx_connection_t>);

impl<'a> Connection<'a> {
    /// # Safety
    /// `connection` must be valid and open for `'a`: with a log and both events.
    pub unsafe fn from_ptr(connection: NonNull<ngx_connection_t>) -> Self {
        // SAFETY: the caller ensures that `connection` is valid for `'a`.
        Self(unsafe { connection.cast().as_ref() })
    }

    /// Returns the connection that nginx made `ssl` for.
    pub fn from_ssl(ssl: &'a SslRef) -> Option<Self> {
        // SAFETY: `ssl` is valid, and nginx sets the index at its start.
        let connection = unsafe {
            openssl_sys::SSL_get_ex_data(ssl.as_ptr(), ngx_ssl_connection_index as c_int)
        };
        // SAFETY: nginx keeps the connection at this index of each SSL object that it makes, and
        // frees the SSL object before the connection. The SSL objects of others have NULL there.
        NonNull::new(connection.cast()).map(|connection| unsafe { Self::from_ptr(connection) })
    }

    pub fn as_ptr(self) -> *mut ngx_connection_t {
        self.0.as_ptr()
    }

    pub fn log(self) -> Log<'a> {
        // SAFETY: an open connection has a log: see `from_ptr`.
        unsafe { Log::from_ptr(NonNull::new_unchecked(self.0.get().log)) }
    }

    pub fn pool(self) -> Option<Pool<'a>> {
        // SAFETY: the pool of a connection lives as long as the connection.
        NonNull::new(self.0.get().pool).map(|pool| unsafe { Pool::from_ptr(pool) })
    }

    /// Returns the owner of the connection; its type depends on who uses the connection.
    pub fn data(self) -> Option<NonNull<c_void>> {
        NonNull::new(self.0.get().data)
    }

    /// Returns the TLS state of the connection, if it uses TLS.
    pub fn tls(self) -> Option<Tls<'a>> {
        // SAFETY: the TLS state of a connection lives while the connection is used.
        NonNull::new(self.0.get().ssl).map(|tls| Tls(unsafe { tls.cast().as_ref() }))
    }

    /// Returns the listening socket that the connection came to, if it came to one.
    pub fn listening(self) -> Option<&'a ngx_listening_t> {
        // SAFETY: a listening socket lives as long as its configuration, which outlives its
        // connections.
        unsafe { self.0.get().listening.as_ref() }
    }

    /// Returns how many requests the connection has served.
    pub fn requests(self) -> usize {
        self.0.get().requests
    }

    /// Returns when the connection was made, in milliseconds of the monotonic clock.
    pub fn start_time(self) -> u64 {
        self.0.get().start_time as u64
    }

    fn read(self) -> &'a Cell<ngx_event_t> {
        // SAFETY: an open connection has a read event: see `from_ptr`.
        unsafe { &*self.0.get().read.cast() }
    }

    fn write(self) -> &'a Cell<ngx_event_t> {
        // SAFETY: an open connection has a write event: see `from_ptr`.
        unsafe { &*self.0.get().write.cast() }
    }

    /// Returns whether the connection has had no error or timeout, and its peer has not closed it.
    pub fn is_usable(self) -> bool {
        let is_broken = bitfields::event_eof(self.read())
            || bitfields::event_error(self.read())
            || bitfields::event_error(self.write())
            || self.is_timed_out();
        !is_broken
    }

    /// Makes nginx call the connection's read handler when data arrive.
    pub fn wait_for_events(self) -> bool {
        // SAFETY: nginx adds the read event of an open connection to those that it waits for, and
        // removes it when it closes the connection.
        unsafe { ngx_handle_read_event(self.read().as_ptr(), 0) == NGX_OK as ngx_int_t }
    }

    /// Returns whether nginx knows that data have arrived.
    pub fn has_something_to_read(self) -> bool {
        bitfields::event_ready(self.read()) || self.has_buffered_data()
    }

    /// Returns whether OpenSSL has read data from the socket that nobody has consumed.
    fn has_buffered_data(self) -> bool {
        self.tls().is_some_and(|tls| ssl::has_pending(tls.ssl()))
    }

    pub fn read_event(self) -> *mut ngx_event_t {
        self.0.get().read
    }

    /// Returns whether an idle connection must be closed: its timeout has passed, or the process
    /// ends.
    pub fn must_close(self) -> bool {
        bitfields::connection_close(self.0) || bitfields::event_timedout(self.read())
    }

    /// Makes the connection idle for up to `timeout` milliseconds, owned by `owner`. nginx calls
    /// `on_read` when data arrive or the time is over.
    ///
    /// # Safety
    /// Nothing else may use the connection, and `owner` must outlive it. `on_read` must be able to
    /// handle the read event of a connection with this owner.
    pub unsafe fn park(
        self,
        owner: NonNull<c_void>,
        timeout: usize,
        on_read: unsafe extern "C" fn(*mut ngx_event_t),
    ) {
        let (read, write) = (self.read(), self.write());
        bitfields::set_event_delayed(read, false);
        stop_timer(write);
        // Errors on an idle connection only mean that the peer has gone.
        self.demote_errors();
        // SAFETY: the caller ensures that nothing else uses the connection, and that `on_read` can
        // handle its events. nginx deletes the timer when it closes the connection, and the log of
        // the cycle outlives that.
        unsafe {
            (*write.as_ptr()).handler = Some(ignore_event);
            (*read.as_ptr()).handler = Some(on_read);
            (*self.as_ptr()).data = owner.as_ptr();
            bitfields::event_add_timer(read, timeout);
            bitfields::set_connection_idle(self.0, true);
            self.log_to(process_log());
        }
    }

    /// Makes an idle connection the connection of `peer`.
    ///
    /// # Safety
    /// The connection must be idle, and its former owner must not use it any more.
    pub unsafe fn unpark(self, peer: Peer<'_>) {
        self.restore_errors(peer);
        stop_timer(self.read());
        // SAFETY: the caller ensures that nothing else uses the connection. The peer's log outlives
        // the peer's use of the connection.
        unsafe {
            (*self.as_ptr()).sent = 0;
            (*self.as_ptr()).data = ptr::null_mut();
            bitfields::set_connection_idle(self.0, false);
            self.log_to(peer.log());
        }
    }

    /// # Safety
    /// `log` must stay valid until the connection gets another log.
    unsafe fn log_to(self, log: Log<'_>) {
        // SAFETY: the caller ensures that `log` outlives its use. The connection and what belongs
        // to it are valid for `'a`, and nothing refers into them.
        unsafe {
            (*self.as_ptr()).log = log.as_ptr();
            (*self.read().as_ptr()).log = log.as_ptr();
            (*self.write().as_ptr()).log = log.as_ptr();
            self.pool().inspect(|pool| (*pool.as_ptr()).log = log.as_ptr());
        }
    }

    /// Returns whether the peer of an idle connection has neither closed it nor sent application
    /// data. Consumes TLS messages, such as new session tickets.
    pub fn is_silent(self) -> bool {
        let mut byte = 0_u8;
        let ngx_connection_t { fd, recv, .. } = self.0.get();

        // Peek before OpenSSL reads: a closed or reset connection needs no log line.
        // SAFETY: `byte` has room for one byte.
        let peeked = unsafe { libc::recv(fd, (&raw mut byte).cast(), 1, libc::MSG_PEEK) };
        let is_open = match peeked {
            0 => false,
            1.. => true,
            _ => io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock,
        };
        if !is_open {
            return false;
        }
        if peeked > 0 || self.has_buffered_data() {
            let Some(receive) = recv else {
                return false;
            };
            // Bytes that are not TLS are not worth a log line either; nginx before 1.28.1 would log
            // some of the resulting errors at level `crit`.
            let level = self.log().silence();
            // SAFETY: this is the connection's own function, and `byte` has room for one byte.
            let received = unsafe { receive(self.as_ptr(), &raw mut byte, 1) };
            self.log().set_level(level);
            if received != NGX_AGAIN as isize {
                return false;
            }
        }
        bitfields::set_event_ready(self.read(), false);
        self.wait_for_events()
    }

    /// Restores the level at which nginx logs errors on this connection to that of `peer`.
    pub fn restore_errors(self, peer: Peer<'_>) {
        bitfields::set_connection_log_error(self.0, peer.log_error());
    }

    /// Returns whether the connection has failed, for example because the client has closed it.
    pub fn has_error(self) -> bool {
        bitfields::connection_error(self.0)
    }

    /// Returns whether the connection has timed out.
    pub fn is_timed_out(self) -> bool {
        bitfields::event_timedout(self.read()) || bitfields::event_timedout(self.write())
    }

    /// Makes nginx log errors on this connection at level `info`.
    pub fn demote_errors(self) {
        let info = ngx_connection_log_error_e_NGX_ERROR_INFO as c_uint;
        bitfields::set_connection_log_error(self.0, info);
    }
}

/// `ngx_ssl_connection_t`
#[derive(Clone, Copy)]
pub struct Tls<'a>(&'a Cell<ngx_ssl_connection_t>);

impl<'a> Tls<'a> {
    /// Returns OpenSSL's object of the connection.
    pub fn ssl(self) -> &'a SslRef {
        // SAFETY: nginx sets the field when it makes the structure, and frees the SSL object with
        // it.
        unsafe { SslRef::from_ptr(self.0.get().connection.cast()) }
    }

    /// Returns the context with which the connection began: that of the default server of its
    /// address, for the connection of a client.
    pub fn session_context(self) -> &'a SslContextRef {
        // SAFETY: nginx sets the field when it makes the structure. The context lives as long as
        // its configuration, which outlives its connections.
        unsafe { SslContextRef::from_ptr(self.0.get().session_ctx.cast()) }
    }

    /// Returns whether nginx has seen the first handshake finish.
    pub fn handshaked(self) -> bool {
        bitfields::ssl_handshaked(self.0)
    }

    /// Returns the session that the peer has sent. It is set only while nginx saves it.
    pub fn session(self) -> Option<&'a SslSessionRef> {
        let session = NonNull::new(self.0.get().session)?;
        // SAFETY: a session in this field is valid until the callback that saves it returns.
        Some(unsafe { SslSessionRef::from_ptr(session.as_ptr().cast()) })
    }

    /// Makes nginx call `save` for each session that the peer sends.
    ///
    /// # Safety
    /// `save` must be able to handle every connection that has such a session.
    pub unsafe fn save_sessions_by(self, save: unsafe extern "C" fn(*mut ngx_connection_t)) {
        // SAFETY: nginx calls the function with this connection, which it can handle.
        unsafe { (*self.0.as_ptr()).save_session = Some(save) }
    }

    /// Makes nginx save none of the sessions of this connection.
    pub fn save_no_session(self) {
        // SAFETY: nginx checks the field for NULL before each use.
        unsafe { (*self.0.as_ptr()).save_session = None }
    }

    /// Makes nginx handle the failed handshake as a rejected one, without logging OpenSSL's error.
    pub fn set_handshake_rejected(self) {
        bitfields::set_ssl_handshake_rejected(self.0, true);
    }
}

unsafe extern "C" fn ignore_event(_event: *mut ngx_event_t) {}

fn stop_timer(event: &Cell<ngx_event_t>) {
    if bitfields::event_timer_set(event) {
        // SAFETY: the timer of the event is set.
        unsafe { bitfields::event_del_timer(event) }
    }
}

/// Closes an upstream connection that no request owns, as nginx closes idle ones: without waiting
/// for the peer's `close_notify`.
///
/// # Safety
/// `connection` must be valid and open, and nothing may use it afterwards.
pub unsafe fn close_upstream_connection(connection: NonNull<ngx_connection_t>) {
    // SAFETY: the caller ensures that `connection` is valid and open.
    let connection = unsafe { Connection::from_ptr(connection) };
    if let Some(Tls(tls)) = connection.tls() {
        bitfields::set_ssl_no_wait_shutdown(tls, true);
        bitfields::set_ssl_no_send_shutdown(tls, true);
        // SAFETY: the connection uses TLS. With both flags set, nginx frees the SSL object at once,
        // and leaves the pool and the connection.
        unsafe { ngx_ssl_shutdown(connection.as_ptr()) };
    }
    // SAFETY: the caller ensures that nothing uses the connection, and so its pool, afterwards.
    unsafe {
        connection.pool().inspect(|pool| ngx_destroy_pool(pool.as_ptr()));
        ngx_close_connection(connection.as_ptr());
    }
}

/// Returns the log of the process, for callbacks that have no better one.
pub fn process_log() -> Log<'static> {
    // SAFETY: `ngx_cycle` is set before any module is loaded and always has a log, which outlives
    // the callback that writes to it.
    unsafe { Log::from_ptr(NonNull::new_unchecked((*ngx::ffi::ngx_cycle).log)) }
}

impl<'a> Connection<'a> {
    /// Keeps `value` in the pool of the connection, and attaches it to its SSL object.
    pub fn keep_with_tls<T: 'static, E>(
        self,
        slot: &PointerSlot<SslRef, T>,
        value: T,
    ) -> Result<&'a T, E>
    where
        E: From<OutOfMemory> + From<SslError>,
    {
        let (Some(tls), Some(pool)) = (self.tls(), self.pool()) else {
            return Err(OutOfMemory.into());
        };
        let kept = pool.keep(value)?;
        // SAFETY: nginx frees the SSL object of a connection before the pool, in its only thread.
        unsafe { slot.set(tls.ssl(), kept)? };
        Ok(kept)
    }
}
