// SPDX-License-Identifier: Apache-2.0

//! The shared memory zone of `kong_tls_session_cache`: what all workers know of TLS sessions, and
//! what a reload keeps.

pub mod records;
pub mod texts;
#[cfg(not(any(test, fuzzing)))]
pub mod zone;
