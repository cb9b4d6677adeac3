// SPDX-License-Identifier: Apache-2.0

//! Stores of trusted certificates.

use std::cell::Cell;
use std::ffi::OsStr;
use std::marker::PhantomData;
use std::os::unix::ffi::OsStrExt;
use std::path::{self, Path, PathBuf};
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, fs, io};

use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::ssl::SslFiletype;
use openssl::stack::StackRef;
use openssl::x509::store::{
    X509Lookup, X509Store, X509StoreBuilder, X509StoreBuilderRef, X509StoreRef,
};
use openssl::x509::verify::{X509VerifyFlags, X509VerifyParamRef};
use openssl::x509::{X509, X509Crl, X509CrlRef, X509ObjectRef, X509Ref};
use openssl_sys::OPENSSL_STACK;

use crate::openssl::error::SslError;
use crate::openssl::fingerprint::{Encoding, Fingerprint, StoreFingerprint};
use crate::openssl::memory::Text;
use crate::openssl::pem::{self, InvalidPem};
use crate::openssl::recent::{Recent, Seen};
use crate::openssl::slot::Slot;
use crate::openssl::{certificate, folder, revocation, sys};

/// Returns another reference to the same store; the `openssl` crate has no function for it.
pub fn reference(store: &X509StoreRef) -> Result<X509Store, SslError> {
    SslError::check("X509_STORE_up_ref", sys::X509_STORE_up_ref(store))?;
    // SAFETY: the returned value owns the reference just taken.
    Ok(unsafe { X509Store::from_ptr(store.as_ptr()) })
}

/// Data attached to a store.
struct Known {
    /// The store's number; `None` if its content and parameters say everything about it.
    number: Option<u64>,
    /// Whether revocation lists count after their `nextUpdate`, too.
    accepts_expired: bool,
    /// Whether a plugin has used the store before.
    is_seen: Cell<bool>,
    content: Cell<Option<(usize, Fingerprint)>>,
}

// SAFETY: Lua code, and so its stores, runs in one thread per worker.
static KNOWN: Slot<X509StoreRef, Known> = unsafe { Slot::new() };

impl Known {
    fn of(store: &X509StoreRef) -> Result<&Self, SslError> {
        KNOWN.get_or_make(store, || Ok(Self::new(Some(Self::next_number()), false)))
    }

    /// Notes the data of a new store; `is_told` says whether its content and parameters say
    /// everything about it.
    fn note(store: &X509StoreRef, is_told: bool, accepts_expired: bool) -> Result<&Self, SslError> {
        let number = (!is_told).then(Self::next_number);
        KNOWN.get_or_make(store, || Ok(Self::new(number, accepts_expired)))
    }

    /// A number, because the address of a freed store may be reused while connections still have an
    /// identity with that store.
    fn next_number() -> u64 {
        static COUNT: AtomicU64 = AtomicU64::new(0);

        COUNT.fetch_add(1, Ordering::Relaxed)
    }

    fn new(number: Option<u64>, accepts_expired: bool) -> Self {
        Self { number, accepts_expired, is_seen: Cell::new(false), content: Cell::new(None) }
    }

    /// Returns the number of objects in `store`, whose data this is, and a digest of them.
    fn content(&self, store: &X509StoreRef) -> Result<(usize, Fingerprint), SslError> {
        let count = sys::X509_STORE_get0_objects(store).len();
        match self.content.get() {
            Some(known) if known.0 == count => Ok(known),
            _ => {
                let mut encoding = Encoding::new();
                encode_objects(&mut encoding, store)?;
                let content = (count, encoding.into());
                self.content.set(Some(content));
                Ok(content)
            }
        }
    }
}

thread_local! {
    static RECENT: Recent<TrustedStore> = const { Recent::new() };
}

/// Drops the stores that this worker keeps. Also to be called when a store was replaced, whose
/// memory this would keep.
pub fn clear_cache() {
    RECENT.with(Recent::clear);
}

/// A store that a plugin has passed.
pub struct TrustedStore {
    store: X509Store,
    seen: Seen,
}

