//! TLS towards the service: what a request asked for, and how its handshake gets it.

#[cfg(not(test))]
pub mod handshake;
#[cfg(not(test))]
pub mod keepalive;
#[cfg(not(test))]
pub mod locations;
pub mod settings;
#[cfg(not(test))]
pub mod verify;
