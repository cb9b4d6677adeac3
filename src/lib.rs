// SPDX-License-Identifier: Apache-2.0

//! Per-request control of TLS for Lua plugins, on a stock nginx.
//!
//! The entry points are `module`, for the configuration, and `lua`, for the functions that plugins
//! call. Settings for the client's connection are applied at once, in `client`; settings for the
//! connection to the service are kept in `upstream::settings` until its handshake.
//!
//! Unit tests and fuzz targets are built without nginx, and so without any module that uses nginx's
//! symbols.

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
mod mixing;
#[cfg(not(any(test, fuzzing)))]
pub mod module;
mod nginx;
mod openssl;
mod session_zone;
mod status;
mod upstream;
#[cfg(not(any(test, fuzzing)))]
mod variables;
#[cfg(not(any(test, fuzzing)))]
mod worker;
mod written_directives;
