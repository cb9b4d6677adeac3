// SPDX-License-Identifier: Apache-2.0

//! Checks of OpenSSL objects that Lua code passes as bare pointers.
//!
//! The Lua interface checks the C type of a cdata, but `ngx.ssl` returns both chains and keys as
//! `void *`. If one were taken for the other, unrelated memory would be read as certificates. So
//! the object itself is checked as far as possible. A pointer to anything else can't be detected.

use std::ffi::c_void;
use std::{ptr, slice};

use foreign_types::ForeignTypeRef;
use openssl::pkey::{PKeyRef, Private};
use openssl::stack::StackRef;
use openssl::x509::X509;
use openssl::x509::store::X509StoreRef;

/// Why a pointer was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidObject {
    /// The pointer is NULL or implausible, or the object can't be a stack of certificates.
    #[error("chain is not a certificate chain")]
    NotAChain,
    /// The chain has no certificates.
    #[error("chain must hold at least one certificate")]
    EmptyChain,
    /// The pointer is NULL or implausible, or the object is a stack.
    #[error("key is not a private key")]
    NotAKey,
    /// The pointer is NULL or implausible.
    #[error("store is not a certificate store")]
    NotAStore,
}

/// Returns the `STACK_OF(X509)` at `pointer`, which must have at least one certificate.
///
/// # Safety
/// `pointer` must be NULL or point to a `STACK_OF(X509)` or `EVP_PKEY` that is valid for `'a`.
pub unsafe fn chain<'a>(pointer: *mut c_void) -> Result<&'a StackRef<X509>, InvalidObject> {
    // SAFETY: the caller ensures that `pointer` is NULL, a stack or a key.
    let head = unsafe { stack(pointer) }.ok_or(InvalidObject::NotAChain)?;
    let Ok(count @ 1..) = usize::try_from(head.num) else {
        return Err(InvalidObject::EmptyChain);
    };
    // SAFETY: a stack has `num` pointers at `data`.
    if unsafe { slice::from_raw_parts(head.data, count) }.iter().any(|entry| entry.is_null()) {
        return Err(InvalidObject::NotAChain);
    }
    // SAFETY: the caller ensures that this is a valid `STACK_OF(X509)` if it is a stack, which was
    // checked.
    unsafe { Ok(StackRef::from_ptr(pointer.cast())) }
}

/// Returns the `EVP_PKEY` at `pointer`.
///
/// # Safety
/// `pointer` must be NULL or point to an `EVP_PKEY` or `STACK_OF(X509)` that is valid for `'a`.
pub unsafe fn key<'a>(pointer: *mut c_void) -> Result<&'a PKeyRef<Private>, InvalidObject> {
    // SAFETY: the caller ensures that `pointer` is NULL, a stack or a key.
    if !is_plausible_address(pointer) || unsafe { stack(pointer) }.is_some() {
        return Err(InvalidObject::NotAKey);
    }
    // SAFETY: the caller ensures that this is a key for `'a`, as it is neither NULL nor a stack.
    Ok(unsafe { PKeyRef::from_ptr(pointer.cast()) })
}

/// Returns the `X509_STORE` at `pointer`.
///
/// # Safety
/// `pointer` must be NULL or point to an `X509_STORE` that is valid for `'a`.
pub unsafe fn store<'a>(pointer: *mut c_void) -> Result<&'a X509StoreRef, InvalidObject> {
    if !is_plausible_address(pointer) {
        return Err(InvalidObject::NotAStore);
    }
    // SAFETY: the caller ensures that `pointer` is NULL or a valid store, and NULL is rejected.
    unsafe { Ok(X509StoreRef::from_ptr(pointer.cast())) }
}

/// The beginning of OpenSSL's `struct stack_st`, which is the same in 1.1.0 to 3.5.
#[derive(Clone, Copy)]
#[repr(C)]
struct StackHead {
    num: i32,
    data: *const *const c_void,
    sorted: i32,
    num_alloc: i32,
    comp: usize,
}

