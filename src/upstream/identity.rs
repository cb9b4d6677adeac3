// SPDX-License-Identifier: Apache-2.0

//! The TLS identity of an upstream connection: everything that decides what the service sees of
//! nginx, and what nginx accepts from the service.
//!
//! An existing connection or TLS session may serve another request only if that request has the
//! same identity. Identities are compared as a whole, by their digests.

pub mod digests;
#[cfg(not(any(test, fuzzing)))]
pub mod lookup;

use std::ffi::CStr;
use std::fmt;
use std::hash::{Hash, Hasher};

use crate::mixing::Mixed;
use crate::openssl::fingerprint::{Encoding, Fingerprint, StoreFingerprint};
use crate::openssl::pins::Pins;
use crate::openssl::san::AcceptedNames;
use crate::openssl::spiffe::AcceptedIds;
use crate::openssl::tls_options::TlsOptions;

/// Everything that makes one upstream connection differ from another.
///
/// No new field can be forgotten: [`Identity::hashed`] destructures all of them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Identity<'a> {
    /// The TLS context of the location, with everything its directives set: protocols, ciphers,
    /// ALPN, the certificate, the trusted store, the verification depth.
    pub context: ContextId,
    /// Whether the request has settings of its own. A request without settings never shares a
    /// connection with one that has any, whatever their values.
    pub overridden: bool,
    /// The certificate, its intermediates and the key that replace those of the context.
    pub client_certificate: Option<Fingerprint>,
    /// Whether the service's certificate is verified.
    pub verify: bool,
    /// The verification depth that replaces that of the context.
    pub verify_depth: Option<u32>,
    /// The trusted store that replaces that of the context.
    pub trusted_store: Option<StoreFingerprint>,
    /// The names of which the service's certificate must carry one.
    pub names: Option<&'a AcceptedNames>,
    /// The keys of which the service's certificate must have one.
    pub pins: Option<&'a Pins>,
    /// The SPIFFE IDs of which the service must have one, and the stores of their trust domains.
    pub spiffe: Option<(&'a AcceptedIds, &'a [StoreFingerprint])>,
    /// The versions, ciphers and the like that replace those of the context.
    pub options: Option<&'a TlsOptions>,
    /// The protocols offered in place of those of the context (ALPN; RFC 7301, section 3.1).
    pub protocols: Option<&'a [u8]>,
    /// The server name that is sent (SNI; RFC 6066, section 3).
    pub server_name: Option<&'a [u8]>,
    /// The name that the service's certificate is verified for.
    pub verified_name: Option<&'a [u8]>,
    /// The local address that the connection is bound to (`proxy_bind`): the service may identify
    /// its client by it.
    pub source: Option<&'a [u8]>,
}

impl Identity<'_> {
    /// Returns the SHA-256 digest that represents the identity.
    pub fn digest(&self) -> IdentityDigest {
        digests::of(self)
    }

    /// Makes the digest anew.
    fn hashed(&self) -> IdentityDigest {
        let Self {
            context: ContextId(context),
            overridden,
            client_certificate,
            verify,
            verify_depth,
            trusted_store,
            names,
            pins,
            spiffe,
            options,
            protocols,
            server_name,
            verified_name,
            source,
        } = *self;

        let mut encoding = Encoding::new();
        encoding.fingerprint(context);
        encoding.flag(overridden);
        encoding.optional(client_certificate, Encoding::fingerprint);
        encoding.flag(verify);
        encoding.optional(verify_depth, |encoding, depth| encoding.number(depth.into()));
        encoding.optional(trusted_store, Encoding::store);
        encoding.optional(names, |encoding, names| names.encode(encoding));
        encoding.optional(pins, |encoding, pins| pins.encode(encoding));
        encoding.optional(spiffe, |encoding, (ids, stores)| {
            ids.encode(encoding);
            stores.iter().for_each(|store| encoding.store(*store));
        });
        encoding.optional(options, |encoding, options| options.encode(encoding));
        for bytes in [protocols, server_name, verified_name, source] {
            encoding.optional(bytes, Encoding::bytes);
        }
        IdentityDigest(encoding.digest())
    }
}

/// The SHA-256 digest of an [`Identity`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct IdentityDigest([u8; 32]);

