// SPDX-License-Identifier: Apache-2.0

//! The TLS handshake with a service, and the state kept about it.

#[cfg(not(any(test, fuzzing)))]
pub mod connection;
#[cfg(not(any(test, fuzzing)))]
pub mod context;
#[cfg(not(any(test, fuzzing)))]
pub mod hook;
#[cfg(not(any(test, fuzzing)))]
pub mod in_progress;
#[cfg(not(any(test, fuzzing)))]
pub mod lua_directives;
#[cfg(not(any(test, fuzzing)))]
pub mod lua_handshake;
pub mod session_cache;
#[cfg(not(any(test, fuzzing)))]
pub mod sessions;
pub mod shared_sessions;
#[cfg(not(any(test, fuzzing)))]
pub mod trust;
#[cfg(not(any(test, fuzzing)))]
pub mod verify;
