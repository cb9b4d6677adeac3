// SPDX-License-Identifier: Apache-2.0

//! Which servers Lua code may ask the clients of for a certificate.
//!
//! That is where nginx can't know that clients are verified, and we keep guard in its place. Who
//! can't ask, because there is no `ssl_certificate_by_lua*` or because nobody has loaded
//! `resty.kong.tls` or `resty.kong.pdk`, has nginx as it is.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether Lua code has loaded a library with the function, since a configuration began to be read.
static LIBRARY_LOADED: AtomicBool = AtomicBool::new(false);

/// To be called when a configuration begins to be read: nobody has loaded a library for it yet.
pub fn begin() {
    LIBRARY_LOADED.store(false, Ordering::Relaxed);
}

/// To be called when Lua code gets hold of the function.
pub fn library_is_loaded() {
    LIBRARY_LOADED.store(true, Ordering::Relaxed);
}

/// What we keep for `http {}`.
#[derive(Default)]
pub struct Asking {
    /// Whether a server has `ssl_certificate_by_lua*`.
    has_phase: Cell<bool>,
    /// Whether the library was loaded when the configuration was complete.
    library_loaded: Cell<bool>,
}

impl Asking {
    /// Whether Lua code may ask a client of whatever server.
    pub fn is_possible(&self) -> bool {
        let is_loaded = self.library_loaded.get() || LIBRARY_LOADED.load(Ordering::Relaxed);
        self.has_phase.get() && is_loaded
    }

    /// Keeps whether a server has `ssl_certificate_by_lua*`.
    pub fn set_has_phase(&self, has_phase: bool) {
        self.has_phase.set(has_phase);
    }

    /// Whether a server has `ssl_certificate_by_lua*`.
    pub fn has_phase(&self) -> bool {
        self.has_phase.get()
    }

    /// Keeps that the library is loaded, if it is: the next configuration may be without. To be
    /// called when the configuration is complete, with all that `init_by_lua*` has done.
    pub fn complete(&self) {
        self.library_loaded.set(LIBRARY_LOADED.load(Ordering::Relaxed));
    }
}
