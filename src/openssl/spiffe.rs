// SPDX-License-Identifier: Apache-2.0

//! X.509-SVIDs: certificates that carry a SPIFFE ID. What is checked here, beyond RFC 5280, is what
//! the SPIFFE-ID and X.509-SVID standards ask of those who verify one.

use std::rc::Rc;

use openssl::error::ErrorStack;
use openssl::x509::X509Ref;
use openssl::x509::store::{X509Store, X509StoreBuilder, X509StoreRef};

use crate::openssl::error::SslError;
use crate::openssl::fingerprint::Encoding;
use crate::openssl::san::{AcceptedUri, is_spiffe_segment};
use crate::openssl::store::TrustedStore;
use crate::openssl::{certificate, sys};

/// The scheme of SPIFFE IDs.
const SCHEME: &[u8] = b"spiffe://";

/// The maximum lengths of a SPIFFE ID and of a trust domain (SPIFFE-ID, sections 2.1 and 2.3).
const MAX_ID: usize = 2048;
const MAX_TRUST_DOMAIN: usize = 255;

/// The services that are trusted.
pub struct Trusted {
    pub accepted: AcceptedIds,
    /// The store of each trust domain, in the order of [`AcceptedIds::trust_domains`].
    stores: Vec<Rc<TrustedStore>>,
    /// A store with nothing in it, which takes the place of any other.
    empty: X509Store,
}

/// The SPIFFE IDs that a service may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedIds {
    /// Sorted, without duplicates.
    trust_domains: Vec<Box<[u8]>>,
    ids: Vec<AcceptedUri>,
}

/// Trust domains or IDs that were refused.
#[derive(Debug, thiserror::Error)]
pub enum InvalidIds {
    #[error("trust_domains must hold at least one trust domain")]
    NoTrustDomain,
    #[error("ids must hold at least one SPIFFE ID; \"spiffe://<trust domain>/*\" stands for all")]
    NoId,
    #[error(
        "trust_domains must hold names of at most 255 lower-case letters, digits, dots, dashes and \
         underscores: given \"{0}\""
    )]
    NotTrustDomain(String),
    #[error(
        "ids must hold SPIFFE IDs with a path, of which the last segment may be a \"*\": given \"{0}\""
    )]
    NotId(String),
    #[error("ids must be of one of the trust domains: given \"{0}\"")]
    Foreign(String),
    #[error("store was freed: {0}")]
    Store(SslError),
    #[error(transparent)]
    Ssl(SslError),
    /// Not what the module knows: only its own Lua code makes these.
    #[error("names are of no known kind")]
    UnknownKind,
}

/// Why a certificate is not accepted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAccepted {
    #[error("upstream SSL certificate is no X.509-SVID: it carries {0} URIs, and not one")]
    Uris(usize),
    #[error(
        "upstream SSL certificate is no X.509-SVID: its URI \"{0}\" is no SPIFFE ID with a path"
    )]
    NotId(String),
    #[error("upstream SSL certificate is no X.509-SVID of a service: it may sign others (\"{0}\")")]
    Authority(String),
    #[error("upstream SSL certificate is of a trust domain that is not accepted: \"{0}\"")]
    TrustDomain(String),
    #[error("upstream SSL certificate has a SPIFFE ID that is not accepted: \"{0}\"")]
    Id(String),
}

impl AcceptedIds {
    /// Reads trust domains and IDs. Lua code writes before each what it is. Also returns the place
    /// of each trust domain among those given.
    pub fn new<'a>(
        names: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(Self, Vec<usize>), InvalidIds> {
        let mut trust_domains = Vec::new();
        let mut ids = Vec::new();
        for name in names {
            let (kind, name) = name.split_first().ok_or(InvalidIds::UnknownKind)?;
            match kind {
                b't' if is_trust_domain(name) => {
                    trust_domains.push((Box::from(name), trust_domains.len()));
                }
                b't' => return Err(InvalidIds::NotTrustDomain(shown(name))),
                b'i' => ids.push(name),
                _ => return Err(InvalidIds::UnknownKind),
            }
        }
        if trust_domains.is_empty() {
            return Err(InvalidIds::NoTrustDomain);
        }
        if ids.is_empty() {
            return Err(InvalidIds::NoId);
        }
        // Lua tables have no order, and the identity should not depend on it.
        trust_domains.sort();
        let (trust_domains, places): (Vec<_>, _) = trust_domains.into_iter().unzip();
        let accepted = |id: &[u8]| {
            let example = id.strip_suffix(b"/*").map(|beginning| [beginning, b"/a"].concat());
            let (trust_domain, _) = parts(example.as_deref().unwrap_or(id))
                .ok_or_else(|| InvalidIds::NotId(shown(id)))?;
            if trust_domains.iter().any(|known| **known == *trust_domain) {
                AcceptedUri::new(id).ok_or_else(|| InvalidIds::NotId(shown(id)))
            } else {
                Err(InvalidIds::Foreign(shown(id)))
            }
        };
        let ids = ids.into_iter().map(accepted).collect::<Result<_, _>>()?;
        Ok((Self { trust_domains, ids }, places))
    }

