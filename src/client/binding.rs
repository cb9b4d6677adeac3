// SPDX-License-Identifier: Apache-2.0

//! What TLS sessions are bound to whose clients were asked for a certificate: see `resumption.rs`.

use crate::openssl::error::SslError;
use crate::openssl::fingerprint::Encoding;
use crate::openssl::session::ID_CONTEXT;

/// Random bytes that bind sessions to a configuration: different in each, and the same in all
/// workers.
pub struct Configuration([u8; 32]);

impl Configuration {
    /// Makes new random bytes.
    pub fn new() -> Result<Self, SslError> {
        random().map(Self)
    }
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
    pub fn new(configuration: &Configuration, address: usize, name: Option<&[u8]>) -> Self {
        let mut encoding = Encoding::new();
        encoding.bytes(&configuration.0);
        encoding.number(address as u64);
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

    #[test]
    fn a_binding_is_of_a_configuration_an_address_and_a_name() {
        let (one, other) = (Configuration([1; 32]), Configuration([2; 32]));
        let binding = Binding::new(&one, 1, Some(b"a.test"));
        assert_eq!(binding, Binding::new(&one, 1, Some(b"A.TEST")));
        for (configuration, server, name) in [
            (&other, 1, Some(&b"a.test"[..])),
            (&one, 2, Some(b"a.test")),
            (&one, 1, Some(b"b.test")),
            (&one, 1, Some(b"")),
            (&one, 1, None),
        ] {
            assert_ne!(binding, Binding::new(configuration, server, name));
        }
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
