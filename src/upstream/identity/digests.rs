// SPDX-License-Identifier: Apache-2.0

//! The digests of the identities that a worker has used last. To compare an identity with one of
//! them takes a twentieth of the time that it takes to hash it.

use std::cell::RefCell;
use std::mem;

use crate::mixing::Mixed;
use crate::openssl::fingerprint::{Fingerprint, StoreFingerprint};
use crate::openssl::pins::Pins;
use crate::openssl::san::AcceptedNames;
use crate::openssl::spiffe::AcceptedIds;
use crate::openssl::tls_options::TlsOptions;
use crate::upstream::identity::{ContextId, Identity, IdentityDigest};

/// The number of places for identities. Each has room for two.
const PLACES: usize = 1024;

/// The most bytes of names that are copied for an identity.
const MOST_BYTES: usize = 4096;

thread_local! {
    static DIGESTS: RefCell<Digests> = const { RefCell::new(Digests(Vec::new())) };
}

/// Returns the digest of `identity`.
pub fn of(identity: &Identity<'_>) -> IdentityDigest {
    DIGESTS.with_borrow_mut(|digests| digests.of(identity))
}

/// Forgets all of them.
pub fn clear_cache() {
    DIGESTS.with_borrow_mut(|digests| digests.0.clear());
}

/// An identity whose digest is remembered, with copies of what it borrows.
struct Remembered {
    context: ContextId,
    overridden: bool,
    client_certificate: Option<Fingerprint>,
    verify: bool,
    verify_depth: Option<u32>,
    trusted_store: Option<StoreFingerprint>,
    names: Option<AcceptedNames>,
    pins: Option<Pins>,
    spiffe: Option<(AcceptedIds, Vec<StoreFingerprint>)>,
    options: Option<TlsOptions>,
    protocols: Option<Box<[u8]>>,
    server_name: Option<Box<[u8]>>,
    verified_name: Option<Box<[u8]>>,
    source: Option<Box<[u8]>>,
    digest: IdentityDigest,
}

impl Remembered {
    fn new(identity: &Identity<'_>, digest: IdentityDigest) -> Self {
        let Identity {
            context,
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
        } = *identity;
        Self {
            context,
            overridden,
            client_certificate,
            verify,
            verify_depth,
            trusted_store,
            names: names.cloned(),
            pins: pins.cloned(),
            spiffe: spiffe.map(|(ids, stores)| (ids.clone(), stores.to_vec())),
            options: options.cloned(),
            protocols: protocols.map(Box::from),
            server_name: server_name.map(Box::from),
            verified_name: verified_name.map(Box::from),
            source: source.map(Box::from),
            digest,
        }
    }

    /// Compares the fields where they are: a copy of an identity would take longer.
    fn is_of(&self, identity: &Identity<'_>) -> bool {
        let Identity {
            context,
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
        } = identity;
        self.verified_name.as_deref() == *verified_name
            && self.server_name.as_deref() == *server_name
            && self.context == *context
            && self.client_certificate == *client_certificate
            && self.overridden == *overridden
            && self.verify == *verify
            && self.verify_depth == *verify_depth
            && self.trusted_store == *trusted_store
            && self.names.as_ref() == *names
            && self.pins.as_ref() == *pins
            && self.spiffe.as_ref().map(|(ids, stores)| (ids, &stores[..])) == *spiffe
            && self.options.as_ref() == *options
            && self.protocols.as_deref() == *protocols
            && self.source.as_deref() == *source
    }
}

/// Two identities for each place, of which the first was used last.
struct Digests(Vec<[Option<Box<Remembered>>; 2]>);

impl Digests {
    fn of(&mut self, identity: &Identity<'_>) -> IdentityDigest {
        if self.0.is_empty() {
            self.0.resize_with(PLACES, Default::default);
        }
        let [newer, older] = &mut self.0[place(identity)];
        if let Some(found) = newer.as_ref().filter(|one| one.is_of(identity)) {
            return found.digest;
        }
        mem::swap(newer, older);
        if let Some(found) = newer.as_ref().filter(|one| one.is_of(identity)) {
            return found.digest;
        }
        let digest = identity.hashed();
        if bytes(identity) <= MOST_BYTES {
            *newer = Some(Box::new(Remembered::new(identity, digest)));
        }
        digest
    }
}

/// Returns the place of `identity`, by what differs most.
fn place(identity: &Identity<'_>) -> usize {
    let context = identity.context.prefix();
    let certificate = identity.client_certificate.map_or(0, Fingerprint::prefix);
    let store = identity.trusted_store.map_or(0, |store| store.content.prefix());
    let depth = identity.verify_depth.map_or(0, u64::from);
    let name = identity.verified_name.or(identity.server_name).unwrap_or_default();
    let numbers = [store, depth, context];
    let mixed = numbers.into_iter().fold(Mixed::new(certificate), Mixed::number).bytes(name);
    mixed.value() as usize % PLACES
}

/// Returns the size of what `identity` borrows.
fn bytes(identity: &Identity<'_>) -> usize {
    let Identity {
        names,
        pins,
        spiffe,
        options,
        protocols,
        server_name,
        verified_name,
        source,
        ..
    } = *identity;
    let texts = [protocols, server_name, verified_name, source];
    let spiffe = spiffe.map_or(0, |(ids, stores)| ids.size() + size_of_val(stores));
    let lists = names.map_or(0, AcceptedNames::size)
        + pins.map_or(0, Pins::size)
        + spiffe
        + options.map_or(0, TlsOptions::size);
    lists + texts.iter().flatten().map(|text| text.len()).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_a_place_from_others_is_not_taken_for_them() {
        clear_cache();
        for _ in 0..2 {
            for context in 0..4 * PLACES as u64 {
                let one = Identity::in_context(context);
                assert_eq!(one.digest(), one.hashed());
            }
        }
        let places = DIGESTS.with_borrow(|digests| digests.0.iter().flatten().flatten().count());
        assert!((PLACES..=2 * PLACES).contains(&places), "{places}");
    }

    #[test]
    fn a_remembered_digest_is_that_of_the_identity() {
        for length in [0, 1, 100, 200, 255, 256, 1000] {
            let name = vec![b'a'; length];
            let other = [&name[..], b"b"].concat();
            let [one, another] = [&name, &other]
                .map(|name| Identity { verified_name: Some(name), ..Identity::in_context(1) });
            clear_cache();
            let digests = [one.digest(), another.digest()];
            assert_ne!(digests[0], digests[1]);
            // Now from memory, and in another order.
            assert_eq!([another.digest(), one.digest()], [digests[1], digests[0]]);
            clear_cache();
            assert_eq!([another.digest(), one.digest()], [digests[1], digests[0]]);
        }
    }

    #[test]
    fn long_lists_of_names_are_not_kept() {
        clear_cache();
        let names = |count: u32| {
            let dns = (0..count).map(|name| name.to_string().into_bytes().into()).collect();
            AcceptedNames { dns, ..AcceptedNames::default() }
        };
        let (short, long) = (names(100), names(10_000));
        for names in [Some(&short), Some(&long)] {
            let one = Identity { names, ..Identity::in_context(1) };
            assert_eq!([one.digest(), one.digest()], [one.hashed(); 2]);
        }
        let kept = DIGESTS.with_borrow(|digests| digests.0.iter().flatten().flatten().count());
        assert_eq!(kept, 1);
    }
}
