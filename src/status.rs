// SPDX-License-Identifier: Apache-2.0

//! `kong_tls_status`: counters of what the module has done, summed over all workers.

pub mod about;
pub mod counters;
pub mod format;
pub mod history;
#[cfg(not(any(test, fuzzing)))]
pub mod location;
pub mod page;
pub mod session_zone;
#[cfg(not(any(test, fuzzing)))]
pub mod zone;

use counters::Counters;
use history::Window;
use session_zone::ZoneTotals;

/// What is shown.
pub struct Status<'a> {
    pub counters: &'a Counters,
    /// The time, in seconds since the Unix epoch.
    pub now: u64,
    /// The recent past, for rates.
    pub recent: Option<Window<'a>>,
    /// The zone of `kong_tls_session_cache`, if there is one.
    pub session_zone: Option<ZoneTotals>,
}

impl<'a> Status<'a> {
    /// Returns the status without rates.
    pub fn of(counters: &'a Counters, now: u64) -> Self {
        Self { counters, now, recent: None, session_zone: None }
    }
}
