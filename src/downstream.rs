//! TLS towards the client.

pub mod alpn;
pub mod certificate_chain;
pub mod client_certificate;
pub mod connection;
mod handshake;
pub mod intermediates;
pub mod objection;
mod ocsp;
pub mod resumption;
pub mod session;
