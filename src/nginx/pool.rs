// SPDX-License-Identifier: Apache-2.0

//! Values that live in an nginx pool and are dropped with it.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
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

        // SAFETY: the pool is valid for `'a`.
        let cleanup = unsafe { ngx_pool_cleanup_add(self.as_ptr(), size_of::<T>().max(1)) };
        // SAFETY: a cleanup is NULL, or valid as long as the pool.
        let cleanup = unsafe { cleanup.as_mut() }.ok_or(OutOfMemory)?;
        // SAFETY: nginx has just allocated the data with `ngx_palloc`, which aligns to
        // NGX_ALIGNMENT. They are NULL, or nobody else's as long as the pool is valid.
        let data = unsafe { cleanup.data.cast::<MaybeUninit<T>>().as_mut() };
        let kept = data.ok_or(OutOfMemory)?.write(value);
        cleanup.handler = Some(drop_value::<T>);
        Ok(kept)
    }

    /// Copies `value` into the pool. Nothing is dropped with the pool, since `T` is `Copy`.
    pub fn copy<T: Copy>(self, value: &T) -> Result<&'a mut T, OutOfMemory> {
        const { assert!(align_of::<T>() <= NGX_ALIGNMENT) };

        // SAFETY: the pool is valid for `'a`.
        let memory = unsafe { ngx_palloc(self.as_ptr(), size_of::<T>().max(1)) };
        // SAFETY: the memory is NULL, or nobody else's as long as the pool is valid, and
        // `ngx_palloc` aligns it to NGX_ALIGNMENT.
        let memory = unsafe { memory.cast::<MaybeUninit<T>>().as_mut() };
        Ok(memory.ok_or(OutOfMemory)?.write(*value))
    }

    /// Copies values into the pool. Nothing is dropped with the pool, since `T` is `Copy`.
    pub fn copy_slice<T: Copy>(self, values: &[T]) -> Result<&'a mut [T], OutOfMemory> {
        const { assert!(align_of::<T>() <= NGX_ALIGNMENT) };

        // SAFETY: the pool is valid for `'a`.
        let memory = unsafe { ngx_palloc(self.as_ptr(), size_of_val(values).max(1)) };
        let memory = NonNull::new(memory.cast::<T>()).ok_or(OutOfMemory)?;
        // SAFETY: the memory has room for as many values, is nobody else's as long as the pool is
        // valid, and `ngx_palloc` aligns it to NGX_ALIGNMENT.
        unsafe {
            memory.copy_from_nonoverlapping(NonNull::from(values).cast(), values.len());
            Ok(NonNull::slice_from_raw_parts(memory, values.len()).as_mut())
        }
    }

    /// Copies `bytes` into the pool.
    pub fn copy_bytes(self, bytes: &[u8]) -> Result<&'a [u8], OutOfMemory> {
        // SAFETY: the pool is valid for `'a`.
        let memory = unsafe { ngx_pnalloc(self.as_ptr(), bytes.len().max(1)) };
        let memory = NonNull::new(memory.cast::<u8>()).ok_or(OutOfMemory)?;
        // SAFETY: the memory has room for as many bytes, and is nobody else's as long as the pool
        // is valid.
        unsafe {
            memory.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len());
            Ok(NonNull::slice_from_raw_parts(memory, bytes.len()).as_ref())
        }
    }
}

unsafe extern "C" fn drop_value<T>(data: *mut c_void) {
    // SAFETY: `data` is the value that `keep` wrote, and nginx runs a cleanup once. `Drop`
    // implementations here only release references; if one panics, the process aborts instead of
    // unwinding into C.
    unsafe { ptr::drop_in_place(data.cast::<T>()) }
}
