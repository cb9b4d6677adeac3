// SPDX-License-Identifier: Apache-2.0

//! The sessions that all workers share: which session may be offered to which peer, as
//! [`SessionCache`] decides it for a single worker.
//!
//! The records say of each peer which sessions it has, by their numbers, and of each number what
//! the session is. A worker may have kept the session with a number; that it may still be offered,
//! only the records say.
//!
//! [`SessionCache`]: crate::upstream::handshake::session_cache::SessionCache

use std::cell::RefCell;

use crate::openssl::fingerprint::Encoding;
use crate::session_zone::records::{Key, Kind, Lifetime, Part, Records, TooLarge};
use crate::upstream::handshake::session_cache::{
    Entry, Kept, Now, Session, SessionKey, Validity, is_over,
};

/// A session, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbered {
    pub number: u64,
    is_single_use: bool,
}

impl Session for Numbered {
    fn is_resumable(&self) -> bool {
        // A session that was used is removed: see `used`.
        true
    }

    fn is_single_use(&self) -> bool {
        self.is_single_use
    }
}

/// How a peer is found in the records.
#[derive(Clone, Copy, Debug)]
pub struct PeerKey {
    key: Key,
    tag: u64,
}

/// How many keys a worker remembers: the digest takes longer than the rest of a lookup.
const REMEMBERED: usize = 256;

thread_local! {
    static PEER_KEYS: RefCell<Vec<Option<(SessionKey, PeerKey)>>> =
        const { RefCell::new(Vec::new()) };
}

impl PeerKey {
    pub fn of(key: &SessionKey) -> Self {
        let place = key.identity.mixed_with(key.peer.as_bytes()) as usize % REMEMBERED;
        PEER_KEYS.with_borrow_mut(|remembered| {
            remembered.resize(REMEMBERED, None);
            match &mut remembered[place] {
                Some((known, peer_key)) if known == key => *peer_key,
                place => place.insert((*key, Self::hashed(key))).1,
            }
        })
    }

    fn hashed(key: &SessionKey) -> Self {
        let SessionKey { identity, peer } = key;
        let mut encoding = Encoding::new();
        encoding.bytes(identity.as_bytes());
        encoding.bytes(peer.as_bytes());
        Self { key: encoding.digest(), tag: identity.shown() }
    }
}

/// The parts of a session's text.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    /// What stands before the certificate of the peer.
    pub before: &'a [u8],
    /// The certificate, if there is one, and its digest.
    pub peer: Option<(Key, &'a [u8])>,
    /// What stands after it.
    pub after: &'a [u8],
}

impl Text<'_> {
    fn length(&self) -> usize {
        let peer = self.peer.map_or(0, |(_, certificate)| certificate.len());
        self.before.len() + peer + self.after.len()
    }
}

/// The parts of a session's text, as they were found.
#[derive(Debug, PartialEq, Eq)]
pub struct FoundText {
    pub before: Vec<u8>,
    pub peer: FoundPeer,
    pub after: Vec<u8>,
}

/// The certificate of the peer of a session.
#[derive(Debug, PartialEq, Eq)]
pub enum FoundPeer {
    None,
    /// The worker has the certificate with this digest.
    Decoded(Key),
    /// Its digest, and its text.
    Text(Key, Vec<u8>),
}

/// What a worker has decoded.
pub trait Decodes {
    /// Returns what it has of the session with a number.
    fn session(&mut self, number: u64) -> Decoded;

    /// Returns whether it has the certificate with this digest.
    fn has_certificate(&mut self, digest: &Key) -> bool;
}

/// A session to offer to a peer.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    pub number: u64,
    pub validity: Validity,
    /// Its text, unless the worker has the session.
    pub text: Option<FoundText>,
    /// Whether the session may be used once only, and others may be offered it meanwhile.
    pub is_shared_ticket: bool,
    /// Whether the peer has refused sessions before.
    pub was_refused: bool,
}

