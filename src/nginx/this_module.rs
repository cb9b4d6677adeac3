// SPDX-License-Identifier: Apache-2.0

//! This module's entry in nginx (`ngx_module_t`).

use std::ffi::c_void;
use std::ptr;

use ngx::ffi::ngx_module_t;

use crate::nginx::conf_parser::ConfParser;
use crate::nginx::configuration::ModuleIndex;

unsafe extern "C" {
    /// Defined in `module.rs`, which this layer must not import.
    static mut ngx_http_kong_tls_module: ngx_module_t;
}

/// Returns the module's index in the arrays of configurations and request contexts.
pub fn index() -> ModuleIndex {
    // SAFETY: nginx sets `ctx_index` before it calls the module, and not while a callback runs.
    ModuleIndex::new(unsafe { (&raw const ngx_http_kong_tls_module.ctx_index).read() })
}

/// Returns the tag that marks shared memory zones as this module's.
pub fn tag() -> *mut c_void {
    (&raw mut ngx_http_kong_tls_module).cast()
}

/// Returns whether the configuration that is being read loads this module.
pub fn is_loaded(parser: ConfParser<'_>) -> bool {
    let found = parser.module(c"ngx_http_kong_tls_module");
    found.is_some_and(|found| ptr::eq(found.as_ptr(), &raw const ngx_http_kong_tls_module))
}

/// Resets the module's indexes. nginx considers them free after the last configuration with the
/// module, and may give them to another module.
///
/// # Safety
/// No configuration that has this module may exist any more.
pub unsafe fn forget_indexes() {
    let unset = ngx_module_t::default();
    // SAFETY: only configurations that have this module use the indexes, and none exists any more.
    unsafe {
        (&raw mut ngx_http_kong_tls_module.index).write(unset.index);
        (&raw mut ngx_http_kong_tls_module.ctx_index).write(unset.ctx_index);
    }
}