/// Returns the head of a stack if the object looks like one, with a count that fits its allocation.
/// Where a stack has the size of its allocation, an `EVP_PKEY` has half of its `ENGINE` pointer:
/// usually 0, and otherwise far from a plausible size.
///
/// # Safety
/// `pointer` must be NULL or point to a stack or an `EVP_PKEY`.
unsafe fn stack(pointer: *mut c_void) -> Option<StackHead> {
    if !is_plausible_address(pointer) {
        return None;
    }
    // SAFETY: the caller ensures that this is a stack or an `EVP_PKEY`, both of which are larger
    // than `StackHead`; any bytes are valid for its fields.
    let head = unsafe { ptr::read_unaligned(pointer.cast::<StackHead>()) };

    let is_stack = head.num >= 0
        && head.num_alloc >= head.num
        && head.num_alloc < 1 << 20
        && (head.sorted == 0 || head.sorted == 1)
        && head.comp == 0
        && (head.num == 0 || head.num_alloc > 0 && is_plausible_address(head.data.cast()))
        // An EVP_PKEY begins with its type, which is not 0 once it holds a key.
        && (head.num_alloc > 0 || head.num == 0 && head.data.is_null());
    is_stack.then_some(head)
}

/// Returns whether an allocated object can be at this address.
fn is_plausible_address(pointer: *const c_void) -> bool {
    pointer as usize >= 4096 && (pointer as usize) % align_of::<usize>() == 0
}

#[cfg(test)]
mod tests {
    use openssl::ec::{EcGroup, EcKey};
    use openssl::nid::Nid;
    use openssl::pkey::PKey;
    use openssl::rsa::Rsa;
    use openssl::stack::Stack;

    use super::*;

    fn keys() -> Vec<(&'static str, PKey<Private>)> {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        vec![
            ("RSA", PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap()),
            ("EC", PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()),
            ("Ed25519", PKey::generate_ed25519().unwrap()),
            ("X448", PKey::generate_x448().unwrap()),
        ]
    }

    #[test]
    fn a_chain_is_no_key() {
        // The type of an RSA key is 6, which could also be the length of a chain.
        for length in 1..=20 {
            let mut stack = Stack::new().unwrap();
            for _ in 0..length {
                stack.push(X509::builder().unwrap().build()).unwrap();
            }
            let pointer = stack.as_ptr().cast();
            // SAFETY: the pointer is to a valid stack.
            unsafe {
                assert_eq!(chain(pointer).unwrap().len(), length);
                assert_eq!(key(pointer).err(), Some(InvalidObject::NotAKey), "{length}");
            }
        }
    }

    #[test]
    fn a_key_is_no_chain() {
        for (name, object) in keys() {
            let pointer = object.as_ptr().cast();
            // SAFETY: the pointer is to a valid key.
            unsafe {
                assert_eq!(chain(pointer).err(), Some(InvalidObject::NotAChain), "{name}");
                assert!(key(pointer).is_ok(), "{name}");
            }
        }
    }

    #[test]
    fn an_empty_chain() {
        let mut stack = Stack::<X509>::new().unwrap();
        // SAFETY: the pointer is to a valid stack.
        unsafe {
            let pointer = stack.as_ptr().cast();
            assert_eq!(chain(pointer).err(), Some(InvalidObject::EmptyChain));
            assert_eq!(key(pointer).err(), Some(InvalidObject::NotAKey));
        }
        // An emptied stack keeps its allocation.
        stack.push(X509::builder().unwrap().build()).unwrap();
        stack.pop();
        // SAFETY: the pointer is to a valid stack.
        unsafe {
            assert_eq!(chain(stack.as_ptr().cast()).err(), Some(InvalidObject::EmptyChain));
        }
    }

    #[test]
    fn no_object_at_all() {
        for pointer in [0usize, 1, 8, 4095, 4097, usize::MAX] {
            let pointer = pointer as *mut c_void;
            // SAFETY: these pointers are rejected before anything is read.
            unsafe {
                assert_eq!(chain(pointer).err(), Some(InvalidObject::NotAChain));
                assert_eq!(key(pointer).err(), Some(InvalidObject::NotAKey));
                assert_eq!(store(pointer).err(), Some(InvalidObject::NotAStore));
            }
        }
    }
}
