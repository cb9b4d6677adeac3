// SPDX-License-Identifier: Apache-2.0

//! The functions of `resty.kong.x509`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::OsStr;
use std::iter;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use mlua::prelude::LuaString;
use mlua::{IntoLua, Lua, UserDataRef, Value};
use openssl::error::ErrorStack;
use openssl::stack::Stack;
use openssl::x509::store::X509Store;
use openssl::x509::{X509, X509Ref};

use crate::bounded::BoundedCache;
use crate::client::forwarded_certificate::{self, NotForwarded};
use crate::client::header_certificate::xfcc::Which;
use crate::client::header_certificate::{Certificates, Format, InvalidText};
use crate::client::header_names::CERTIFICATE_NAMES;
use crate::lua::objects::{Natives, Object, Text};
use crate::nginx::connection::process_log;
use crate::nginx::time;
use crate::openssl::certificate::{self, AlternativeName, InvalidDer};
use crate::openssl::error::SslError;
use crate::openssl::fingerprint::Fingerprint;
use crate::openssl::presentable::{self, Side};
use crate::openssl::refreshed::{Clocks, Look, NotRefreshed, RefreshedStore};
use crate::openssl::store::{self, InvalidStore, Revocation, Sources};
use crate::openssl::stored_key::{self, OwnedKey};
use crate::openssl::verification::{self, Failure, Purpose, Terms};
use crate::openssl::{certificate_authorities, pem};
use crate::status::counters::{self, Cache, Counter};

type Certificate = UserDataRef<X509>;
type Chain = UserDataRef<Stack<X509>>;
type Key = UserDataRef<OwnedKey>;
type Store = UserDataRef<X509Store>;
pub type Refreshed = UserDataRef<RefreshedStore>;

/// The natives of `resty.kong.x509`.
pub fn natives(lua: &Lua) -> mlua::Result<Value> {
    let natives = Natives::new(lua)?;
    add_chains(&natives)?;
    add_certificates(&natives)?;
    add_keys(&natives)?;
    add_stores(&natives)?;
    Ok(natives.finish())
}

fn add_chains(natives: &Natives<'_>) -> mlua::Result<()> {
    natives.add("chain", |pem: LuaString| pem::chain(&pem.as_bytes()).map(Object))?;
    natives.add("chain_from_der", |der: LuaString| chain_from_der(&der.as_bytes()).map(Object))?;
    natives.add("chain_count", |chain: Chain| Ok::<_, Infallible>(chain.len()))?;
    natives.add("chain_certificate", |(chain, index): (Chain, f64)| {
        let found = (1..).zip(&**chain).find(|(number, _)| f64::from(*number) == index);
        Ok::<_, Infallible>(found.map(|(_, certificate)| Object(certificate.to_owned())))
    })?;
    natives.add("chain_to_pem", |chain: Chain| {
        let all: Result<Vec<_>, ErrorStack> = chain.iter().map(X509Ref::to_pem).collect();
        all.map(|all| Text(all.concat()))
    })?;
    // Reads what a proxy has sent: the header with the certificate, and the one with its chain.
    natives.add("chain_from_headers", |arguments: HeaderArguments| {
        let (format, element, text, chain) = arguments;
        let chain = chain.as_ref().map(LuaString::as_bytes);
        chain_from_headers(&format.as_bytes(), &element, &text.as_bytes(), chain.as_deref())
            .map(Object)
    })?;
    // Writes the headers by which a gateway forwards a chain: the certificate's, and, if there is
    // one, the chain's.
    natives.add("headers_of_chain", |(chain, format): (Chain, LuaString)| {
        let headers = forwarded_certificate::write(&chain, &format.as_bytes())?;
        Ok::<_, NotForwarded>((Text(headers.certificate), headers.chain.map(Text)))
    })?;
    natives.set("certificate_headers", CERTIFICATE_NAMES)?;
    // Checks whether the names of authorities can be sent to a client.
    natives
        .add("chain_has_names", |chain: Chain| certificate_authorities::names(&chain).map(|_| true))
}

fn chain_from_der(der: &[u8]) -> Result<Stack<X509>, InvalidDer> {
    Ok(certificate::chain([certificate::from_der(der)?])?)
}

/// The format, which element counts (for `xfcc`), and the texts of the headers.
type HeaderArguments = (LuaString, String, LuaString, Option<LuaString>);

