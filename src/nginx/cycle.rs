// SPDX-License-Identifier: Apache-2.0

//! A configuration that nginx runs with (`ngx_cycle_t`).

use std::marker::PhantomData;
use std::ptr::NonNull;

use ngx::ffi::{ngx_cycle_t, ngx_http_conf_ctx_t, ngx_http_module};

use crate::nginx::configuration::ModuleIndex;

/// A cycle whose configuration is read.
#[derive(Clone, Copy)]
pub struct Cycle<'a>(NonNull<ngx_cycle_t>, PhantomData<&'a ngx_cycle_t>);

impl<'a> Cycle<'a> {
    /// # Safety
    /// `cycle` must be valid for `'a`, with its configuration read.
    pub unsafe fn from_ptr(cycle: *mut ngx_cycle_t) -> Self {
        // SAFETY: a valid pointer is not NULL.
        Self(unsafe { NonNull::new_unchecked(cycle) }, PhantomData)
    }

    /// What a module keeps for `http {}`; `None` if there is none.
    ///
    /// # Safety
    /// `T` must be what the module with `index` keeps there.
    pub unsafe fn main_configuration<T>(self, index: ModuleIndex) -> Option<&'a T> {
        // SAFETY: a cycle has an element for each module; that of `http {}` is an
        // `ngx_http_conf_ctx_t`.
        unsafe {
            let http = (&raw const ngx_http_module.index).read();
            let context = *self.0.as_ref().conf_ctx.add(http);
            let context = NonNull::new(context.cast::<ngx_http_conf_ctx_t>())?;
            Some(index.of(context.as_ref().main_conf)?.as_ref())
        }
    }
}