/// The time, and how long sessions may be resumed.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    pub now: Now,
    /// In milliseconds from the first handshake.
    pub lifetime: u64,
}

impl Clock {
    /// Returns when a session ends, by the monotonic clock.
    fn end_of(self, validity: Validity) -> u64 {
        validity.first_handshake.saturating_add(self.lifetime)
    }
}

/// What a worker has of the session with a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// The session.
    Session,
    /// A session that may not be offered any more.
    Unusable,
    Nothing,
}

/// Returns the session for a peer that may be offered now. `decoded` is what the worker has.
pub fn take(
    records: &mut Records<'_>,
    peer: &PeerKey,
    clock: Clock,
    decoded: &mut impl Decodes,
) -> Option<Found> {
    let before = read(records, peer)?;
    if before.is_withheld(clock.now) {
        return None;
    }
    let mut entry = before.clone();
    let mut found = None;
    while let Some((session, validity)) = entry.take(clock.lifetime, clock.now) {
        let Numbered { number, is_single_use } = session;
        let stays = entry.sessions.iter().any(|kept| kept.session == session);
        let key = key_of(number);
        let text = match decoded.session(number) {
            Decoded::Session => records.touch(Kind::Session, &key).then_some(None),
            Decoded::Unusable => None,
            Decoded::Nothing => text_of(records, &key, decoded).map(Some),
        };
        if let Some(text) = text {
            found = Some(Found {
                number,
                validity,
                text,
                is_shared_ticket: is_single_use && stays,
                was_refused: entry.refusals > 0,
            });
            break;
        }
        // It was evicted, or is of no use.
        entry.sessions.retain(|kept| kept.session != session);
    }
    write(records, peer, clock, &before, &entry);
    found
}

/// Adds a session for a peer, and returns its number; `None` if it is not kept. The arguments are
/// those of `SessionCache::put`.
pub fn put(
    records: &mut Records<'_>,
    peer: &PeerKey,
    text: Text<'_>,
    is_single_use: bool,
    validity: Validity,
    clock: Clock,
) -> Option<u64> {
    if is_over(validity, clock.lifetime, clock.now) {
        return None;
    }
    let before = read(records, peer).unwrap_or_else(Entry::new);
    if before.is_withheld(clock.now) {
        return None;
    }
    let number = records.new_number();
    let lifetime = Lifetime::new(clock.now.monotonic, clock.end_of(validity));
    keep_text(records, peer, lifetime, number, text).ok()?;
    let mut entry = before.clone();
    let session = Numbered { number, is_single_use };
    entry.put(Kept { session, validity, size: text.length() }, usize::MAX);
    write(records, peer, clock, &before, &entry);
    Some(number)
}

/// Notes that a ticket was used that others may be offered as well.
pub fn used(records: &mut Records<'_>, peer: &PeerKey, clock: Clock, number: u64) {
    if let Some(before) = read(records, peer) {
        let mut entry = before.clone();
        entry.sessions.retain(|kept| kept.session.number != number);
        write(records, peer, clock, &before, &entry);
    }
}

/// Removes all sessions of a peer that has refused one: see `SessionCache::refused`.
pub fn refused(records: &mut Records<'_>, peer: &PeerKey, clock: Clock) {
    let before = read(records, peer).unwrap_or_else(Entry::new);
    let mut entry = before.clone();
    entry.refuse(clock.now);
    write(records, peer, clock, &before, &entry);
}

/// Notes that the peer has accepted a session.
pub fn accepted(records: &mut Records<'_>, peer: &PeerKey, clock: Clock) {
    if let Some(before) = read(records, peer) {
        write(records, peer, clock, &before, &Entry { refusals: 0, ..before.clone() });
    }
}

/// The key of a session. Numbers are different, which is as good as random here.
fn key_of(number: u64) -> Key {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&number.to_le_bytes());
    key
}

/// What a session without the certificate of its peer has in place of the certificate's digest.
const NO_CERTIFICATE: Key = [0; 32];

