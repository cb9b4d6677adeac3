// SPDX-License-Identifier: Apache-2.0

//! The verdicts of plugins on clients' chains, which all workers share: what one worker has found
//! out, no other has to find out again.

use openssl::x509::store::X509StoreRef;

use crate::client::finding;
use crate::conf::MainConf;
use crate::nginx::own_conf::OwnConf;
use crate::nginx::request::Request;
use crate::nginx::time;
use crate::openssl::error::SslError;
use crate::openssl::fingerprint::{Encoding, Fingerprint};
use crate::openssl::store::TrustedStore;
use crate::session_zone::records::{Key, Kind, Lifetime, Part};
use crate::session_zone::zone::SessionZone;

/// Returns the digest of a text that says everything about a policy but its store.
pub fn policy_digest(policy: &[u8]) -> Vec<u8> {
    Fingerprint::of([policy]).digest().to_vec()
}

/// Returns the verdict on a chain, as it was given to [`share`], if there is one. `key` is made of
/// the digest of the policy and what identifies the chain.
pub fn shared(
    request: Request<'_>,
    store: &X509StoreRef,
    key: &[u8],
) -> Result<Option<Vec<u8>>, SslError> {
    let Some((zone, key)) = place(request, store, key)? else {
        return Ok(None);
    };
    Ok(zone.with(|records| records.get(Kind::Verdict, &key)).flatten())
}

/// Shares a verdict on a chain. Unknown clients can send any number of chains, so those that were
/// not accepted can't evict anything else.
pub fn share(
    request: Request<'_>,
    store: &X509StoreRef,
    key: &[u8],
    verdict: &[u8],
    is_accepted: bool,
) -> Result<(), SslError> {
    if let Some((zone, key)) = place(request, store, key)? {
        let part = if is_accepted { Part::Main } else { Part::Strangers };
        // What is too large for the zone is not shared.
        let now = time::monotonic();
        let lifetime = Lifetime::new(now, now + finding::LIFETIME.unsigned_abs());
        zone.with(|records| {
            records.put_for(lifetime, part, Kind::Verdict, &key, 0, &[verdict]).ok()
        });
    }
    Ok(())
}

/// Returns the zone, and the key in it; `None` if there is no zone, or the store means something to
/// this worker only.
fn place(
    request: Request<'_>,
    store: &X509StoreRef,
    key: &[u8],
) -> Result<Option<(SessionZone, Key)>, SslError> {
    let Some(zone) = MainConf::of_request(request).and_then(MainConf::session_zone) else {
        return Ok(None);
    };
    let store = TrustedStore::of(store)?;
    if store.is_of_worker() {
        return Ok(None);
    }
    let mut encoding = Encoding::new();
    encoding.store(store.fingerprint()?);
    encoding.bytes(key);
    Ok(Some((zone, encoding.digest())))
}
