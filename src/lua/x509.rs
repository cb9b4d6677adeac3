// SPDX-License-Identifier: Apache-2.0

//! The functions of `resty.kong.x509`.
//!
//! Lua code owns the objects that they make, and frees each with the function for its type.

#![allow(unsafe_code, reason = "Lua owns the objects, by raw pointers")]

use std::cell::RefCell;
use std::convert::Infallible;
use std::ffi::{OsStr, c_char, c_int, c_void};
use std::fmt::Display;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::pkey::{PKey, PKeyRef, Private};
use openssl::stack::{Stack, StackRef};
use openssl::x509::store::{X509Store, X509StoreRef};
use openssl::x509::{X509, X509Ref};

use crate::address_ranges::{AddressRanges, InvalidRange};
use crate::bounded::BoundedCache;
use crate::lua::ffi::{ERROR, NONE, OK, Text, api, bytes, run};
use crate::nginx::connection::process_log;
use crate::nginx::panic::guard;
use crate::nginx::time;
use crate::openssl::certificate::{self, AlternativeName, InvalidDer};
use crate::openssl::error::SslError;
use crate::openssl::fingerprint::Fingerprint;
use crate::openssl::presentable::{self, Side};
use crate::openssl::store::{self, InvalidStore, Sources};
use crate::openssl::verification::{self, Failure, Purpose, Terms};
use crate::openssl::{certificate_authorities, lua_object, pem};
use crate::status::counters::Cache;

type Pointer = *mut c_void;
type Letters = *const c_char;

api! {
    chain_parse: fn(Letters, usize, *mut Pointer, *mut Text) -> c_int,
        "int (*chain_parse)(const char *pem, size_t length, void **chain, void *text)";
    chain_count: fn(Pointer) -> c_int,
        "int (*chain_count)(void *chain)";
    chain_certificate: fn(Pointer, f64, *mut Pointer, *mut Text) -> c_int,
        "int (*chain_certificate)(void *chain, double index, void **certificate, void *text)";
    chain_has_names: fn(Pointer, *mut Text) -> c_int,
        "int (*chain_has_names)(void *chain, void *text)";
    chain_free: fn(Pointer) -> (),
        "void (*chain_free)(void *chain)";
    key_parse: fn(Letters, usize, Letters, usize, *mut Pointer, *mut Text) -> c_int,
        "int (*key_parse)(const char *pem, size_t length, const char *password, \
         size_t password_length, void **key, void *text)";
    key_belongs_to: fn(Pointer, Pointer) -> c_int,
        "int (*key_belongs_to)(void *key, void *chain)";
    key_presents: fn(Pointer, Pointer, c_int, *mut Text) -> c_int,
        "int (*key_presents)(void *key, void *chain, int as_server, void *text)";
    key_free: fn(Pointer) -> (),
        "void (*key_free)(void *key)";
    certificate_subject: fn(Pointer, *mut Text) -> c_int,
        "int (*certificate_subject)(void *certificate, void *text)";
    certificate_issuer: fn(Pointer, *mut Text) -> c_int,
        "int (*certificate_issuer)(void *certificate, void *text)";
    certificate_common_name: fn(Pointer, *mut Text) -> c_int,
        "int (*certificate_common_name)(void *certificate, void *text)";
    certificate_serial: fn(Pointer, *mut Text) -> c_int,
        "int (*certificate_serial)(void *certificate, void *text)";
    certificate_not_before: fn(Pointer, *mut f64, *mut Text) -> c_int,
        "int (*certificate_not_before)(void *certificate, double *seconds, void *text)";
    certificate_not_after: fn(Pointer, *mut f64, *mut Text) -> c_int,
        "int (*certificate_not_after)(void *certificate, double *seconds, void *text)";
    certificate_alternative_names: fn(Pointer, *mut Text) -> c_int,
        "int (*certificate_alternative_names)(void *certificate, void *text)";
    certificate_fingerprint: fn(Pointer, Letters, usize, *mut Text) -> c_int,
        "int (*certificate_fingerprint)(void *certificate, const char *digest, size_t length, \
         void *text)";
    certificate_to_pem: fn(Pointer, *mut Text) -> c_int,
        "int (*certificate_to_pem)(void *certificate, void *text)";
    certificate_free: fn(Pointer) -> (),
        "void (*certificate_free)(void *certificate)";
    chain_from_der: fn(Letters, usize, *mut Pointer, *mut Text) -> c_int,
        "int (*chain_from_der)(const char *der, size_t length, void **chain, void *text)";
    addresses_make: fn(*const Letters, *const usize, usize, *mut Pointer, *mut Text) -> c_int,
        "int (*addresses_make)(const char **ranges, const size_t *lengths, size_t count, \
         void **addresses, void *text)";
    addresses_contain: fn(Pointer, Letters, usize) -> c_int,
        "int (*addresses_contain)(void *addresses, const char *address, size_t length)";
    addresses_free: fn(Pointer) -> (),
        "void (*addresses_free)(void *addresses)";
    store_make: fn(
        Letters, usize, Letters, usize, Letters, usize, Letters, usize, c_int, *mut Pointer, *mut Text
    ) -> c_int,
        "int (*store_make)(const char *pem, size_t pem_length, const char *file, size_t file_length, \
         const char *dir, size_t dir_length, const char *crl, size_t crl_length, int flags, \
         void **store, void *text)";
    store_verify: fn(Pointer, Pointer, Letters, usize, f64, f64, *mut f64, *mut Text) -> c_int,
        "int (*store_verify)(void *store, void *chain, const char *purpose, size_t purpose_length, \
         double depth, double at, double *ends, void *text)";
    store_free: fn(Pointer) -> (),
        "void (*store_free)(void *store)";
}

