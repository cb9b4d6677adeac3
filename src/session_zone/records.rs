// SPDX-License-Identifier: Apache-2.0

//! Records in a piece of memory that processes share: texts that are found by a key, and of which
//! those that were not used for the longest time make room for new ones.
//!
//! Nothing in the memory is a pointer: each process has it elsewhere. The texts are in blocks of a
//! fixed size, so that the blocks of any records that are evicted are enough for a new one. nginx's
//! slabs would give a whole page to a text of half a page, and free pages need not be neighbours.
//! Memory of zeros has no records, and what was never used is never touched.

#![allow(unsafe_code, reason = "how the memory is divided, is said here")]

use std::hash::{BuildHasher, Hasher, RandomState};
use std::slice;

/// What a record is found by: a digest, or as good as random in its first eight bytes.
pub type Key = [u8; 32];

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The sessions of an identity with an address, by their numbers.
    Peer,
    /// A session with a service.
    Session,
    /// The certificate of a service, which its sessions refer to.
    ServiceCertificate,
    /// The intermediate certificates of clients.
    ClientChain,
    /// The names that the result of a client's verification counts for.
    ClientNames,
    /// What all clients of a configuration were asked with under a name.
    ClientTerms,
    /// What a plugin has found out about a client's chain.
    Verdict,
}

impl Kind {
    /// All kinds, with their names in the status.
    pub const ALL: &[(&'static str, Self)] = &[
        ("peer", Self::Peer),
        ("session", Self::Session),
        ("service_certificate", Self::ServiceCertificate),
        ("client_chain", Self::ClientChain),
        ("client_names", Self::ClientNames),
        ("client_terms", Self::ClientTerms),
        ("verdict", Self::Verdict),
    ];
}

const KINDS: usize = Kind::ALL.len();

/// The part of the memory that a record takes its room from. Each part evicts only its own records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Main,
    /// For what a stranger can cause to be kept, as often as it likes: an eighth of the memory.
    Strangers,
}

const PARTS: usize = 2;
/// One in this many blocks is for strangers.
const PART_OF_STRANGERS: u32 = 8;

/// The size of a block in bytes.
const BLOCK: usize = 128;
/// The number of blocks for each record that there may be.
const BLOCKS_OF_A_RECORD: u32 = 4;

/// The number of a record or a block, from 1; 0 is none.
type Number = u32;
const NONE: Number = 0;

/// A type whose values are in the memory.
///
/// # Safety
/// It has no padding, any bytes must be a value of it, and its size and alignment must divide
/// [`GRANULE`].
unsafe trait Plain: Sized {}

/// Each slice in the memory takes a multiple of this size in bytes.
const GRANULE: usize = size_of::<u64>();

/// Random bytes that live as long as the records.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Secret {
    pub bytes: [u8; 32],
    /// When they were made, in seconds since the epoch.
    pub made: i64,
}

/// What is known of all records.
#[repr(C)]
struct Header {
    /// The first block that is free; its `next` is the next one.
    free_block: Number,
    /// The number of blocks that were ever used.
    used_blocks: u32,
    /// The first head that is free; its `next` is the next one.
    free_head: Number,
    /// The number of heads that were ever used.
    used_heads: u32,
    /// The head that was looked at last to see whether its record is of use: see `sweep`.
    swept: Number,
    unused: u32,
    parts: [PartHeader; PARTS],
    kinds: [KindTotals; KINDS],
    /// The last number given to a session.
    last_number: u64,
    /// Random bytes, unless `has_secret` is 0.
    secret: [u8; 32],
    has_secret: u64,
    /// When they were made, in seconds since the epoch.
    secret_made: i64,
    /// What keys are mixed with to find their bucket, so that a client can't choose chains that all
    /// come into one; 0 before it was made.
    seed: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct PartHeader {
    /// The record that was used last, and the one that was not used for the longest time.
    newest: Number,
    oldest: Number,
    /// The number of records and blocks in use.
    records: u32,
    blocks: u32,
}

/// The totals of a kind.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindTotals {
    /// The number of records.
    pub records: u64,
    /// The number of bytes that they take.
    pub bytes: u64,
    /// How many were evicted to make room.
    pub evictions: u64,
}

