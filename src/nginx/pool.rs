// SPDX-License-Identifier: Apache-2.0

//! Values that live in an nginx pool and are dropped with it.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use ngx::ffi::{NGX_ALIGNMENT, ngx_palloc, ngx_pnalloc, ngx_pool_cleanup_add, ngx_pool_t};

/// Memory ran out.
#[derive(Debug, thiserror::Error)]
#[error("out of memory")]
pub struct OutOfMemory;

/// An nginx pool: of a request, a connection or a configuration.
#[derive(Clone, Copy)]
pub struct Pool<'a>(NonNull<ngx_pool_t>, PhantomData<&'a ngx_pool_t>);

impl<'a> Pool<'a> {
    /// # Safety
    /// `pool` must be valid for `'a`.
    pub unsafe fn from_ptr(pool: NonNull<ngx_pool_t>) -> Self {
        Self(pool, PhantomData)
    }

    pub fn as_ptr(self) -> *mut ngx_pool_t {
        self.0.as_ptr()
    }

    /// Moves `value` into the pool, at a stable address. It is dropped when the pool is destroyed.
    pub fn keep<T: 'static>(self, value: T) -> Result<&'a T, OutOfMemory> {
        const { assert!(align_of::<T>() <= NGX_ALIGNMENT) };

        // SAFETY: the pool is valid for `'a`. nginx allocates the data of a cleanup with
        // `ngx_palloc`, which aligns to NGX_ALIGNMENT; both pointers are checked before use.
        unsafe {
            let cleanup = ngx_pool_cleanup_add(self.0.as_ptr(), size_of::<T>().max(1));
            let kept = NonNull::new(cleanup)
                .and_then(|cleanup| NonNull::new(cleanup.as_ref().data.cast::<T>()))
                .ok_or(OutOfMemory)?;
            kept.write(value);
            (*cleanup).handler = Some(drop_value::<T>);
            Ok(&*kept.as_ptr())
        }
    }

    /// Copies `value` into the pool. Nothing is dropped with the pool, since `T` is `Copy`.
    pub fn copy<T: Copy>(self, value: &T) -> Result<NonNull<T>, OutOfMemory> {
        const { assert!(align_of::<T>() <= NGX_ALIGNMENT) };

        // SAFETY: the pool is valid for `'a`; `ngx_palloc` aligns to NGX_ALIGNMENT, and the pointer
        // is checked before it is written to.
        unsafe {
            let memory = ngx_palloc(self.0.as_ptr(), size_of::<T>()).cast::<T>();
            let memory = NonNull::new(memory).ok_or(OutOfMemory)?;
            memory.write(*value);
            Ok(memory)
        }
    }

    /// Copies `bytes` into the pool.
    pub fn copy_bytes(self, bytes: &[u8]) -> Result<NonNull<[u8]>, OutOfMemory> {
        // SAFETY: the pool is valid for `'a`, and the pointer is checked before it is written to.
        unsafe {
            let memory = ngx_pnalloc(self.0.as_ptr(), bytes.len().max(1)).cast::<u8>();
            let memory = NonNull::new(memory).ok_or(OutOfMemory)?;
            memory.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len());
            Ok(NonNull::slice_from_raw_parts(memory, bytes.len()))
        }
    }
}

unsafe extern "C" fn drop_value<T>(data: *mut c_void) {
    // SAFETY: `data` is the value that `keep` wrote, and nginx runs a cleanup once. `Drop`
    // implementations here only release references; if one panics, the process aborts instead of
    // unwinding into C.
    unsafe { ptr::drop_in_place(data.cast::<T>()) }
}
