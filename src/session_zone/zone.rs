// SPDX-License-Identifier: Apache-2.0

//! The zone in which the records are.

use crate::nginx::conf_parser::ConfParser;
use crate::nginx::connection::process_log;
use crate::nginx::locked_zone::LockedZone;
use crate::nginx::shared_zone::ZoneError;
use crate::session_zone::records::{Kind, Records};
use crate::session_zone::texts::SharedRecords;
use crate::status::session_zone::ZoneTotals;

/// The name and the size in bytes of the zone that there is without a directive.
const DEFAULT_NAME: &[u8] = b"kong_tls";
const DEFAULT_SIZE: usize = 8 * 1024 * 1024;

/// The zone of `kong_tls_session_cache`.
#[derive(Clone, Copy)]
pub struct SessionZone(LockedZone);

/// Whether sessions that processes have kept for themselves still count after a change.
enum Kept {
    Counts,
    IsDropped,
}

impl SessionZone {
    /// Adds the zone that there is without a directive. `None` if another module has a zone of its
    /// name.
    pub fn add_default(parser: ConfParser<'_>) -> Result<Option<Self>, ZoneError> {
        if LockedZone::is_taken(parser, DEFAULT_NAME) {
            parser.warning(format_args!(
                "another module has a shared memory zone \"{}\": without kong_tls_session_cache, \
                 each worker has its own TLS sessions",
                DEFAULT_NAME.escape_ascii()
            ));
            return Ok(None);
        }
        Self::add(parser, DEFAULT_NAME, DEFAULT_SIZE).map(Some)
    }

    /// Adds the zone to the configuration that is being read.
    pub fn add(parser: ConfParser<'_>, name: &[u8], size: usize) -> Result<Self, ZoneError> {
        LockedZone::add(parser, name, size).map(Self)
    }

    /// Calls `change` with the records, while no other process uses them. `None` if there are none:
    /// before nginx has made the zone.
    pub fn with<T>(self, change: impl FnOnce(&mut Records<'_>) -> T) -> Option<T> {
        self.change(Kept::Counts, change)
    }

    /// Returns a number that changes when sessions are dropped: what a process has kept of the
    /// records before does not count any more.
    pub fn generation(self) -> u64 {
        self.0.generation().unwrap_or_default()
    }

    /// Drops the sessions with services of an identity with this tag. Returns for how many
    /// addresses there were any.
    pub fn drop_sessions(self, tag: u64) -> Option<usize> {
        self.change(Kept::IsDropped, |records| {
            records.remove_tagged(Kind::Session, tag);
            records.remove_tagged(Kind::Peer, tag)
        })
    }

    /// Drops all sessions, with services and of clients. Returns the number of those with services.
    pub fn drop_all_sessions(self) -> Option<usize> {
        self.change(Kept::IsDropped, |records| {
            let dropped = records.totals()[Kind::Peer as usize].records;
            records.remove_all();
            records.set_secret(None);
            usize::try_from(dropped).unwrap_or(usize::MAX)
        })
    }

    /// Returns the size in bytes, as it was configured.
    pub fn size(self) -> usize {
        self.0.size()
    }

    /// Returns the totals of the records.
    pub fn totals(self) -> Option<ZoneTotals> {
        let size = self.size() as u64;
        self.with(|records| ZoneTotals { size, kinds: records.totals() })
    }

    fn change<T>(self, kept: Kept, change: impl FnOnce(&mut Records<'_>) -> T) -> Option<T> {
        let mut locked = self.0.lock()?;
        let was_torn = locked.was_torn();
        let mut records = Records::new(locked.memory())?;
        if was_torn {
            records.clear();
        }
        let result = change(&mut records);
        if was_torn || matches!(kept, Kept::IsDropped) {
            locked.next_generation();
        }
        drop(locked);
        if was_torn {
            process_log().error(format_args!(
                "a process has ended while it changed the zone of kong_tls_session_cache: the zone \
                 was emptied"
            ));
        }
        Some(result)
    }
}

impl SharedRecords for Option<SessionZone> {
    fn with<T>(self, change: impl FnOnce(&mut Records<'_>) -> T) -> Option<T> {
        self?.with(change)
    }
}
