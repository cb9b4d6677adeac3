// SPDX-License-Identifier: Apache-2.0

//! `kong_tls_status`: counters of what the module has done, summed over all workers.

pub mod counters;
pub mod format;
#[cfg(not(any(test, fuzzing)))]
pub mod location;
pub mod page;
#[cfg(not(any(test, fuzzing)))]
pub mod zone;