/// The head of a record.
#[repr(C)]
#[derive(Clone, Copy)]
struct Head {
    key: Key,
    tag: u64,
    /// The next one in the same bucket, or the next free one.
    next: Number,
    /// Its neighbours in the order of use.
    newer: Number,
    older: Number,
    first_block: Number,
    /// The length of the text in bytes.
    length: u32,
    kind: u32,
    part: u32,
    /// From when on it is of no use, in seconds of the monotonic clock; 0 for never.
    ends: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Block {
    /// The next block of the record, or the next free one.
    next: Number,
    text: [u8; TEXT],
}

/// The number of bytes of a text in a block.
const TEXT: usize = BLOCK - size_of::<Number>();

const _: () = assert!(size_of::<Block>() == BLOCK && size_of::<Head>() == 72);

// SAFETY: they have no padding (8-byte integers begin at multiples of 8), and consist of integers.
unsafe impl Plain for Header {}
// SAFETY: it has no padding (asserted above), and consists of integers.
unsafe impl Plain for Head {}
// SAFETY: it has no padding (asserted above), and consists of integers.
unsafe impl Plain for Block {}
// SAFETY: it is an integer.
unsafe impl Plain for Number {}

/// Splits `count` values off the beginning of `memory`.
fn split_off<'a, T: Plain>(memory: &mut &'a mut [u64], count: usize) -> Option<&'a mut [T]> {
    const { assert!(align_of::<T>() <= GRANULE) };
    let words = count.checked_mul(size_of::<T>())?.div_ceil(GRANULE);
    if words > memory.len() {
        return None;
    }
    let (taken, rest) = std::mem::take(memory).split_at_mut(words);
    *memory = rest;
    // SAFETY: `taken` is borrowed for `'a`, has room for `count` values, and is aligned; any bytes
    // are values of a `Plain` type, and any values of it are integers.
    Some(unsafe { slice::from_raw_parts_mut(taken.as_mut_ptr().cast(), count) })
}

/// How long a record is of use.
#[derive(Clone, Copy, Debug)]
pub struct Lifetime {
    /// The time of the monotonic clock, in seconds.
    now: u32,
    /// When it ends; 0 for never.
    ends: u32,
}

impl Lifetime {
    /// Returns the lifetime of a record that is put in `now` and of use until `end`, both in
    /// milliseconds of the monotonic clock.
    pub fn new(now: u64, end: u64) -> Self {
        let seconds = |milliseconds| u32::try_from(milliseconds / 1000).unwrap_or(u32::MAX);
        Self { now: seconds(now), ends: seconds(end).saturating_add(1) }
    }

    const UNKNOWN: Self = Self { now: 0, ends: 0 };
}

/// How many records are looked at when one is put in, to remove those that are of no use any more.
/// So at most one in so many is of no use, once all were looked at.
const SWEPT: usize = 8;

/// A text is larger than its part of the memory.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLarge;

/// The records in a piece of memory.
pub struct Records<'a> {
    header: &'a mut Header,
    buckets: &'a mut [Number],
    heads: &'a mut [Head],
    blocks: &'a mut [Block],
}

impl<'a> Records<'a> {
    /// Returns the records in `memory`; `None` if it is too small for any. The memory must be that
    /// of former records of the same size, or zeros.
    pub fn new(mut memory: &'a mut [u64]) -> Option<Self> {
        const EACH: usize =
            size_of::<Number>() + size_of::<Head>() + BLOCKS_OF_A_RECORD as usize * BLOCK;
        let header = split_off::<Header>(&mut memory, 1)?.first_mut()?;
        if header.seed == 0 {
            header.seed = new_seed();
        }
        // Even, so that nothing between the slices is lost.
        let count = (size_of_val(memory) / EACH) & !1;
        let count = u32::try_from(count).ok()?.min(u32::MAX / BLOCKS_OF_A_RECORD / 2);
        if count < PART_OF_STRANGERS {
            return None;
        }
        let blocks = (count * BLOCKS_OF_A_RECORD) as usize;
        let count = count as usize;
        Some(Self {
            header,
            buckets: split_off(&mut memory, count)?,
            heads: split_off(&mut memory, count)?,
            blocks: split_off(&mut memory, blocks)?,
        })
    }