fn keep_text(
    records: &mut Records<'_>,
    peer: &PeerKey,
    lifetime: Lifetime,
    number: u64,
    text: Text<'_>,
) -> Result<(), TooLarge> {
    let Text { before, peer: certificate, after } = text;
    let kind = Kind::ServiceCertificate;
    if let Some((digest, certificate)) = certificate {
        if !records.touch(kind, &digest) {
            records.put(Part::Main, kind, &digest, 0, &[certificate])?;
        }
    }
    let digest = certificate.map_or(NO_CERTIFICATE, |(digest, _)| digest);
    let length = (before.len() as u64).to_le_bytes();
    let pieces = [&digest[..], &length, before, after];
    records.put_for(lifetime, Part::Main, Kind::Session, &key_of(number), peer.tag, &pieces)
}

fn text_of(records: &mut Records<'_>, key: &Key, decoded: &mut impl Decodes) -> Option<FoundText> {
    let text = records.get(Kind::Session, key)?;
    let (certificate, rest) = text.split_first_chunk::<32>()?;
    let (length, rest) = rest.split_first_chunk()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (before, after) = rest.split_at_checked(length)?;
    let peer = match *certificate {
        NO_CERTIFICATE => FoundPeer::None,
        digest if decoded.has_certificate(&digest) => {
            records.touch(Kind::ServiceCertificate, &digest);
            FoundPeer::Decoded(digest)
        }
        digest => FoundPeer::Text(digest, records.get(Kind::ServiceCertificate, &digest)?),
    };
    Some(FoundText { before: before.to_vec(), peer, after: after.to_vec() })
}

/// Returns the entry of a peer.
fn read(records: &mut Records<'_>, peer: &PeerKey) -> Option<Entry<Numbered>> {
    decode(&records.get(Kind::Peer, &peer.key)?)
}

/// Replaces the entry `before` of a peer by `after`, and removes the sessions that are no longer in
/// it.
fn write(
    records: &mut Records<'_>,
    peer: &PeerKey,
    clock: Clock,
    before: &Entry<Numbered>,
    after: &Entry<Numbered>,
) {
    if before == after {
        return;
    }
    for Kept { session, .. } in &before.sessions {
        if after.sessions.iter().all(|kept| kept.session != *session) {
            records.remove(Kind::Session, &key_of(session.number));
        }
    }
    if after.is_empty() {
        records.remove(Kind::Peer, &peer.key);
    } else {
        // An entry is smaller than any zone: without it the peer is offered no session.
        let text = encode(after);
        let ends = after.sessions.iter().map(|kept| clock.end_of(kept.validity));
        // What the peer has refused, counts after it is offered sessions again.
        let refused = (after.refusals > 0)
            .then(|| after.withheld_until.max(clock.now.monotonic).saturating_add(clock.lifetime));
        let end = ends.chain(refused).max().unwrap_or_default();
        let lifetime = Lifetime::new(clock.now.monotonic, end);
        let _ = records.put_for(lifetime, Part::Main, Kind::Peer, &peer.key, peer.tag, &[&text]);
    }
}

fn encode(entry: &Entry<Numbered>) -> Vec<u8> {
    let Entry { sessions, refusals, withheld_until } = entry;
    let mut text = Vec::with_capacity(256);
    text.extend(refusals.to_le_bytes());
    text.extend(withheld_until.to_le_bytes());
    for Kept { session: Numbered { number, is_single_use }, validity, size } in sessions {
        let Validity { first_handshake, not_after, has_presented } = validity;
        text.push((*is_single_use).into());
        text.push((*has_presented).into());
        text.push(not_after.is_some().into());
        text.extend(number.to_le_bytes());
        text.extend(first_handshake.to_le_bytes());
        text.extend(not_after.unwrap_or_default().to_le_bytes());
        text.extend((*size as u64).to_le_bytes());
    }
    text
}

