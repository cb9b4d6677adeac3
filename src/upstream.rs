// SPDX-License-Identifier: Apache-2.0

//! TLS towards the service: what a request asked for, and how its handshake gets it.

pub mod handshake;
pub mod identity;
pub mod location;
pub mod peer;
pub mod settings;