    /// Removes everything, whatever state the memory is in. Totals begin anew.
    pub fn clear(&mut self) {
        *self.header = Header {
            free_block: NONE,
            used_blocks: 0,
            free_head: NONE,
            used_heads: 0,
            swept: NONE,
            unused: 0,
            parts: [PartHeader::default(); PARTS],
            kinds: [KindTotals::default(); KINDS],
            // Numbers are not given again: a worker may still have a session with one of them.
            last_number: self.header.last_number,
            secret: [0; 32],
            has_secret: 0,
            secret_made: 0,
            seed: new_seed(),
        };
        self.buckets.fill(NONE);
    }

    /// Returns a number that was not returned before.
    pub fn new_number(&mut self) -> u64 {
        self.header.last_number = self.header.last_number.wrapping_add(1);
        self.header.last_number
    }

    /// Returns the random bytes that belong to these records, and when they were made.
    pub fn secret(&self) -> Option<Secret> {
        let Header { secret: bytes, has_secret, secret_made: made, .. } = *self.header;
        (has_secret != 0).then_some(Secret { bytes, made })
    }

    /// Sets or forgets the random bytes.
    pub fn set_secret(&mut self, secret: Option<Secret>) {
        self.header.has_secret = secret.is_some().into();
        let Secret { bytes, made } = secret.unwrap_or_default();
        self.header.secret = bytes;
        self.header.secret_made = made;
    }

    /// Returns the totals of all kinds, in the order of [`Kind::ALL`].
    pub fn totals(&self) -> [KindTotals; KINDS] {
        self.header.kinds
    }

    /// Returns the text of a record, if there is one, and notes that it was used.
    pub fn get(&mut self, kind: Kind, key: &Key) -> Option<Vec<u8>> {
        let number = self.find(kind, key)?;
        self.renew(number);
        Some(self.text(number))
    }

    /// Returns the part that a record is in, if there is one.
    pub fn part_of(&self, kind: Kind, key: &Key) -> Option<Part> {
        let part = self.head(self.find(kind, key)?).part;
        Some(if part == Part::Strangers as u32 { Part::Strangers } else { Part::Main })
    }

    /// Notes that a record was used. Returns whether it is there.
    pub fn touch(&mut self, kind: Kind, key: &Key) -> bool {
        let found = self.find(kind, key);
        if let Some(number) = found {
            self.renew(number);
        }
        found.is_some()
    }

    /// Adds a record with a text, or replaces it. Others of its part are evicted to make room.
    ///
    /// `tag` is what [`Records::remove_tagged`] finds it by. The text is that of all `pieces`.
    pub fn put(
        &mut self,
        part: Part,
        kind: Kind,
        key: &Key,
        tag: u64,
        pieces: &[&[u8]],
    ) -> Result<(), TooLarge> {
        self.put_for(Lifetime::UNKNOWN, part, kind, key, tag, pieces)
    }