/// Runs a function that makes an object, like [`run`], and passes ownership to Lua code.
///
/// # Safety
/// `text` and `place` must be valid.
unsafe fn make<T: ForeignType, E: Display>(
    name: &str,
    place: *mut Pointer,
    text: *mut Text,
    body: impl FnOnce() -> Result<T, E>,
) -> c_int {
    // SAFETY: the caller ensures that `text` and `place` are valid. The object is forgotten here,
    // so Lua code is its only owner.
    unsafe {
        run(name, text, || {
            let made = body()?;
            *place = made.as_ptr().cast();
            std::mem::forget(made);
            Ok::<_, E>(Vec::new())
        })
    }
}

/// Frees an object of Lua code.
///
/// # Safety
/// `pointer` must be an object of this type from [`make`], and must not be used again.
unsafe fn free<T: ForeignType>(pointer: Pointer) {
    guard("free", process_log(), (), || {
        // SAFETY: the caller ensures that `pointer` is an owned object of this type.
        drop(unsafe { T::from_ptr(pointer.cast()) });
    });
}

unsafe extern "C" fn chain_parse(
    pem: Letters,
    length: usize,
    place: *mut Pointer,
    text: *mut Text,
) -> c_int {
    // SAFETY: the module's Lua code passes a string and valid places.
    unsafe { make("chain", place, text, || pem::chain(bytes(pem, length))) }
}

unsafe extern "C" fn chain_count(chain: Pointer) -> c_int {
    // SAFETY: the module's Lua code passes a chain made by this file.
    let chain: &StackRef<X509> = unsafe { StackRef::from_ptr(chain.cast()) };
    c_int::try_from(chain.len()).unwrap_or(c_int::MAX)
}

unsafe extern "C" fn chain_certificate(
    chain: Pointer,
    index: f64,
    place: *mut Pointer,
    text: *mut Text,
) -> c_int {
    // SAFETY: the module's Lua code passes a chain made by this file, and valid places.
    unsafe {
        let chain: &StackRef<X509> = StackRef::from_ptr(chain.cast());
        let found = (1..).zip(chain).find(|(number, _)| f64::from(*number) == index);
        let Some((_, certificate)) = found else {
            return NONE;
        };
        make("certificate", place, text, || Ok::<_, Infallible>(certificate.to_owned()))
    }
}

/// Checks whether the names of authorities can be sent to a client.
unsafe extern "C" fn chain_has_names(chain: Pointer, text: *mut Text) -> c_int {
    // SAFETY: the module's Lua code passes a chain made by this file, and a valid text.
    unsafe {
        run("chain", text, || {
            let chain: &StackRef<X509> = StackRef::from_ptr(chain.cast());
            certificate_authorities::names(chain).map(|_| Vec::new())
        })
    }
}

unsafe extern "C" fn chain_free(chain: Pointer) {
    // SAFETY: the finalizer of the Lua object calls this once, when nothing uses the chain any
    // more.
    unsafe { free::<Stack<X509>>(chain) }
}