impl TrustedStore {
    /// Takes a reference to the store. Fails if OpenSSL can't, or if there is no memory.
    pub fn of(store: &X509StoreRef) -> Result<Rc<Self>, SslError> {
        let address = store.as_ptr() as usize;
        let is_right = |known: &Self| ptr::eq(known.store.as_ptr(), store.as_ptr());
        if let Some(known) = RECENT.with(|recent| recent.get(address, is_right)) {
            return Ok(known);
        }
        let reference = reference(store)?;
        let known = Known::of(store)?;
        let seen = if known.is_seen.replace(true) { Seen::Again } else { Seen::First };
        let made = Rc::new(Self { store: reference, seen });
        if seen == Seen::Again {
            RECENT.with(|recent| recent.put(address, Rc::clone(&made)));
        }
        Ok(made)
    }

    /// Returns the most intermediates that the store itself allows, if that was set
    /// (`X509_STORE_set_depth(3)`).
    pub fn depth(&self) -> Option<u32> {
        let parameters = sys::X509_STORE_get0_param(&self.store);
        u32::try_from(sys::X509_VERIFY_PARAM_get_depth(parameters)).ok()
    }

    /// Returns whether the store was used before. For a store that a plugin made for one request,
    /// nothing is worth caching.
    pub fn seen(&self) -> Seen {
        self.seen
    }

    pub fn store(&self) -> &X509StoreRef {
        &self.store
    }

    /// Returns whether the store's fingerprint means something to this process only.
    pub fn is_of_worker(&self) -> bool {
        !tells_all(&self.store)
    }

    /// Returns the fingerprint of the store's current content and parameters. The objects are read
    /// again only if their number has changed: OpenSSL can't remove any.
    pub fn fingerprint(&self) -> Result<StoreFingerprint, SslError> {
        let known = Known::of(&self.store)?;
        let (count, content) = known.content(&self.store)?;
        let parameters = sys::X509_STORE_get0_param(&self.store);
        Ok(StoreFingerprint {
            store: known.number,
            accepts_expired: known.accepts_expired,
            content,
            objects: count as u64,
            flags: flags(&self.store).bits(),
            depth: sys::X509_VERIFY_PARAM_get_depth(parameters) as u64,
            time: sys::X509_VERIFY_PARAM_get_time(parameters),
            level: sys::X509_VERIFY_PARAM_get_auth_level(parameters) as u64,
            host_flags: sys::X509_VERIFY_PARAM_get_hostflags(parameters).into(),
        })
    }
}

/// Returns whether a store's content and parameters say everything about it.
pub fn tells_all(store: &X509StoreRef) -> bool {
    Known::of(store).is_ok_and(|known| known.number.is_none())
}

/// Returns whether the revocation lists of a store count after their `nextUpdate`, too.
pub fn accepts_expired(store: &X509StoreRef) -> bool {
    KNOWN.get(store).is_some_and(|known| known.accepts_expired)
}

/// Returns the certificates in the store.
pub fn certificates(store: &X509StoreRef) -> impl Iterator<Item = &X509Ref> {
    let objects = sys::X509_STORE_get0_objects(store).iter();
    objects.filter_map(|object| sys::X509_OBJECT_get0_X509(object))
}

/// Encodes what is in a store, and how it verifies. OpenSSL does not tell a purpose, or folders to
/// look in: nginx sets neither on the stores of its contexts.
pub fn encode(encoding: &mut Encoding, store: &X509StoreRef) -> Result<(), SslError> {
    encode_objects(encoding, store)?;
    encoding.flag(accepts_expired(store));
    encode_parameters(encoding, sys::X509_STORE_get0_param(store));
    Ok(())
}

/// Encodes how certificates are verified.
pub fn encode_parameters(encoding: &mut Encoding, parameters: &X509VerifyParamRef) {
    encoding.number(sys::X509_VERIFY_PARAM_get_flags(parameters));
    encoding.number(sys::X509_VERIFY_PARAM_get_depth(parameters) as u64);
    encoding.number(sys::X509_VERIFY_PARAM_get_time(parameters) as u64);
    encoding.number(sys::X509_VERIFY_PARAM_get_auth_level(parameters) as u64);
    encoding.number(sys::X509_VERIFY_PARAM_get_hostflags(parameters).into());
}

/// Encodes the certificates and revocation lists of a store.
fn encode_objects(encoding: &mut Encoding, store: &X509StoreRef) -> Result<(), SslError> {
    let objects = sys::X509_STORE_get0_objects(store);
    encoding.number(objects.len() as u64);
    for object in objects {
        encode_object(encoding, object)?;
    }
    Ok(())
}