impl IdentityDigest {
    /// The number of hexadecimal digits shown of an [`IdentityDigest`].
    pub const DIGITS: usize = 16;

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the first eight bytes, which are as good as random.
    pub fn prefix(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// Returns a hash of this identity at the address of a peer, for tables of both.
    pub fn mixed_with(&self, peer: &[u8]) -> u64 {
        /// The size of a `struct sockaddr_in6`, in full words. Of addresses, only the paths of Unix
        /// sockets are longer.
        const MOST: usize = 32;

        let beginning = &peer[..peer.len().min(MOST)];
        Mixed::new(self.prefix()).bytes(beginning).value()
    }

    /// Returns what is shown of the digest, as a number.
    pub fn shown(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

/// Hashes the first eight bytes only: they are uniformly distributed already. Equality compares the
/// whole digest.
impl Hash for IdentityDigest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0[..size_of::<u64>()].hash(state);
    }
}

/// Shows the beginning of the digest, for logs and variables.
impl fmt::Display for IdentityDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..Self::DIGITS / 2].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for IdentityDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What decides the TLS context of a location, as a digest: equal in all workers, and in the next
/// configuration, if nothing of it has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextId(Fingerprint);

impl ContextId {
    /// A context that is the same as any other of this `module`, these `directives` and this
    /// `content`.
    pub fn of_content(module: &CStr, directives: Fingerprint, content: Fingerprint) -> Self {
        let mut encoding = Encoding::new();
        encoding.flag(true);
        encoding.bytes(module.to_bytes());
        encoding.fingerprint(directives);
        encoding.fingerprint(content);
        Self(encoding.into())
    }

    /// A context that is the same as no other: not all that decides it can be told.
    pub fn of_number(number: u64) -> Self {
        let mut encoding = Encoding::new();
        // Keeps it apart from every content.
        encoding.flag(false);
        encoding.number(number);
        Self(encoding.into())
    }

    /// Returns eight bytes, which are as good as random.
    pub fn prefix(self) -> u64 {
        self.0.prefix()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Identity<'_> {
        /// Returns an identity with the context of this number, and no other field set.
        pub fn in_context(context: u64) -> Self {
            Self {
                context: ContextId::of_number(context),
                overridden: true,
                client_certificate: None,
                verify: false,
                verify_depth: None,
                trusted_store: None,
                names: None,
                pins: None,
                spiffe: None,
                options: None,
                protocols: None,
                server_name: None,
                verified_name: None,
                source: None,
            }
        }
    }

    fn fingerprint(content: &[u8]) -> Fingerprint {
        Fingerprint::of([content])
    }

    fn names(names: &[&[u8]]) -> AcceptedNames {
        let dns = names.iter().map(|name| Box::from(*name)).collect();
        AcceptedNames { dns, ..AcceptedNames::default() }
    }

    fn pins(bytes: &[u8]) -> Pins {
        let texts = bytes.iter().map(|byte| openssl::base64::encode_block(&[*byte; 32]));
        let texts: Vec<_> = texts.collect();
        Pins::new(texts.iter().map(|text| text.as_bytes())).unwrap()
    }

    fn store(content: &[u8]) -> StoreFingerprint {
        StoreFingerprint {
            store: Some(0),
            accepts_expired: false,
            content: fingerprint(content),
            objects: 1,
            flags: 0,
            depth: 0,
            time: 0,
            level: 0,
            host_flags: 0,
        }
    }

