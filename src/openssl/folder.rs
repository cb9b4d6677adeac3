// SPDX-License-Identifier: Apache-2.0

//! Folders of certificates and revocation lists, in files named as by `openssl rehash`.
//!
//! OpenSSL's own lookup (`X509_LOOKUP_hash_dir(3)`) treats a file that it can't read or parse as
//! missing. A newer revocation list would vanish, and a revoked certificate would pass. This lookup
//! remembers the files that it could not read, and fails the verifications that may need them.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::ffi::c_int;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::{fs, io};

use foreign_types::ForeignTypeRef;
use openssl::error::ErrorStack;
use openssl::x509::store::X509StoreRef;
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{X509, X509NameRef, X509ObjectRef, X509StoreContextRef};
use openssl_sys::X509_LOOKUP_METHOD;

use crate::openssl::error::SslError;
use crate::openssl::pem::{self, InvalidPem};
use crate::openssl::slot::Slot;
use crate::openssl::sys;

/// The kind of object to look up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Certificate,
    List,
}

/// Objects of one kind whose files have the same hash in their name: of the subject of a
/// certificate, or of the issuer of a list.
type Named = (Kind, u32);

/// A file that could not be read.
#[derive(Debug)]
pub struct Unreadable {
    path: PathBuf,
    problem: Problem,
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error(transparent)]
    File(#[from] io::Error),
    #[error(transparent)]
    Pem(#[from] InvalidPem),
    #[error(transparent)]
    Ssl(#[from] SslError),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" can't be read: {}", self.path.display(), self.problem)
    }
}

/// The folders of a store, and the files that were read from them.
#[derive(Default)]
struct Folders {
    paths: RefCell<Vec<PathBuf>>,
    read: RefCell<HashSet<PathBuf>>,
    /// Errors for files that could not be read at the last lookup, by what they were looked up for.
    files: RefCell<HashMap<Named, String>>,
    /// The error for a folder that could not be searched.
    folder: RefCell<Option<String>>,
}

impl Folders {
    /// Reads the files for `named` that have not been read yet into `store`.
    fn read(&self, store: &X509StoreRef, named: Named) {
        let (mut of_folders, mut of_files) = (None, None);
        for folder in self.paths.borrow().iter() {
            match self.read_folder(store, folder, named) {
                Ok(None) => {}
                Ok(Some(unreadable)) => drop(of_files.get_or_insert(unreadable)),
                Err(unreadable) => drop(of_folders.get_or_insert(unreadable)),
            }
        }
        let known = &mut *self.folder.borrow_mut();
        remember(known, of_folders);
        let mut files = self.files.borrow_mut();
        let mut known = files.remove(&named);
        remember(&mut known, of_files);
        if let Some(known) = known {
            files.insert(named, known);
        }
    }

    /// Reads the files in one folder. Returns the first file that could not be read, if any, or an
    /// error if the folder can't be searched.
    fn read_folder(
        &self,
        store: &X509StoreRef,
        folder: &Path,
        named: Named,
    ) -> Result<Option<Unreadable>, Unreadable> {
        let (kind, hash) = named;
        let r = if kind == Kind::List { "r" } else { "" };
        let mut unreadable = None;
        for number in 0.. {
            let path = folder.join(format!("{hash:08x}.{r}{number}"));
            if self.read.borrow().contains(&path) {
                continue;
            }
            match fs::symlink_metadata(&path) {
                Ok(_) => {}
                // No more files, unless the folder itself is missing.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return match fs::metadata(folder) {
                        Ok(_) => Ok(unreadable),
                        Err(error) => {
                            Err(Unreadable { path: folder.into(), problem: error.into() })
                        }
                    };
                }
                Err(error) => {
                    return Err(Unreadable { path: folder.into(), problem: error.into() });
                }
            }
            match read_file(store, &path, kind) {
                Ok(()) => drop(self.read.borrow_mut().insert(path)),
                Err(problem) => drop(unreadable.get_or_insert(Unreadable { path, problem })),
            }
        }
        Ok(unreadable)
    }

    /// Returns why an object for `named` may not have been found.
    fn problem(&self, named: Named) -> Option<String> {
        self.folder.borrow().clone().or_else(|| self.files.borrow().get(&named).cloned())
    }

    fn has_problems(&self) -> bool {
        self.folder.borrow().is_some() || !self.files.borrow().is_empty()
    }
}

/// Stores the error in `known`, and reports it if it is not the same as before.
fn remember(known: &mut Option<String>, unreadable: Option<Unreadable>) {
    let words = unreadable.map(|unreadable| unreadable.to_string());
    if let Some(words) = words.as_ref().filter(|words| known.as_ref() != Some(words)) {
        report(words);
    }
    *known = words;
}