/// Why headers don't have a chain.
#[derive(Debug, thiserror::Error)]
enum InvalidHeaders {
    #[error("unknown format")]
    UnknownFormat,
    #[error(transparent)]
    Text(#[from] InvalidText),
    #[error("certificate {number}: {error}")]
    Der { number: usize, error: InvalidDer },
    #[error(transparent)]
    Ssl(#[from] SslError),
}

fn chain_from_headers(
    format: &[u8],
    element: &str,
    text: &[u8],
    chain: Option<&[u8]>,
) -> Result<Stack<X509>, InvalidHeaders> {
    let which = match element {
        "first" => Which::First,
        "last" => Which::Last,
        _ => Which::Only,
    };
    let format = Format::by_name(format, which).ok_or(InvalidHeaders::UnknownFormat)?;
    let Certificates { leaf, intermediates } = format.read(text, chain)?;
    let parse = |(number, der): (usize, &Vec<u8>)| {
        certificate::from_der(der).map_err(|error| InvalidHeaders::Der { number, error })
    };
    let certificates: Result<Vec<_>, _> =
        (1..).zip(iter::once(&leaf).chain(&intermediates)).map(parse).collect();
    Ok(certificate::chain(certificates?)?)
}

fn add_certificates(natives: &Natives<'_>) -> mlua::Result<()> {
    natives.add("subject", |one: Certificate| certificate::subject(&one))?;
    natives.add("issuer", |one: Certificate| certificate::issuer(&one))?;
    natives.add("serial", |one: Certificate| certificate::serial(&one))?;
    natives.add("common_name", |one: Certificate| {
        Ok::<_, Infallible>(certificate::common_name(&one).map(Text))
    })?;
    natives.add("not_before", |one: Certificate| certificate::not_before(&one))?;
    natives.add("not_after", |one: Certificate| certificate::not_after(&one))?;
    natives.add("sans", |one: Certificate| sans(&one))?;
    natives.add("fingerprint", |(one, digest): (Certificate, LuaString)| {
        certificate::fingerprint(&one, &digest.to_string_lossy())
    })?;
    natives.add("thumbprint", |one: Certificate| certificate::thumbprint(&one))?;
    natives.add("organizational_units", |one: Certificate| {
        let units = certificate::organizational_units(&one)?;
        Ok::<_, SslError>(units.into_iter().map(Text).collect::<Vec<_>>())
    })?;
    natives.add("certificate_to_pem", |one: Certificate| one.to_pem().map(Text))
}

/// Returns the alternative names in lists by kind.
fn sans(certificate: &X509Ref) -> Result<BTreeMap<&'static str, Vec<Text>>, SslError> {
    let mut lists: BTreeMap<_, _> =
        AlternativeName::KINDS.iter().map(|kind| (*kind, Vec::new())).collect();
    for AlternativeName { kind, text } in certificate::alternative_names(certificate)? {
        lists.entry(kind).or_default().push(Text(text));
    }
    Ok(lists)
}

fn add_keys(natives: &Natives<'_>) -> mlua::Result<()> {
    natives.add("key", |(pem, password): (LuaString, Option<LuaString>)| {
        let password = password.as_ref().map(LuaString::as_bytes);
        pem::key(&pem.as_bytes(), password.as_deref()).map(|key| Object(OwnedKey::from(key)))
    })?;
    natives.add("stored_key", |(uri, pin): (LuaString, Option<LuaString>)| {
        let pin = pin.as_ref().map(LuaString::as_bytes);
        stored_key::open(&uri.as_bytes(), pin.as_deref()).map(Object)
    })?;
    natives.add("key_belongs_to", |(key, chain): (Key, Chain)| {
        Ok::<_, Infallible>(chain.get(0).is_some_and(|leaf| certificate::has_key(leaf, &key)))
    })?;
    // Checks whether OpenSSL would present a chain with its key; returns the type of the key.
    natives.add("key_presents", |(key, chain, as_server): (Key, Chain, bool)| {
        let side = if as_server { Side::Server } else { Side::Client };
        presentable::check(side, &chain, &key)
    })
}

/// The options of a store: `pem`, `file`, `dir`, `crl` and `crl_file`; `system`, `partial_chain`,
/// `check_revocation`, `leaf_only` and whether `on_expired` accepts; and `refresh`.
type StoreOptions = (
    Option<LuaString>,
    Option<LuaString>,
    Option<LuaString>,
    Option<LuaString>,
    Option<LuaString>,
    bool,
    bool,
    bool,
    bool,
    bool,
    Option<f64>,
);

/// What becomes an object: a store, or one whose files are read again.
enum AnyStore {
    Fixed(X509Store),
    Refreshed(Box<RefreshedStore>),
}

impl IntoLua for AnyStore {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        match self {
            Self::Fixed(store) => Object(store).into_lua(lua),
            Self::Refreshed(store) => Object(*store).into_lua(lua),
        }
    }
}

