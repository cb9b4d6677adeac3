// SPDX-License-Identifier: Apache-2.0

//! Data attached to OpenSSL's objects (`CRYPTO_set_ex_data(3)`).
//!
//! No lookup table is needed, and none that drops entries when it is full: what was computed for an
//! object is kept as long as the object.

use std::ffi::{c_int, c_long, c_void};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::OnceLock;

use foreign_types::ForeignTypeRef;
use openssl::ssl::{SslContextRef, SslRef};
use openssl::x509::X509Ref;
use openssl::x509::store::X509StoreRef;
use openssl_sys::CRYPTO_EX_DATA;

use crate::openssl::error::SslError;
use crate::openssl::sys;

/// An object that data can be attached to.
pub trait Host: ForeignTypeRef {
    /// `CRYPTO_EX_INDEX_*`
    const CLASS: c_int;

    /// Returns the pointer at `index`.
    fn data(&self, index: c_int) -> *mut c_void;

    /// Sets the pointer at `index`.
    fn set_data(&self, index: c_int, data: *mut c_void) -> Result<(), SslError>;
}

impl Host for X509Ref {
    const CLASS: c_int = 3;

    fn data(&self, index: c_int) -> *mut c_void {
        // SAFETY: the certificate is valid, and the index is of its class.
        unsafe { sys::X509_get_ex_data(self.as_ptr(), index) }
    }

    fn set_data(&self, index: c_int, data: *mut c_void) -> Result<(), SslError> {
        // SAFETY: the certificate is valid, and the index is of its class.
        let set = unsafe { sys::X509_set_ex_data(self.as_ptr(), index, data) };
        SslError::check("X509_set_ex_data", set)
    }
}

impl Host for X509StoreRef {
    const CLASS: c_int = 4;

    fn data(&self, index: c_int) -> *mut c_void {
        // SAFETY: the store is valid, and the index is of its class.
        unsafe { sys::X509_STORE_get_ex_data(self.as_ptr(), index) }
    }

    fn set_data(&self, index: c_int, data: *mut c_void) -> Result<(), SslError> {
        // SAFETY: the store is valid, and the index is of its class.
        let set = unsafe { sys::X509_STORE_set_ex_data(self.as_ptr(), index, data) };
        SslError::check("X509_STORE_set_ex_data", set)
    }
}

impl Host for SslRef {
    const CLASS: c_int = 0;

    fn data(&self, index: c_int) -> *mut c_void {
        // SAFETY: the SSL object is valid, and the index is of its class.
        unsafe { openssl_sys::SSL_get_ex_data(self.as_ptr(), index) }
    }

    fn set_data(&self, index: c_int, data: *mut c_void) -> Result<(), SslError> {
        // SAFETY: the SSL object is valid, and the index is of its class.
        let set = unsafe { openssl_sys::SSL_set_ex_data(self.as_ptr(), index, data) };
        SslError::check("SSL_set_ex_data", set)
    }
}

impl Host for SslContextRef {
    const CLASS: c_int = 1;

    fn data(&self, index: c_int) -> *mut c_void {
        // SAFETY: the context is valid, and the index is of its class.
        unsafe { openssl_sys::SSL_CTX_get_ex_data(self.as_ptr(), index) }
    }

    fn set_data(&self, index: c_int, data: *mut c_void) -> Result<(), SslError> {
        // SAFETY: the context is valid, and the index is of its class.
        let set = unsafe { openssl_sys::SSL_CTX_set_ex_data(self.as_ptr(), index, data) };
        SslError::check("SSL_CTX_set_ex_data", set)
    }
}

/// The index of a class of objects, allocated once per process, however often the configuration is
/// read.
struct Index(OnceLock<Option<c_int>>);

/// The function that OpenSSL calls when an object with data is freed.
type Free =
    unsafe extern "C" fn(*mut c_void, *mut c_void, *mut CRYPTO_EX_DATA, c_int, c_long, *mut c_void);

