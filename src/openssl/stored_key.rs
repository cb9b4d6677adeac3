// SPDX-License-Identifier: Apache-2.0

//! Private keys that are not in a text but in a token, such as a hardware security module. They
//! are named by a URI (RFC 7512), and opened by a provider of OpenSSL (`OSSL_STORE_open(3)`), or
//! by its engine `pkcs11`.
//!
//! The libraries behind these lose sessions and logins when a process forks, each in its own way.
//! So a key that one process has opened is opened again by each other process that uses it.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString, c_char, c_int, c_long, c_void};
use std::mem::transmute_copy;
use std::ops::Deref;
use std::process;
use std::ptr;
use std::rc::Rc;

use foreign_types::ForeignTypeRef;
use openssl::error::ErrorStack;
use openssl::pkey::{PKey, PKeyRef, Private};
use openssl_sys::EVP_PKEY;

use crate::openssl::error::SslError;
use crate::openssl::fingerprint::Fingerprint;
use crate::openssl::memory::owned;
use crate::openssl::sys;
use crate::openssl::version::symbol;

/// Why a key could not be opened. No error shows the URI or the pin.
#[derive(Debug, thiserror::Error)]
pub enum NotOpened {
    /// The text has no scheme. OpenSSL would take it for the name of a file.
    #[error("uri must begin with a scheme, such as \"pkcs11:\"")]
    NoScheme,
    /// A file needs no store.
    #[error("uri must not name a file: read it, and give x509.key its text")]
    File,
    /// Without these, the pin could go to other tokens, and any key of the token be taken.
    #[error("uri must name the token (token or serial) and the key (object or id)")]
    Unspecific,
    /// The libraries would log the pin, or load any library or run any program.
    #[error("uri must have no attribute {0:?}: the pin is given as pin, and nothing else is taken")]
    Attribute(String),
    #[error("uri and pin must not contain NUL bytes")]
    Nul,
    #[error("pin must not be empty")]
    EmptyPin,
    #[error("OpenSSL has no provider for the scheme \"{0}\": see openssl.cnf")]
    NoProvider(String),
    #[error(
        "OpenSSL has no provider for the scheme \"pkcs11\", and no engine of this name: see openssl.cnf"
    )]
    NoEngine,
    #[error("engine \"pkcs11\": {0}")]
    Engine(SslError),
    /// The token needs one. The engine needs one in any case: it keeps the pin of one token, and
    /// would try it with the next.
    #[error("pin is missing")]
    PinMissing,
    /// Tokens lock themselves after a few wrong pins.
    #[error(
        "the pin was refused before, and is not tried again: nginx must read its configuration anew"
    )]
    RefusedBefore,
    #[error("there is no such token, or no such private key in it")]
    Nothing,
    /// The provider has asked for the pin. It does not say what happened then.
    #[error("the token has refused the pin, or has no such private key")]
    NothingAfterPin,
    #[error("uri names more than one private key")]
    Several,
    #[error("it could not be opened: {0}")]
    Failed(SslError),
    #[error(transparent)]
    Ssl(#[from] SslError),
}

const PKCS11: &str = "pkcs11";

/// A secret, which is overwritten when it is freed.
struct Pin(CString);

impl Drop for Pin {
    fn drop(&mut self) {
        let bytes = self.0.as_bytes();
        // SAFETY: the bytes are this value's own, and nobody reads them after this. A `CString`
        // of NUL bytes alone is one still.
        unsafe { sys::OPENSSL_cleanse(bytes.as_ptr().cast_mut().cast(), bytes.len()) }
    }
}

/// Where a key is, and the key as the process that used it last has opened it.
struct Source {
    uri: CString,
    scheme: String,
    pin: Option<Pin>,
    process: Cell<u32>,
    key: RefCell<Option<PKey<Private>>>,
}

thread_local! {
    /// The sources of keys that Lua code has, by the addresses of these.
    static SOURCES: RefCell<HashMap<usize, Rc<Source>>> = RefCell::default();
    /// The sources whose pin was refused, as digests.
    static REFUSED: RefCell<HashSet<Fingerprint>> = RefCell::default();
}