    /// Adds a record as [`Records::put`] does, which is of use for some time only.
    pub fn put_for(
        &mut self,
        lifetime: Lifetime,
        part: Part,
        kind: Kind,
        key: &Key,
        tag: u64,
        pieces: &[&[u8]],
    ) -> Result<(), TooLarge> {
        self.remove(kind, key);
        for _ in 0..SWEPT {
            self.sweep(lifetime);
        }
        let length = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        let needed = u32::try_from(length.div_ceil(TEXT)).map_err(|_| TooLarge)?;
        let (most_records, most_blocks) = self.limits(part);
        if needed > most_blocks {
            return Err(TooLarge);
        }
        while {
            let PartHeader { records, blocks, .. } = self.header.parts[part as usize];
            records >= most_records || blocks > most_blocks - needed
        } {
            self.evict(part, lifetime);
        }
        let first_block = self.write(pieces, needed);
        let number = self.take_head();
        let bucket = self.bucket(kind as u32, key);
        *self.head_mut(number) = Head {
            key: *key,
            tag,
            next: self.buckets[bucket],
            newer: NONE,
            older: NONE,
            first_block,
            length: length as u32,
            kind: kind as u32,
            part: part as u32,
            ends: lifetime.ends,
        };
        self.buckets[bucket] = number;
        self.link_newest(number);
        let part = &mut self.header.parts[part as usize];
        part.records += 1;
        part.blocks += needed;
        let totals = &mut self.header.kinds[kind as usize];
        totals.records += 1;
        totals.bytes += bytes(needed);
        Ok(())
    }

    /// Removes a record. Returns whether it was there.
    pub fn remove(&mut self, kind: Kind, key: &Key) -> bool {
        let found = self.find(kind, key);
        if let Some(number) = found {
            self.remove_number(number);
        }
        found.is_some()
    }

    /// Removes all records of a kind with this tag. Returns the number of them.
    pub fn remove_tagged(&mut self, kind: Kind, tag: u64) -> usize {
        let mut removed = 0;
        for part in 0..PARTS {
            let mut number = self.header.parts[part].newest;
            while number != NONE {
                let Head { kind: of_head, tag: of_tag, older, .. } = *self.head(number);
                if of_head == kind as u32 && of_tag == tag {
                    self.remove_number(number);
                    removed += 1;
                }
                number = older;
            }
        }
        removed
    }

    /// Removes all records.
    pub fn remove_all(&mut self) {
        for part in 0..PARTS {
            while self.header.parts[part].oldest != NONE {
                self.remove_number(self.header.parts[part].oldest);
            }
        }
    }

    /// Returns the most records and blocks of a part.
    fn limits(&self, part: Part) -> (u32, u32) {
        let all = (self.heads.len() as u32, self.blocks.len() as u32);
        let of_strangers = (all.0 / PART_OF_STRANGERS, all.1 / PART_OF_STRANGERS);
        match part {
            Part::Main => (all.0 - of_strangers.0, all.1 - of_strangers.1),
            Part::Strangers => of_strangers,
        }
    }

    /// Removes the next record, in the order of the heads, if it is of no use any more. The order
    /// of use would not do: one that is of use for long may be older than many that were not.
    fn sweep(&mut self, lifetime: Lifetime) {
        let used = self.header.used_heads;
        if used == 0 {
            return;
        }
        let next = self.header.swept % used + 1;
        self.header.swept = next;
        if self.is_over(next, lifetime) {
            self.remove_number(next);
        }
    }

    fn evict(&mut self, part: Part, lifetime: Lifetime) {
        let oldest = self.header.parts[part as usize].oldest;
        if !self.is_over(oldest, lifetime) {
            let kind = self.head(oldest).kind as usize;
            self.header.kinds[kind].evictions += 1;
        }
        self.remove_number(oldest);
    }

    /// Returns whether a record is of no use any more, by the time in `lifetime`.
    fn is_over(&self, number: Number, lifetime: Lifetime) -> bool {
        let ends = self.head(number).ends;
        ends != 0 && ends <= lifetime.now
    }

    fn find(&self, kind: Kind, key: &Key) -> Option<Number> {
        let mut number = self.buckets[self.bucket(kind as u32, key)];
        while number != NONE {
            let head = self.head(number);
            if head.key == *key && head.kind == kind as u32 {
                return Some(number);
            }
            number = head.next;
        }
        None
    }

