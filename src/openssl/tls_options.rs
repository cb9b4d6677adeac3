// SPDX-License-Identifier: Apache-2.0

//! How TLS is spoken on one connection: versions, ciphers, groups and signature algorithms.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_int};
use std::fmt;
use std::num::NonZeroUsize;
use std::rc::Rc;

use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslContext, SslMethod, SslRef};

use crate::bounded::BoundedCache;
use crate::openssl::error::SslError;
use crate::openssl::fingerprint::{Encoding, Fingerprint};
use crate::openssl::sys;

/// Options that replace those of the location. `None` keeps the location's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// The versions, over `proxy_ssl_protocols`.
    versions: Versions,
    /// `SSL_set_cipher_list(3)`, over `proxy_ssl_ciphers`: for TLS 1.2 and earlier.
    ciphers: Option<CString>,
    /// `SSL_set_ciphersuites(3)`: for TLS 1.3.
    ciphersuites: Option<CString>,
    /// `SSL_set1_groups_list(3)`
    groups: Option<CString>,
    /// `SSL_set1_sigalgs_list(3)`
    signature_algorithms: Option<CString>,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    Tls1,
    Tls1_1,
    Tls1_2,
    Tls1_3,
}

impl Version {
    const ALL: [Self; 4] = [Self::Tls1, Self::Tls1_1, Self::Tls1_2, Self::Tls1_3];

    /// Returns the version of this name, which is that of `proxy_ssl_protocols`.
    fn by_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.name().as_bytes() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Tls1 => "TLSv1",
            Self::Tls1_1 => "TLSv1.1",
            Self::Tls1_2 => "TLSv1.2",
            Self::Tls1_3 => "TLSv1.3",
        }
    }

    /// Returns the number of the version on the wire.
    fn number(self) -> c_int {
        match self {
            Self::Tls1 => openssl_sys::TLS1_VERSION,
            Self::Tls1_1 => openssl_sys::TLS1_1_VERSION,
            Self::Tls1_2 => openssl_sys::TLS1_2_VERSION,
            Self::Tls1_3 => openssl_sys::TLS1_3_VERSION,
        }
    }

    /// Returns the option that turns the version off (`SSL_set_options(3)`).
    fn off(self) -> u64 {
        match self {
            Self::Tls1 => openssl_sys::SSL_OP_NO_TLSv1,
            Self::Tls1_1 => openssl_sys::SSL_OP_NO_TLSv1_1,
            Self::Tls1_2 => openssl_sys::SSL_OP_NO_TLSv1_2,
            Self::Tls1_3 => openssl_sys::SSL_OP_NO_TLSv1_3,
        }
    }
}

/// The versions that a request allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Versions {
    min: Option<Version>,
    max: Option<Version>,
}

impl Versions {
    /// Returns the versions to use in place of those `allowed` so far: the location's lowest if
    /// none is given as the lowest, and all later ones if none is given as the highest.
    fn in_place_of(self, allowed: &[Version]) -> Result<(Version, Version), NoVersion> {
        let lowest = self.min.or_else(|| allowed.iter().copied().min());
        let highest = self.max.unwrap_or(Version::Tls1_3);
        lowest
            .filter(|lowest| *lowest <= highest)
            .map(|lowest| (lowest, highest))
            .ok_or(NoVersion { highest, lowest })
    }
}

/// No version of TLS is left.
#[derive(Debug, PartialEq, Eq)]
pub struct NoVersion {
    highest: Version,
    /// The lowest that the location allows.
    lowest: Option<Version>,
}

impl fmt::Display for NoVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let highest = self.highest.name();
        match self.lowest {
            Some(lowest) => write!(
                f,
                "max_version is \"{highest}\", and the location allows no version before \"{}\": set \
                 min_version too",
                lowest.name()
            ),
            None => f.write_str("the location allows no version of TLS: set min_version"),
        }
    }
}

/// Options that could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum NotApplied {
    #[error("{0}")]
    NoVersion(NoVersion),
    #[error(transparent)]
    Ssl(#[from] SslError),
}

