// SPDX-License-Identifier: Apache-2.0

//! TLS towards the client.

#[cfg(not(any(test, fuzzing)))]
pub mod alpn;
#[cfg(not(any(test, fuzzing)))]
pub mod asking;
pub mod binding;
#[cfg(not(any(test, fuzzing)))]
pub mod certificate_answer;
#[cfg(not(any(test, fuzzing)))]
pub mod certificate_chain;
#[cfg(not(any(test, fuzzing)))]
pub mod certificate_request;
pub mod client_verify;
#[cfg(not(any(test, fuzzing)))]
pub mod connection;
pub mod finding;
pub mod first_handshake;
pub mod forwarded_certificate;
#[cfg(not(any(test, fuzzing)))]
pub mod guarded_headers;
pub mod header_certificate;
pub mod header_names;
#[cfg(not(any(test, fuzzing)))]
pub mod hook;
pub mod intermediates;
#[cfg(not(any(test, fuzzing)))]
pub mod lua_code;
pub mod lua_files;
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
pub mod protocols;
#[cfg(not(any(test, fuzzing)))]
pub mod resumption;
#[cfg(not(any(test, fuzzing)))]
pub mod session_binding;
pub mod session_data;
#[cfg(not(any(test, fuzzing)))]
pub mod session_reuse;
#[cfg(not(any(test, fuzzing)))]
pub mod session_source;
#[cfg(not(any(test, fuzzing)))]
pub mod session_terms;
#[cfg(not(any(test, fuzzing)))]
pub mod ssl_directives;
pub mod terms;
#[cfg(not(any(test, fuzzing)))]
pub mod ticket_keys;
#[cfg(not(any(test, fuzzing)))]
pub mod verification;
