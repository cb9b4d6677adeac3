// SPDX-License-Identifier: Apache-2.0

//! The Lua interface: `require "resty.kong.pdk"`, `resty.kong.tls`, `resty.kong.x509` and
//! `resty.kong.addresses`.
//!
//! The Lua code is part of the module. It checks the types of arguments, throws errors, and calls
//! Rust in two ways: the functions for requests ([`functions`]) through LuaJIT's FFI, and the
//! functions of objects ([`objects`]) through `mlua`. It gets both when it is loaded. No symbol is
//! looked up by name, so a reload can't mix two versions of the module.

mod addresses;
pub mod at_init;
pub mod client;
mod ffi;
pub mod functions;
mod objects;
pub mod preload;
mod revocation;
pub mod service;
mod sessions;
pub mod verdicts;
pub mod x509;
