//! TLS towards the service: what a request asked for, and how its handshake gets it.

#[cfg(not(test))]
pub mod connection;
#[cfg(not(test))]
pub mod content;
#[cfg(not(test))]
pub mod enforcement;
pub mod forwarding;
#[cfg(not(test))]
pub mod handshake;
#[cfg(not(test))]
pub mod identification;
pub mod idle_connections;
#[cfg(not(test))]
pub mod keepalive;
#[cfg(not(test))]
pub mod locations;
#[cfg(not(test))]
pub mod outcome;
#[cfg(not(test))]
pub mod own_configuration;
#[cfg(not(test))]
pub mod pass;
#[cfg(not(test))]
pub mod peer;
pub mod session_cache;
pub mod settings;
#[cfg(not(test))]
pub mod verify;