/// A private key that Lua code owns.
pub struct OwnedKey {
    key: PKey<Private>,
    source: Option<Rc<Source>>,
}

impl From<PKey<Private>> for OwnedKey {
    fn from(key: PKey<Private>) -> Self {
        Self { key, source: None }
    }
}

impl Deref for OwnedKey {
    type Target = PKeyRef<Private>;

    fn deref(&self) -> &PKeyRef<Private> {
        &self.key
    }
}

impl Drop for OwnedKey {
    fn drop(&mut self) {
        // Whoever else has the source is another such object: an engine gives out one key twice.
        if self.source.take().is_some_and(|source| Rc::strong_count(&source) == 2) {
            SOURCES.with_borrow_mut(|sources| sources.remove(&address(&self.key)));
        }
    }
}

fn address(key: &PKeyRef<Private>) -> usize {
    key.as_ptr() as usize
}

/// Opens the private key that `uri` names.
pub fn open(uri: &[u8], pin: Option<&[u8]>) -> Result<OwnedKey, NotOpened> {
    let source = Source::new(uri, pin)?;
    let key = source.open()?;
    let source = SOURCES.with_borrow_mut(|sources| {
        let known = sources.get(&address(&key)).filter(|known| known.is_same(&source)).cloned();
        let source = known.unwrap_or_else(|| Rc::new(source));
        sources.insert(address(&key), Rc::clone(&source));
        source
    });
    source.keep(&key);
    Ok(OwnedKey { key, source: Some(source) })
}

/// Returns the key for use in this process: `key` itself, or what was opened again in its place.
pub fn of_this_process(key: &PKeyRef<Private>) -> Result<PKey<Private>, NotOpened> {
    let source = SOURCES.with_borrow(|sources| sources.get(&address(key)).cloned());
    let Some(source) = source else {
        return Ok(key.to_owned());
    };
    let opened = source.key.borrow().clone();
    match opened {
        Some(opened) if source.process.get() == process::id() => Ok(opened),
        _ => {
            let opened = source.open()?;
            source.keep(&opened);
            Ok(opened)
        }
    }
}

/// Makes the next use of the key open it again: it has failed to sign.
pub fn has_failed(key: &PKeyRef<Private>) {
    let source = SOURCES.with_borrow(|sources| sources.get(&address(key)).cloned());
    if let Some(source) = source {
        source.process.set(0);
    }
}

/// Lets pins that were refused be tried again: nginx reads its configuration anew.
pub fn forget_refused() {
    REFUSED.with_borrow_mut(HashSet::clear);
}

/// Prevents libraries from asking for a pin on the terminal, where nobody may be, and the process
/// would wait. To be called in workers: if the configuration is read, somebody may have to be asked
/// for the password of a file.
pub fn refuse_prompts() {
    if SOURCES.with_borrow(|sources| !sources.is_empty()) {
        if let Ok(method) = methods().map(|methods| methods.refuse) {
            // SAFETY: the method is never freed.
            unsafe { sys::UI_set_default_method(method) }
        }
    }
}

impl Source {
    fn new(uri: &[u8], pin: Option<&[u8]>) -> Result<Self, NotOpened> {
        let scheme = check(uri)?;
        if pin.is_some_and(<[u8]>::is_empty) {
            return Err(NotOpened::EmptyPin);
        }
        let uri = CString::new(uri).map_err(|_| NotOpened::Nul)?;
        let pin = pin.map(CString::new).transpose().map_err(|_| NotOpened::Nul)?.map(Pin);
        Ok(Self { uri, scheme, pin, process: Cell::new(0), key: RefCell::default() })
    }

    fn pin(&self) -> Option<&CStr> {
        self.pin.as_ref().map(|pin| pin.0.as_c_str())
    }

    fn is_same(&self, other: &Self) -> bool {
        self.uri == other.uri && self.pin() == other.pin()
    }

    fn keep(&self, key: &PKey<Private>) {
        self.process.set(process::id());
        self.key.replace(Some(key.clone()));
    }

