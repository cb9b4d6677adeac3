//! TLS towards the client.

#[cfg(not(any(test, fuzzing)))]
pub mod alpn;
#[cfg(not(any(test, fuzzing)))]
pub mod asking;
mod binding;
#[cfg(not(any(test, fuzzing)))]
pub mod certificate_chain;
#[cfg(not(any(test, fuzzing)))]
pub mod client_certificate;
#[cfg(not(any(test, fuzzing)))]
pub mod connection;
#[cfg(not(any(test, fuzzing)))]
pub mod guarded_headers;
#[cfg(not(any(test, fuzzing)))]
mod handshake;
pub mod header_names;
pub mod intermediates;
#[cfg(not(any(test, fuzzing)))]
mod misdirected;
pub mod names;
#[cfg(not(any(test, fuzzing)))]
pub mod objection;
#[cfg(not(any(test, fuzzing)))]
mod ocsp;
#[cfg(not(any(test, fuzzing)))]
pub mod post_read;
#[cfg(not(any(test, fuzzing)))]
pub mod resumption;
#[cfg(not(any(test, fuzzing)))]
pub mod session;
mod session_data;