    /// Returns the place of the trust domain of an ID, by which the store is found.
    fn place_of(&self, id: &[u8]) -> Result<usize, NotAccepted> {
        let unknown = || NotAccepted::TrustDomain(shown(id));
        let (trust_domain, _) = parts(id).ok_or_else(unknown)?;
        let place = self.trust_domains.iter().position(|known| **known == *trust_domain);
        place.ok_or_else(unknown)
    }

    /// Checks everything about `certificate` but its chain.
    pub fn check(&self, certificate: &X509Ref) -> Result<(), NotAccepted> {
        let id = id_of(certificate)?;
        self.place_of(&id)?;
        if is_authority(certificate) {
            return Err(NotAccepted::Authority(shown(&id)));
        }
        if self.ids.iter().any(|accepted| accepted.accepts(&id)) {
            Ok(())
        } else {
            Err(NotAccepted::Id(shown(&id)))
        }
    }

    /// Encodes the trust domains and IDs.
    pub fn encode(&self, encoding: &mut Encoding) {
        let Self { trust_domains, ids } = self;
        encoding.number(trust_domains.len() as u64);
        trust_domains.iter().for_each(|name| encoding.bytes(name));
        encoding.number(ids.len() as u64);
        ids.iter().for_each(|id| id.encode(encoding));
    }

    /// Returns about how many bytes the names take.
    pub fn size(&self) -> usize {
        let Self { trust_domains, ids } = self;
        let ids = ids.iter().map(AcceptedUri::size);
        trust_domains.iter().map(|name| name.len()).sum::<usize>() + ids.sum::<usize>()
    }
}

impl Trusted {
    /// Reads trust domains and IDs, given with the store of each trust domain.
    pub fn new<'a>(
        names: impl Iterator<Item = &'a [u8]>,
        stores: &[&X509StoreRef],
    ) -> Result<Self, InvalidIds> {
        let (accepted, places) = AcceptedIds::new(names)?;
        let of_place = |place: usize| {
            let store = stores.get(place).ok_or(InvalidIds::UnknownKind)?;
            TrustedStore::of(store).map_err(InvalidIds::Store)
        };
        let stores = places.into_iter().map(of_place).collect::<Result<_, _>>()?;
        let failed = |errors: ErrorStack| InvalidIds::Ssl(SslError::new("X509_STORE_new", errors));
        let empty = X509StoreBuilder::new().map_err(failed)?.build();
        Ok(Self { accepted, stores, empty })
    }

    /// Checks trust domains and IDs, for [`Trusted::new`].
    pub fn check<'a>(names: impl Iterator<Item = &'a [u8]>) -> Result<(), InvalidIds> {
        AcceptedIds::new(names).map(drop)
    }

    /// Returns the only store that counts for `certificate`.
    pub fn store_for(&self, certificate: &X509Ref) -> Result<&TrustedStore, NotAccepted> {
        let id = id_of(certificate)?;
        self.accepted.place_of(&id).map(|place| &*self.stores[place])
    }

    /// The stores, in the order of the trust domains.
    pub fn stores(&self) -> &[Rc<TrustedStore>] {
        &self.stores
    }

    /// A store by which no certificate is good.
    pub fn empty_store(&self) -> &X509StoreRef {
        &self.empty
    }
}

fn shown(text: &[u8]) -> String {
    text.escape_ascii().to_string()
}

/// Returns the SPIFFE ID of a certificate: its only URI.
fn id_of(certificate: &X509Ref) -> Result<Vec<u8>, NotAccepted> {
    let names = certificate.subject_alt_names();
    // A malformed extension leaves errors in OpenSSL's queue.
    drop(ErrorStack::get());
    let uris: Vec<_> = names.iter().flatten().filter(|name| certificate::is_uri(name)).collect();
    let [uri] = uris[..] else {
        return Err(NotAccepted::Uris(uris.len()));
    };
    // What is no text is no ID.
    let uri = uri.uri().unwrap_or_default().as_bytes();
    match parts(uri) {
        Some(_) => Ok(uri.to_vec()),
        None => Err(NotAccepted::NotId(shown(uri))),
    }
}

