// SPDX-License-Identifier: Apache-2.0

//! Per-request control of TLS for Lua plugins, on a stock nginx.
//!
//! The way in is `module`, for the configuration, and `lua`, for the functions that plugins call. What
//! they ask for on the side of the client is done at once, in `client`; what they ask for on the side
//! of the service is kept in `upstream::settings` until the handshake.
//!
//! Unit tests and fuzz targets are built without nginx, and so without all that names its symbols.

#![cfg_attr(any(test, fuzzing), allow(dead_code, reason = "what uses it needs nginx"))]

mod address_ranges;
#[cfg(not(fuzzing))]
mod allocator;
mod bounded;
mod client;
#[cfg(not(any(test, fuzzing)))]
mod conf;
#[cfg(not(any(test, fuzzing)))]
mod directives;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
#[cfg(not(any(test, fuzzing)))]
mod lua;
#[cfg(not(any(test, fuzzing)))]
pub mod module;
mod nginx;
mod openssl;
mod status;
mod upstream;
#[cfg(not(any(test, fuzzing)))]
mod variables;
#[cfg(not(any(test, fuzzing)))]
mod worker;
