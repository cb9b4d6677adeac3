//! `kong_tls_status`: what the module has done, counted over all workers.

pub mod counters;
pub mod format;
#[cfg(not(test))]
pub mod location;
pub mod page;
#[cfg(not(test))]
pub mod zone;
