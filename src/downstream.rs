//! TLS towards the client.

pub mod alpn;
pub mod asking;
pub mod certificate_chain;
pub mod client_certificate;
pub mod connection;
pub mod guarded_headers;
mod handshake;
pub mod intermediates;
mod misdirected;
pub mod names;
pub mod post_read;
pub mod resumption;
pub mod session;
mod session_data;
