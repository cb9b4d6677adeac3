// SPDX-License-Identifier: Apache-2.0

//! The counters, and their names in the status.

#![allow(unsafe_code, reason = "it is in memory that processes share")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use openssl::x509::X509VerifyResult;

use crate::openssl::ssl;

/// A counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    HandshakeFull,
    HandshakeResumed,
    SessionCacheHit,
    SessionCacheMiss,
    SessionCacheEviction,
    IdleConnectionReused,
    IdleConnectionOtherIdentity,
    IdleConnectionClosed,
    ClientCertificateRequested,
    ClientCertificatePresented,
    ClientCertificateAbsent,
    RefusedClientCertificate,
    RefusedTrustedStore,
    RefusedVerification,
    RefusedOptions,
    RefusedSession,
    RefusedIdentity,
    RefusedMemory,
    RefusedModule,
    RefusedTarget,
    RefusedPlaintext,
    RefusedRequired,
    SessionCacheHitWorker,
    SessionCacheHitShared,
    RevocationFetchedOcsp,
    RevocationFetchedCrl,
    RevocationFailedOcsp,
    RevocationFailedCrl,
    StoreReplaced,
    StoreRefreshFailed,
}

/// The number of counters.
const COUNTERS: usize = Counter::StoreRefreshFailed as usize + 1;

/// A cache of a worker, whose entries can be made again and may be evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// The lists of authorities that `request_client_certificate` has prepared.
    Authorities,
    /// Clients' intermediate certificates, for resumed sessions.
    ClientChains,
    /// The names that the result of a client's verification is valid for.
    ClientNames,
    /// Stores of `resty.kong.x509`, by the texts they were made from.
    Stores,
    /// The plugins' verdicts on clients' chains.
    Verdicts,
    /// The headers by which clients' certificates are forwarded.
    ForwardedCertificates,
    /// Certificates parsed by `resty.kong.plugins.sni`.
    ServerCertificates,
    /// The answers of the plugins' `lookup` functions.
    Consumers,
    /// Whether clients' chains are revoked.
    Revocation,
    /// Revocation lists that were fetched.
    RevocationLists,
}

impl Cache {
    /// All caches, with their names in the status.
    pub const ALL: &[(&'static str, Self)] = &[
        ("authorities", Self::Authorities),
        ("client_chains", Self::ClientChains),
        ("client_names", Self::ClientNames),
        ("stores", Self::Stores),
        ("verdicts", Self::Verdicts),
        ("forwarded_certificates", Self::ForwardedCertificates),
        ("server_certificates", Self::ServerCertificates),
        ("consumers", Self::Consumers),
        ("revocation", Self::Revocation),
        ("revocation_lists", Self::RevocationLists),
    ];

    /// Returns the cache with this name.
    pub fn by_name(name: &[u8]) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, cache)| *cache)
    }
}

const CACHES: usize = Cache::ALL.len();

/// An event in a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheEvent {
    /// A lookup found an entry.
    Hit,
    /// A lookup found nothing.
    Miss,
    /// An entry was evicted to make room.
    Eviction,
}

const CACHE_EVENTS: usize = CacheEvent::Eviction as usize + 1;

/// The number of counters of failed verifications, one for each of OpenSSL's result numbers. The
/// last also counts all greater numbers.
const REASONS: usize = 128;

/// The counters. With a zone, they are in memory that all workers share.
#[repr(C)]
pub struct Counters {
    /// When they began, in seconds since the Unix epoch.
    pub start_time: u64,
    counters: [AtomicU64; COUNTERS],
    caches: [[AtomicU64; CACHE_EVENTS]; CACHES],
    reasons: [AtomicU64; REASONS],
}

/// Fallback counters used when no `kong_tls_status` zone exists.
static UNSHARED: Counters = Counters::new(0);

static CURRENT: AtomicPtr<Counters> = AtomicPtr::new((&raw const UNSHARED).cast_mut());

/// Returns the counters of this process.
pub fn current() -> &'static Counters {
    // SAFETY: the pointer is to `UNSHARED`, or to counters that the caller of `set_current` keeps
    // valid.
    unsafe { &*CURRENT.load(Ordering::Relaxed) }
}

