//! The Lua interface: `require "resty.kong.tls"` and `require "resty.kong.pdk"`.
//!
//! The Lua code is part of the module. It checks the types of arguments and throws, and calls the
//! functions of [`api`] through LuaJIT's FFI, by pointers that it is handed when it is loaded: no
//! symbol is looked up by name, and a reload can't mix two versions of the module.

pub mod api;
pub mod preload;
