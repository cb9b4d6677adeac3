//! TLS towards the client.

pub mod alpn;
pub mod asking;
pub mod certificate_chain;
pub mod client_certificate;
pub mod connection;
mod handshake;
pub mod intermediates;
pub mod names;
pub mod resumption;
pub mod session;
mod session_data;
