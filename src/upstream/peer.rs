// SPDX-License-Identifier: Apache-2.0

//! The choice of a peer for a request, and idle connections to peers.

#[cfg(not(any(test, fuzzing)))]
pub mod balancers;
#[cfg(not(any(test, fuzzing)))]
pub mod blocks;
#[cfg(not(any(test, fuzzing)))]
pub mod choice;
pub mod idle_connections;
#[cfg(not(any(test, fuzzing)))]
pub mod keepalive;
#[cfg(not(any(test, fuzzing)))]
pub mod outcome;
#[cfg(not(any(test, fuzzing)))]
pub mod targets;
#[cfg(not(any(test, fuzzing)))]
pub mod unapplied;