/// Returns whether a certificate is that of an authority, which no service may present
/// (X.509-SVID, section 5.2); or may be, as OpenSSL could not read its extensions.
fn is_authority(certificate: &X509Ref) -> bool {
    /// `EXFLAG_CA`: the basic constraints say so. `X509_check_ca(3)` would want the usage too.
    const AUTHORITY: u32 = 0x10;
    /// `EXFLAG_SET` without `EXFLAG_INVALID`: the extensions were read.
    const READ: u32 = 0x100;
    const INVALID: u32 = 0x80;
    /// `KU_KEY_CERT_SIGN` and `KU_CRL_SIGN`
    const MAY_SIGN: u32 = 0x0004 | 0x0002;
    /// What `X509_get_key_usage(3)` returns if all is allowed, as there is no such extension.
    const ANY: u32 = u32::MAX;

    let usage = sys::X509_get_key_usage(certificate);
    let flags = sys::X509_get_extension_flags(certificate);
    let is_known = flags & (READ | INVALID) == READ && usage != 0;
    !is_known || flags & AUTHORITY != 0 || (usage != ANY && usage & MAY_SIGN != 0)
}

/// Returns the trust domain and the path of a SPIFFE ID that has a path.
fn parts(id: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = id.strip_prefix(SCHEME).filter(|_| id.len() <= MAX_ID)?;
    let slash = rest.iter().position(|byte| *byte == b'/')?;
    let (trust_domain, path) = rest.split_at(slash);
    let has_path = path[1..].split(|byte| *byte == b'/').all(is_spiffe_segment);
    (is_trust_domain(trust_domain) && has_path).then_some((trust_domain, path))
}

fn is_trust_domain(name: &[u8]) -> bool {
    let is_allowed =
        |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(byte);
    !name.is_empty() && name.len() <= MAX_TRUST_DOMAIN && name.iter().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_a_trust_domain_and_a_path() {
        assert_eq!(parts(b"spiffe://a.test/b/c"), Some((&b"a.test"[..], &b"/b/c"[..])));
        for bad in [
            "spiffe://a.test",
            "spiffe://a.test/",
            "spiffe://a.test/b/",
            "spiffe://a.test//b",
            "spiffe://a.test/b/../c",
            "spiffe://a.test/b?c",
            "spiffe://a.test/b%20",
            "spiffe://A.test/b",
            "spiffe://a.test:1/b",
            "spiffe://u@a.test/b",
            "spiffe:///b",
            "SPIFFE://a.test/b",
            "https://a.test/b",
            "",
        ] {
            assert_eq!(parts(bad.as_bytes()), None, "{bad}");
        }
        let long = |length| [b"spiffe://a/".to_vec(), vec![b'b'; length]].concat();
        assert!(parts(&long(MAX_ID - 11)).is_some() && parts(&long(MAX_ID - 10)).is_none());
        let long = |length| [b"spiffe://", &vec![b'a'; length][..], b"/b"].concat();
        assert!(parts(&long(255)).is_some() && parts(&long(256)).is_none());
    }

    #[test]
    fn what_could_never_be_accepted_is_refused() {
        let read = |names: &[&str]| {
            let names = AcceptedIds::new(names.iter().map(|name| name.as_bytes()));
            names.map_err(|error| error.to_string())
        };
        let (ids, places) = read(&["tb.test", "ta.test", "ispiffe://a.test/*"]).unwrap();
        assert_eq!(ids.trust_domains, [Box::from(*b"a.test"), Box::from(*b"b.test")]);
        assert_eq!(places, [1, 0]);
        assert!(read(&["ta.test", "ispiffe://a.test/b", "ispiffe://a.test/b/*"]).is_ok());
        for (names, error) in [
            (&["ispiffe://a.test/b"][..], "trust_domains must hold at least one"),
            (&["ta.test"], "ids must hold at least one"),
            (&["tA.test", "ispiffe://a.test/b"], "given \"A.test\""),
            (&["t", "ispiffe://a.test/b"], "given \"\""),
            (&["ta.test", "ispiffe://a.test"], "ids must hold SPIFFE IDs with a path"),
            (&["ta.test", "ispiffe://a.test/b*c"], "ids must hold SPIFFE IDs with a path"),
            (&["ta.test", "ispiffe://*"], "ids must hold SPIFFE IDs with a path"),
            (&["ta.test", "i*"], "ids must hold SPIFFE IDs with a path"),
            (&["ta.test", "ispiffe://a.test/b*"], "ids must hold SPIFFE IDs with a path"),
            (&["ta.test", "ispiffe://b.test/b"], "ids must be of one of the trust domains"),
            (&["ta.test", "xb"], "no known kind"),
            (&[""], "no known kind"),
        ] {
            let refused = read(names).unwrap_err();
            assert!(refused.contains(error), "{names:?}: {refused}");
        }
    }
}
