// SPDX-License-Identifier: Apache-2.0

//! TLS towards the service: the settings a request asked for, and how they reach its handshake.

pub mod handshake;
pub mod identity;
pub mod location;
#[cfg(not(any(test, fuzzing)))]
pub mod log_lines;
pub mod peer;
pub mod settings;
