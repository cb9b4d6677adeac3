// SPDX-License-Identifier: Apache-2.0

//! Idle connections to services.

use std::ptr::NonNull;

use ngx::ffi::{ngx_connection_t, ngx_event_t};

use crate::nginx::connection::{Connection, close_upstream_connection, process_log};
use crate::nginx::panic::guard;

/// Holds idle connections.
pub trait HoldIdle {
    /// Takes out a connection, which is closed afterwards: its peer has closed it or sent
    /// something, it was idle for too long, or the process ends.
    fn take_out(&self, connection: NonNull<ngx_connection_t>);
}

/// Makes a connection idle for up to `timeout` milliseconds, held by `holder`.
///
/// # Safety
/// Nothing else may use the connection, neither meanwhile nor after it was taken out of `holder`.
/// `holder` must outlive it, and must not begin with the signature of a request: see
/// `Request::from_upstream_connection`.
pub unsafe fn park<T: HoldIdle>(connection: Connection<'_>, holder: &T, timeout: usize) {
    // SAFETY: the caller ensures that nothing else uses the connection, and that `holder` outlives
    // it.
    unsafe { connection.park(NonNull::from(holder).cast(), timeout, on_read::<T>) };
    if connection.has_something_to_read() {
        // SAFETY: the event is that of the connection that was just made idle.
        unsafe { on_read::<T>(connection.read_event()) }
    }
}

/// Called by nginx when something arrives on an idle connection, when its timeout expires, and when
/// the process is about to exit.
unsafe extern "C" fn on_read<T: HoldIdle>(event: *mut ngx_event_t) {
    guard("idle upstream connection", process_log(), (), || {
        // SAFETY: `park` has set this for the read event of a connection: the event's `data` is the
        // connection, and that of the connection its holder, a `T`.
        let (connection, holder) = unsafe {
            let connection = NonNull::new_unchecked((*event).data.cast::<ngx_connection_t>());
            (connection, &*connection.as_ref().data.cast::<T>())
        };
        // SAFETY: an idle connection is valid until it is closed below.
        let idle = unsafe { Connection::from_ptr(connection) };
        if !idle.must_close() && idle.is_silent() {
            return;
        }
        holder.take_out(connection);
        // SAFETY: the connection was idle, and its holder no longer has it.
        unsafe { close_upstream_connection(connection) }
    });
}
