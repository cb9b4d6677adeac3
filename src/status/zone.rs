// SPDX-License-Identifier: Apache-2.0

//! The shared memory zone in which all workers count.

#![allow(unsafe_code, reason = "it is in memory that processes share")]

use crate::nginx::shared_zone::{Shared, Zone};
use crate::nginx::time;
use crate::status::counters::{self, Counters};

// SAFETY: this is the module's only zone, and counters are atomic integers.
unsafe impl Shared for Counters {
    const NAME: &'static str = "kong_tls_status";
    const PAGES: usize = 8;

    fn new() -> Self {
        Self::new(u64::try_from(time::now().date).unwrap_or_default())
    }
}

/// Makes this process count in the zone of its configuration.
pub fn count_in(zone: &Zone<Counters>) {
    // SAFETY: a worker serves one configuration until it ends, and the zone stays mapped as long.
    unsafe { counters::set_current(zone.value()) }
}