    fn open(&self) -> Result<PKey<Private>, NotOpened> {
        let digest = Fingerprint::of([self.uri.as_bytes(), self.pin().map_or(b"", CStr::to_bytes)]);
        if REFUSED.with_borrow(|refused| refused.contains(&digest)) {
            return Err(NotOpened::RefusedBefore);
        }
        let opened = without_prompts(|| match loaders(&self.scheme)? {
            Loader::Store => from_store(&self.uri, self.pin()),
            Loader::Engine(engine) => engine.load(&self.uri, self.pin()),
        })?;
        if opened.as_ref().is_err_and(NotOpened::is_about_pin) {
            REFUSED.with_borrow_mut(|refused| refused.insert(digest));
        }
        // nginx would report errors left in the queue as errors of a later call.
        drop(ErrorStack::get());
        opened
    }
}

impl NotOpened {
    /// Returns whether the token has refused the pin. The reasons are those of PKCS #11, by the
    /// same names in the provider and in the engine.
    fn is_about_pin(&self) -> bool {
        match self {
            Self::Failed(error) => error.has_reason(|reason| reason.starts_with("PIN ")),
            Self::NothingAfterPin => true,
            _ => false,
        }
    }
}

/// Checks a URI, and returns its scheme.
fn check(uri: &[u8]) -> Result<String, NotOpened> {
    let text = String::from_utf8_lossy(uri);
    let (scheme, rest) = text.split_once(':').ok_or(NotOpened::NoScheme)?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.chars().all(|one| one.is_ascii_alphanumeric() || matches!(one, '+' | '-' | '.'));
    if !is_scheme {
        return Err(NotOpened::NoScheme);
    }
    let scheme = scheme.to_ascii_lowercase();
    if scheme == "file" {
        return Err(NotOpened::File);
    }
    if scheme == PKCS11 {
        let names: Vec<_> = rest
            .split([';', '?', '&'])
            .map(|attribute| attribute.split('=').next().unwrap_or_default())
            .collect();
        let has = |wanted: &[&str]| names.iter().any(|name| wanted.contains(name));
        let is_taken = |name: &str| {
            !["pin-", "module-"].iter().any(|start| name.to_ascii_lowercase().starts_with(start))
        };
        if let Some(other) = names.iter().find(|name| !is_taken(name)) {
            return Err(NotOpened::Attribute((*other).to_owned()));
        }
        if let Some((_, query)) = rest.split_once('?') {
            let name = query.split('=').next().unwrap_or_default();
            return Err(NotOpened::Attribute(name.to_owned()));
        }
        if !has(&["token", "serial"]) || !has(&["object", "id"]) {
            return Err(NotOpened::Unspecific);
        }
    }
    Ok(scheme)
}

// ---- pins ---------------------------------------------------------------------------------------

/// What asks for pins.
#[derive(Clone, Copy)]
struct Methods {
    /// Returns the pin that it is given.
    answer: *mut sys::UI_METHOD,
    /// Never returns any.
    refuse: *mut sys::UI_METHOD,
}

fn methods() -> Result<Methods, SslError> {
    thread_local! {
        static METHODS: OnceCell<Methods> = const { OnceCell::new() };
    }
    let method = |callback| {
        // SAFETY: the callback is sound with what is passed with the method: see `answer`, and
        // `refuse` reads nothing.
        let method = unsafe { sys::UI_UTIL_wrap_read_pem_callback(Some(callback), 0) };
        if method.is_null() {
            Err(SslError::take("UI_UTIL_wrap_read_pem_callback"))
        } else {
            Ok(method)
        }
    };
    METHODS.with(|methods| {
        if let Some(known) = methods.get() {
            return Ok(*known);
        }
        let made = Methods { answer: method(answer)?, refuse: method(refuse)? };
        Ok(*methods.get_or_init(|| made))
    })
}

/// Calls `open` while nothing asks on the terminal.
fn without_prompts<T>(open: impl FnOnce() -> T) -> Result<T, SslError> {
    let methods = methods()?;
    // SAFETY: the methods are static, or never freed.
    let before = unsafe {
        let before = sys::UI_get_default_method();
        sys::UI_set_default_method(methods.refuse);
        before
    };
    let result = open();
    // SAFETY: this was the default method before, which OpenSSL never frees.
    unsafe { sys::UI_set_default_method(before) };
    Ok(result)
}

