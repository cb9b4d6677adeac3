// SPDX-License-Identifier: Apache-2.0

//! nginx's error log.

use std::cell::Cell;
use std::fmt;
use std::ptr::NonNull;

use ngx::ffi::{NGX_LOG_CRIT, NGX_LOG_ERR, NGX_LOG_INFO, NGX_LOG_NOTICE, ngx_log_t, ngx_uint_t};
use ngx::ngx_log_error;

/// A log, with the context (client, request, upstream) that nginx adds to each line.
#[derive(Clone, Copy)]
pub struct Log<'a>(&'a Cell<ngx_log_t>);

/// The level up to which a log writes.
#[derive(Clone, Copy)]
pub struct LogLevel(ngx_uint_t);

impl<'a> Log<'a> {
    /// # Safety
    /// `log` must be valid for `'a`.
    pub unsafe fn from_ptr(log: NonNull<ngx_log_t>) -> Self {
        // SAFETY: the caller ensures that `log` is valid for `'a`.
        Self(unsafe { log.cast().as_ref() })
    }

    pub fn as_ptr(self) -> *mut ngx_log_t {
        self.0.as_ptr()
    }

    /// Silences the log, and returns its level for [`Self::set_level`].
    pub fn silence(self) -> LogLevel {
        let level = LogLevel(self.0.get().log_level);
        self.set_level(LogLevel(0));
        level
    }

    /// Restores the level of the log.
    pub fn set_level(self, LogLevel(level): LogLevel) {
        // SAFETY: the log is valid for `'a`, and nginx only compares its level.
        unsafe { (*self.0.as_ptr()).log_level = level }
    }

    /// Writes one line at level `info`, which nginx uses for the faults of clients.
    pub fn info(self, message: fmt::Arguments<'_>) {
        self.write(NGX_LOG_INFO, message);
    }

    /// Writes one line at level `notice`.
    pub fn notice(self, message: fmt::Arguments<'_>) {
        self.write(NGX_LOG_NOTICE, message);
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
        // The macro dereferences the log, which `from_ptr` requires to be valid for `'a`.
        ngx_log_error!(level, self.0.as_ptr(), "{message}");
    }
}