/// Options that were refused.
#[derive(Debug, thiserror::Error)]
pub enum InvalidOptions {
    #[error("at least one option must be set")]
    Empty,
    #[error("{option} must be one of TLSv1, TLSv1.1, TLSv1.2, TLSv1.3: given \"{given}\"")]
    NoVersion { option: &'static str, given: String },
    #[error("min_version must not be later than max_version")]
    Reversed,
    #[error("{option} must hold names that OpenSSL knows: given \"{given}\"")]
    Unknown { option: &'static str, given: String },
    /// Not an option that the module knows: only its own Lua code makes these.
    #[error("options are of no known kind")]
    UnknownKind,
    #[error(transparent)]
    Ssl(SslError),
}

const CIPHERS: &str = "ciphers";
const CIPHERSUITES: &str = "ciphersuites";
const GROUPS: &str = "groups";
const SIGNATURE_ALGORITHMS: &str = "signature_algorithms";

impl TlsOptions {
    /// Reads the options, and checks them with OpenSSL. Lua code writes before each what it is.
    pub fn new<'a>(options: impl Iterator<Item = &'a [u8]>) -> Result<Self, InvalidOptions> {
        let mut read = Self::default();
        for option in options {
            let (kind, text) = option.split_first().ok_or(InvalidOptions::UnknownKind)?;
            let version = |option| {
                Version::by_name(text).ok_or_else(|| InvalidOptions::NoVersion {
                    option,
                    given: text.escape_ascii().to_string(),
                })
            };
            match kind {
                b'l' => read.versions.min = Some(version("min_version")?),
                b'h' => read.versions.max = Some(version("max_version")?),
                b'c' => read.ciphers = Some(checked(CIPHERS, text, check_ciphers)?),
                b's' => read.ciphersuites = Some(checked(CIPHERSUITES, text, check_ciphersuites)?),
                b'g' => read.groups = Some(checked(GROUPS, text, check_groups)?),
                b'a' => {
                    let checked = checked(SIGNATURE_ALGORITHMS, text, check_signature_algorithms)?;
                    read.signature_algorithms = Some(checked);
                }
                _ => return Err(InvalidOptions::UnknownKind),
            }
        }
        if read == Self::default() {
            return Err(InvalidOptions::Empty);
        }
        match read.versions {
            Versions { min: Some(min), max: Some(max) } if min > max => {
                Err(InvalidOptions::Reversed)
            }
            _ => Ok(read),
        }
    }

    /// Sets the options on an SSL object whose handshake is about to begin.
    pub fn apply(&self, ssl: &SslRef) -> Result<(), NotApplied> {
        let Self { versions, ciphers, ciphersuites, groups, signature_algorithms } = self;
        if *versions != Versions::default() {
            let (lowest, highest) =
                versions.in_place_of(&allowed(ssl)).map_err(NotApplied::NoVersion)?;
            allow(ssl, lowest, highest)?;
        }
        if let Some(ciphers) = ciphers {
            SslError::check("SSL_set_cipher_list", sys::SSL_set_cipher_list(ssl, ciphers))?;
        }
        if let Some(ciphersuites) = ciphersuites {
            SslError::check("SSL_set_ciphersuites", sys::SSL_set_ciphersuites(ssl, ciphersuites))?;
        }
        if let Some(groups) = groups {
            SslError::check("SSL_set1_groups_list", sys::SSL_set1_groups_list(ssl, groups))?;
        }
        if let Some(algorithms) = signature_algorithms {
            SslError::check("SSL_set1_sigalgs_list", sys::SSL_set1_sigalgs_list(ssl, algorithms))?;
        }
        Ok(())
    }

    /// Encodes the options.
    pub fn encode(&self, encoding: &mut Encoding) {
        let Self { versions, ciphers, ciphersuites, groups, signature_algorithms } = self;
        let Versions { min, max } = *versions;
        for version in [min, max] {
            encoding.optional(version, |encoding, version| {
                encoding.number(version.number().unsigned_abs().into());
            });
        }
        for text in [ciphers, ciphersuites, groups, signature_algorithms] {
            encoding
                .optional(text.as_deref(), |encoding, text: &CStr| encoding.bytes(text.to_bytes()));
        }
    }

    /// Returns about how many bytes the options take.
    pub fn size(&self) -> usize {
        let Self { versions: _, ciphers, ciphersuites, groups, signature_algorithms } = self;
        let texts = [ciphers, ciphersuites, groups, signature_algorithms];
        texts.into_iter().flatten().map(|text| text.as_bytes().len()).sum()
    }
}

/// The maximum number of options that are kept, and of bytes that they take.
const MOST: NonZeroUsize = NonZeroUsize::new(1024).unwrap();
const MOST_BYTES: usize = 1024 * 1024;

thread_local! {
    static SHARED: RefCell<BoundedCache<Fingerprint, Rc<TlsOptions>>> =
        RefCell::new(BoundedCache::new(MOST, MOST_BYTES));
}

/// Returns the options as [`TlsOptions::new`] does. The check, which takes long, is made when a
/// worker first reads them.
pub fn shared<'a>(
    options: impl Iterator<Item = &'a [u8]> + Clone,
) -> Result<Rc<TlsOptions>, InvalidOptions> {
    let mut encoding = Encoding::new();
    options.clone().for_each(|option| encoding.bytes(option));
    let key = encoding.into();
    let make = || TlsOptions::new(options).map(Rc::new);
    let bytes = |options: &Rc<TlsOptions>| options.size() + size_of::<TlsOptions>();
    SHARED.with_borrow_mut(|shared| shared.get_or_try_insert(&key, make, bytes))
}