/// What is asked for a pin.
struct Asked<'a> {
    pin: Option<&'a CStr>,
    was_asked: Cell<bool>,
}

/// `pem_password_cb(3)`: copies the pin of the [`Asked`] that `data` points to.
unsafe extern "C" fn answer(
    buffer: *mut c_char,
    size: c_int,
    _: c_int,
    data: *mut c_void,
) -> c_int {
    // SAFETY: the method is used by `from_store` alone, with such a pointer.
    let Some(asked) = (unsafe { data.cast::<Asked<'_>>().as_ref() }) else {
        return -1;
    };
    asked.was_asked.set(true);
    // An empty answer ends the login. After a failure, a provider would ask in another way.
    let pin = asked.pin.map_or(&b""[..], CStr::to_bytes);
    match c_int::try_from(pin.len()) {
        Ok(length) if length < size => {
            // SAFETY: the buffer has `size` bytes, which is more than `length`.
            unsafe { ptr::copy_nonoverlapping(pin.as_ptr(), buffer.cast(), pin.len()) };
            length
        }
        _ => 0,
    }
}

unsafe extern "C" fn refuse(_: *mut c_char, _: c_int, _: c_int, _: *mut c_void) -> c_int {
    -1
}

// ---- providers and the engine -------------------------------------------------------------------

/// What opens keys of a scheme.
enum Loader {
    Store,
    Engine(Engine),
}

/// Returns what opens keys of a scheme in this OpenSSL: a provider, or else the engine.
fn loaders(scheme: &str) -> Result<Loader, NotOpened> {
    if has_provider(scheme) {
        return Ok(Loader::Store);
    }
    if scheme != PKCS11 {
        return Err(NotOpened::NoProvider(scheme.to_owned()));
    }
    Engine::get()?.map(Loader::Engine).ok_or(NotOpened::NoEngine)
}

/// A function of this OpenSSL, or `None`: not all versions have all of them.
///
/// # Safety
/// `F` must be the type of the function, a pointer.
unsafe fn function<F: Copy>(name: &CStr) -> Option<F> {
    let found = symbol(name);
    // SAFETY: the caller ensures that this is a pointer to a function of that type.
    (!found.is_null()).then(|| unsafe { transmute_copy(&found) })
}

/// Returns whether a provider opens keys of this scheme (OpenSSL 3.0 and later).
fn has_provider(scheme: &str) -> bool {
    type Fetch = unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char) -> *mut c_void;
    type Free = unsafe extern "C" fn(*mut c_void);

    let Ok(scheme) = CString::new(scheme) else { return false };
    // SAFETY: the types are those of OSSL_STORE_LOADER(3).
    let functions = unsafe {
        function::<Fetch>(c"OSSL_STORE_LOADER_fetch")
            .zip(function::<Free>(c"OSSL_STORE_LOADER_free"))
    };
    let found = functions.is_some_and(|(fetch, free)| {
        // SAFETY: NULL is the default context, and no property; the scheme is a C string. What is
        // returned is NULL or the caller's, and freed once.
        unsafe {
            let loader = fetch(ptr::null_mut(), scheme.as_ptr(), ptr::null());
            free(loader);
            !loader.is_null()
        }
    });
    drop(ErrorStack::get());
    found
}