fn encode_object(encoding: &mut Encoding, object: &X509ObjectRef) -> Result<(), SslError> {
    if let Some(certificate) = sys::X509_OBJECT_get0_X509(object) {
        encoding.number(sys::X509_LU_X509 as u64);
        return certificate::encode(encoding, certificate);
    }
    // OpenSSL has no other types.
    let list = sys::X509_OBJECT_get0_X509_CRL(object);
    let der = list.ok_or_else(|| SslError::take("X509_OBJECT_get0_X509_CRL"))?.to_der();
    encoding.number(sys::X509_LU_CRL as u64);
    encoding.bytes(&der.map_err(|errors| SslError::new("i2d_X509_CRL", errors))?);
    Ok(())
}

/// Returns the verification flags of a store.
fn flags(store: &X509StoreRef) -> X509VerifyFlags {
    let flags = sys::X509_VERIFY_PARAM_get_flags(sys::X509_STORE_get0_param(store));
    X509VerifyFlags::from_bits_retain(flags)
}

/// Returns the flags for revocation checks, of the leaf or of the whole chain.
pub fn revocation_flags(store: &X509StoreRef) -> X509VerifyFlags {
    flags(store) & (X509VerifyFlags::CRL_CHECK | X509VerifyFlags::CRL_CHECK_ALL)
}

/// Returns the revocation lists in the store.
pub fn revocation_lists(store: &X509StoreRef) -> impl Iterator<Item = &X509CrlRef> {
    let objects = sys::X509_STORE_get0_objects(store).iter();
    objects.filter_map(|object| sys::X509_OBJECT_get0_X509_CRL(object))
}

/// A stack of revocation lists that somebody else owns.
pub struct Lists<'a>(NonNull<OPENSSL_STACK>, PhantomData<&'a X509CrlRef>);

impl<'a> Lists<'a> {
    /// Returns the lists in a store.
    pub fn of(store: &'a X509StoreRef) -> Result<Self, SslError> {
        Self::new(revocation_lists(store))
    }

    pub fn new(all: impl IntoIterator<Item = &'a X509CrlRef>) -> Result<Self, SslError> {
        // SAFETY: the function has no arguments, and returns a new stack or NULL.
        let stack = NonNull::new(unsafe { openssl_sys::OPENSSL_sk_new_null() })
            .ok_or_else(|| SslError::take("OPENSSL_sk_new_null"))?;
        let lists = Self(stack, PhantomData);
        for list in all {
            let list = list.as_ptr().cast_const().cast();
            // SAFETY: the stack is valid, and does not own its elements.
            let pushed = unsafe { openssl_sys::OPENSSL_sk_push(lists.as_ptr(), list) };
            SslError::check("OPENSSL_sk_push", pushed)?;
        }
        Ok(lists)
    }

    pub fn as_ptr(&self) -> *mut OPENSSL_STACK {
        self.0.as_ptr()
    }
}

impl Drop for Lists<'_> {
    fn drop(&mut self) {
        // SAFETY: `self` owns the stack, but not the lists in it, which are not freed.
        unsafe { openssl_sys::OPENSSL_sk_free(self.0.as_ptr()) }
    }
}

/// Builds a store that trusts the roots among `certificates`, and with `partial_chain` each of
/// them. Copies the revocation lists and the verification flags of `base`.
pub fn trusting(
    certificates: &StackRef<X509>,
    partial_chain: bool,
    base: &X509StoreRef,
) -> Result<X509Store, SslError> {
    let mut builder =
        X509StoreBuilder::new().map_err(|errors| SslError::new("X509_STORE_new", errors))?;
    for certificate in certificates {
        builder
            .add_cert(certificate.to_owned())
            .map_err(|errors| SslError::new("X509_STORE_add_cert", errors))?;
    }

    let mut flags = flags(base);
    flags.set(X509VerifyFlags::PARTIAL_CHAIN, partial_chain);
    builder.set_flags(flags).map_err(|errors| SslError::new("X509_STORE_set_flags", errors))?;
    for list in revocation_lists(base) {
        add_list(&builder, list)?;
    }
    Ok(finished(builder))
}