/// Forgets the options that this worker keeps.
pub fn clear_cache() {
    SHARED.with_borrow_mut(BoundedCache::clear);
}

/// Returns the versions that an SSL object may speak so far.
fn allowed(ssl: &SslRef) -> Vec<Version> {
    let off = sys::SSL_get_options(ssl);
    let [lowest, highest] = sys::SSL_get_proto_versions(ssl);
    Version::ALL
        .into_iter()
        .filter(|version| {
            let number = version.number();
            off & version.off() == 0 && number >= lowest && (highest == 0 || number <= highest)
        })
        .collect()
}

/// Lets an SSL object speak these versions and all between, and no other.
fn allow(ssl: &SslRef, lowest: Version, highest: Version) -> Result<(), SslError> {
    let within = Version::ALL.into_iter().filter(|one| (lowest..=highest).contains(one));
    sys::SSL_clear_options(ssl, within.map(Version::off).fold(0, |all, one| all | one));
    let [min, max] = sys::SSL_set_proto_versions(ssl, [lowest.number(), highest.number()]);
    SslError::check("SSL_set_min_proto_version", min)?;
    SslError::check("SSL_set_max_proto_version", max)
}

/// Returns `text` if `check` accepts it, on an SSL object that is used for nothing else. `check`
/// returns what it does not accept.
fn checked(
    option: &'static str,
    text: &[u8],
    check: fn(&SslRef, &str) -> Result<(), String>,
) -> Result<CString, InvalidOptions> {
    let unknown =
        |given: &[u8]| InvalidOptions::Unknown { option, given: given.escape_ascii().to_string() };
    let as_text = std::str::from_utf8(text).ok().filter(|text| !text.is_empty());
    let as_text = as_text.ok_or_else(|| unknown(text))?;
    let as_c_text = CString::new(text).map_err(|_| unknown(text))?;
    let failed = |function| move |errors| InvalidOptions::Ssl(SslError::new(function, errors));
    let context = SslContext::builder(SslMethod::tls_client()).map_err(failed("SSL_CTX_new"))?;
    let ssl = Ssl::new(&context.build()).map_err(failed("SSL_new"))?;
    let result = check(&ssl, as_text);
    // nginx would report errors left in the queue as errors of a later call.
    drop(ErrorStack::get());
    result.map(|()| as_c_text).map_err(|given| unknown(given.as_bytes()))
}

/// Returns whether `set` accepts `text`.
fn accepts<T: Into<i64>>(set: fn(&SslRef, &CStr) -> T, ssl: &SslRef, text: &str) -> bool {
    CString::new(text).is_ok_and(|text| set(ssl, &text).into() > 0)
}

/// Checks that `set` accepts the whole list.
fn check_whole<T: Into<i64>>(
    set: fn(&SslRef, &CStr) -> T,
    ssl: &SslRef,
    list: &str,
) -> Result<(), String> {
    if accepts(set, ssl, list) { Ok(()) } else { Err(list.to_owned()) }
}

