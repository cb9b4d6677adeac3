//! Connections and their TLS.

use std::ffi::c_int;
use std::marker::PhantomData;
use std::ptr::NonNull;

use foreign_types::ForeignTypeRef;
use ngx::ffi::{
    ngx_close_connection, ngx_connection_t, ngx_destroy_pool, ngx_log_t, ngx_ssl_connection_index,
    ngx_ssl_connection_t, ngx_ssl_shutdown,
};
use openssl::ssl::SslRef;

use super::log::Log;
use super::pool::Pool;

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
    pub fn data(self) -> Option<NonNull<std::ffi::c_void>> {
        // SAFETY: the connection is valid.
        NonNull::new(unsafe { self.0.as_ref().data })
    }

    /// The TLS of the connection, if it has any.
    pub fn tls(self) -> Option<Tls<'a>> {
        // SAFETY: where a connection has TLS, it lives as long as the connection is in use.
        unsafe { Some(Tls(NonNull::new(self.0.as_ref().ssl)?, PhantomData)) }
    }

    /// Makes nginx log what it says of errors on this connection at level `info`.
    pub fn quiet_errors(self) {
        // SAFETY: the connection is valid; the field is nginx's choice of level.
        unsafe {
            (*self.0.as_ptr()).set_log_error(
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
        unsafe { self.0.as_ref().handshaked() != 0 }
    }

    /// Makes nginx keep none of the sessions that this connection brings.
    pub fn save_no_session(self) {
        // SAFETY: the structure is valid; nginx checks the field for NULL before each use.
        unsafe { (*self.0.as_ptr()).save_session = None }
    }

    /// Makes nginx call the failure that follows a rejection, instead of an error of OpenSSL's.
    pub fn set_handshake_rejected(self) {
        // SAFETY: the structure is valid.
        unsafe { (*self.0.as_ptr()).set_handshake_rejected(1) }
    }
}

/// Closes an upstream connection that no request owns, as nginx closes those of its keepalive
/// cache: without waiting for the peer's `close_notify`.
///
/// # Safety
/// `connection` must be valid, and nobody may use it afterwards.
pub unsafe fn close_upstream_connection(connection: *mut ngx_connection_t) {
    // SAFETY: valid by contract. With both flags set, `ngx_ssl_shutdown` frees the TLS at once; what
    // remains is the pool and the connection.
    unsafe {
        let tls = (*connection).ssl;
        if !tls.is_null() {
            (*tls).set_no_wait_shutdown(1);
            (*tls).set_no_send_shutdown(1);
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
