// SPDX-License-Identifier: Apache-2.0

//! The state kept for the TLS contexts of locations.

#![allow(unsafe_code, reason = "it is in the pool of the configuration")]

use std::cell::RefCell;
use std::ffi::CStr;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use openssl::ssl::SslContextRef;

use crate::nginx::pool::{OutOfMemory, Pool};
use crate::openssl::context;
use crate::openssl::error::SslError;
use crate::openssl::fingerprint::{Encoding, Fingerprint};
use crate::openssl::slot::PointerSlot;
use crate::upstream::handshake::trust::LocationTrust;
use crate::upstream::identity::ContextId;
use crate::written_directives::InEffect;

/// The state of a TLS context. Lives in the configuration's pool, as does the context.
pub struct ContextState {
    /// Unique in the life of the master process, and so in all of its workers and configurations.
    number: u64,
    /// Digest of what was loaded into the context and what else is trusted; `None` if it can't be
    /// read back. What OpenSSL itself reads (`openssl.cnf`) is read once in the life of the master
    /// process, and so is the same for all.
    content: Option<Fingerprint>,
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
    pub fn new(context: &SslContextRef, trust: LocationTrust) -> Self {
        // An address would not be unique: a context of an earlier configuration may have had the
        // same.
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let content = context::fingerprint(context).ok().and_then(|loaded| {
            let mut encoding = Encoding::new();
            encoding.fingerprint(loaded);
            trust.encode(&mut encoding)?;
            Some(encoding.into())
        });
        Self { number, content, trust }
    }

    /// Returns what decides the context in a location with these directives of `module`. `has_lua`
    /// says whether Lua code takes part in its handshakes: what that does can't be told.
    pub fn id(&self, module: &CStr, directives: &InEffect, has_lua: bool) -> ContextId {
        match self.content {
            Some(content) if directives.tells_all && !has_lua => {
                ContextId::of_content(module, directives.fingerprint, content)
            }
            _ => ContextId::of_number(self.number),
        }
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

/// The TLS contexts of a location, one for each of nginx's modules that has made one, and what
/// decides them. Locations may share a context, and still differ in directives that nginx follows
/// by itself.
#[derive(Default)]
pub struct LocationContexts(RefCell<Vec<(*const SslContextRef, ContextId)>>);

impl LocationContexts {
    /// Notes that `id` decides `context`, which lives as long as the location.
    pub fn note(&self, context: &SslContextRef, id: ContextId) {
        self.0.borrow_mut().push((context, id));
    }

    /// Returns what decides `context`, if it is one of the location.
    pub fn id(&self, context: &SslContextRef) -> Option<ContextId> {
        let contexts = self.0.borrow();
        contexts.iter().find(|(known, _)| ptr::eq(*known, context)).map(|(_, id)| *id)
    }
}