/// What may be excluded although OpenSSL has none of it any more: it knows these names, but does
/// not tell.
const GONE: &[&str] = &[
    "3DES",
    "DES",
    "EXP",
    "EXPORT",
    "EXPORT40",
    "EXPORT56",
    "GOST89MAC",
    "IDEA",
    "KRB5",
    "LOW",
    "MD5",
    "RC2",
    "RC4",
    "SEED",
    "SSLv2",
    "aDH",
    "aDSS",
    "aECDH",
    "aGOST",
    "aGOST01",
    "aKRB5",
    "kDHd",
    "kDHr",
    "kECDHe",
    "kECDHr",
    "kFZA",
    "kGOST",
    "kKRB5",
];

/// Checks a list of ciphers (openssl-ciphers(1)). OpenSSL ignores names that it doesn't know, and
/// so what they would have left out.
fn check_ciphers(ssl: &SslRef, list: &str) -> Result<(), String> {
    let is_known = |names: &str| accepts(sys::SSL_set_cipher_list, ssl, names);
    for item in list.split([':', ',', ' ', ';']).filter(|item| !item.is_empty()) {
        let known = match item.strip_prefix(['!', '-']) {
            Some(names) => names.split('+').all(|name| GONE.contains(&name) || is_known(name)),
            // Commands (`@STRENGTH`) are checked with the whole list.
            None => item.starts_with('@') || is_known(item.strip_prefix('+').unwrap_or(item)),
        };
        if !known {
            return Err(item.to_owned());
        }
    }
    check_whole(sys::SSL_set_cipher_list, ssl, list)
}

/// Checks a list of cipher suites of TLS 1.3. Some versions of OpenSSL ignore names that they don't
/// know.
fn check_ciphersuites(ssl: &SslRef, list: &str) -> Result<(), String> {
    for name in list.split(':') {
        let is_set = accepts(sys::SSL_set_ciphersuites, ssl, name);
        let mut known = sys::SSL_get_ciphers(ssl).into_iter().flatten();
        if !is_set || !known.any(|cipher| cipher.name() == name) {
            return Err(name.to_owned());
        }
    }
    check_whole(sys::SSL_set_ciphersuites, ssl, list)
}

/// Checks a list of groups, of which OpenSSL must know all.
fn check_groups(ssl: &SslRef, list: &str) -> Result<(), String> {
    check_whole(sys::SSL_set1_groups_list, ssl, list)
}