/// Makes this process count in `counters`, or in the fallback counters.
///
/// # Safety
/// `counters` must be valid as long as the process may count in them.
pub unsafe fn set_current(counters: Option<&Counters>) {
    let counters = counters.unwrap_or(&UNSHARED);
    CURRENT.store(std::ptr::from_ref(counters).cast_mut(), Ordering::Relaxed);
}

/// Counts one event.
pub fn count(counter: Counter) {
    current().count(counter);
}

/// Counts several events.
pub fn count_times(counter: Counter, times: usize) {
    current().counters[counter as usize].fetch_add(times as u64, Ordering::Relaxed);
}

/// Counts several events of a cache.
pub fn count_cache(cache: Cache, event: CacheEvent, times: usize) {
    current().cache(cache, event).fetch_add(times as u64, Ordering::Relaxed);
}

/// Counts a failed verification of a service.
pub fn count_verification_failure(reason: X509VerifyResult) {
    current().count_verification_failure(reason);
}

impl Counters {
    pub const fn new(start_time: u64) -> Self {
        Self {
            start_time,
            counters: [const { AtomicU64::new(0) }; COUNTERS],
            caches: [const { [const { AtomicU64::new(0) }; CACHE_EVENTS] }; CACHES],
            reasons: [const { AtomicU64::new(0) }; REASONS],
        }
    }

    /// Returns a copy, which is not shared.
    pub fn snapshot(&self) -> Self {
        let copy = |counter: &AtomicU64| AtomicU64::new(counter.load(Ordering::Relaxed));
        Self {
            start_time: self.start_time,
            counters: self.counters.each_ref().map(copy),
            caches: self.caches.each_ref().map(|events| events.each_ref().map(copy)),
            reasons: self.reasons.each_ref().map(copy),
        }
    }

    pub fn count(&self, counter: Counter) {
        self.counters[counter as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn count_verification_failure(&self, reason: X509VerifyResult) {
        let number = usize::try_from(reason.as_raw()).unwrap_or(REASONS).min(REASONS - 1);
        self.reasons[number].fetch_add(1, Ordering::Relaxed);
    }

    fn cache(&self, cache: Cache, event: CacheEvent) -> &AtomicU64 {
        &self.caches[cache as usize][event as usize]
    }

    fn value(&self, counter: Counter) -> u64 {
        self.counters[counter as usize].load(Ordering::Relaxed)
    }

    /// Returns the failed verifications, by OpenSSL's text for the reason.
    fn verification_failures(&self) -> BTreeMap<&'static str, u64> {
        let mut failures = BTreeMap::new();
        for (number, count) in (0..).zip(&self.reasons) {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                *failures.entry(reason(number)).or_default() += count;
            }
        }
        failures
    }
}

fn reason(number: i32) -> &'static str {
    ssl::reason(ssl::verify_result(number))
}

/// A group of related counters.
pub struct Family {
    /// The key in JSON. Prometheus' metrics have the prefix `kong_tls_` and the suffix `_total`.
    pub name: &'static str,
    /// The description of the counters.
    pub help: &'static str,
    /// Whether each event is a failure, so that people should look when there are any.
    pub is_failure: bool,
    pub values: Values,
}