fn decode(mut text: &[u8]) -> Option<Entry<Numbered>> {
    fn next<const N: usize>(text: &mut &[u8]) -> Option<[u8; N]> {
        let (first, rest) = text.split_first_chunk()?;
        *text = rest;
        Some(*first)
    }
    let text = &mut text;
    let mut entry = Entry {
        refusals: u32::from_le_bytes(next(text)?),
        withheld_until: u64::from_le_bytes(next(text)?),
        sessions: Vec::new(),
    };
    while !text.is_empty() {
        let [is_single_use, has_presented, has_end] = next(text)?;
        let number = u64::from_le_bytes(next(text)?);
        let first_handshake = u64::from_le_bytes(next(text)?);
        let not_after = i64::from_le_bytes(next(text)?);
        let size = usize::try_from(u64::from_le_bytes(next(text)?)).ok()?;
        let session = Numbered { number, is_single_use: is_single_use != 0 };
        let not_after = (has_end != 0).then_some(not_after);
        let validity = Validity { first_handshake, not_after, has_presented: has_presented != 0 };
        entry.sessions.push(Kept { session, validity, size });
    }
    Some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nginx::sockaddr::Address;
    use crate::upstream::identity::Identity;

    const LIFETIME: u64 = 100;

    /// A worker that has decoded nothing, or everything but one session that is of no use.
    enum Worker {
        Fresh,
        Old { unusable: u64 },
    }

    impl Decodes for Worker {
        fn session(&mut self, number: u64) -> Decoded {
            match self {
                Self::Fresh => Decoded::Nothing,
                Self::Old { unusable } if *unusable == number => Decoded::Unusable,
                Self::Old { .. } => Decoded::Session,
            }
        }

        fn has_certificate(&mut self, _: &Key) -> bool {
            matches!(self, Self::Old { .. })
        }
    }

    fn session_key(context: u64, address: &[u8]) -> SessionKey {
        SessionKey {
            identity: Identity::in_context(context).digest(),
            peer: Address::new(address).unwrap(),
        }
    }

    fn peer(context: u64, address: &[u8]) -> PeerKey {
        PeerKey::of(&session_key(context, address))
    }

    #[test]
    fn a_remembered_key_is_that_of_the_peer() {
        // More than are remembered, and some that differ only where no hash looks.
        let contexts = 0..4 * REMEMBERED as u64;
        let keys: Vec<_> = contexts
            .flat_map(|context| {
                [1, 2].map(|end| session_key(context, &[[7; 40], [end; 40]].concat()))
            })
            .collect();
        for _ in 0..2 {
            for key in &keys {
                let (remembered, hashed) = (PeerKey::of(key), PeerKey::hashed(key));
                assert_eq!((remembered.key, remembered.tag), (hashed.key, hashed.tag));
            }
        }
    }

    fn at(monotonic: u64) -> Clock {
        Clock { now: Now { date: 0, monotonic }, lifetime: LIFETIME }
    }

    const FRESH: Validity = Validity { first_handshake: 0, not_after: None, has_presented: false };

    const CERTIFICATE: Option<(Key, &[u8])> = Some(([7; 32], b"certificate"));

    fn text(name: &str) -> Text<'_> {
        Text { before: name.as_bytes(), peer: CERTIFICATE, after: b"after" }
    }

    /// Adds a session, and returns its number.
    fn add(records: &mut Records<'_>, peer: &PeerKey, name: &str, is_single_use: bool) -> u64 {
        put(records, peer, text(name), is_single_use, FRESH, at(0)).unwrap()
    }

    fn get(records: &mut Records<'_>, peer: &PeerKey, now: u64) -> Option<Found> {
        take(records, peer, at(now), &mut Worker::Fresh)
    }

    fn with_records(bytes: usize, test: impl FnOnce(&mut Records<'_>)) {
        test(&mut Records::new(&mut vec![0; bytes / 8]).unwrap());
    }

    fn count(records: &Records<'_>, kind: Kind) -> u64 {
        records.totals()[kind as usize].records
    }

    #[test]
    fn identity_and_address_are_the_key() {
        with_records(64 * 1024, |records| {
            add(records, &peer(1, b"a"), "1a", false);
            add(records, &peer(2, b"a"), "2a", false);
            let found = get(records, &peer(1, b"a"), 0).unwrap();
            let FoundText { before, peer: certificate, after } = found.text.unwrap();
            let FoundPeer::Text(_, certificate) = certificate else {
                panic!("no certificate");
            };
            assert_eq!(
                (&*before, &*certificate, &*after),
                (&b"1a"[..], &b"certificate"[..], &b"after"[..])
            );
            assert_eq!(get(records, &peer(2, b"a"), 0).unwrap().text.unwrap().before, b"2a");
            assert_eq!(get(records, &peer(1, b"b"), 0), None);
            assert_eq!(get(records, &peer(3, b"a"), 0), None);
            assert_eq!(count(records, Kind::ServiceCertificate), 1);
        });
    }

    #[test]
    fn a_session_that_can_be_used_again_is_replaced_by_the_next() {
        with_records(64 * 1024, |records| {
            let key = peer(1, b"a");
            let first = add(records, &key, "first", false);
            assert_eq!(get(records, &key, 0).unwrap().number, first);
            assert_eq!(get(records, &key, 0).unwrap().number, first);
            let second = add(records, &key, "second", false);
            assert_eq!(get(records, &key, 0).unwrap().number, second);
            assert_eq!(count(records, Kind::Session), 1);
        });
    }

    #[test]
    fn a_refusal_is_remembered_as_long_as_a_session() {
        with_records(64 * 1024, |records| {
            let key = peer(1, b"a");
            let clock = at(10_000);
            refused(records, &key, clock);
            // Each session that is kept removes what is of no use any more.
            let validity =
                Validity { first_handshake: 10_000, not_after: None, has_presented: false };
            for number in 2..20 {
                put(records, &peer(number, b"a"), text("other"), false, validity, clock).unwrap();
            }
            refused(records, &key, clock);
            assert!(read(records, &key).unwrap().is_withheld(clock.now));
        });
    }

    #[test]
    fn each_ticket_is_taken_once_and_the_last_is_shared_until_it_was_used() {
        with_records(64 * 1024, |records| {
            let key = peer(1, b"a");
            let numbers: Vec<_> = (0..5).map(|_| add(records, &key, "ticket", true)).collect();
            // Four of an entry are kept.
            assert_eq!(count(records, Kind::Session), 4);
            for number in numbers[2..].iter().rev() {
                let found = get(records, &key, 0).unwrap();
                assert_eq!((found.number, found.is_shared_ticket), (*number, false));
            }
            for _ in 0..2 {
                let last = get(records, &key, 0).unwrap();
                assert_eq!((last.number, last.is_shared_ticket), (numbers[1], true));
            }
            used(records, &key, at(0), numbers[1]);
            assert_eq!(get(records, &key, 0), None);
            assert_eq!(count(records, Kind::Session) + count(records, Kind::Peer), 0);
        });
    }

    #[test]
    fn a_session_that_the_worker_has_is_not_read() {
        with_records(64 * 1024, |records| {
            let key = peer(1, b"a");
            let number = add(records, &key, "session", false);
            let found = take(records, &key, at(0), &mut Worker::Old { unusable: 0 }).unwrap();
            assert_eq!((found.number, found.text), (number, None));
            // But only as long as the records have it.
            assert!(records.remove(Kind::Session, &key_of(number)));
            assert_eq!(take(records, &key, at(0), &mut Worker::Old { unusable: 0 }), None);
            assert_eq!(count(records, Kind::Peer), 0);
        });
    }

    #[test]
    fn a_session_that_is_of_no_use_is_removed_everywhere() {
        with_records(64 * 1024, |records| {
            let key = peer(1, b"a");
            let older = add(records, &key, "older", true);
            let newer = add(records, &key, "newer", true);
            let mut worker = Worker::Old { unusable: newer };
            assert_eq!(take(records, &key, at(0), &mut worker).unwrap().number, older);
            assert_eq!(count(records, Kind::Session), 1);
        });
    }

    #[test]
    fn a_session_ends_with_its_time_and_its_certificate() {
        with_records(64 * 1024, |records| {
            let key = peer(1, b"a");
            add(records, &key, "session", false);
            assert!(get(records, &key, LIFETIME - 1).is_some());
            assert_eq!(get(records, &key, LIFETIME), None);
            assert_eq!(count(records, Kind::Session), 0);

            let validity =
                Validity { first_handshake: 0, not_after: Some(10), has_presented: false };
            let at_date = |date| Clock { now: Now { date, monotonic: 0 }, ..at(0) };
            let before = at_date(9);
            let kept = put(records, &key, text("ends"), false, validity, before);
            assert!(kept.is_some());
            assert!(take(records, &key, before, &mut Worker::Fresh).is_some());
            let after = at_date(10);
            assert_eq!(take(records, &key, after, &mut Worker::Fresh), None);
            let late = put(records, &key, text("late"), false, validity, after);
            assert_eq!(late, None);
        });
    }

    #[test]
    fn a_peer_that_refuses_sessions_is_offered_none_for_a_while() {
        with_records(64 * 1024, |records| {
            let key = peer(1, b"a");
            add(records, &key, "session", false);
            refused(records, &key, at(0));
            assert_eq!(count(records, Kind::Session), 0);
            add(records, &key, "session", false);
            let found = get(records, &key, 0).unwrap();
            assert!(found.was_refused);
            accepted(records, &key, at(0));
            assert!(!get(records, &key, 0).unwrap().was_refused);

            refused(records, &key, at(0));
            refused(records, &key, at(0));
            let withheld = put(records, &key, text("session"), false, FRESH, at(0));
            assert_eq!(withheld, None);
            assert_eq!(get(records, &key, 0), None);
        });
    }

    #[test]
    fn a_session_without_the_certificate_of_its_peer_is_no_session() {
        with_records(64 * 1024, |records| {
            let key = peer(1, b"a");
            add(records, &key, "session", false);
            assert!(records.remove(Kind::ServiceCertificate, &[7; 32]));
            assert_eq!(get(records, &key, 0), None);
            assert_eq!(count(records, Kind::Session), 0);

            let bare = Text { before: b"before", peer: None, after: b"" };
            put(records, &key, bare, false, FRESH, at(0)).unwrap();
            assert_eq!(get(records, &key, 0).unwrap().text.unwrap().peer, FoundPeer::None);
        });
    }

    #[test]
    fn little_memory_keeps_few_sessions_and_large_ones_not_at_all() {
        with_records(8 * 1024, |records| {
            let large = vec![7; 16 * 1024];
            let text = Text { before: &large, peer: None, after: b"" };
            let key = peer(0, b"a");
            assert_eq!(put(records, &key, text, false, FRESH, at(0)), None);
            let body = [7; 700];
            for context in 0..100 {
                let key = peer(context, b"a");
                let text = Text { before: &body, peer: CERTIFICATE, after: b"" };
                put(records, &key, text, true, FRESH, at(0)).unwrap();
                assert!(get(records, &key, 0).is_some(), "{context}");
            }
            assert!((1..10).contains(&count(records, Kind::Session)));
        });
    }

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let session = |number, is_single_use, not_after| Kept {
            session: Numbered { number, is_single_use },
            validity: Validity {
                first_handshake: number + 1,
                not_after,
                has_presented: is_single_use,
            },
            size: 7,
        };
        for sessions in [
            vec![],
            vec![session(1, true, None)],
            vec![session(u64::MAX - 1, false, Some(i64::MIN)), session(2, true, Some(3))],
        ] {
            let entry = Entry { sessions, refusals: 3, withheld_until: 4 };
            let text = encode(&entry);
            assert_eq!(decode(&text), Some(entry));
            assert_eq!(decode(&text[..text.len() - 1]), None);
        }
    }
}