static REPORT: OnceLock<fn(&str)> = OnceLock::new();

/// Sets the function that reports unreadable files and folders. It is called once each time that
/// one becomes unreadable.
pub fn report_to(report: fn(&str)) {
    REPORT.get_or_init(|| report);
}

fn report(words: &str) {
    if let Some(report) = REPORT.get() {
        report(words);
    }
}

/// Adds the objects in a file to `store`.
fn read_file(store: &X509StoreRef, path: &Path, kind: Kind) -> Result<(), Problem> {
    let text = fs::read(path)?;
    match kind {
        Kind::Certificate => {
            for certificate in pem::certificates(&text)? {
                let added = sys::X509_STORE_add_cert(store, &certificate);
                SslError::check("X509_STORE_add_cert", added)?;
            }
        }
        Kind::List => {
            for list in pem::revocation_lists(&text)? {
                let added = sys::X509_STORE_add_crl(store, &list);
                SslError::check("X509_STORE_add_crl", added)?;
            }
        }
    }
    Ok(())
}

// SAFETY: nginx and Lua code use and free stores in one thread per worker.
static FOLDERS: Slot<X509StoreRef, Folders> = unsafe { Slot::new() };

/// Returns all files of a folder that lookups could find, with the kind of their objects, sorted by
/// name.
pub fn files(folder: &Path) -> io::Result<Vec<(PathBuf, Kind)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if let Some(kind) = kind_of(name.as_bytes()) {
            files.push((folder.join(name), kind));
        }
    }
    files.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(files)
}

/// Returns the kind of objects in a file with this name; `None` if lookups do not find it.
fn kind_of(name: &[u8]) -> Option<Kind> {
    let (hash, rest) = name.split_at_checked(9)?;
    let is_digit = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
    if !hash[..8].iter().all(is_digit) || hash[8] != b'.' {
        return None;
    }
    let (number, kind) = match rest.strip_prefix(b"r") {
        Some(number) => (number, Kind::List),
        None => (rest, Kind::Certificate),
    };
    (!number.is_empty() && number.iter().all(u8::is_ascii_digit)).then_some(kind)
}

/// Makes the store look up objects in the folder `path` as well. Files are read when they are
/// needed, and their objects are kept in the store.
pub fn look_in(store: &X509StoreRef, path: PathBuf) -> Result<(), SslError> {
    let folders = FOLDERS.get_or_make(store, || Ok::<_, SslError>(Folders::default()))?;
    folders.paths.borrow_mut().push(path);
    let method = method()?.as_ptr();
    // SAFETY: the method is never freed. A store keeps a single lookup per method.
    if unsafe { sys::X509_STORE_add_lookup(store, method) }.is_null() {
        return Err(SslError::take("X509_STORE_add_lookup"));
    }
    Ok(())
}

/// Returns whether a revocation list for the current certificate may be missing because it could
/// not be read. Always `false` if `flags`, those of `context`, check no lists for that certificate.
pub fn hides_list(context: &X509StoreContextRef, flags: X509VerifyFlags) -> bool {
    // SAFETY: the verification is running, and its store outlives it.
    let store = unsafe { sys::X509_STORE_CTX_get0_store(context) };
    let folders = store.and_then(|store| FOLDERS.get(store));
    let Some(folders) = folders.filter(|folders| folders.has_problems()) else {
        return false;
    };
    let is_asked_for = flags.contains(X509VerifyFlags::CRL_CHECK_ALL)
        || flags.contains(X509VerifyFlags::CRL_CHECK) && context.error_depth() == 0;
    is_asked_for
        && context.current_cert().is_none_or(|certificate| {
            hash(certificate.issuer_name())
                .is_none_or(|hash| folders.problem((Kind::List, hash)).is_some())
        })
}

/// Returns why a certificate with the subject `issuer`, or a list by this issuer, may not have been
/// found in the folders of `store`.
pub fn problem(store: &X509StoreRef, issuer: &X509NameRef) -> Option<String> {
    let folders = FOLDERS.get(store)?;
    let hash = hash(issuer)?;
    folders.problem((Kind::Certificate, hash)).or_else(|| folders.problem((Kind::List, hash)))
}

/// Returns the hash of a name, as in file names. All versions of OpenSSL can compute it for the
/// subject of a certificate.
fn hash(name: &X509NameRef) -> Option<u32> {
    let mut named = X509::builder().ok()?;
    named.set_subject_name(name).ok()?;
    Some(named.build().subject_name_hash())
}

/// The lookup method that OpenSSL calls.
struct Method(NonNull<X509_LOOKUP_METHOD>);

