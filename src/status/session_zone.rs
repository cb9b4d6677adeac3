// SPDX-License-Identifier: Apache-2.0

//! What is shown of the zone of `kong_tls_session_cache`.

use crate::session_zone::records::{Kind, KindTotals};
use crate::status::about::Gauge;

/// The totals of the zone.
#[derive(Clone, Copy, Debug)]
pub struct ZoneTotals {
    /// The size of the zone in bytes.
    pub size: u64,
    /// The totals of each kind of record, in the order of [`Kind::ALL`].
    pub kinds: [KindTotals; Kind::ALL.len()],
}

/// A group of related numbers of the zone.
pub struct ZoneFamily {
    /// The key in JSON. Prometheus' metrics have the prefix `kong_tls_`; and counters the suffix
    /// `_total`.
    pub name: &'static str,
    /// The description of the numbers.
    pub help: &'static str,
    /// Whether the numbers only grow.
    pub is_counter: bool,
    value: fn(&KindTotals) -> u64,
}

/// The families, in the order of the status.
pub const ZONE_FAMILIES: &[ZoneFamily] = &[
    ZoneFamily {
        name: "session_cache_entries",
        help: "Records in the zone of kong_tls_session_cache.",
        is_counter: false,
        value: |totals| totals.records,
    },
    ZoneFamily {
        name: "session_cache_bytes",
        help: "Bytes that the records in the zone of kong_tls_session_cache take.",
        is_counter: false,
        value: |totals| totals.bytes,
    },
    ZoneFamily {
        name: "session_cache_evictions",
        help: "Records in the zone of kong_tls_session_cache that made room for others.",
        is_counter: true,
        value: |totals| totals.evictions,
    },
];

/// The label of these families.
pub const LABEL: &str = "kind";

/// The value is that of [`ZoneTotals::size`].
pub const SIZE: Gauge = Gauge {
    name: "session_cache_size_bytes",
    help: "The size of the zone of kong_tls_session_cache in bytes.",
};

impl ZoneFamily {
    /// Returns the number of each kind of record.
    pub fn values(&self, zone: &ZoneTotals) -> impl Iterator<Item = (&'static str, u64)> {
        let kinds = Kind::ALL.iter().zip(zone.kinds);
        kinds.map(|((name, _), totals)| (*name, (self.value)(&totals)))
    }
}
