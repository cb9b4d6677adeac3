// SPDX-License-Identifier: Apache-2.0

//! Our module among those of nginx.

use std::ffi::c_void;
use std::ptr;

use ngx::ffi::ngx_module_t;

use crate::nginx::conf_parser::ConfParser;
use crate::nginx::configuration::ModuleIndex;

unsafe extern "C" {
    /// `module.rs` has it, above all that asks for it here.
    static mut ngx_http_kong_tls_module: ngx_module_t;
}

/// The index of the module in the arrays of configurations and request contexts.
pub fn index() -> ModuleIndex {
    // SAFETY: nginx sets the index before it calls anything of ours, and not while we run.
    ModuleIndex::new(unsafe { (&raw const ngx_http_kong_tls_module.ctx_index).read() })
}

/// What tells apart what is this module's from what is another's.
pub fn tag() -> *mut c_void {
    (&raw mut ngx_http_kong_tls_module).cast()
}

/// Whether the configuration that is being read loads this module.
pub fn is_loaded(parser: ConfParser<'_>) -> bool {
    let found = parser.module(c"ngx_http_kong_tls_module");
    found.is_some_and(|found| ptr::eq(found.as_ptr(), &raw const ngx_http_kong_tls_module))
}

/// Gives the indexes back, which nginx takes for free and may give to another module.
///
/// # Safety
/// nginx must have no configuration any more in which the module has a place.
pub unsafe fn forget_indexes() {
    let unset = ngx_module_t::default();
    // SAFETY: nobody uses the indexes but those configurations.
    unsafe {
        (&raw mut ngx_http_kong_tls_module.index).write(unset.index);
        (&raw mut ngx_http_kong_tls_module.ctx_index).write(unset.ctx_index);
    }
}