unsafe extern "C" fn key_parse(
    pem: Letters,
    length: usize,
    password: Letters,
    password_length: usize,
    place: *mut Pointer,
    text: *mut Text,
) -> c_int {
    // SAFETY: the module's Lua code passes strings, NULL for no password, and valid places.
    unsafe {
        make("key", place, text, || {
            let password = (!password.is_null()).then(|| bytes(password, password_length));
            pem::key(bytes(pem, length), password)
        })
    }
}

unsafe extern "C" fn key_belongs_to(key: Pointer, chain: Pointer) -> c_int {
    guard("key", process_log(), ERROR, || {
        // SAFETY: the module's Lua code passes a key made by this file, and has checked the C type
        // of the chain.
        let (key, chain): (&PKeyRef<Private>, _) =
            unsafe { (PKeyRef::from_ptr(key.cast()), lua_object::chain(chain)) };
        let leaf = chain.ok().and_then(|chain| chain.get(0));
        if leaf.is_some_and(|leaf| certificate::has_key(leaf, key)) { OK } else { NONE }
    })
}

/// Checks whether OpenSSL would present a chain with its key; the text is the type of the key.
unsafe extern "C" fn key_presents(
    key: Pointer,
    chain: Pointer,
    as_server: c_int,
    text: *mut Text,
) -> c_int {
    let side = if as_server == 0 { Side::Client } else { Side::Server };
    // SAFETY: the module's Lua code passes a key and a chain made by this file, and a valid text.
    unsafe {
        run("key", text, || {
            let (key, chain): (&PKeyRef<Private>, &StackRef<X509>) =
                (PKeyRef::from_ptr(key.cast()), StackRef::from_ptr(chain.cast()));
            presentable::check(side, chain, key).map(|kind| kind.as_bytes().to_vec())
        })
    }
}

unsafe extern "C" fn key_free(key: Pointer) {
    // SAFETY: the finalizer of the Lua object calls this once, when nothing uses the key any more.
    unsafe { free::<PKey<Private>>(key) }
}

/// Runs a function that reads a certificate, like [`run`].
///
/// # Safety
/// `pointer` must be a valid certificate, and `text` valid.
unsafe fn of_certificate<E: Display>(
    pointer: Pointer,
    text: *mut Text,
    read: impl FnOnce(&X509Ref) -> Result<Vec<u8>, E>,
) -> c_int {
    // SAFETY: the caller ensures that `pointer` is a valid certificate, and `text` valid.
    unsafe { run("certificate", text, || read(X509Ref::from_ptr(pointer.cast()))) }
}

unsafe extern "C" fn certificate_subject(pointer: Pointer, text: *mut Text) -> c_int {
    // SAFETY: the module's Lua code passes a certificate made by this file, and a valid text.
    unsafe {
        of_certificate(pointer, text, |one| certificate::subject(one).map(String::into_bytes))
    }
}

unsafe extern "C" fn certificate_issuer(pointer: Pointer, text: *mut Text) -> c_int {
    // SAFETY: the module's Lua code passes a certificate made by this file, and a valid text.
    unsafe { of_certificate(pointer, text, |one| certificate::issuer(one).map(String::into_bytes)) }
}

unsafe extern "C" fn certificate_common_name(pointer: Pointer, text: *mut Text) -> c_int {
    // SAFETY: the module's Lua code passes a certificate made by this file, and a valid text.
    unsafe {
        of_certificate(pointer, text, |one| certificate::common_name(one).ok_or("no common name"))
    }
}

unsafe extern "C" fn certificate_serial(pointer: Pointer, text: *mut Text) -> c_int {
    // SAFETY: the module's Lua code passes a certificate made by this file, and a valid text.
    unsafe { of_certificate(pointer, text, |one| certificate::serial(one).map(String::into_bytes)) }
}

/// Runs a function that reads a date of a certificate, like [`of_certificate`].
///
/// # Safety
/// `pointer` must be a valid certificate; `seconds` and `text` must be valid.
unsafe fn time_of_certificate(
    pointer: Pointer,
    seconds: *mut f64,
    text: *mut Text,
    read: impl FnOnce(&X509Ref) -> Result<i64, SslError>,
) -> c_int {
    // SAFETY: the caller ensures that `pointer` is a valid certificate, and `seconds` and `text`
    // are valid.
    unsafe {
        of_certificate(pointer, text, |one| {
            *seconds = read(one)? as f64;
            Ok::<_, SslError>(Vec::new())
        })
    }
}

