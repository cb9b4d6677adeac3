//! The configuration of other modules, found by module name: a symbol of a module that this nginx
//! is built without would keep ours from loading.

use std::ffi::{CStr, c_void};
use std::ptr::NonNull;

use ngx::ffi::{
    NGX_HTTP_MODULE, ngx_array_t, ngx_conf_t, ngx_http_conf_ctx_t, ngx_module_t, ngx_uint_t,
};

/// The index of an HTTP module in the arrays of configurations and request contexts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModuleIndex(ngx_uint_t);

impl ModuleIndex {
    pub const fn new(ctx_index: ngx_uint_t) -> Self {
        Self(ctx_index)
    }

    /// The index of the HTTP module `name`, if this nginx has it.
    ///
    /// # Safety
    /// `cf` must be valid.
    pub unsafe fn find(cf: *mut ngx_conf_t, name: &CStr) -> Option<Self> {
        // SAFETY: while it reads a configuration, nginx keeps its modules in an array that ends
        // with NULL, and each of them has a name and, for HTTP modules, an index.
        unsafe {
            let mut next: *mut *mut ngx_module_t = (*(*cf).cycle).modules;
            while let Some(module) = NonNull::new(*next) {
                let module = module.as_ref();
                if module.type_ == NGX_HTTP_MODULE as ngx_uint_t
                    && !module.name.is_null()
                    && CStr::from_ptr(module.name) == name
                {
                    return Some(Self(module.ctx_index));
                }
                next = next.add(1);
            }
        }
        None
    }

    /// The element of one of nginx's arrays (`main_conf`, `srv_conf`, `loc_conf`, `ctx`).
    ///
    /// # Safety
    /// `array` must be NULL or such an array, and `T` what the module keeps there.
    pub unsafe fn of<T>(self, array: *mut *mut c_void) -> Option<NonNull<T>> {
        if array.is_null() {
            return None;
        }
        // SAFETY: each of these arrays has an element for every HTTP module.
        NonNull::new(unsafe { *array.add(self.0) }.cast())
    }

    /// Sets the element of a request's `ctx`.
    ///
    /// # Safety
    /// `array` must be the `ctx` of a request, and `value` what this module keeps there.
    pub unsafe fn set<T>(self, array: *mut *mut c_void, value: NonNull<T>) {
        // SAFETY: as above.
        unsafe { *array.add(self.0) = value.as_ptr().cast() }
    }
}

/// The arrays of configurations that are current while a configuration is read or merged.
///
/// # Safety
/// `cf` must be valid, and inside `http {}`.
pub unsafe fn context<'a>(cf: *mut ngx_conf_t) -> &'a ngx_http_conf_ctx_t {
    // SAFETY: nginx sets `ctx` to its `ngx_http_conf_ctx_t` there.
    unsafe { &*(*cf).ctx.cast() }
}

/// The elements of an `ngx_array_t`.
///
/// # Safety
/// `array` must hold values of type `T`, and not change while the slice is used.
pub unsafe fn elements<T>(array: &ngx_array_t) -> &[T] {
    if array.elts.is_null() {
        return &[];
    }
    // SAFETY: an array has `nelts` elements at `elts`.
    unsafe { std::slice::from_raw_parts(array.elts.cast(), array.nelts) }
}