/// Opens the one private key that a provider has at `uri`.
fn from_store(uri: &CStr, pin: Option<&CStr>) -> Result<PKey<Private>, NotOpened> {
    /// The most objects that are looked at.
    const MOST: usize = 100;

    let answer = methods()?.answer;
    let asked = Asked { pin, was_asked: Cell::new(false) };
    let data = ptr::from_ref(&asked).cast_mut().cast();
    // SAFETY: the URI is a C string; `data` is what `answer` takes, and lives as long as `store`.
    let store = unsafe { sys::OSSL_STORE_open(uri.as_ptr(), answer, data, None, ptr::null_mut()) };
    if store.is_null() {
        return Err(NotOpened::Failed(SslError::take_last("OSSL_STORE_open")));
    }
    let mut keys: Vec<PKey<Private>> = Vec::new();
    // SAFETY: the store is open until it is closed below. An object of it is NULL, or freed after
    // its key, if it has one, was referenced.
    unsafe {
        sys::OSSL_STORE_expect(store, sys::OSSL_STORE_INFO_PKEY);
        for _ in 0..MOST {
            if sys::OSSL_STORE_eof(store) == 1 {
                break;
            }
            let info = sys::OSSL_STORE_load(store);
            if info.is_null() {
                continue;
            }
            if sys::OSSL_STORE_INFO_get_type(info) == sys::OSSL_STORE_INFO_PKEY {
                let key = sys::OSSL_STORE_INFO_get1_PKEY(info);
                keys.extend(owned("OSSL_STORE_INFO_get1_PKEY", key));
            }
            sys::OSSL_STORE_INFO_free(info);
        }
    }
    let errors = SslError::take_last("OSSL_STORE_load");
    // SAFETY: the store is open, and not used after this.
    unsafe { sys::OSSL_STORE_close(store) };
    // A provider may list a key twice, and not see that both are the same.
    let mut publics = keys.iter().map(|key| key.public_key_to_der().ok());
    let first = publics.next().flatten();
    let is_one = publics.all(|other| other == first);
    match keys.into_iter().next() {
        Some(key) if is_one => Ok(key),
        Some(_) => Err(NotOpened::Several),
        None if asked.was_asked.get() && pin.is_none() => Err(NotOpened::PinMissing),
        None if asked.was_asked.get() => Err(NotOpened::NothingAfterPin),
        None if errors.has_reason(|_| true) => Err(NotOpened::Failed(errors)),
        None => Err(NotOpened::Nothing),
    }
}

/// The engine `pkcs11`, which OpenSSL loads when it is first asked for. It is never given back:
/// keys need it as long as they live.
#[derive(Clone, Copy)]
struct Engine {
    engine: *mut c_void,
    command: Command,
    load: Load,
}

type Command = unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char, c_int) -> c_int;
type Load = unsafe extern "C" fn(
    *mut c_void,
    *const c_char,
    *mut sys::UI_METHOD,
    *mut c_void,
) -> *mut EVP_PKEY;

impl Engine {
    /// Returns the engine, if this OpenSSL has engines, and this one.
    fn get() -> Result<Option<Self>, NotOpened> {
        thread_local! {
            static ENGINE: OnceCell<Engine> = const { OnceCell::new() };
        }
        ENGINE.with(|known| {
            if let Some(engine) = known.get() {
                return Ok(Some(*engine));
            }
            let made = Self::new()?;
            Ok(made.map(|made| *known.get_or_init(|| made)))
        })
    }

    fn new() -> Result<Option<Self>, NotOpened> {
        type ById = unsafe extern "C" fn(*const c_char) -> *mut c_void;
        type Init = unsafe extern "C" fn(*mut c_void) -> c_int;
        type Control =
            unsafe extern "C" fn(*mut c_void, c_int, c_long, *mut c_void, *mut c_void) -> c_int;

        /// `ENGINE_CTRL_SET_USER_INTERFACE`
        const SET_USER_INTERFACE: c_int = 4;

        // SAFETY: the types are those of ENGINE_init(3), with `f` as a pointer that is NULL.
        let (by_id, init, control, command, load) = unsafe {
            (
                function::<ById>(c"ENGINE_by_id"),
                function::<Init>(c"ENGINE_init"),
                function::<Control>(c"ENGINE_ctrl"),
                function::<Command>(c"ENGINE_ctrl_cmd_string"),
                function::<Load>(c"ENGINE_load_private_key"),
            )
        };
        let (Some(by_id), Some(init), Some(control), Some(command), Some(load)) =
            (by_id, init, control, command, load)
        else {
            return Ok(None);
        };
        // SAFETY: the name is a C string.
        let engine = unsafe { by_id(c"pkcs11".as_ptr()) };
        if engine.is_null() {
            drop(ErrorStack::get());
            return Ok(None);
        }
        // SAFETY: the engine is a reference that is never given back.
        SslError::check("ENGINE_init", unsafe { init(engine) }).map_err(NotOpened::Engine)?;
        let refuse = methods()?.refuse.cast();
        // SAFETY: the engine is initialised, and keeps the method, which is never freed.
        unsafe { control(engine, SET_USER_INTERFACE, 0, refuse, ptr::null_mut()) };
        // It would write lines to nginx's log that have no date, and say less than its errors.
        // SAFETY: the engine is initialised; optional commands may be unknown to it.
        unsafe { command(engine, c"QUIET".as_ptr(), ptr::null(), 1) };
        drop(ErrorStack::get());
        Ok(Some(Self { engine, command, load }))
    }