    #[test]
    fn every_field_makes_a_difference() {
        let (ab, ba, abc) = (names(&[b"a", b"b"]), names(&[b"b", b"a"]), names(&[b"ab"]));
        let no_names = names(&[]);
        let [one, two, both] = [&[1][..], &[2], &[1, 2]].map(pins);
        let [version, cipher, group] = [&b"hTLSv1.2"[..], b"cDEFAULT", b"gX25519"]
            .map(|option| TlsOptions::new([option].into_iter()).unwrap());
        let [id, other_id, below] = [&b"ispiffe://a/b"[..], b"ispiffe://a/c", b"ispiffe://a/*"]
            .map(|id| AcceptedIds::new([b"ta", id].into_iter()).unwrap().0);
        let [store_1, store_2] = [[store(b"1")], [store(b"2")]];
        let base = Identity::in_context(1);
        let all = [
            base,
            Identity { context: ContextId::of_number(2), ..base },
            Identity { overridden: false, ..base },
            Identity { client_certificate: Some(fingerprint(b"1")), ..base },
            Identity { client_certificate: Some(fingerprint(b"2")), ..base },
            Identity { verify: true, ..base },
            Identity { verify_depth: Some(0), ..base },
            Identity { verify_depth: Some(1), ..base },
            Identity { trusted_store: Some(store(b"1")), ..base },
            Identity {
                trusted_store: Some(StoreFingerprint { store: Some(1), ..store(b"1") }),
                ..base
            },
            Identity {
                trusted_store: Some(StoreFingerprint { store: None, ..store(b"1") }),
                ..base
            },
            Identity {
                trusted_store: Some(StoreFingerprint { accepts_expired: true, ..store(b"1") }),
                ..base
            },
            Identity { trusted_store: Some(store(b"2")), ..base },
            Identity {
                trusted_store: Some(StoreFingerprint { objects: 2, ..store(b"1") }),
                ..base
            },
            Identity { trusted_store: Some(StoreFingerprint { flags: 1, ..store(b"1") }), ..base },
            Identity { trusted_store: Some(StoreFingerprint { depth: 1, ..store(b"1") }), ..base },
            Identity { trusted_store: Some(StoreFingerprint { time: 1, ..store(b"1") }), ..base },
            Identity { trusted_store: Some(StoreFingerprint { level: 1, ..store(b"1") }), ..base },
            Identity {
                trusted_store: Some(StoreFingerprint { host_flags: 1, ..store(b"1") }),
                ..base
            },
            Identity { names: Some(&no_names), ..base },
            Identity { names: Some(&ab), ..base },
            Identity { names: Some(&ba), ..base },
            Identity { names: Some(&abc), ..base },
            Identity { pins: Some(&one), ..base },
            Identity { pins: Some(&two), ..base },
            Identity { pins: Some(&both), ..base },
            Identity { spiffe: Some((&id, &store_1)), ..base },
            Identity { spiffe: Some((&id, &store_2)), ..base },
            Identity { spiffe: Some((&other_id, &store_1)), ..base },
            Identity { spiffe: Some((&below, &store_1)), ..base },
            Identity { options: Some(&version), ..base },
            Identity { options: Some(&cipher), ..base },
            Identity { options: Some(&group), ..base },
            Identity { protocols: Some(b"\x02h2"), ..base },
            Identity { server_name: Some(b""), ..base },
            Identity { server_name: Some(b"a"), ..base },
            Identity { protocols: Some(b"a"), ..base },
            Identity { verified_name: Some(b"a"), ..base },
            Identity { server_name: Some(b"a"), verified_name: Some(b"a"), ..base },
            Identity { server_name: Some(b"a\0"), ..base },
            Identity { source: Some(b"\x02\0a"), ..base },
            Identity { source: Some(b"\x02\0b"), ..base },
        ];
        for (index, one) in all.iter().enumerate() {
            // The first time, and from memory.
            assert_eq!([one.digest(), one.digest()], [one.hashed(); 2]);
            for (other_index, other) in all.iter().enumerate() {
                assert_eq!(
                    one.digest() == other.digest(),
                    index == other_index,
                    "{index} {other_index}"
                );
            }
        }
    }

    #[test]
    fn a_context_is_its_module_its_directives_and_its_content() {
        let [one, two] = [fingerprint(b"1"), fingerprint(b"2")];
        let context = ContextId::of_content(c"proxy", one, two);
        assert_eq!(context, ContextId::of_content(c"proxy", one, two));
        let mut others = vec![
            ContextId::of_content(c"grpc", one, two),
            ContextId::of_content(c"proxy", two, two),
            ContextId::of_content(c"proxy", one, one),
            ContextId::of_content(c"proxy", two, one),
        ];
        others.extend((0..10).map(ContextId::of_number));
        for (index, other) in others.iter().enumerate() {
            assert_ne!(context, *other);
            assert!(!others[..index].contains(other));
        }
    }

    #[test]
    fn a_key_is_shown_as_short_lower_case_hex() {
        let mut digest = [0; 32];
        digest[..3].copy_from_slice(&[0xab, 0x01, 0xff]);
        let shown = IdentityDigest(digest).to_string();
        assert_eq!(shown, "ab01ff0000000000");
        assert_eq!(shown.len(), IdentityDigest::DIGITS);
    }
}