// SAFETY: the method is made once and never changed.
unsafe impl Send for Method {}
// SAFETY: OpenSSL only reads the method, from any thread.
unsafe impl Sync for Method {}

fn method() -> Result<NonNull<X509_LOOKUP_METHOD>, SslError> {
    static METHOD: OnceLock<Option<Method>> = OnceLock::new();

    let method = METHOD.get_or_init(|| {
        // SAFETY: the name is static.
        let method = NonNull::new(unsafe { sys::X509_LOOKUP_meth_new(c"folder".as_ptr()) })?;
        // SAFETY: the method is valid, and not in use yet.
        let is_complete = unsafe {
            sys::X509_LOOKUP_meth_set_get_by_subject(method.as_ptr(), Some(look_up)) == 1
        };
        is_complete.then_some(Method(method))
    });
    method.as_ref().map(|method| method.0).ok_or_else(|| SslError::take("X509_LOOKUP_meth_new"))
}

/// Looks an object up; OpenSSL calls it for certificates that the store lacks, and always for
/// lists, of which there may be more.
///
/// # Safety
/// `found` must not own what it refers to.
unsafe extern "C" fn look_up(
    lookup: &sys::Lookup,
    r#type: c_int,
    name: &X509NameRef,
    found: &mut X509ObjectRef,
) -> c_int {
    let kind = match r#type {
        sys::X509_LU_X509 => Kind::Certificate,
        sys::X509_LU_CRL => Kind::List,
        _ => return 0,
    };
    let store = sys::X509_LOOKUP_get_store(lookup);
    let Some(folders) = FOLDERS.get(store) else {
        return 0;
    };
    let is_done = catch_unwind(AssertUnwindSafe(|| {
        folders.read(store, (kind, hash(name)?));
        Some(())
    }));
    if !matches!(is_done, Ok(Some(()))) {
        folders.folder.replace(Some("out of memory".to_owned()));
    }
    // OpenSSL would report these errors as errors of its own call.
    drop(ErrorStack::get());
    // SAFETY: the caller ensures that `found` owns nothing.
    unsafe { hand_out(store, r#type, name, found) }
}

/// Gives OpenSSL the store's object with this name, if there is one by now.
///
/// # Safety
/// `found` must not own what it refers to: OpenSSL does not expect a reference in it.
unsafe fn hand_out(
    store: &X509StoreRef,
    r#type: c_int,
    name: &X509NameRef,
    found: &mut X509ObjectRef,
) -> c_int {
    let locked = Locked::new(store);
    let objects = sys::X509_STORE_get0_objects(locked.0);
    let Some(object) = sys::X509_OBJECT_retrieve_by_subject(objects, r#type, name) else {
        return 0;
    };
    if let Some(certificate) = sys::X509_OBJECT_get0_X509(object) {
        // SAFETY: the caller ensures that `found` owns nothing that this would release.
        let is_set = unsafe { sys::X509_OBJECT_set1_X509(found, certificate) };
        if is_set == 1 {
            // SAFETY: this releases the reference that was just taken; the store has its own.
            unsafe { openssl_sys::X509_free(certificate.as_ptr()) }
        }
        return is_set;
    }
    let Some(list) = sys::X509_OBJECT_get0_X509_CRL(object) else {
        return 0;
    };
    // SAFETY: the caller ensures that `found` owns nothing that this would release.
    let is_set = unsafe { sys::X509_OBJECT_set1_X509_CRL(found, list) };
    if is_set == 1 {
        // SAFETY: this releases the reference that was just taken; the store has its own.
        unsafe { openssl_sys::X509_CRL_free(list.as_ptr()) }
    }
    is_set
}

/// A store whose lock is held.
struct Locked<'a>(&'a X509StoreRef);

impl<'a> Locked<'a> {
    fn new(store: &'a X509StoreRef) -> Self {
        // SAFETY: OpenSSL calls a lookup without the lock, and `hand_out` takes it once.
        unsafe { sys::X509_STORE_lock(store) };
        Self(store)
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // SAFETY: this value holds the lock.
        unsafe { sys::X509_STORE_unlock(self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files() {
        for (name, expected) in [
            ("0123abcf.0", Some(Kind::Certificate)),
            ("0123abcf.12", Some(Kind::Certificate)),
            ("0123abcf.r0", Some(Kind::List)),
            ("0123abcf.r10", Some(Kind::List)),
            ("0123abcf.", None),
            ("0123abcf.r", None),
            ("0123abcf.0~", None),
            ("0123ABCF.0", None),
            ("0123abc.0", None),
            ("0123abcf0.0", None),
            ("ca.pem", None),
            ("", None),
        ] {
            assert_eq!(kind_of(name.as_bytes()), expected, "{name}");
        }
    }
}