fn add_list(builder: &X509StoreBuilderRef, list: &X509CrlRef) -> Result<(), SslError> {
    SslError::check("X509_STORE_add_crl", sys::X509_STORE_add_crl(being_built(builder), list))
}

/// Returns the store that is being built.
pub fn being_built(builder: &X509StoreBuilderRef) -> &X509StoreRef {
    // SAFETY: a builder's pointer is to the valid store that it builds, and borrows.
    unsafe { X509StoreRef::from_ptr(builder.as_ptr()) }
}

/// Builds the store, with the module's verify callback for verifications that OpenSSL runs by
/// itself, such as nginx's of an OCSP response.
fn finished(builder: X509StoreBuilder) -> X509Store {
    sys::X509_STORE_set_verify_cb(being_built(&builder), revocation::judge_each);
    builder.build()
}

/// The sources of a store.
#[derive(Clone, Copy, Default)]
pub struct Sources<'a> {
    /// Certificates in PEM.
    pub pem: Option<&'a [u8]>,
    /// A PEM file of certificates.
    pub file: Option<&'a Path>,
    /// A folder of certificates and revocation lists, in files named as by `openssl rehash`.
    pub folder: Option<&'a Path>,
    /// Whether all of the folder is read now. Otherwise its files are read when they are needed,
    /// and kept.
    pub whole_folder: bool,
    /// Whether to trust the system's certificates.
    pub system: bool,
    /// Revocation lists in PEM.
    pub revoked: Option<&'a [u8]>,
    /// A PEM file of revocation lists.
    pub revoked_file: Option<&'a Path>,
    pub revocation: Revocation,
    /// Whether intermediates in the store are trusted like roots.
    pub partial_chain: bool,
}

/// How a store checks for revocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Revocation {
    /// Whether to check even without `revoked` and `revoked_file`.
    pub is_checked: bool,
    /// Whether only the leaf is checked, and not the whole chain.
    pub leaf_only: bool,
    /// Whether lists count after their `nextUpdate`, too.
    pub accepts_expired: bool,
}

