// SPDX-License-Identifier: Apache-2.0

//! The terms on which a client was asked for its certificate: all that decides what it may present,
//! and what that is verified with.
//!
//! Within a configuration, a session of a client that was asked counts for its name. After a
//! reload, Lua code may ask the clients of that name on other terms, and nothing but Lua code can
//! tell. So a session of an earlier configuration counts once this configuration has asked a client
//! under that name, and as long as it has asked all of them on the terms of that session.

use crate::client::binding::{Binding, ConfigurationId};
use crate::openssl::fingerprint::Encoding;
use crate::session_zone::records::{Key, Kind, Part};
use crate::session_zone::texts::SharedRecords;

/// A digest of terms.
pub type Terms = [u8; 32];

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

    /// Returns whether all clients were asked on these terms, and at least one was.
    pub fn is(&self, records: impl SharedRecords, terms: &Terms) -> bool {
        let noted = records.with(|records| records.get(Kind::ClientTerms, &self.0));
        noted.flatten().is_some_and(|noted| noted == terms)
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
        assert!(!place(1, 1).is(&mut *records, &terms));
        place(1, 1).note(&mut *records, main, Some(terms));
        assert!(place(1, 1).is(&mut *records, &terms));
        for (place, terms) in [(place(2, 1), terms), (place(1, 2), terms), (place(1, 1), [8; 32])] {
            assert!(!place.is(&mut *records, &terms));
        }
        place(1, 1).note(&mut *records, main, Some(terms));
        assert!(place(1, 1).is(&mut *records, &terms));
        for other in [Some([8; 32]), None] {
            place(1, 1).note(&mut *records, main, Some(terms));
            place(1, 1).note(&mut *records, main, other);
            for again in [terms, [8; 32]] {
                place(1, 1).note(&mut *records, main, Some(again));
                assert!(!place(1, 1).is(&mut *records, &again));
            }
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
            assert!(place(1, 1).is(&mut *records, &[7; 32]));
        }
    }
}