impl Index {
    const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// # Safety
    /// `free` must be able to free any data that is kept at the index.
    unsafe fn get<H: Host>(&self, free: Option<Free>) -> Option<c_int> {
        // SAFETY: the caller ensures that `free` suits the data at the new index.
        *self.0.get_or_init(|| unsafe {
            let index = openssl_sys::CRYPTO_get_ex_new_index(
                H::CLASS,
                0,
                ptr::null_mut(),
                None,
                None,
                free,
            );
            (index >= 0).then_some(index)
        })
    }
}

/// A pointer to a `T` for each `H`. The `T` is owned by an nginx pool that outlives the use of the
/// object. Must be a `static`: the index is never freed.
pub struct PointerSlot<H, T>(Index, PhantomData<fn(&H) -> T>);

impl<H: Host, T> PointerSlot<H, T> {
    pub const fn new() -> Self {
        Self(Index::new(), PhantomData)
    }

    fn index(&self) -> Option<c_int> {
        // SAFETY: without a callback, nothing is freed.
        unsafe { self.0.get::<H>(None) }
    }

    /// Returns the value for `host`.
    pub fn get<'a>(&self, host: &'a H) -> Option<&'a T> {
        // SAFETY: only `set` writes at the index, and its caller ensures that the value is a `T`
        // that outlives the use of the host.
        unsafe { host.data(self.index()?).cast::<T>().as_ref() }
    }

    /// Sets the value for `host`.
    ///
    /// # Safety
    /// `value` must outlive every use of `host`, and be used in one thread only.
    pub unsafe fn set(&self, host: &H, value: &T) -> Result<(), SslError> {
        let index = self.index().ok_or_else(|| SslError::take("CRYPTO_get_ex_new_index"))?;
        host.set_data(index, ptr::from_ref(value).cast_mut().cast())
    }
}

/// A `T` owned by each `H`. Must be a `static`: the index is never freed.
pub struct Slot<H, T>(Index, PhantomData<fn(&H) -> T>);

impl<H: Host, T> Slot<H, T> {
    /// # Safety
    /// Hosts with a value must be used and freed in one thread, unless `T` is `Send` and `Sync`.
    pub const unsafe fn new() -> Self {
        Self(Index::new(), PhantomData)
    }

    fn index(&self) -> Option<c_int> {
        // SAFETY: `free` frees the `Box` that `get_or_make` keeps at the index.
        unsafe { self.0.get::<H>(Some(free::<T>)) }
    }

    /// Returns the value of `host`.
    pub fn get<'a>(&'static self, host: &'a H) -> Option<&'a T> {
        // SAFETY: only `get_or_make` writes at the index: a `T` that is freed with the host, which
        // is borrowed for `'a`, and that is never replaced.
        unsafe { host.data(self.index()?).cast::<T>().as_ref() }
    }

    /// Returns the value of `host`, which `make` makes if there is none.
    pub fn get_or_make<'a, E: From<SslError>>(
        &'static self,
        host: &'a H,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<&'a T, E> {
        let index = self.index().ok_or_else(|| SslError::take("CRYPTO_get_ex_new_index"))?;
        let mut data = host.data(index);
        if data.is_null() {
            data = Box::into_raw(Box::new(make()?)).cast();
            if let Err(error) = host.set_data(index, data) {
                // SAFETY: the pointer is from `Box::into_raw` above, and was not stored.
                drop(unsafe { Box::from_raw(data.cast::<T>()) });
                return Err(error.into());
            }
        }
        // SAFETY: only this function writes at the index: a `T` that is freed with the host, which
        // is borrowed for `'a`, and that is never replaced.
        Ok(unsafe { &*data.cast::<T>() })
    }
}

