// SPDX-License-Identifier: Apache-2.0

//! A running configuration of nginx (`ngx_cycle_t`).

use std::marker::PhantomData;
use std::ptr::NonNull;

use ngx::ffi::{ngx_cycle_t, ngx_http_conf_ctx_t, ngx_http_module};

use crate::nginx::configuration::ModuleIndex;

/// A cycle whose configuration has been read.
#[derive(Clone, Copy)]
pub struct Cycle<'a>(NonNull<ngx_cycle_t>, PhantomData<&'a ngx_cycle_t>);

impl<'a> Cycle<'a> {
    /// # Safety
    /// `cycle` must be valid for `'a`, and its configuration must have been read.
    pub unsafe fn from_ptr(cycle: *mut ngx_cycle_t) -> Self {
        // SAFETY: `cycle` is valid, and so not NULL.
        Self(unsafe { NonNull::new_unchecked(cycle) }, PhantomData)
    }

    /// Returns a module's configuration for `http {}`, if there is one.
    ///
    /// # Safety
    /// `T` must be the type of the main configuration of the module with `index`.
    pub unsafe fn main_configuration<T>(self, index: ModuleIndex) -> Option<&'a T> {
        // SAFETY: `conf_ctx` has an element for each module, and that of `ngx_http_module` is an
        // `ngx_http_conf_ctx_t` or NULL. The caller ensures the type `T`.
        unsafe {
            let http = (&raw const ngx_http_module.index).read();
            let context = *self.0.as_ref().conf_ctx.add(http);
            let context = NonNull::new(context.cast::<ngx_http_conf_ctx_t>())?;
            Some(index.of(context.as_ref().main_conf)?.as_ref())
        }
    }
}
