// SPDX-License-Identifier: Apache-2.0

//! The terms on which a client was asked for its certificate: all that decides what it may present,
//! and what that is verified with.
//!
//! Within a configuration, a session of a client that was asked counts for its name. After a
//! reload, Lua code may ask the clients of that name on other terms. Once this configuration has
//! asked a client under that name, a session of an earlier one counts as long as all clients were
//! asked on its terms.
//!
//! Before that, a session counts if all that decides how its client was asked is what it was then:
//! the contexts of the servers, and the Lua code ([`Told`]). This can't be told of what that code
//! reads from elsewhere, such as a file of its own or a database. So such a session only counts for
//! as long as nginx keeps sessions by default, from its full handshake on.

use crate::client::binding::{Binding, ConfigurationId};
use crate::openssl::fingerprint::Encoding;
use crate::session_zone::records::{Key, Kind, Part};
use crate::session_zone::texts::SharedRecords;

/// A digest of terms.
pub type Terms = [u8; 32];

/// A digest of what has decided how a client was asked.
pub type Told = [u8; 32];

/// How long after its full handshake a session counts for what is [`Told`] of it, in seconds.
const LIFETIME: i64 = 5 * 60;

/// Returns whether a session of a full handshake at the date `since` still counts `now` for what is
/// told of it.
pub fn is_recent(since: i64, now: i64) -> bool {
    // The clock may have been set back.
    since <= now && now.saturating_sub(since) <= LIFETIME
}

/// Where it is noted on which terms a configuration asks the clients with a binding.
pub struct Place(Key);

impl Place {
    pub fn new(configuration: &ConfigurationId, Binding(binding): &Binding) -> Self {
        let mut encoding = Encoding::new();
        encoding.bytes(b"terms");
        encoding.bytes(configuration);
        encoding.bytes(binding);
        Self(encoding.digest())
    }

    /// Notes that a client was asked on these terms, if they can be told.
    pub fn note(&self, records: impl SharedRecords, part: Part, terms: Option<Terms>) {
        let Self(key) = self;
        records.with(|records| {
            let before = records.get(Kind::ClientTerms, key);
            let terms = terms.as_ref().map_or(&[][..], |terms| &terms[..]);
            let text = match &before {
                // Clients were asked on several terms: no session of another configuration counts.
                Some(before) if before != terms => &[][..],
                _ => terms,
            };
            let is_in = records.part_of(Kind::ClientTerms, key);
            let part = if is_in == Some(Part::Main) { Part::Main } else { part };
            if before.as_deref() != Some(text) || is_in != Some(part) {
                // The memory may be too small for anything.
                let _ = records.put(part, Kind::ClientTerms, key, 0, &[text]);
            }
        });
    }

    /// Returns whether all clients were asked on these terms; `None` if none was asked, as far as
    /// is known.
    pub fn is(&self, records: impl SharedRecords, terms: Option<&Terms>) -> Option<bool> {
        let noted = records.with(|records| records.get(Kind::ClientTerms, &self.0)).flatten()?;
        Some(terms.is_some_and(|terms| noted == terms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session_zone::records::Records;

    fn place(configuration: u8, binding: u8) -> Place {
        Place::new(&[configuration; 32], &Binding([binding; 32]))
    }

    #[test]
    fn terms_hold_once_all_were_asked_on_them() {
        let mut memory = vec![0; 8192];
        let records = &mut Records::new(&mut memory).unwrap();
        let terms = [7; 32];
        let main = Part::Main;
        assert_eq!(place(1, 1).is(&mut *records, Some(&terms)), None);
        place(1, 1).note(&mut *records, main, Some(terms));
        for (place, terms, expected) in [
            (place(1, 1), Some(terms), Some(true)),
            (place(1, 1), Some([8; 32]), Some(false)),
            (place(1, 1), None, Some(false)),
            (place(2, 1), Some(terms), None),
            (place(1, 2), Some(terms), None),
        ] {
            assert_eq!(place.is(&mut *records, terms.as_ref()), expected);
        }
        place(1, 1).note(&mut *records, main, Some(terms));
        assert_eq!(place(1, 1).is(&mut *records, Some(&terms)), Some(true));
        for other in [Some([8; 32]), None] {
            place(1, 1).note(&mut *records, main, Some(terms));
            place(1, 1).note(&mut *records, main, other);
            for again in [terms, [8; 32]] {
                place(1, 1).note(&mut *records, main, Some(again));
                assert_eq!(place(1, 1).is(&mut *records, Some(&again)), Some(false));
            }
        }
    }

    #[test]
    fn what_is_told_counts_for_a_while() {
        for (since, now, expected) in [
            (1000, 1000, true),
            (1000, 1000 + LIFETIME, true),
            (1000, 1001 + LIFETIME, false),
            (1000, 999, false),
            (i64::MIN, i64::MAX, false),
            (i64::MAX, i64::MIN, false),
        ] {
            assert_eq!(is_recent(since, now), expected, "{since} {now}");
        }
    }

    #[test]
    fn what_strangers_have_confirmed_moves_to_the_main_part() {
        let mut memory = vec![0; 8192];
        let records = &mut Records::new(&mut memory).unwrap();
        let Place(key) = place(1, 1);
        for (part, is_in) in [
            (Part::Strangers, Part::Strangers),
            (Part::Main, Part::Main),
            (Part::Strangers, Part::Main),
        ] {
            place(1, 1).note(&mut *records, part, Some([7; 32]));
            assert_eq!(records.part_of(Kind::ClientTerms, &key), Some(is_in));
            assert_eq!(place(1, 1).is(&mut *records, Some(&[7; 32])), Some(true));
        }
    }
}