unsafe extern "C" fn certificate_not_before(
    pointer: Pointer,
    seconds: *mut f64,
    text: *mut Text,
) -> c_int {
    // SAFETY: the module's Lua code passes a certificate made by this file, and valid places.
    unsafe { time_of_certificate(pointer, seconds, text, certificate::not_before) }
}

unsafe extern "C" fn certificate_not_after(
    pointer: Pointer,
    seconds: *mut f64,
    text: *mut Text,
) -> c_int {
    // SAFETY: the module's Lua code passes a certificate made by this file, and valid places.
    unsafe { time_of_certificate(pointer, seconds, text, certificate::not_after) }
}

unsafe extern "C" fn certificate_alternative_names(pointer: Pointer, text: *mut Text) -> c_int {
    // SAFETY: the module's Lua code passes a certificate made by this file, and a valid text.
    unsafe {
        of_certificate(pointer, text, |one| {
            let mut all = Vec::new();
            for AlternativeName { kind, text } in certificate::alternative_names(one)? {
                all.extend(format!("{kind}\0{}:", text.len()).into_bytes());
                all.extend(text);
            }
            Ok::<_, SslError>(all)
        })
    }
}

unsafe extern "C" fn certificate_fingerprint(
    pointer: Pointer,
    digest: Letters,
    length: usize,
    text: *mut Text,
) -> c_int {
    // SAFETY: the module's Lua code passes a certificate made by this file, a string, and a valid
    // text.
    unsafe {
        of_certificate(pointer, text, |one| {
            let digest = String::from_utf8_lossy(bytes(digest, length));
            certificate::fingerprint(one, &digest).map(String::into_bytes)
        })
    }
}

unsafe extern "C" fn certificate_to_pem(pointer: Pointer, text: *mut Text) -> c_int {
    // SAFETY: the module's Lua code passes a certificate made by this file, and a valid text.
    unsafe { of_certificate(pointer, text, X509Ref::to_pem) }
}

unsafe extern "C" fn certificate_free(certificate: Pointer) {
    // SAFETY: the finalizer of the Lua object calls this once, when nothing uses the certificate
    // any more.
    unsafe { free::<X509>(certificate) }
}

unsafe extern "C" fn chain_from_der(
    der: Letters,
    length: usize,
    place: *mut Pointer,
    text: *mut Text,
) -> c_int {
    // SAFETY: the module's Lua code passes a string and valid places.
    unsafe {
        make("chain", place, text, || {
            let failed = |function| move |errors| SslError::new(function, errors);
            let leaf = certificate::from_der(bytes(der, length))?;
            let mut chain = Stack::new().map_err(failed("OPENSSL_sk_new"))?;
            chain.push(leaf).map_err(failed("OPENSSL_sk_push"))?;
            Ok::<_, InvalidDer>(chain)
        })
    }
}

unsafe extern "C" fn addresses_make(
    ranges: *const Letters,
    lengths: *const usize,
    count: usize,
    place: *mut Pointer,
    text: *mut Text,
) -> c_int {
    // SAFETY: the module's Lua code passes arrays of `count` elements, and valid places. Lua code
    // becomes the only owner of the `Box`.
    unsafe {
        run("addresses", text, || {
            let texts = (0..count).map(|index| bytes(*ranges.add(index), *lengths.add(index)));
            let ranges = AddressRanges::new(texts)?;
            *place = Box::into_raw(Box::new(ranges)).cast();
            Ok::<_, InvalidRange>(Vec::new())
        })
    }
}

unsafe extern "C" fn addresses_contain(
    addresses: Pointer,
    address: Letters,
    length: usize,
) -> c_int {
    // SAFETY: the module's Lua code passes an object from `addresses_make`, and a string.
    unsafe {
        let addresses: &AddressRanges = &*addresses.cast();
        if addresses.contain(bytes(address, length)) { OK } else { NONE }
    }
}

unsafe extern "C" fn addresses_free(addresses: Pointer) {
    // SAFETY: the finalizer of the Lua object calls this once, when nothing uses the addresses any
    // more.
    drop(unsafe { Box::from_raw(addresses.cast::<AddressRanges>()) });
}

/// A flag of `store_make`.
const SYSTEM: c_int = 1;
/// A flag of `store_make`.
const PARTIAL_CHAIN: c_int = 2;
/// A flag of `store_make`.
const CHECK_REVOCATION: c_int = 4;

