// SPDX-License-Identifier: Apache-2.0

//! nginx's error log.

use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;

use ngx::ffi::{NGX_LOG_CRIT, NGX_LOG_ERR, NGX_LOG_INFO, ngx_log_t, ngx_uint_t};
use ngx::ngx_log_error;

/// A log with the context (client, request, upstream) that nginx adds to each line.
#[derive(Clone, Copy)]
pub struct Log<'a>(NonNull<ngx_log_t>, PhantomData<&'a ngx_log_t>);

/// What a log writes.
#[derive(Clone, Copy)]
pub struct LogLevel(ngx_uint_t);

impl<'a> Log<'a> {
    /// # Safety
    /// `log` must be valid for `'a`.
    pub unsafe fn from_ptr(log: NonNull<ngx_log_t>) -> Self {
        Self(log, PhantomData)
    }

    /// Makes the log write nothing, until it is given back its level.
    pub fn silence(self) -> LogLevel {
        // SAFETY: the log is valid by the contract of `from_ptr`.
        LogLevel(unsafe { std::mem::take(&mut (*self.0.as_ptr()).log_level) })
    }

    /// Gives the log the level that it had.
    pub fn set_level(self, LogLevel(level): LogLevel) {
        // SAFETY: as above.
        unsafe { (*self.0.as_ptr()).log_level = level }
    }

    /// Writes one line at level `info`, where nginx has the faults of clients.
    pub fn info(self, message: fmt::Arguments<'_>) {
        self.write(NGX_LOG_INFO, message);
    }

    /// Writes one line at level `error`.
    pub fn error(self, message: fmt::Arguments<'_>) {
        self.write(NGX_LOG_ERR, message);
    }

    /// Writes one line at level `crit`.
    pub fn crit(self, message: fmt::Arguments<'_>) {
        self.write(NGX_LOG_CRIT, message);
    }

    #[allow(clippy::undocumented_unsafe_blocks, reason = "the macro's own blocks")]
    fn write(self, level: u32, message: fmt::Arguments<'_>) {
        // The macro dereferences the log, which is valid by the contract of `from_ptr`.
        ngx_log_error!(level, self.0.as_ptr(), "{message}");
    }
}
