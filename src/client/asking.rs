// SPDX-License-Identifier: Apache-2.0

//! Decides on which servers Lua code may ask clients for a certificate.
//!
//! On these, nginx can't know that clients are verified, so the module makes nginx's checks
//! instead. Where Lua code can't ask, because there is no `ssl_certificate_by_lua*` or because
//! nothing has loaded `resty.kong.tls` or `resty.kong.pdk`, nginx's behaviour is unchanged.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether Lua code has loaded a library that contains the function, since the reading of a
/// configuration began.
static LIBRARY_LOADED: AtomicBool = AtomicBool::new(false);

/// Resets the flag. To be called when the reading of a configuration begins.
pub fn begin() {
    LIBRARY_LOADED.store(false, Ordering::Relaxed);
}

/// Sets the flag. To be called when Lua code gets access to the function.
pub fn library_is_loaded() {
    LIBRARY_LOADED.store(true, Ordering::Relaxed);
}

/// The part of the `http {}` configuration that says whether Lua code may ask.
#[derive(Default)]
pub struct Asking {
    /// Whether any server has `ssl_certificate_by_lua*`.
    has_phase: Cell<bool>,
    /// Whether a library was loaded when the configuration was complete.
    library_loaded: Cell<bool>,
}

impl Asking {
    /// Returns whether Lua code may ask clients of any server.
    pub fn is_possible(&self) -> bool {
        let is_loaded = self.library_loaded.get() || LIBRARY_LOADED.load(Ordering::Relaxed);
        self.has_phase.get() && is_loaded
    }

    /// Sets whether any server has `ssl_certificate_by_lua*`.
    pub fn set_has_phase(&self, has_phase: bool) {
        self.has_phase.set(has_phase);
    }

    /// Returns whether any server has `ssl_certificate_by_lua*`.
    pub fn has_phase(&self) -> bool {
        self.has_phase.get()
    }

    /// Records for this configuration whether a library was loaded: the next configuration resets
    /// the flag. To be called when the configuration is complete, after `init_by_lua*`.
    pub fn complete(&self) {
        self.library_loaded.set(LIBRARY_LOADED.load(Ordering::Relaxed));
    }
}
