// SPDX-License-Identifier: Apache-2.0

//! Safe wrappers for what the `openssl` crate lacks.

#![allow(unsafe_code, reason = "OpenSSL is C")]

pub mod certificate;
pub mod certificate_authorities;
pub mod client_certificate;
#[cfg(not(fuzzing))]
pub mod context;
pub mod crl;
pub mod error;
pub mod fingerprint;
pub mod folder;
pub mod issuer;
pub mod lua_object;
mod memory;
pub mod object_cache;
pub mod ocsp;
pub mod pem;
pub mod pins;
pub mod presentable;
pub mod recent;
pub mod refreshed;
pub mod revocation;
mod revocation_list;
pub mod san;
pub mod server_context;
pub mod session;
pub mod session_peer;
pub mod session_text;
pub mod signature_algorithms;
pub mod slot;
pub mod spiffe;
pub mod ssl;
pub mod store;
pub mod stored_key;
mod sys;
#[cfg(test)]
pub mod test_certificate;
pub mod tls_options;
pub mod verification;
pub mod version;
