// SPDX-License-Identifier: Apache-2.0

//! What is known of the TLS contexts of locations.

#![allow(unsafe_code, reason = "it is in the pool of the configuration")]

use std::sync::atomic::{AtomicU64, Ordering};

use openssl::ssl::SslContextRef;

use crate::nginx::pool::{OutOfMemory, Pool};
use crate::openssl::error::SslError;
use crate::openssl::slot::PointerSlot;
use crate::openssl::ssl::{ClientCertificateCallback, InfoCallback};
use crate::upstream::handshake::trust::LocationTrust;
use crate::upstream::identity::ContextId;

/// What we keep for a TLS context. Lives in the pool of the configuration, as does the context.
pub struct ContextState {
    pub id: ContextId,
    /// The info callback that was there before ours.
    pub previous: Option<InfoCallback>,
    /// As above, that for certificates.
    pub previous_client_certificate: Option<ClientCertificateCallback>,
    /// What a request that turns verification on trusts.
    pub trust: LocationTrust,
}

static SLOT: PointerSlot<SslContextRef, ContextState> = PointerSlot::new();

/// Why the hook could not be put on a context.
#[derive(Debug)]
pub enum InstallError {
    Ssl(SslError),
    OutOfMemory(OutOfMemory),
}

impl ContextState {
    pub fn new(
        previous: Option<InfoCallback>,
        previous_client_certificate: Option<ClientCertificateCallback>,
        trust: LocationTrust,
    ) -> Self {
        // A context of a former configuration may have had the address that this one has.
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let id = ContextId(COUNT.fetch_add(1, Ordering::Relaxed));
        Self { id, previous, previous_client_certificate, trust }
    }

    /// Keeps it for `context`.
    pub fn keep(self, pool: Pool<'_>, context: &SslContextRef) -> Result<(), InstallError> {
        let state = pool.keep(self).map_err(InstallError::OutOfMemory)?;
        // SAFETY: the context belongs to the configuration whose pool this is.
        unsafe { SLOT.set(context, state) }.map_err(InstallError::Ssl)
    }

    /// What is kept for `context`.
    pub fn of(context: &SslContextRef) -> Option<&Self> {
        SLOT.get(context)
    }
}

/// Whether `context` is that of a location whose handshakes are ours to shape.
pub fn is_known(context: &SslContextRef) -> bool {
    ContextState::of(context).is_some()
}

/// The number of such a context.
pub fn id(context: &SslContextRef) -> Option<ContextId> {
    ContextState::of(context).map(|state| state.id)
}
