// SPDX-License-Identifier: Apache-2.0

//! A running configuration of nginx (`ngx_cycle_t`).

use std::cell::Cell;
use std::ptr::NonNull;

use ngx::ffi::{ngx_cycle, ngx_cycle_t, ngx_http_conf_ctx_t, ngx_http_module};

use crate::nginx::configuration::ModuleIndex;
use crate::nginx::log::Log;

/// A cycle whose configuration has been read.
#[derive(Clone, Copy)]
pub struct Cycle<'a>(&'a Cell<ngx_cycle_t>);

impl<'a> Cycle<'a> {
    /// # Safety
    /// `cycle` must be valid for `'a`, and its configuration must have been read.
    pub unsafe fn from_ptr(cycle: *mut ngx_cycle_t) -> Self {
        // SAFETY: the caller ensures that `cycle` is valid for `'a`.
        Self(unsafe { &*cycle.cast() })
    }

    /// Returns the cycle that this process serves; `None` while nginx starts.
    pub fn current() -> Option<Cycle<'static>> {
        // SAFETY: nginx sets `ngx_cycle` to a cycle whose configuration has been read, and keeps
        // that one as long as the process serves it; while nginx starts, that one has no
        // configuration. Callers use it within a callback.
        unsafe {
            let cycle = ngx_cycle;
            let is_read = !cycle.is_null() && !(*cycle).conf_ctx.is_null();
            is_read.then(|| Cycle::from_ptr(cycle))
        }
    }

    /// Returns the log that the configuration has set.
    pub fn log(self) -> Log<'a> {
        // SAFETY: a cycle has a log, which lives as long.
        unsafe { Log::from_ptr(NonNull::new_unchecked(self.0.get().log)) }
    }

    /// Returns a module's configuration for `http {}`, if there is one.
    ///
    /// # Safety
    /// `T` must be the type of the main configuration of the module with `index`.
    pub unsafe fn main_configuration<T>(self, index: ModuleIndex) -> Option<&'a T> {
        // SAFETY: `conf_ctx` has an element for each module, and that of `ngx_http_module` is an
        // `ngx_http_conf_ctx_t` or NULL.
        let context: &ngx_http_conf_ctx_t = unsafe {
            let http = (&raw const ngx_http_module.index).read();
            (*self.0.get().conf_ctx.add(http)).cast::<ngx_http_conf_ctx_t>().as_ref()?
        };
        // SAFETY: this array lives as long as the configuration. The caller ensures the type `T`.
        unsafe { index.of(context.main_conf).map(|of| of.as_ref()) }
    }
}