fn add_stores(natives: &Natives<'_>) -> mlua::Result<()> {
    natives.add("store", |options: StoreOptions| {
        let (pem, file, dir, crl, crl_file, system, partial_chain, ..) = &options;
        let (.., check_revocation, leaf_only, accepts_expired, refresh) = options;
        let [pem, file, dir, crl, crl_file] =
            [pem, file, dir, crl, crl_file].map(|text| text.as_ref().map(LuaString::as_bytes));
        let sources = Sources {
            pem: pem.as_deref(),
            file: file.as_deref().map(path),
            folder: dir.as_deref().map(path),
            whole_folder: refresh.is_some(),
            system: *system,
            revoked: crl.as_deref(),
            revoked_file: crl_file.as_deref().map(path),
            revocation: Revocation { is_checked: check_revocation, leaf_only, accepts_expired },
            partial_chain: *partial_chain,
        };
        match refresh {
            // The cast saturates.
            Some(seconds) => RefreshedStore::new(&sources, (seconds * 1000.0) as u64, clocks())
                .map(|store| AnyStore::Refreshed(Box::new(store))),
            None => shared(&sources).map(AnyStore::Fixed).map_err(NotRefreshed::from),
        }
    })?;
    natives.add("store_verify", |arguments: VerifyArguments| {
        let (verdict, ends) = verify(arguments);
        Ok::<_, Infallible>(match verdict {
            Ok(verified) => (Some(true), None, ends, Some(Object(verified))),
            Err(error) => (None, Some(error.to_string()), ends, None),
        })
    })
}

fn clocks() -> Clocks {
    Clocks { monotonic: time::monotonic(), date: time::now().date }
}

/// Looks at the files of a store if that is due. Returns the number of the store that it is now,
/// and that store unless its number is `known`.
pub fn current_store(
    (store, known): (Refreshed, Option<u64>),
) -> Result<(u64, Option<Object<X509Store>>), SslError> {
    match store.look(clocks()) {
        Look::Same => {}
        Look::Replaced => {
            // It would keep the memory of the store that was replaced.
            store::clear_cache();
            counters::count(Counter::StoreReplaced);
            process_log().notice(format_args!("a store was read again: {}", store.names()));
        }
        Look::Failed(words) => {
            counters::count(Counter::StoreRefreshFailed);
            if let Some(words) = words {
                process_log().error(format_args!(
                    "a store could not be read again, and stays as it was ({}): {words}",
                    store.names()
                ));
            }
        }
    }
    let (number, store) = store.current(known)?;
    Ok((number, store.map(Object)))
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
    let Sources { pem, file, folder, whole_folder: _, system, .. } = *sources;
    let Sources { revoked, revoked_file, revocation, partial_chain, .. } = *sources;
    let (Some(pem), None, None, None, false) = (pem, file, folder, revoked_file, system) else {
        return store::build(sources);
    };
    let revoked = revoked.map_or([&b""[..], b""], |revoked| [b"1", revoked]);
    let Revocation { is_checked, leaf_only, accepts_expired } = revocation;
    let flags = [is_checked, leaf_only, accepts_expired, partial_chain].map(u8::from);
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

/// The store, the chain, and the options `purpose`, `depth` and `at`.
type VerifyArguments = (Store, Chain, Option<LuaString>, Option<f64>, Option<f64>);

/// Why a chain can't be trusted.
#[derive(Debug, thiserror::Error)]
enum Distrust {
    #[error("purpose must be \"clientAuth\", \"serverAuth\" or \"any\"")]
    UnknownPurpose,
    #[error("chain is empty")]
    EmptyChain,
    #[error(transparent)]
    Failure(#[from] Failure),
}

/// Verifies a chain, and returns the one that was verified. Also returns the date from which the
/// result may change, in seconds.
fn verify(
    (store, chain, purpose, depth, at): VerifyArguments,
) -> (Result<Stack<X509>, Distrust>, f64) {
    let purpose = match purpose.map(|name| Purpose::by_name(&name.as_bytes())) {
        Some(None) => return (Err(Distrust::UnknownPurpose), f64::NEG_INFINITY),
        given => given.flatten(),
    };
    let Some(leaf) = chain.get(0) else {
        return (Err(Distrust::EmptyChain), f64::NEG_INFINITY);
    };
    // The casts saturate.
    let terms =
        Terms { purpose, depth: depth.map(|depth| depth as u32), at: at.map(|at| at as i64) };
    let (verdict, next) = verification::verify(&store, leaf, &chain, terms, time::now().date);
    // This error is not about the chain but about this process. Log it here: the plugin that
    // rejects the chain may not.
    if let Err(Failure::Ssl(error)) = &verdict {
        process_log().error(format_args!("verification of a certificate: {error}"));
    }
    (verdict.map_err(Distrust::from), next.map_or(f64::INFINITY, |date| date as f64))
}