/// The counters of a family.
pub enum Values {
    One(Counter),
    /// One counter for each value of a label.
    Labelled(&'static str, &'static [(&'static str, Counter)]),
    /// One counter for each cache.
    OfCaches(CacheEvent),
    /// One counter for each reason that has occurred.
    VerificationFailures,
}

/// The families, in the order of the status.
pub const FAMILIES: &[Family] = &[
    Family {
        name: "upstream_handshakes",
        help: "TLS handshakes with services that were completed.",
        is_failure: false,
        values: Values::Labelled(
            "type",
            &[("full", Counter::HandshakeFull), ("resumed", Counter::HandshakeResumed)],
        ),
    },
    Family {
        name: "upstream_session_cache_lookups",
        help: "New connections for which kong_tls_session_cache was asked for a session.",
        is_failure: false,
        values: Values::Labelled(
            "result",
            &[("hit", Counter::SessionCacheHit), ("miss", Counter::SessionCacheMiss)],
        ),
    },
    Family {
        name: "session_cache_hits",
        help: "Sessions of kong_tls_session_cache that new connections found: those that the \
               worker had (worker), and those that it had to read from memory that all workers \
               share (shared).",
        is_failure: false,
        values: Values::Labelled(
            "from",
            &[
                ("worker", Counter::SessionCacheHitWorker),
                ("shared", Counter::SessionCacheHitShared),
            ],
        ),
    },
    Family {
        name: "upstream_session_cache_evictions",
        help: "Entries of kong_tls_session_cache that made room for others.",
        is_failure: false,
        values: Values::One(Counter::SessionCacheEviction),
    },
    Family {
        name: "upstream_idle_connections",
        help: "Requests that an idle connection served (reused), requests that got none because \
               those to that server were of another TLS identity (other_identity), and idle \
               connections that were closed (closed).",
        is_failure: false,
        values: Values::Labelled(
            "event",
            &[
                ("reused", Counter::IdleConnectionReused),
                ("other_identity", Counter::IdleConnectionOtherIdentity),
                ("closed", Counter::IdleConnectionClosed),
            ],
        ),
    },
    Family {
        name: "upstream_verification_failures",
        help: "Services that failed verification.",
        is_failure: true,
        values: Values::VerificationFailures,
    },
    Family {
        name: "client_certificates",
        help: "Certificates that clients were asked for by request_client_certificate, that they \
               presented then, and that they did not.",
        is_failure: false,
        values: Values::Labelled(
            "event",
            &[
                ("requested", Counter::ClientCertificateRequested),
                ("presented", Counter::ClientCertificatePresented),
                ("absent", Counter::ClientCertificateAbsent),
            ],
        ),
    },
    Family {
        name: "revocation_fetches",
        help: "Answers of OCSP responders (ocsp) and revocation lists (crl) that were fetched and \
               accepted.",
        is_failure: false,
        values: Values::Labelled(
            "kind",
            &[("ocsp", Counter::RevocationFetchedOcsp), ("crl", Counter::RevocationFetchedCrl)],
        ),
    },
    Family {
        name: "revocation_fetch_failures",
        help: "Answers of OCSP responders (ocsp) and revocation lists (crl) that could not be \
               fetched, or were not accepted.",
        is_failure: true,
        values: Values::Labelled(
            "kind",
            &[("ocsp", Counter::RevocationFailedOcsp), ("crl", Counter::RevocationFailedCrl)],
        ),
    },
    Family {
        name: "cache_hits",
        help: "What was found in a cache of a worker.",
        is_failure: false,
        values: Values::OfCaches(CacheEvent::Hit),
    },
    Family {
        name: "cache_misses",
        help: "What was not found in a cache of a worker, and made anew.",
        is_failure: false,
        values: Values::OfCaches(CacheEvent::Miss),
    },
    Family {
        name: "cache_evictions",
        help: "Entries of a cache of a worker that made room for others.",
        is_failure: false,
        values: Values::OfCaches(CacheEvent::Eviction),
    },
    Family {
        name: "store_replacements",
        help: "Stores whose files have changed and were read again, in each worker.",
        is_failure: false,
        values: Values::One(Counter::StoreReplaced),
    },
    Family {
        name: "store_refresh_failures",
        help: "Looks of a worker at the files of a store that could not be read again: what was \
               read before stays in force.",
        is_failure: true,
        values: Values::One(Counter::StoreRefreshFailed),
    },
    Family {
        name: "refusals",
        help: "Attempts to reach a service that were refused because a setting of the request could \
               not be applied.",
        is_failure: true,
        values: Values::Labelled(
            "setting",
            &[
                ("client_certificate", Counter::RefusedClientCertificate),
                ("trusted_store", Counter::RefusedTrustedStore),
                ("verification", Counter::RefusedVerification),
                ("options", Counter::RefusedOptions),
                ("session", Counter::RefusedSession),
                ("identity", Counter::RefusedIdentity),
                ("memory", Counter::RefusedMemory),
                ("module", Counter::RefusedModule),
                ("target", Counter::RefusedTarget),
                ("plaintext", Counter::RefusedPlaintext),
                ("required", Counter::RefusedRequired),
            ],
        ),
    },
];

/// The values of a family's counters.
pub enum Totals {
    One(u64),
    /// The name of the label, and the count for each of its values.
    Labelled(&'static str, Vec<(&'static str, u64)>),
}

impl Totals {
    pub fn sum(&self) -> u64 {
        match self {
            Self::One(total) => *total,
            Self::Labelled(_, totals) => totals.iter().map(|(_, total)| total).sum(),
        }
    }

    /// Returns the count for a value of the label, or the only one.
    pub fn of(&self, value: &str) -> u64 {
        match self {
            Self::One(total) => *total,
            Self::Labelled(_, totals) => totals
                .iter()
                .find_map(|(known, total)| (*known == value).then_some(*total))
                .unwrap_or_default(),
        }
    }
}

impl Family {
    pub fn totals(&self, counters: &Counters) -> Totals {
        match self.values {
            Values::One(counter) => Totals::One(counters.value(counter)),
            Values::Labelled(label, values) => Totals::Labelled(
                label,
                values.iter().map(|(value, counter)| (*value, counters.value(*counter))).collect(),
            ),
            Values::OfCaches(event) => Totals::Labelled(
                "cache",
                Cache::ALL
                    .iter()
                    .map(|(name, cache)| {
                        (*name, counters.cache(*cache, event).load(Ordering::Relaxed))
                    })
                    .collect(),
            ),
            Values::VerificationFailures => {
                Totals::Labelled("reason", counters.verification_failures().into_iter().collect())
            }
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::status::Status;
    use crate::status::format::Format;

    /// 2026-03-01 00:00:59.
    pub const EXAMPLE_START: u64 = 1_772_323_259;

    /// Returns counters with different values.
    pub fn example() -> Counters {
        let counters = Counters::new(EXAMPLE_START);
        for (number, counter) in (1..).zip(&counters.counters) {
            counter.store(number, Ordering::Relaxed);
        }
        counters.count_verification_failure(X509VerifyResult::APPLICATION_VERIFICATION);
        for number in [20, 20, 62, 127, 1000, -1] {
            // SAFETY: OpenSSL has a text for any number.
            counters.count_verification_failure(unsafe { X509VerifyResult::from_raw(number) });
        }
        counters
    }

    #[test]
    fn every_count_is_shown_once() {
        let mut seen = Vec::new();
        for family in FAMILIES {
            match family.values {
                Values::One(counter) => seen.push(counter as usize),
                Values::Labelled(_, values) => {
                    seen.extend(values.iter().map(|(_, counter)| *counter as usize));
                }
                Values::OfCaches(_) | Values::VerificationFailures => {}
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..COUNTERS).collect::<Vec<_>>());
    }

    #[test]
    fn every_cache_is_shown_in_its_place() {
        for (place, (_, cache)) in Cache::ALL.iter().enumerate() {
            assert_eq!(*cache as usize, place);
        }
    }

    #[test]
    fn a_snapshot_has_all_counters_and_does_not_change() {
        let counters = example();
        let shown = |counters: &Counters| Format::Json.render(&Status::of(counters, 0));
        let snapshot = counters.snapshot();
        let before = shown(&counters);
        assert_eq!(shown(&snapshot), before);
        counters.count(Counter::HandshakeFull);
        assert_eq!(shown(&snapshot), before);
        assert_ne!(shown(&counters), before);
    }

    #[test]
    fn failures_are_counted_by_reason() {
        let failures = example().verification_failures();
        assert_eq!(failures["unable to get local issuer certificate"], 2);
        assert_eq!(failures["none of the required names"], 1);
        // Numbers without a text of their own share one entry.
        assert_eq!(failures.values().sum::<u64>(), 7);
        assert_eq!(failures.len(), 4);
    }
}