    fn bucket(&self, kind: u32, key: &Key) -> usize {
        let [a, b, c, d, e, f, g, h, ..] = *key;
        let seed = self.header.seed;
        let word = u64::from_le_bytes([a, b, c, d, e, f, g, h]).wrapping_add(kind.into());
        let mixed = (word ^ seed).wrapping_mul(seed);
        (((mixed >> 32) * self.buckets.len() as u64) >> 32) as usize
    }

    fn text(&self, number: Number) -> Vec<u8> {
        let Head { length, mut first_block, .. } = *self.head(number);
        let mut rest = length as usize;
        let mut text = Vec::with_capacity(rest);
        while rest > 0 {
            let block = self.block(first_block);
            let taken = rest.min(TEXT);
            text.extend_from_slice(&block.text[..taken]);
            rest -= taken;
            first_block = block.next;
        }
        text
    }

    /// Writes `pieces` to this many new blocks, and returns the first of them.
    fn write(&mut self, pieces: &[&[u8]], blocks: u32) -> Number {
        let (mut first, mut last) = (NONE, NONE);
        let mut at = TEXT;
        for mut piece in pieces.iter().copied() {
            while !piece.is_empty() {
                if at == TEXT {
                    let number = self.take_block();
                    if last == NONE {
                        first = number;
                    } else {
                        self.block_mut(last).next = number;
                    }
                    (last, at) = (number, 0);
                }
                let (now, later) = piece.split_at(piece.len().min(TEXT - at));
                self.block_mut(last).text[at..at + now.len()].copy_from_slice(now);
                at += now.len();
                piece = later;
            }
        }
        debug_assert!((blocks == 0) == (first == NONE));
        first
    }

    fn take_block(&mut self) -> Number {
        let free = self.header.free_block;
        let number = if free == NONE {
            self.header.used_blocks += 1;
            self.header.used_blocks
        } else {
            self.header.free_block = self.block(free).next;
            free
        };
        self.block_mut(number).next = NONE;
        number
    }

    fn take_head(&mut self) -> Number {
        let free = self.header.free_head;
        if free == NONE {
            self.header.used_heads += 1;
            self.header.used_heads
        } else {
            self.header.free_head = self.head(free).next;
            free
        }
    }

    fn remove_number(&mut self, number: Number) {
        let Head { key, kind, part, length, mut first_block, next, .. } = *self.head(number);
        let bucket = self.bucket(kind, &key);
        if self.buckets[bucket] == number {
            self.buckets[bucket] = next;
        } else {
            let mut before = self.buckets[bucket];
            while self.head(before).next != number {
                before = self.head(before).next;
            }
            self.head_mut(before).next = next;
        }
        self.unlink(number);

        let blocks = (length as usize).div_ceil(TEXT) as u32;
        while first_block != NONE {
            let free_block = self.header.free_block;
            let block = self.block_mut(first_block);
            // What was a session's must not stay in memory.
            block.text.fill(0);
            let next = block.next;
            block.next = free_block;
            self.header.free_block = first_block;
            first_block = next;
        }
        let free_head = self.header.free_head;
        let head = self.head_mut(number);
        head.next = free_head;
        // It is not one that has ended.
        head.ends = 0;
        self.header.free_head = number;
        let part = &mut self.header.parts[part as usize];
        part.records -= 1;
        part.blocks -= blocks;
        let totals = &mut self.header.kinds[kind as usize];
        totals.records -= 1;
        totals.bytes -= bytes(blocks);
    }

    fn renew(&mut self, number: Number) {
        self.unlink(number);
        self.link_newest(number);
    }

    fn unlink(&mut self, number: Number) {
        let Head { newer, older, part, .. } = *self.head(number);
        let part = part as usize;
        if newer == NONE {
            self.header.parts[part].newest = older;
        } else {
            self.head_mut(newer).older = older;
        }
        if older == NONE {
            self.header.parts[part].oldest = newer;
        } else {
            self.head_mut(older).newer = newer;
        }
    }

