// SPDX-License-Identifier: Apache-2.0

//! The time that nginx caches in each turn of its event loop.

use ngx::ffi::{ngx_cached_time, ngx_current_msec};

use crate::client::finding::Moment;
use crate::upstream::handshake::session_cache::Now;

/// Returns the time of both clocks.
pub fn now() -> Now {
    // SAFETY: nginx sets both from its start on, and changes them only between callbacks.
    unsafe { Now { date: (*ngx_cached_time).sec, monotonic: monotonic() } }
}

/// Returns the milliseconds of the monotonic clock.
pub fn monotonic() -> u64 {
    // SAFETY: nginx sets it from its start on, and changes it only between callbacks.
    unsafe { ngx_current_msec as u64 }
}

/// Returns the time of both clocks, in milliseconds.
pub fn moment() -> Moment {
    // SAFETY: nginx sets it from its start on, and changes it only between callbacks.
    let (seconds, milliseconds) = unsafe { ((*ngx_cached_time).sec, (*ngx_cached_time).msec) };
    let date = seconds.saturating_mul(1000).saturating_add(milliseconds as i64);
    Moment { monotonic: i64::try_from(monotonic()).unwrap_or(i64::MAX), date }
}
