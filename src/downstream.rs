//! TLS towards the client.

pub mod alpn;
pub mod certificate_chain;
pub mod client_certificate;
pub mod connection;
pub mod session;
