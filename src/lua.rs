// SPDX-License-Identifier: Apache-2.0

//! The Lua interface: `require "resty.kong.pdk"`, `resty.kong.tls` and `resty.kong.x509`.
//!
//! The Lua code is part of the module. It checks the types of arguments, throws errors, and calls
//! the functions of [`functions`] and `x509` through LuaJIT's FFI, by pointers that it gets when it
//! is loaded. No symbol is looked up by name, so a reload can't mix two versions of the module.

pub mod client;
mod ffi;
pub mod functions;
pub mod preload;
pub mod service;
pub mod x509;
