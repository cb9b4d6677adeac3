// SPDX-License-Identifier: Apache-2.0

//! What OpenSSL hands out, as types that know who owns it.

use std::ffi::{CStr, c_char, c_uchar};
use std::marker::PhantomData;
use std::{ptr, slice};

use foreign_types::{ForeignType, ForeignTypeRef, foreign_type};
use openssl_sys::BIO;

use crate::openssl::error::SslError;

/// Takes ownership of what the OpenSSL function `function` has returned: NULL means failure.
///
/// # Safety
/// `pointer` must be NULL, or a reference to a valid object that nobody else releases.
pub unsafe fn owned<T: ForeignType>(
    function: &'static str,
    pointer: *mut T::CType,
) -> Result<T, SslError> {
    if pointer.is_null() {
        return Err(SslError::take(function));
    }
    // SAFETY: the caller ensures that this is a reference to a valid object, and gives it away.
    Ok(unsafe { T::from_ptr(pointer) })
}

/// Returns `length` bytes at `data`, or none if it is NULL.
///
/// # Safety
/// `data` must be NULL, or point to `length` bytes that are neither changed nor freed during `'a`.
pub unsafe fn bytes<'a>(data: *const c_uchar, length: usize) -> &'a [u8] {
    if data.is_null() {
        return &[];
    }
    // SAFETY: the caller ensures that these bytes are valid for `'a`.
    unsafe { slice::from_raw_parts(data, length) }
}

/// A C string that is valid for `'a`, or NULL. Only OpenSSL's functions and [`Allocated`] make one.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Text<'a>(*const c_char, PhantomData<&'a CStr>);

impl<'a> Text<'a> {
    /// Returns the text, unless it is NULL.
    pub fn bytes(self) -> Option<&'a [u8]> {
        // SAFETY: whatever makes a `Text` ensures that it is a C string for `'a`, or NULL.
        (!self.0.is_null()).then(|| unsafe { CStr::from_ptr(self.0) }.to_bytes())
    }
}

/// Memory that OpenSSL allocates for whoever calls it: NULL until a function of OpenSSL sets it.
#[repr(transparent)]
pub struct Allocated<T>(*mut T);

impl<T> Allocated<T> {
    pub const fn none() -> Self {
        Self(ptr::null_mut())
    }
}

impl Allocated<c_char> {
    /// Returns the C string that this is, unless it is NULL.
    pub fn text(&self) -> Text<'_> {
        Text(self.0, PhantomData)
    }
}

impl Allocated<c_uchar> {
    /// Returns the first `length` bytes.
    ///
    /// # Safety
    /// OpenSSL must have allocated as many, or nothing.
    pub unsafe fn bytes(&self, length: usize) -> &[u8] {
        // SAFETY: the caller ensures that there are `length` bytes, which `self` owns.
        unsafe { bytes(self.0, length) }
    }
}

impl<T> Drop for Allocated<T> {
    fn drop(&mut self) {
        // SAFETY: this is NULL, or OpenSSL has allocated it for this value alone.
        unsafe { openssl_sys::OPENSSL_free(self.0.cast()) }
    }
}

foreign_type! {
    type CType = BIO;
    fn drop = openssl_sys::BIO_free_all;

    /// Bytes in memory that OpenSSL's functions read or write (`BIO_s_mem(3)`).
    pub struct Bio;
    /// A borrowed [`Bio`].
    pub struct BioRef;
}

impl Bio {
    /// Makes an empty one.
    pub fn new() -> Result<Self, SslError> {
        // SAFETY: the method is static; the function returns a new BIO, or NULL.
        unsafe { owned("BIO_new", openssl_sys::BIO_new(openssl_sys::BIO_s_mem())) }
    }

    /// Calls `read` with one that holds `text`.
    pub fn over<T>(text: &[u8], read: impl FnOnce(&BioRef) -> T) -> Result<T, SslError> {
        let length = i32::try_from(text.len()).unwrap_or(i32::MAX);
        // SAFETY: the text has `length` bytes, which the BIO only reads.
        let bio = unsafe { openssl_sys::BIO_new_mem_buf(text.as_ptr().cast(), length) };
        // SAFETY: this is a new BIO or NULL. It is freed here, before the text.
        let bio: Self = unsafe { owned("BIO_new_mem_buf", bio) }?;
        Ok(read(&bio))
    }
}

impl BioRef {
    /// Returns what was written. Nothing can be written while that is borrowed.
    pub fn contents(&mut self) -> &[u8] {
        let mut data = ptr::null_mut();
        // SAFETY: the BIO is valid, and `data` a place for the address of its bytes.
        let length = unsafe { openssl_sys::BIO_get_mem_data(self.as_ptr(), &raw mut data) };
        // SAFETY: the BIO has `length` bytes at `data`, and is borrowed exclusively.
        unsafe { bytes(data.cast(), usize::try_from(length).unwrap_or_default()) }
    }
}
