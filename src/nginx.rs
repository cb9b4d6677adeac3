// SPDX-License-Identifier: Apache-2.0

//! Typed handles for the raw pointers that nginx passes to the module.
//!
//! A handle is made inside a callback, from a pointer that nginx keeps valid at least until the
//! callback returns. The lifetime `'a` of the handle stands for that time.
//!
//! nginx changes its structures whenever the module calls it. So a handle has a `&Cell` of its
//! structure, and no reference into it: `get()` copies, which the compiler makes a load of the one
//! field that is read.

#![allow(unsafe_code, reason = "nginx is C")]

#[cfg(not(any(test, fuzzing)))]
pub mod bitfields;
#[cfg(not(any(test, fuzzing)))]
pub mod complex_value;
#[cfg(not(any(test, fuzzing)))]
pub mod conf_parser;
#[cfg(not(any(test, fuzzing)))]
pub mod configuration;
#[cfg(not(any(test, fuzzing)))]
pub mod connection;
#[cfg(not(any(test, fuzzing)))]
pub mod cycle;
#[cfg(not(any(test, fuzzing)))]
pub mod detour;
#[cfg(not(any(test, fuzzing)))]
pub mod directive;
#[cfg(not(any(test, fuzzing)))]
pub mod http_module;
#[cfg(not(any(test, fuzzing)))]
pub mod idle;
#[cfg(not(any(test, fuzzing)))]
pub mod layout;
#[cfg(not(any(test, fuzzing)))]
pub mod locked_zone;
#[cfg(not(any(test, fuzzing)))]
pub mod log;
#[cfg(not(any(test, fuzzing)))]
pub mod log_context;
#[cfg(not(any(test, fuzzing)))]
pub mod lua;
#[cfg(not(any(test, fuzzing)))]
pub mod ocsp;
#[cfg(not(any(test, fuzzing)))]
pub mod own_conf;
#[cfg(not(any(test, fuzzing)))]
pub mod panic;
#[cfg(not(any(test, fuzzing)))]
pub mod peer;
#[cfg(not(any(test, fuzzing)))]
pub mod peer_choice;
pub mod phases;
#[cfg(not(any(test, fuzzing)))]
pub mod pool;
#[cfg(not(any(test, fuzzing)))]
pub mod process;
#[cfg(not(any(test, fuzzing)))]
pub mod request;
#[cfg(not(any(test, fuzzing)))]
pub mod request_context;
#[cfg(not(any(test, fuzzing)))]
pub mod request_handler;
#[cfg(not(any(test, fuzzing)))]
pub mod response;
#[cfg(not(any(test, fuzzing)))]
pub mod round_robin;
#[cfg(not(any(test, fuzzing)))]
pub mod server;
#[cfg(not(any(test, fuzzing)))]
pub mod shared_zone;
pub mod sockaddr;
#[cfg(not(any(test, fuzzing)))]
pub mod this_module;
#[cfg(not(any(test, fuzzing)))]
pub mod time;
#[cfg(not(any(test, fuzzing)))]
pub mod tls_callbacks;
#[cfg(not(any(test, fuzzing)))]
pub mod upstream;
#[cfg(not(any(test, fuzzing)))]
pub mod upstream_block;
#[cfg(not(any(test, fuzzing)))]
pub mod upstream_conf;
#[cfg(not(any(test, fuzzing)))]
pub mod url;
#[cfg(not(any(test, fuzzing)))]
pub mod variable;
#[cfg(not(any(test, fuzzing)))]
pub mod version;
