// SPDX-License-Identifier: Apache-2.0

//! The state kept for the TLS contexts of locations.

#![allow(unsafe_code, reason = "it is in the pool of the configuration")]

use std::sync::atomic::{AtomicU64, Ordering};

use openssl::ssl::SslContextRef;

use crate::nginx::pool::{OutOfMemory, Pool};
use crate::openssl::error::SslError;
use crate::openssl::slot::PointerSlot;
use crate::upstream::handshake::trust::LocationTrust;
use crate::upstream::identity::ContextId;

/// The state of a TLS context. Lives in the configuration's pool, as does the context.
pub struct ContextState {
    pub id: ContextId,
    /// What the location trusts, for a request that turns verification on.
    pub trust: LocationTrust,
}

static SLOT: PointerSlot<SslContextRef, ContextState> = PointerSlot::new();

/// Why the hook could not be installed on a context.
#[derive(Debug)]
pub enum InstallError {
    Ssl(SslError),
    OutOfMemory(OutOfMemory),
}

impl ContextState {
    pub fn new(trust: LocationTrust) -> Self {
        // An address would not be unique: a context of an earlier configuration may have had the
        // same.
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let id = ContextId(COUNT.fetch_add(1, Ordering::Relaxed));
        Self { id, trust }
    }

    /// Attaches the state to `context`.
    pub fn keep(self, pool: Pool<'_>, context: &SslContextRef) -> Result<(), InstallError> {
        let state = pool.keep(self).map_err(InstallError::OutOfMemory)?;
        // SAFETY: the context belongs to the configuration whose pool holds the state.
        unsafe { SLOT.set(context, state) }.map_err(InstallError::Ssl)
    }

    /// Returns the state attached to `context`.
    pub fn of(context: &SslContextRef) -> Option<&Self> {
        SLOT.get(context)
    }
}

/// Returns whether `context` is that of a location whose handshakes this module has hooked.
pub fn is_known(context: &SslContextRef) -> bool {
    ContextState::of(context).is_some()
}

/// Returns the number of `context`, if this module has hooked it.
pub fn id(context: &SslContextRef) -> Option<ContextId> {
    ContextState::of(context).map(|state| state.id)
}
