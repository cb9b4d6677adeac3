//! TLS towards the client.

#[cfg(not(any(test, fuzzing)))]
pub mod alpn;
#[cfg(not(any(test, fuzzing)))]
pub mod asking;
pub mod binding;
#[cfg(not(any(test, fuzzing)))]
pub mod certificate_chain;
#[cfg(not(any(test, fuzzing)))]
pub mod certificate_request;
pub mod client_verify;
#[cfg(not(any(test, fuzzing)))]
pub mod connection;
pub mod finding;
#[cfg(not(any(test, fuzzing)))]
pub mod guarded_headers;
pub mod header_certificate;
pub mod header_names;
#[cfg(not(any(test, fuzzing)))]
pub mod hook;
pub mod intermediates;
#[cfg(not(any(test, fuzzing)))]
pub mod misdirected;
pub mod names;
#[cfg(not(any(test, fuzzing)))]
pub mod objection;
#[cfg(not(any(test, fuzzing)))]
pub mod ocsp;
#[cfg(not(any(test, fuzzing)))]
pub mod post_read;
#[cfg(not(any(test, fuzzing)))]
pub mod resumption;
pub mod session_data;
#[cfg(not(any(test, fuzzing)))]
pub mod session_reuse;