    /// Opens the private key at `uri`.
    fn load(self, uri: &CStr, pin: Option<&CStr>) -> Result<PKey<Private>, NotOpened> {
        let pin = pin.ok_or(NotOpened::PinMissing)?;
        let refuse = methods()?.refuse;
        // SAFETY: the engine is initialised, and copies the pin.
        let set = unsafe { (self.command)(self.engine, c"PIN".as_ptr(), pin.as_ptr(), 0) };
        SslError::check("ENGINE_ctrl_cmd_string", set).map_err(NotOpened::Engine)?;
        // SAFETY: the engine is initialised, the URI a C string, and the method never freed.
        let key = unsafe { (self.load)(self.engine, uri.as_ptr(), refuse, ptr::null_mut()) };
        // SAFETY: this is a new reference to a key, or NULL.
        unsafe { owned("ENGINE_load_private_key", key) }.map_err(NotOpened::Failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_checked() {
        let said = |uri: &str| match check(uri.as_bytes()) {
            Ok(scheme) => scheme,
            Err(error) => error.to_string(),
        };
        for uri in [
            "pkcs11:token=a;object=b",
            "PKCS11:serial=1;id=%01;type=private",
            "pkcs11:object=b;token=a%3Fpin-value",
        ] {
            assert_eq!(said(uri), "pkcs11", "{uri}");
        }
        assert_eq!(said("handle:0x81000000"), "handle");
        for uri in ["", "/etc/key.pem", "key.pem", ":a", "1:a", "../a:b", "a b:c", "-----BEGIN x"] {
            assert!(said(uri).starts_with("uri must begin with a scheme"), "{uri}");
        }
        assert!(said("file:/etc/key.pem").starts_with("uri must not name a file"));
        assert!(said("FILE:///etc/key.pem").starts_with("uri must not name a file"));
        for uri in ["pkcs11:", "pkcs11:token=a", "pkcs11:object=a", "pkcs11:token=a;type=private"] {
            assert!(said(uri).starts_with("uri must name the token"), "{uri}");
        }
        for (uri, name) in [
            ("pkcs11:token=a;object=b?pin-value=1234", "pin-value"),
            ("pkcs11:token=a;object=b;pin-value=1234", "pin-value"),
            ("pkcs11:token=a;object=b;PIN-SOURCE=x", "PIN-SOURCE"),
            ("pkcs11:token=a;object=b?pin-source=|sh", "pin-source"),
            ("pkcs11:token=a;object=b?a=b&module-path=/tmp/x.so", "module-path"),
            ("pkcs11:token=a;object=b?other=1", "other"),
        ] {
            let said = said(uri);
            assert!(said.starts_with(&format!("uri must have no attribute \"{name}\"")), "{said}");
            assert!(!said.contains("1234"), "{said}");
        }
    }

    #[test]
    fn what_nobody_opens() {
        let said = |uri: &str, pin: Option<&str>| {
            open(uri.as_bytes(), pin.map(str::as_bytes)).err().map(|error| error.to_string())
        };
        let error = said("unknown-scheme:x", None).unwrap();
        assert_eq!(
            error,
            "OpenSSL has no provider for the scheme \"unknown-scheme\": see openssl.cnf"
        );
        assert_eq!(said("pkcs11:token=a;object=b", Some("")).unwrap(), "pin must not be empty");
        assert!(said("pkcs11:token=a;object=b\0", Some("1")).unwrap().contains("NUL"));
        assert!(said("pkcs11:token=a;object=b", Some("1\0")).unwrap().contains("NUL"));
    }

    #[test]
    fn other_keys_are_their_own() {
        let key = PKey::generate_ed25519().unwrap();
        assert_eq!(of_this_process(&key).unwrap().as_ptr(), key.as_ptr());
        has_failed(&key);
    }
}