/// Checks a list of signature algorithms, of which OpenSSL must know all.
fn check_signature_algorithms(ssl: &SslRef, list: &str) -> Result<(), String> {
    check_whole(sys::SSL_set1_sigalgs_list, ssl, list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: &[&str]) -> Result<TlsOptions, InvalidOptions> {
        TlsOptions::new(options.iter().map(|option| option.as_bytes()))
    }

    fn new_ssl() -> Ssl {
        Ssl::new(&SslContext::builder(SslMethod::tls_client()).unwrap().build()).unwrap()
    }

    #[test]
    fn what_openssl_knows_is_accepted() {
        for good in [
            "cDEFAULT:@SECLEVEL=1",
            "cECDHE+AESGCM:!aNULL:!RC4:!MD5+3DES:-CAMELLIA:+AES128:@STRENGTH",
            "cECDHE-RSA-AES128-GCM-SHA256, ECDHE-ECDSA-AES128-GCM-SHA256",
            "sTLS_AES_128_GCM_SHA256",
            "sTLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256",
            "gP-256:X25519",
            "aECDSA+SHA256:RSA-PSS+SHA256",
            "aed25519:rsa_pss_rsae_sha256",
            "lTLSv1",
            "hTLSv1.3",
        ] {
            assert!(read(&[good]).is_ok(), "{good}: {:?}", read(&[good]));
        }
        assert!(ErrorStack::get().errors().is_empty());
    }

    #[test]
    fn what_openssl_does_not_know_is_refused() {
        let given = |option: &str| match read(&[option]) {
            Err(
                InvalidOptions::Unknown { given, .. } | InvalidOptions::NoVersion { given, .. },
            ) => given,
            other => format!("{other:?}"),
        };
        for (option, wrong) in [
            ("cECDHE-RSA-AES128-GCM-SHA256:NOTHING", "NOTHING"),
            ("cDEFAULT:!aNUL", "!aNUL"),
            ("cDEFAULT:!RC4+NOTHING", "!RC4+NOTHING"),
            ("cDEFAULT:-NOTHING", "-NOTHING"),
            ("cDEFAULT:+NOTHING", "+NOTHING"),
            ("cDEFAULT:@NOTHING", "DEFAULT:@NOTHING"),
            ("cTLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"),
            ("c!ALL", "!ALL"),
            ("c", ""),
            ("c\0", "\\x00"),
            ("sTLS_AES_128_GCM_SHA256:NOTHING", "NOTHING"),
            ("sECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
            ("sTLS_AES_128_GCM_SHA256:", ""),
            ("s", ""),
            ("gX25519:NOTHING", "X25519:NOTHING"),
            ("g", ""),
            ("aECDSA+SHA256:NOTHING", "ECDSA+SHA256:NOTHING"),
            ("a", ""),
            ("lTLSv1.4", "TLSv1.4"),
            ("htlsv1.2", "tlsv1.2"),
            ("h", ""),
        ] {
            assert_eq!(given(option), wrong, "{option}");
        }
        assert!(matches!(read(&[]), Err(InvalidOptions::Empty)));
        assert!(matches!(read(&[""]), Err(InvalidOptions::UnknownKind)));
        assert!(matches!(read(&["xa"]), Err(InvalidOptions::UnknownKind)));
        assert!(matches!(read(&["lTLSv1.3", "hTLSv1.2"]), Err(InvalidOptions::Reversed)));
        assert!(ErrorStack::get().errors().is_empty());
    }

    #[test]
    fn versions_take_the_place_of_the_locations() {
        use Version::{Tls1, Tls1_1, Tls1_2, Tls1_3};

        let versions = |options: &[&str], allowed: &[Version]| {
            read(options).unwrap().versions.in_place_of(allowed).map_err(|error| error.to_string())
        };
        assert_eq!(versions(&["lTLSv1.3"], &[Tls1_2]), Ok((Tls1_3, Tls1_3)));
        assert_eq!(versions(&["lTLSv1"], &[Tls1_2]), Ok((Tls1, Tls1_3)));
        assert_eq!(versions(&["hTLSv1.2"], &[Tls1_1, Tls1_3]), Ok((Tls1_1, Tls1_2)));
        assert_eq!(versions(&["lTLSv1.2", "hTLSv1.2"], &[]), Ok((Tls1_2, Tls1_2)));
        let none = versions(&["hTLSv1.1"], &[Tls1_2, Tls1_3]).unwrap_err();
        assert!(none.contains("no version before \"TLSv1.2\""), "{none}");
        assert!(versions(&["hTLSv1.1"], &[]).unwrap_err().contains("no version of TLS"));
    }

    #[test]
    fn an_ssl_object_speaks_what_was_set() {
        use Version::{Tls1_2, Tls1_3};

        let ssl = new_ssl();
        sys::SSL_set_options(&ssl, Tls1_3.off());
        read(&["lTLSv1.3"]).unwrap().apply(&ssl).unwrap();
        assert_eq!(allowed(&ssl), [Tls1_3]);

        let ssl = new_ssl();
        allow(&ssl, Tls1_2, Tls1_3).unwrap();
        assert_eq!(allowed(&ssl), [Tls1_2, Tls1_3]);
        read(&["hTLSv1.2", "cECDHE-RSA-AES128-GCM-SHA256", "sTLS_AES_128_GCM_SHA256"])
            .unwrap()
            .apply(&ssl)
            .unwrap();
        assert_eq!(allowed(&ssl), [Tls1_2]);
        let ciphers = sys::SSL_get_ciphers(&ssl).unwrap().iter().map(|cipher| cipher.name());
        let ciphers: Vec<_> = ciphers.collect();
        assert_eq!(ciphers, ["TLS_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"]);
        assert!(read(&["hTLSv1.1"]).unwrap().apply(&ssl).is_err());
        assert_eq!(allowed(&ssl), [Tls1_2]);
    }
}