#[allow(clippy::too_many_arguments, reason = "each is a pointer and a length")]
unsafe extern "C" fn store_make(
    pem: Letters,
    pem_length: usize,
    file: Letters,
    file_length: usize,
    folder: Letters,
    folder_length: usize,
    revoked: Letters,
    revoked_length: usize,
    flags: c_int,
    place: *mut Pointer,
    text: *mut Text,
) -> c_int {
    // SAFETY: the module's Lua code passes strings, NULL for those that are missing, and valid
    // places.
    unsafe {
        let optional = |data: Letters, length| (!data.is_null()).then(|| bytes(data, length));
        make("store", place, text, || {
            shared(&Sources {
                pem: optional(pem, pem_length),
                file: optional(file, file_length).map(path),
                folder: optional(folder, folder_length).map(path),
                system: flags & SYSTEM != 0,
                revoked: optional(revoked, revoked_length),
                partial_chain: flags & PARTIAL_CHAIN != 0,
                check_revocation: flags & CHECK_REVOCATION != 0,
            })
        })
    }
}

/// The maximum size of the shared stores of a worker. A store is estimated to take `PARSED` times
/// the size of its texts, and `STORE` bytes more.
const MOST_BYTES: usize = 32 * 1024 * 1024;
const PARSED: usize = 4;
const STORE: usize = 4 * 1024;

thread_local! {
    static SHARED: RefCell<BoundedCache<Fingerprint, X509Store>> =
        RefCell::new(BoundedCache::counted(MOST_BYTES, Cache::Stores));
}

/// Drops the stores that this worker keeps.
pub fn clear_cache() {
    SHARED.with_borrow_mut(BoundedCache::clear);
}

/// Returns a store of these sources. Stores of the same texts are shared, so that connections made
/// with one also serve requests with the other. Stores with files are not shared: the files may
/// change.
fn shared(sources: &Sources<'_>) -> Result<X509Store, InvalidStore> {
    let Sources { pem, file, folder, system, revoked, check_revocation, partial_chain } = *sources;
    let (Some(pem), None, None, false) = (pem, file, folder, system) else {
        return store::build(sources);
    };
    let revoked = revoked.map_or([&b""[..], b""], |revoked| [b"1", revoked]);
    let flags = [check_revocation.into(), partial_chain.into()];
    let key = Fingerprint::of([pem, revoked[0], revoked[1], &flags]);
    SHARED.with_borrow_mut(|shared| {
        let store = match shared.get(&key) {
            Some(store) => store::reference(store)?,
            None => {
                let store = store::build(sources)?;
                let bytes = STORE + PARSED * (pem.len() + revoked[1].len());
                shared.insert(key, store::reference(&store)?, bytes);
                store
            }
        };
        Ok(store)
    })
}

fn path(name: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(name))
}

unsafe extern "C" fn store_verify(
    store: Pointer,
    chain: Pointer,
    purpose: Letters,
    purpose_length: usize,
    depth: f64,
    at: f64,
    ends: *mut f64,
    text: *mut Text,
) -> c_int {
    // SAFETY: the module's Lua code passes a store made by this file, a string and valid places,
    // and has checked the C type of the chain. An empty purpose, a negative depth and a NaN time
    // mean that none is given.
    unsafe {
        run("verify", text, || {
            let chain = lua_object::chain(chain).map_err(|error| error.to_string())?;
            let purpose = match bytes(purpose, purpose_length) {
                b"" => None,
                name => Some(Purpose::by_name(name).ok_or(
                    "purpose must be \"clientAuth\", \"serverAuth\" or \"any\"".to_owned(),
                )?),
            };
            let terms = Terms {
                purpose,
                // The cast saturates.
                depth: (depth >= 0.0).then_some(depth as u32),
                at: (!at.is_nan()).then_some(at as i64),
            };
            let leaf = chain.get(0).ok_or("chain is empty".to_owned())?;
            let store = X509StoreRef::from_ptr(store.cast());
            let (verdict, next) = verification::verify(store, leaf, chain, terms, time::now().date);
            *ends = next.map_or(f64::INFINITY, |date| date as f64);
            // This error is not about the chain but about this process. Log it here: the plugin
            // that rejects the chain may not.
            if let Err(Failure::Ssl(error)) = &verdict {
                process_log().error(format_args!("verification of a certificate: {error}"));
            }
            verdict.map(|()| Vec::new()).map_err(|failure| failure.to_string())
        })
    }
}

unsafe extern "C" fn store_free(store: Pointer) {
    // SAFETY: the finalizer of the Lua object calls this once, when nothing uses the store any
    // more.
    unsafe { free::<X509Store>(store) }
}