    fn link_newest(&mut self, number: Number) {
        let part = self.head(number).part as usize;
        let before = self.header.parts[part].newest;
        let head = self.head_mut(number);
        (head.newer, head.older) = (NONE, before);
        if before == NONE {
            self.header.parts[part].oldest = number;
        } else {
            self.head_mut(before).newer = number;
        }
        self.header.parts[part].newest = number;
    }

    fn head(&self, number: Number) -> &Head {
        &self.heads[number as usize - 1]
    }

    fn head_mut(&mut self, number: Number) -> &mut Head {
        &mut self.heads[number as usize - 1]
    }

    fn block(&self, number: Number) -> &Block {
        &self.blocks[number as usize - 1]
    }

    fn block_mut(&mut self, number: Number) -> &mut Block {
        &mut self.blocks[number as usize - 1]
    }
}

/// Returns an odd number that nobody can guess.
fn new_seed() -> u64 {
    RandomState::new().build_hasher().finish() | 1
}

/// Returns the size of a record with this many blocks.
fn bytes(blocks: u32) -> u64 {
    (size_of::<Head>() + blocks as usize * BLOCK) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> Key {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        key
    }

    fn memory(bytes: usize) -> Vec<u64> {
        vec![0; bytes / 8]
    }

    fn put(records: &mut Records<'_>, number: u64, text: &[u8]) {
        records.put(Part::Main, Kind::Session, &key(number), number, &[text]).unwrap();
    }

    /// Checks that every block and head is in a record or free, and once only.
    fn check(records: &Records<'_>) {
        let mut heads = vec![0; records.heads.len()];
        let mut blocks = vec![0; records.blocks.len()];
        let mut totals = [KindTotals::default(); KINDS];
        for part in 0..PARTS {
            let PartHeader { newest, oldest, records: count, blocks: of_part } =
                records.header.parts[part];
            let (mut number, mut newer, mut counted, mut counted_blocks) = (newest, NONE, 0, 0);
            while number != NONE {
                let head = *records.head(number);
                assert_eq!((head.newer, head.part as usize), (newer, part));
                heads[number as usize - 1] += 1;
                counted += 1;
                let (mut block, mut of_record) = (head.first_block, 0);
                while block != NONE {
                    blocks[block as usize - 1] += 1;
                    of_record += 1;
                    block = records.block(block).next;
                }
                assert_eq!(of_record as usize, (head.length as usize).div_ceil(TEXT));
                counted_blocks += of_record;
                let totals = &mut totals[head.kind as usize];
                totals.records += 1;
                totals.bytes += bytes(of_record);
                (newer, number) = (number, head.older);
            }
            assert_eq!((newer, counted, counted_blocks), (oldest, count, of_part));
        }
        let mut free = records.header.free_head;
        while free != NONE {
            heads[free as usize - 1] += 1;
            free = records.head(free).next;
        }
        free = records.header.free_block;
        while free != NONE {
            blocks[free as usize - 1] += 1;
            assert_eq!(records.block(free).text, [0; TEXT]);
            free = records.block(free).next;
        }
        for (times, used) in
            [(&heads, records.header.used_heads), (&blocks, records.header.used_blocks)]
        {
            let (ever, never) = times.split_at(used as usize);
            assert!(ever.iter().all(|times| *times == 1) && never.iter().all(|times| *times == 0));
        }
        for (total, counted) in records.totals().iter().zip(totals) {
            assert_eq!((total.records, total.bytes), (counted.records, counted.bytes));
        }
    }

    #[test]
    fn a_text_is_found_by_its_kind_and_key() {
        let mut memory = memory(64 * 1024);
        let mut records = Records::new(&mut memory).unwrap();
        for length in [0, 1, TEXT - 1, TEXT, TEXT + 1, 3 * TEXT, 5000] {
            let text: Vec<_> = (0..length).map(|at| at as u8).collect();
            let (one, other) = text.split_at(length / 3);
            records.put(Part::Main, Kind::Session, &key(1), 0, &[one, b"", other]).unwrap();
            assert_eq!(records.get(Kind::Session, &key(1)), Some(text));
            check(&records);
        }
        assert_eq!(records.get(Kind::Session, &key(2)), None);
        assert_eq!(records.get(Kind::ClientChain, &key(1)), None);
        assert!(records.remove(Kind::Session, &key(1)));
        assert!(!records.remove(Kind::Session, &key(1)));
        assert_eq!(records.get(Kind::Session, &key(1)), None);
        check(&records);
    }

    #[test]
    fn memory_that_is_full_evicts_what_was_not_used_for_the_longest_time() {
        let mut memory = memory(32 * 1024);
        let mut records = Records::new(&mut memory).unwrap();
        let mut fits = 0;
        while records.totals()[Kind::Session as usize].evictions == 0 {
            fits += 1;
            put(&mut records, fits, &[7; 500]);
            // The first one is used all the time.
            assert!(records.touch(Kind::Session, &key(1)));
        }
        assert!(fits > 30, "{fits}");
        assert!(records.touch(Kind::Session, &key(1)));
        assert!(!records.touch(Kind::Session, &key(2)));
        assert!(records.touch(Kind::Session, &key(3)));
        check(&records);
    }

    #[test]
    fn what_is_larger_than_the_memory_is_refused() {
        let mut memory = memory(16 * 1024);
        let mut records = Records::new(&mut memory).unwrap();
        put(&mut records, 1, b"1");
        let large = [7; 16 * 1024];
        let refused = records.put(Part::Main, Kind::Session, &key(2), 0, &[&large]);
        assert_eq!(refused, Err(TooLarge));
        assert!(records.touch(Kind::Session, &key(1)));
        let refused =
            records.put(Part::Strangers, Kind::ClientChain, &key(2), 0, &[&large[..2048]]);
        assert_eq!(refused, Err(TooLarge));
        check(&records);
    }

    #[test]
    fn strangers_evict_only_each_other() {
        let mut memory = memory(64 * 1024);
        let mut records = Records::new(&mut memory).unwrap();
        put(&mut records, 1, b"1");
        for number in 0..1000 {
            let text = [7; 300];
            let kept = records.put(Part::Strangers, Kind::ClientChain, &key(number), 0, &[&text]);
            assert_eq!(kept, Ok(()));
        }
        assert!(records.touch(Kind::Session, &key(1)));
        assert!(records.touch(Kind::ClientChain, &key(999)));
        assert_eq!(records.totals()[Kind::Session as usize].evictions, 0);
        check(&records);
    }

    #[test]
    fn what_is_of_no_use_any_more_is_removed_without_being_evicted() {
        let mut memory = memory(32 * 1024);
        let mut records = Records::new(&mut memory).unwrap();
        let kind = Kind::Session;
        let mut put = |number, now, end| {
            let lifetime = Lifetime::new(now, end);
            let text = [7; 500];
            records.put_for(lifetime, Part::Main, kind, &key(number), 0, &[&text]).unwrap();
            let KindTotals { records: count, evictions, .. } = records.totals()[kind as usize];
            (count, evictions)
        };
        for number in 0..10 {
            assert_eq!(put(number, 0, 5_000), (number + 1, 0));
        }
        // Each looks at eight.
        assert_eq!(put(10, 5_999, 10_000), (11, 0));
        assert_eq!(put(11, 6_000, 10_000), (4, 0));
        assert_eq!(put(12, 6_000, 10_000), (3, 0));
        for number in 13..1000 {
            put(number, 7_000, 9_000);
        }
        let (count, evictions) = put(1000, 7_000, 9_000);
        assert!(evictions > 900, "{evictions}");
        for number in 1001..1001 + count {
            assert_eq!(put(number, 10_000, 20_000).1, evictions, "{number}");
        }
        check(&records);
    }

    #[test]
    fn what_is_soon_of_no_use_does_not_evict_what_is_of_use_for_long() {
        let mut memory = memory(512 * 1024);
        let mut records = Records::new(&mut memory).unwrap();
        let part = Part::Main;
        for number in 0..100 {
            let lifetime = Lifetime::new(0, 300_000);
            records.put_for(lifetime, part, Kind::Session, &key(number), 0, &[&[7; 900]]).unwrap();
        }
        for number in 0..5000 {
            let now = 10 * number;
            let lifetime = Lifetime::new(now, now + 1_000);
            let key = key(100 + number);
            records.put_for(lifetime, part, Kind::Verdict, &key, 0, &[&[7; 150]]).unwrap();
        }
        let [sessions, verdicts] =
            [Kind::Session, Kind::Verdict].map(|kind| records.totals()[kind as usize]);
        assert_eq!((sessions.records, sessions.evictions, verdicts.evictions), (100, 0, 0));
        check(&records);
    }

    #[test]
    fn records_are_removed_by_their_tag() {
        let mut memory = memory(64 * 1024);
        let mut records = Records::new(&mut memory).unwrap();
        for number in 0..20 {
            let kind = if number % 2 == 0 { Kind::Peer } else { Kind::Session };
            records.put(Part::Main, kind, &key(number), number % 4, &[b"text"]).unwrap();
        }
        assert_eq!(records.remove_tagged(Kind::Peer, 0), 5);
        assert_eq!(records.remove_tagged(Kind::Peer, 0), 0);
        assert!(records.touch(Kind::Peer, &key(2)));
        assert!(!records.touch(Kind::Peer, &key(4)));
        check(&records);
    }

    #[test]
    fn whatever_state_the_memory_is_in_it_can_be_cleared() {
        let mut memory = memory(32 * 1024);
        let mut records = Records::new(&mut memory).unwrap();
        for number in 0..100 {
            put(&mut records, number, &[7; 300]);
        }
        let last = records.new_number();
        records.set_secret(Some(Secret { bytes: [7; 32], made: 1 }));
        for (at, word) in memory.iter_mut().enumerate() {
            *word = word.wrapping_mul(at as u64);
        }
        let mut records = Records::new(&mut memory).unwrap();
        records.clear();
        check(&records);
        assert!(records.secret().is_none());
        assert_ne!(records.new_number(), last);
        put(&mut records, 1, b"1");
        assert_eq!(records.get(Kind::Session, &key(1)), Some(b"1".to_vec()));
        check(&records);
    }

    #[test]
    fn too_little_memory_has_no_records() {
        for bytes in [0, 8, 400, 1024] {
            assert!(Records::new(&mut memory(bytes)).is_none(), "{bytes}");
        }
        assert!(Records::new(&mut memory(8192)).is_some());
    }

    #[test]
    fn any_order_of_changes_leaves_it_whole() {
        let mut memory = memory(24 * 1024);
        let mut records = Records::new(&mut memory).unwrap();
        // Texts by key, the one used last at the end.
        let mut model: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut random = 1_u64;
        let mut next = |most: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % most
        };
        for step in 0..20_000 {
            let number = next(60);
            let known = model.iter().position(|(known, _)| *known == number);
            match next(4) {
                0 => {
                    assert_eq!(records.remove(Kind::Session, &key(number)), known.is_some());
                    known.map(|at| model.remove(at));
                }
                1 => {
                    let text = records.get(Kind::Session, &key(number));
                    assert_eq!(text.as_ref(), known.map(|at| &model[at].1));
                    if let Some(at) = known {
                        let used = model.remove(at);
                        model.push(used);
                    }
                }
                _ => {
                    let text = vec![number as u8; next(900) as usize];
                    put(&mut records, number, &text);
                    known.map(|at| model.remove(at));
                    model.push((number, text));
                    // Those evicted are the oldest of the model.
                    let kept = records.totals()[Kind::Session as usize].records as usize;
                    assert!(kept <= model.len());
                    model.drain(..model.len() - kept);
                }
            }
            if step % 100 == 0 {
                check(&records);
            }
        }
    }
}
