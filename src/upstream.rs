// SPDX-License-Identifier: Apache-2.0

//! TLS towards the service: the settings a request asked for, and how they reach its handshake.

pub mod handshake;
pub mod identity;
pub mod location;
pub mod peer;
pub mod settings;
