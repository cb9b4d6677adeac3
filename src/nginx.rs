//! Typed handles for what nginx gives us as raw pointers.
//!
//! A handle is made inside a callback, from a pointer which nginx keeps valid at least until the
//! callback returns; its lifetime `'a` stands for that time.

pub mod bitfields;
pub mod complex_value;
pub mod configuration;
pub mod connection;
pub mod directive;
pub mod layout;
pub mod log;
pub mod lua;
pub mod ocsp;
pub mod panic;
pub mod peer;
pub mod pool;
pub mod process;
pub mod request;
pub mod response;
pub mod round_robin;
pub mod server;
pub mod time;
pub mod upstream;
pub mod url;
pub mod version;