/// Why a store could not be built.
#[derive(Debug, thiserror::Error)]
pub enum InvalidStore {
    /// It would trust nothing.
    #[error("nothing to trust: one of pem, file, dir and system is needed")]
    Nothing,
    #[error("{setting}: {error}")]
    Pem { setting: &'static str, error: InvalidPem },
    #[error("{setting} \"{}\": {error}", path.display())]
    File { setting: &'static str, path: PathBuf, error: io::Error },
    #[error("{setting} \"{}\": {error}", path.display())]
    FilePem { setting: &'static str, path: PathBuf, error: InvalidPem },
    #[error(transparent)]
    Ssl(#[from] SslError),
}

/// Builds a store from `sources`.
pub fn build(sources: &Sources<'_>) -> Result<X509Store, InvalidStore> {
    let Sources { pem, file, folder, whole_folder, system, .. } = *sources;
    let Sources { revoked, revoked_file, revocation, partial_chain, .. } = *sources;
    if pem.is_none() && file.is_none() && folder.is_none() && !system {
        return Err(InvalidStore::Nothing);
    }
    let failed = |function| move |errors| SslError::new(function, errors);
    let mut builder = X509StoreBuilder::new().map_err(failed("X509_STORE_new"))?;
    let (mut certificates, mut lists) = (Vec::new(), Vec::new());
    if let Some(pem) = pem {
        let found = pem::certificates(pem);
        certificates.extend(found.map_err(|error| InvalidStore::Pem { setting: "pem", error })?);
    }
    if let Some(path) = file {
        certificates.extend(certificates_of("file", path)?);
    }
    if system {
        let path = system_path(SystemPath::File);
        if path.exists() {
            certificates.extend(certificates_of("system", &path)?);
        }
    }
    if let Some(path) = folder.filter(|_| whole_folder) {
        let found = folder::files(path);
        for (path, kind) in found.map_err(|error| unreadable("dir", path, error))? {
            match kind {
                folder::Kind::Certificate => certificates.extend(certificates_of("dir", &path)?),
                folder::Kind::List => lists.extend(lists_of("dir", &path)?),
            }
        }
    }
    if let Some(revoked) = revoked {
        let found = pem::revocation_lists(revoked);
        lists.extend(found.map_err(|error| InvalidStore::Pem { setting: "crl", error })?);
    }
    if let Some(path) = revoked_file {
        lists.extend(lists_of("crl_file", path)?);
    }
    for certificate in certificates {
        builder.add_cert(certificate).map_err(failed("X509_STORE_add_cert"))?;
    }
    for list in lists {
        add_list(&builder, &list)?;
    }
    if let Some(path) = folder.filter(|_| !whole_folder) {
        look_in(being_built(&builder), "dir", path)?;
    }
    if system {
        for path in env::split_paths(&system_path(SystemPath::Folders)).filter(|path| path.exists())
        {
            look_in(being_built(&builder), "system", &path)?;
        }
    }
    let mut flags = X509VerifyFlags::empty();
    if revocation.is_checked || revoked.is_some() || revoked_file.is_some() {
        flags |= X509VerifyFlags::CRL_CHECK;
        flags.set(X509VerifyFlags::CRL_CHECK_ALL, !revocation.leaf_only);
    }
    flags.set(X509VerifyFlags::PARTIAL_CHAIN, partial_chain);
    builder.set_flags(flags).map_err(failed("X509_STORE_set_flags"))?;
    let store = finished(builder);
    // What is found in a folder does not show before it is needed.
    let is_told = (folder.is_none() || whole_folder) && !system;
    let known = Known::note(&store, is_told, revocation.accepts_expired)?;
    if is_told {
        // Now, because OpenSSL sorts the objects when it first looks for one.
        known.content(&store)?;
    }
    Ok(store)
}

fn unreadable(setting: &'static str, path: &Path, error: io::Error) -> InvalidStore {
    InvalidStore::File { setting, path: path.into(), error }
}

fn invalid(setting: &'static str, path: &Path, error: InvalidPem) -> InvalidStore {
    InvalidStore::FilePem { setting, path: path.into(), error }
}

/// Returns the certificates in a file.
fn certificates_of(setting: &'static str, path: &Path) -> Result<Vec<X509>, InvalidStore> {
    let text = fs::read(path).map_err(|error| unreadable(setting, path, error))?;
    pem::certificates(&text).map_err(|error| invalid(setting, path, error))
}

/// Returns the revocation lists in a file.
fn lists_of(setting: &'static str, path: &Path) -> Result<Vec<X509Crl>, InvalidStore> {
    let text = fs::read(path).map_err(|error| unreadable(setting, path, error))?;
    pem::revocation_lists(&text).map_err(|error| invalid(setting, path, error))
}

fn look_in(store: &X509StoreRef, setting: &'static str, path: &Path) -> Result<(), InvalidStore> {
    let unreadable = |error| unreadable(setting, path, error);
    // The folder is read during later verifications, when a worker may have another working
    // directory.
    let full = path::absolute(path).map_err(unreadable)?;
    fs::read_dir(&full).map_err(unreadable)?;
    Ok(folder::look_in(store, full)?)
}

/// The places of the system's trusted certificates.
enum SystemPath {
    File,
    Folders,
}

/// Returns the paths that `X509_STORE_set_default_paths(3)` would use. That function itself ignores
/// files that it can't read.
fn system_path(path: SystemPath) -> PathBuf {
    let (variable, default) = match path {
        SystemPath::File => {
            (sys::X509_get_default_cert_file_env(), sys::X509_get_default_cert_file())
        }
        SystemPath::Folders => {
            (sys::X509_get_default_cert_dir_env(), sys::X509_get_default_cert_dir())
        }
    };
    let text = |text: Text<'static>| OsStr::from_bytes(text.bytes().unwrap_or_default());
    env::var_os(text(variable)).unwrap_or_else(|| text(default).to_owned()).into()
}

/// Which file of a store could not be loaded.
pub enum InvalidFile {
    /// The file of certificates.
    Trusted(SslError),
    /// The file of revocation lists.
    Revoked(SslError),
}

/// Builds a store from the certificates in the file `trusted` and the revocation lists in the file
/// `revoked`, as nginx does for `proxy_ssl_verify on`. If there are lists, they are checked. A
/// store without certificates trusts nothing.
pub fn from_files(
    trusted: Option<&Path>,
    revoked: Option<&Path>,
) -> Result<X509Store, InvalidFile> {
    let of = |function| move |errors| SslError::new(function, errors);
    let certificates = |function| move |errors| InvalidFile::Trusted(of(function)(errors));
    let lists = |function| move |errors| InvalidFile::Revoked(of(function)(errors));

    let mut builder = X509StoreBuilder::new().map_err(certificates("X509_STORE_new"))?;
    let lookup =
        builder.add_lookup(X509Lookup::file()).map_err(certificates("X509_STORE_add_lookup"))?;

    if let Some(trusted) = trusted {
        lookup
            .load_cert_file(trusted, SslFiletype::PEM)
            .map_err(certificates("X509_load_cert_file"))?;
    }
    if let Some(revoked) = revoked {
        lookup.load_crl_file(revoked, SslFiletype::PEM).map_err(lists("X509_load_crl_file"))?;
        builder
            .set_flags(X509VerifyFlags::CRL_CHECK | X509VerifyFlags::CRL_CHECK_ALL)
            .map_err(lists("X509_STORE_set_flags"))?;
    }
    Ok(builder.build())
}

#[cfg(test)]
mod tests {
    use openssl::pkey::PKey;
    use openssl::x509::X509Ref;

    use super::*;
    use crate::openssl::test_certificate::self_signed;

    fn certificate(name: &str) -> X509 {
        self_signed(&PKey::generate_ed25519().unwrap(), name, 1 << 30)
    }

    fn add(store: &X509StoreRef, certificate: &X509Ref) {
        assert_eq!(sys::X509_STORE_add_cert(store, certificate), 1);
    }

    fn store(certificates: &[&X509Ref]) -> Rc<TrustedStore> {
        let store = X509StoreBuilder::new().unwrap().build();
        for certificate in certificates {
            add(&store, certificate);
        }
        TrustedStore::of(&store).unwrap()
    }

    #[test]
    fn the_content_of_a_store_is_part_of_its_fingerprint() {
        let (one, two) = (certificate("one"), certificate("two"));
        let content =
            |certificates: &[&X509Ref]| store(certificates).fingerprint().unwrap().content;

        assert_eq!(content(&[&one]), content(&[&one]));
        assert_ne!(content(&[&one]), content(&[&two]));
        assert_ne!(content(&[&one]), content(&[&certificate("one")]));
        assert_ne!(content(&[]), content(&[&one]));
    }

    #[test]
    fn a_store_is_no_other_store() {
        let one = certificate("one");
        assert_ne!(store(&[&one]).fingerprint().unwrap(), store(&[&one]).fingerprint().unwrap());
    }

    #[test]
    fn a_store_that_grows_has_another_fingerprint() {
        let (one, two) = (certificate("one"), certificate("two"));
        let grown = store(&[&one]);
        let before = grown.fingerprint().unwrap();
        assert_eq!(grown.fingerprint().unwrap(), before);

        add(grown.store(), &two);
        let after = grown.fingerprint().unwrap();
        assert_ne!(after, before);
        // A duplicate is not added.
        add(grown.store(), &two);
        assert_eq!(grown.fingerprint().unwrap(), after);
    }

    #[test]
    fn a_store_that_has_verified_is_what_it_was() {
        let certificates = ["one", "two", "three", "four"].map(certificate);
        let pem: Vec<u8> = certificates.iter().flat_map(|one| one.to_pem().unwrap()).collect();
        let built = || build(&Sources { pem: Some(&pem), ..Sources::default() }).unwrap();
        let [used, other] = [built(), built()];
        let mut context = openssl::x509::X509StoreContext::new().unwrap();
        for leaf in &certificates {
            let none = openssl::stack::Stack::new().unwrap();
            context.init(&used, leaf, &none, |context| context.verify_cert()).unwrap();
        }
        let [used, other] = [used, other].map(|store| TrustedStore::of(&store).unwrap());
        assert_eq!(used.fingerprint().unwrap(), other.fingerprint().unwrap());
    }

    #[test]
    fn how_a_store_verifies_is_part_of_its_fingerprint() {
        let one = certificate("one");
        let store = store(&[&one]);
        let before = store.fingerprint().unwrap();
        let parameters = sys::X509_STORE_get0_param(store.store());
        let flags = X509VerifyFlags::CRL_CHECK.bits();
        assert_eq!(sys::X509_VERIFY_PARAM_set_flags(parameters, flags), 1);
        assert_ne!(store.fingerprint().unwrap(), before);
    }
}
