//! TLS towards the service: what a request asked for, and how its handshake gets it.

#[cfg(not(any(test, fuzzing)))]
pub mod balancers;
#[cfg(not(any(test, fuzzing)))]
pub mod connection;
#[cfg(not(any(test, fuzzing)))]
pub mod content;
#[cfg(not(any(test, fuzzing)))]
pub mod enforcement;
pub mod forwarding;
#[cfg(not(any(test, fuzzing)))]
pub mod handshake;
#[cfg(not(any(test, fuzzing)))]
pub mod identification;
pub mod idle_connections;
pub mod inherited;
#[cfg(not(any(test, fuzzing)))]
pub mod keepalive;
#[cfg(not(any(test, fuzzing)))]
pub mod locations;
#[cfg(not(any(test, fuzzing)))]
pub mod lua_handshake;
#[cfg(not(any(test, fuzzing)))]
pub mod outcome;
#[cfg(not(any(test, fuzzing)))]
pub mod own_configuration;
#[cfg(not(any(test, fuzzing)))]
pub mod pass;
pub mod pass_url;
#[cfg(not(any(test, fuzzing)))]
pub mod peer;
pub mod session_cache;
pub mod settings;
#[cfg(not(any(test, fuzzing)))]
pub mod unapplied;
#[cfg(not(any(test, fuzzing)))]
pub mod verify;
