//! nginx's error log.

use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;

use ngx::ffi::{NGX_LOG_CRIT, NGX_LOG_EMERG, NGX_LOG_ERR, ngx_conf_t, ngx_log_t};
use ngx::{ngx_conf_log_error, ngx_log_error};

/// A log with the context (client, request, upstream) that nginx adds to each line.
#[derive(Clone, Copy)]
pub struct Log<'a>(NonNull<ngx_log_t>, PhantomData<&'a ngx_log_t>);

impl<'a> Log<'a> {
    /// # Safety
    /// `log` must be valid for `'a`.
    pub unsafe fn from_ptr(log: NonNull<ngx_log_t>) -> Self {
        Self(log, PhantomData)
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

/// Writes an `[emerg]` line that names the file and line of the configuration being read.
///
/// # Safety
/// `cf` must be valid.
#[allow(clippy::undocumented_unsafe_blocks, reason = "the macro's own blocks")]
pub unsafe fn configuration_error(cf: *mut ngx_conf_t, message: fmt::Arguments<'_>) {
    ngx_conf_log_error!(NGX_LOG_EMERG, cf, "{message}");
}
