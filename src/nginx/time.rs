// SPDX-License-Identifier: Apache-2.0

//! The time, as nginx knows it in this turn of its event loop.

use ngx::ffi::{ngx_cached_time, ngx_current_msec};

use crate::client::finding::Moment;
use crate::upstream::handshake::session_cache::Now;

/// The time by both clocks.
pub fn now() -> Now {
    // SAFETY: nginx keeps both up to date from its start on, and changes them only between
    // callbacks.
    unsafe { Now { date: (*ngx_cached_time).sec, monotonic: monotonic() } }
}

/// Milliseconds of a clock that nobody sets.
pub fn monotonic() -> u64 {
    // SAFETY: as above.
    unsafe { ngx_current_msec as u64 }
}

/// The time by both clocks, in milliseconds.
pub fn moment() -> Moment {
    // SAFETY: nginx keeps it up to date from its start on, and changes it only between callbacks.
    let (seconds, milliseconds) = unsafe { ((*ngx_cached_time).sec, (*ngx_cached_time).msec) };
    let date = seconds.saturating_mul(1000).saturating_add(milliseconds as i64);
    Moment { monotonic: i64::try_from(monotonic()).unwrap_or(i64::MAX), date }
}
