// SPDX-License-Identifier: Apache-2.0

//! What TLS sessions are bound to whose clients were asked for a certificate: see `resumption.rs`.

use std::cell::Cell;

use crate::openssl::error::SslError;
use crate::openssl::fingerprint::Encoding;
use crate::openssl::session::ID_CONTEXT;
use crate::session_zone::records::Secret;
use crate::session_zone::texts::SharedRecords;

/// How long a secret is used, in seconds: a reload after that replaces it.
const LIFETIME: i64 = 24 * 60 * 60;

/// A configuration, as sessions know it: the same in all workers.
pub struct Configuration {
    id: ConfigurationId,
    /// The secret of the zone, and the generation of the zone in which it was read.
    secret: Cell<Option<(u64, Secret)>>,
}

/// Random bytes that tell a configuration from all others.
pub type ConfigurationId = [u8; 32];

impl Configuration {
    /// Makes new random bytes.
    pub fn new() -> Result<Self, SslError> {
        Ok(Self { id: random()?, secret: Cell::new(None) })
    }

    pub fn id(&self) -> &ConfigurationId {
        &self.id
    }

    /// Returns the secret that sessions are bound by: that of the zone, of which this is the
    /// current generation. Without a zone, sessions end with their configuration.
    pub fn secret(
        &self,
        zone: impl SharedRecords + Copy,
        generation: u64,
        now: i64,
    ) -> Result<Secret, SslError> {
        if let Some((_, secret)) = self.secret.get().filter(|(of, _)| *of == generation) {
            return Ok(secret);
        }
        let secret = match zone.with(|records| records.secret()) {
            None => Secret { bytes: self.id, made: now },
            Some(Some(secret)) => secret,
            Some(None) => {
                let new = Secret { bytes: random()?, made: now };
                let set = zone.with(|records| {
                    let secret = records.secret().unwrap_or(new);
                    records.set_secret(Some(secret));
                    secret
                });
                set.unwrap_or(new)
            }
        };
        self.secret.set(Some((generation, secret)));
        Ok(secret)
    }
}

/// Forgets the secret of a zone that is too old. To be called when a configuration is complete,
/// before it reads the secret.
pub fn forget_old_secret(zone: impl SharedRecords, now: i64) {
    zone.with(|records| {
        // The clock may have been set.
        let is_old = |secret: Secret| now.saturating_sub(secret.made).saturating_abs() >= LIFETIME;
        if records.secret().is_some_and(is_old) {
            records.set_secret(None);
        }
    });
}

/// Returns random bytes, which are the binding of no session.
pub fn random() -> Result<[u8; 32], SslError> {
    let mut bytes = [0; 32];
    openssl::rand::rand_bytes(&mut bytes).map_err(|errors| SslError::new("RAND_bytes", errors))?;
    Ok(bytes)
}

/// The session id context of sessions whose clients were asked for a certificate.
#[derive(Debug, PartialEq, Eq)]
pub struct Binding(pub [u8; ID_CONTEXT]);

impl Binding {
    /// Returns the binding for a client that connects to `address` and asks for `name` (SNI).
    pub fn new(secret: &Secret, address: &[u8], name: Option<&[u8]>) -> Self {
        let mut encoding = Encoding::new();
        encoding.bytes(b"binding");
        encoding.bytes(&secret.bytes);
        encoding.bytes(address);
        encoding.optional(name, |encoding, name| encoding.bytes(&name.to_ascii_lowercase()));
        Self(encoding.digest())
    }
}

/// Returns whether two names are the same, or both are absent.
pub fn is_same_name(one: Option<&[u8]>, other: Option<&[u8]>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
        (None, None) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session_zone::records::Records;
    use crate::session_zone::texts::NoRecords;
    use std::cell::RefCell;

    impl SharedRecords for &RefCell<Records<'_>> {
        fn with<T>(self, change: impl FnOnce(&mut Records<'_>) -> T) -> Option<T> {
            Some(change(&mut self.borrow_mut()))
        }
    }

    #[test]
    fn a_binding_is_of_a_secret_an_address_and_a_name() {
        let [one, other] = [1, 2].map(|byte| Secret { bytes: [byte; 32], made: 0 });
        let binding = Binding::new(&one, b"1", Some(b"a.test"));
        assert_eq!(binding, Binding::new(&one, b"1", Some(b"A.TEST")));
        for (secret, address, name) in [
            (&other, b"1", Some(&b"a.test"[..])),
            (&one, b"2", Some(b"a.test")),
            (&one, b"1", Some(b"b.test")),
            (&one, b"1", Some(b"")),
            (&one, b"1", None),
        ] {
            assert_ne!(binding, Binding::new(secret, address, name));
        }
    }

    #[test]
    fn the_secret_is_that_of_the_zone_as_long_as_it_has_one() {
        let mut memory = vec![0; 8192];
        let records = RefCell::new(Records::new(&mut memory).unwrap());
        let zone = &records;
        let [one, other] = [(); 2].map(|()| Configuration::new().unwrap());
        let secret = |configuration: &Configuration, generation, now| {
            configuration.secret(zone, generation, now).unwrap().bytes
        };
        let first = secret(&one, 0, 1000);
        assert_ne!(first, *one.id());
        assert_eq!(secret(&other, 0, 1000), first);
        records.borrow_mut().set_secret(None);
        // What was read counts until the generation changes.
        assert_eq!(secret(&one, 0, 1000), first);
        let second = secret(&one, 1, 2000);
        assert_ne!(second, first);
        assert_eq!(secret(&other, 1, 2000), second);
        // A reload replaces it when it is old.
        for (now, is_kept) in
            [(2000, true), (2000 + LIFETIME - 1, true), (1999, true), (2000 + LIFETIME, false)]
        {
            forget_old_secret(zone, now);
            let next = secret(&Configuration::new().unwrap(), 1, now);
            assert_eq!(next == second, is_kept, "{now}");
        }
    }

    #[test]
    fn without_a_zone_each_configuration_has_its_own_secret() {
        let [one, other] = [(); 2].map(|()| Configuration::new().unwrap());
        let secret =
            |configuration: &Configuration| configuration.secret(NoRecords, 0, 1000).unwrap().bytes;
        assert_eq!(secret(&one), secret(&one));
        assert_ne!(secret(&one), secret(&other));
    }

    #[test]
    fn names() {
        assert!(is_same_name(Some(b"a.test"), Some(b"A.test")));
        assert!(is_same_name(None, None));
        assert!(!is_same_name(Some(b"a.test"), Some(b"b.test")));
        assert!(!is_same_name(Some(b"a.test"), None));
        assert!(!is_same_name(None, Some(b"")));
    }
}
