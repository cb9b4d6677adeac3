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

/// `SSL_get_ex_data(3)` and similar functions.
type Get<H> = extern "C" fn(host: &H, index: c_int) -> *mut c_void;
/// `SSL_set_ex_data(3)` and similar functions, each with its name.
type Set<H> =
    (&'static str, unsafe extern "C" fn(host: &H, index: c_int, data: *mut c_void) -> c_int);

/// An object that data can be attached to.
///
/// # Safety
/// `CLASS` must be the class of these objects, and `GET` and `SET` OpenSSL's functions for them.
pub unsafe trait Host: ForeignTypeRef {
    /// `CRYPTO_EX_INDEX_*`
    const CLASS: c_int;

    /// Returns the pointer at an index.
    const GET: Get<Self>;

    /// Sets the pointer at an index; with the name of the function.
    const SET: Set<Self>;
}

// SAFETY: these are the class and the functions of certificates.
unsafe impl Host for X509Ref {
    const CLASS: c_int = 3;
    const GET: Get<Self> = sys::X509_get_ex_data;
    const SET: Set<Self> = ("X509_set_ex_data", sys::X509_set_ex_data);
}

// SAFETY: these are the class and the functions of stores.
unsafe impl Host for X509StoreRef {
    const CLASS: c_int = 4;
    const GET: Get<Self> = sys::X509_STORE_get_ex_data;
    const SET: Set<Self> = ("X509_STORE_set_ex_data", sys::X509_STORE_set_ex_data);
}

// SAFETY: these are the class and the functions of SSL objects.
unsafe impl Host for SslRef {
    const CLASS: c_int = 0;
    const GET: Get<Self> = sys::SSL_get_ex_data;
    const SET: Set<Self> = ("SSL_set_ex_data", sys::SSL_set_ex_data);
}

// SAFETY: these are the class and the functions of contexts.
unsafe impl Host for SslContextRef {
    const CLASS: c_int = 1;
    const GET: Get<Self> = sys::SSL_CTX_get_ex_data;
    const SET: Set<Self> = ("SSL_CTX_set_ex_data", sys::SSL_CTX_set_ex_data);
}

/// The index of a class of objects, allocated once per process, however often the configuration is
/// read.
type Index = OnceLock<Option<c_int>>;

/// Allocates an index at which pointers are kept that OpenSSL does not follow.
pub fn new_index(class: c_int) -> Option<c_int> {
    // SAFETY: without a function that frees the data, OpenSSL does nothing with it.
    unsafe { new_index_with(class, None) }
}

/// # Safety
/// `free` must be able to free any data that is kept at the index.
unsafe fn new_index_with(class: c_int, free: Option<Free>) -> Option<c_int> {
    let new = openssl_sys::CRYPTO_get_ex_new_index;
    // SAFETY: the caller ensures that `free` suits the data at the new index.
    let index = unsafe { new(class, 0, ptr::null_mut(), None, None, free) };
    (index >= 0).then_some(index)
}

/// The function that OpenSSL calls when an object with data is freed.
type Free =
    unsafe extern "C" fn(*mut c_void, *mut c_void, *mut CRYPTO_EX_DATA, c_int, c_long, *mut c_void);

/// # Safety
/// `data` must be what is kept at `index`.
unsafe fn attach<H: Host>(host: &H, index: c_int, data: *mut c_void) -> Result<(), SslError> {
    let (function, set) = H::SET;
    // SAFETY: the caller ensures that the data is what is kept at the index.
    SslError::check(function, unsafe { set(host, index, data) })
}

fn missing_index() -> SslError {
    SslError::take("CRYPTO_get_ex_new_index")
}

/// A pointer to a `T` for each `H`. The `T` is owned by an nginx pool that outlives the use of the
/// object. Must be a `static`: the index is never freed.
pub struct PointerSlot<H, T>(Index, PhantomData<fn(&H) -> T>);

impl<H: Host, T> PointerSlot<H, T> {
    pub const fn new() -> Self {
        Self(OnceLock::new(), PhantomData)
    }

    fn index(&self) -> Option<c_int> {
        *self.0.get_or_init(|| new_index(H::CLASS))
    }

    /// Returns the value for `host`.
    pub fn get<'a>(&self, host: &'a H) -> Option<&'a T> {
        // SAFETY: only `set` writes at the index, and its caller ensures that the value is a `T`
        // that outlives the use of the host.
        unsafe { H::GET(host, self.index()?).cast::<T>().as_ref() }
    }

    /// Sets the value for `host`.
    ///
    /// # Safety
    /// `value` must outlive every use of `host`, and be used in one thread only.
    pub unsafe fn set(&self, host: &H, value: &T) -> Result<(), SslError> {
        let index = self.index().ok_or_else(missing_index)?;
        // SAFETY: the value is a `T`, and the caller ensures that it outlives the use of the host.
        unsafe { attach(host, index, ptr::from_ref(value).cast_mut().cast()) }
    }
}

/// A `T` owned by each `H`. Must be a `static`: the index is never freed.
pub struct Slot<H, T>(Index, PhantomData<fn(&H) -> T>);

impl<H: Host, T> Slot<H, T> {
    /// # Safety
    /// Hosts with a value must be used and freed in one thread, unless `T` is `Send` and `Sync`.
    pub const unsafe fn new() -> Self {
        Self(OnceLock::new(), PhantomData)
    }

    fn index(&self) -> Option<c_int> {
        // SAFETY: `free` frees the `Box` that `get_or_make` keeps at the index.
        *self.0.get_or_init(|| unsafe { new_index_with(H::CLASS, Some(free::<T>)) })
    }

    /// Returns the value of `host`.
    pub fn get<'a>(&'static self, host: &'a H) -> Option<&'a T> {
        // SAFETY: only `get_or_make` writes at the index: a `T` that is freed with the host, which
        // is borrowed for `'a`, and that is never replaced.
        unsafe { H::GET(host, self.index()?).cast::<T>().as_ref() }
    }

    /// Returns the value of `host`, which `make` makes if there is none.
    pub fn get_or_make<'a, E: From<SslError>>(
        &'static self,
        host: &'a H,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<&'a T, E> {
        let index = self.index().ok_or_else(missing_index)?;
        if let Some(known) = self.get(host) {
            return Ok(known);
        }
        let made = Box::into_raw(Box::new(make()?));
        // SAFETY: what is kept at the index is a `Box` of a `T`.
        if let Err(error) = unsafe { attach(host, index, made.cast()) } {
            // SAFETY: the pointer is from `Box::into_raw` above, and was not stored.
            drop(unsafe { Box::from_raw(made) });
            return Err(error.into());
        }
        // SAFETY: the value is freed with the host, which is borrowed for `'a`, and never replaced.
        Ok(unsafe { &*made })
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