/// Frees the value of a host; OpenSSL calls it when the host is freed.
unsafe extern "C" fn free<T>(
    _host: *mut c_void,
    data: *mut c_void,
    _all: *mut CRYPTO_EX_DATA,
    _index: c_int,
    _number: c_long,
    _argument: *mut c_void,
) {
    if !data.is_null() {
        // SAFETY: `data` is the `Box` of `get_or_make`, and the host that lent it is being freed.
        let data = unsafe { Box::from_raw(data.cast::<T>()) };
        drop(catch_unwind(AssertUnwindSafe(|| drop(data))));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use openssl::pkey::PKey;
    use openssl::ssl::{Ssl, SslContext, SslMethod};
    use openssl::x509::store::X509StoreBuilder;

    use super::*;
    use crate::openssl::test_certificate::self_signed;

    fn attach<H: Host>(slot: &'static Slot<H, Rc<Cell<u32>>>, host: &H) -> Rc<Cell<u32>> {
        Rc::clone(slot.get_or_make(host, || Ok::<_, SslError>(Rc::default())).unwrap())
    }

    #[test]
    fn what_is_attached_goes_with_its_host() {
        // SAFETY: only this test, in one thread, uses the slot.
        static OF_CERTIFICATES: Slot<X509Ref, Rc<Cell<u32>>> = unsafe { Slot::new() };
        // SAFETY: only this test, in one thread, uses the slot.
        static OF_STORES: Slot<X509StoreRef, Rc<Cell<u32>>> = unsafe { Slot::new() };

        let key = PKey::generate_ed25519().unwrap();
        let (one, two) = (self_signed(&key, "one", 1), self_signed(&key, "two", 1));
        let store = X509StoreBuilder::new().unwrap().build();
        attach(&OF_CERTIFICATES, &one).set(1);
        attach(&OF_CERTIFICATES, &two).set(2);
        attach(&OF_STORES, &store).set(3);
        assert_eq!(attach(&OF_CERTIFICATES, &one).get(), 1);
        assert_eq!(attach(&OF_CERTIFICATES, &two).get(), 2);
        assert_eq!(attach(&OF_STORES, &store).get(), 3);

        let of_one = attach(&OF_CERTIFICATES, &one);
        assert_eq!(Rc::strong_count(&of_one), 2);
        let other = one.clone();
        drop(one);
        assert_eq!(Rc::strong_count(&of_one), 2);
        drop(other);
        assert_eq!(Rc::strong_count(&of_one), 1);
        let of_store = attach(&OF_STORES, &store);
        drop(store);
        assert_eq!(Rc::strong_count(&of_store), 1);
    }

    #[test]
    fn a_pointer_is_for_its_host_alone() {
        static SLOT: PointerSlot<SslRef, u32> = PointerSlot::new();
        static OF_CONTEXTS: PointerSlot<SslContextRef, u32> = PointerSlot::new();

        let context = SslContext::builder(SslMethod::tls()).unwrap().build();
        let [one, two] = [(); 2].map(|()| Ssl::new(&context).unwrap());
        assert_eq!(SLOT.get(&*one), None);
        // SAFETY: the values are static and `Sync`.
        unsafe {
            SLOT.set(&*one, &1).unwrap();
            SLOT.set(&*one, &2).unwrap();
            OF_CONTEXTS.set(&*context, &3).unwrap();
        }
        assert_eq!((SLOT.get(&*one), SLOT.get(&*two)), (Some(&2), None));
        assert_eq!(OF_CONTEXTS.get(&*context), Some(&3));
    }

    #[test]
    fn what_can_not_be_made_is_not_kept() {
        // SAFETY: `u32` is `Send` and `Sync`.
        static SLOT: Slot<X509Ref, u32> = unsafe { Slot::new() };

        let certificate = self_signed(&PKey::generate_ed25519().unwrap(), "one", 1);
        let failed = || Err(SslError::take("test"));
        assert!(SLOT.get_or_make(&*certificate, failed).is_err());
        assert_eq!(SLOT.get_or_make(&*certificate, || Ok::<_, SslError>(1)).unwrap(), &1);
        assert_eq!(SLOT.get_or_make(&*certificate, failed).unwrap(), &1);
    }
}
