//! Per-request control of TLS for Lua plugins, on a stock nginx.
//!
//! The way in is [`module`], for the configuration, and `lua`, for the functions that plugins call.
//! What they ask for on the side of the client is done at once, in `downstream`; what they ask for on
//! the side of the service is kept in `request` until the handshake, in `upstream`.
//!
//! Unit tests are built without nginx, and so without all that names its symbols.

#![cfg_attr(test, allow(dead_code, reason = "what uses it needs nginx"))]

mod address;
mod address_ranges;
mod allocator;
mod client_verify;
#[cfg(not(test))]
mod directives;
#[cfg(not(test))]
mod downstream;
mod identity;
#[cfg(not(test))]
mod lua;
#[cfg(not(test))]
pub mod module;
#[cfg(not(test))]
mod nginx;
mod openssl;
mod phase;
#[cfg(not(test))]
mod request;
mod status;
mod upstream;
#[cfg(not(test))]
mod variables;
