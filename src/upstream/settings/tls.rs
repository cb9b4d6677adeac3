// SPDX-License-Identifier: Apache-2.0

//! The TLS settings that a request asked for on its upstream connection.

use std::rc::Rc;

use crate::openssl::client_certificate::ClientCertificate;
use crate::openssl::san::RequiredNames;
use crate::openssl::store::TrustedStore;

/// Settings that override those of the location. `None` keeps the location's.
#[derive(Clone, Default)]
pub struct UpstreamTls {
    /// `proxy_ssl_certificate` and `proxy_ssl_certificate_key`
    pub client_certificate: Option<Rc<ClientCertificate>>,
    /// `proxy_ssl_verify`
    pub verify: Option<bool>,
    /// `proxy_ssl_verify_depth`
    pub verify_depth: Option<u32>,
    /// `proxy_ssl_trusted_certificate`
    pub trusted_store: Option<Rc<TrustedStore>>,
    /// DNS names, at least one of which the service's certificate must carry. nginx has no such
    /// setting.
    pub dns_names: Option<Rc<RequiredNames>>,
    /// URIs, at least one of which the service's certificate must carry. nginx has no such setting.
    pub uris: Option<Rc<RequiredNames>>,
}

impl UpstreamTls {
    /// Returns whether nothing is overridden.
    pub fn is_empty(&self) -> bool {
        // Destructured without `..`, so that a new setting can't be forgotten here.
        let Self { client_certificate, verify, verify_depth, trusted_store, dns_names, uris } =
            self;
        client_certificate.is_none()
            && verify.is_none()
            && verify_depth.is_none()
            && trusted_store.is_none()
            && dns_names.is_none()
            && uris.is_none()
    }
}

/// The greatest depth that is accepted: OpenSSL's own default, beyond any chain in use.
const MAX_DEPTH: u32 = 100;

/// A depth that was refused.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("depth must be an integer between 0 and {MAX_DEPTH}: given {0}")]
pub struct InvalidDepth(f64);

/// Converts a depth given by Lua.
pub fn depth_from_number(number: f64) -> Result<u32, InvalidDepth> {
    if number.fract() == 0.0 && (0.0..=f64::from(MAX_DEPTH)).contains(&number) {
        // The value is whole and in range: the conversion is exact.
        Ok(number as u32)
    } else {
        Err(InvalidDepth(number))
    }
}

/// A list of required names that was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNames {
    /// No certificate could satisfy an empty list.
    #[error("names must hold at least one name")]
    Empty,
    /// No certificate carries an empty name.
    #[error("names must not hold an empty name")]
    EmptyName,
    /// DNS names and URIs in certificates are IA5 strings: only printable ASCII is accepted, and no
    /// NUL byte.
    #[error("names must hold printable ASCII: given \"{0}\"")]
    NotPrintable(String),
}

/// Checks a list of names given by Lua.
pub fn required_names<'a>(
    names: impl Iterator<Item = &'a [u8]>,
) -> Result<Vec<Box<[u8]>>, InvalidNames> {
    let mut checked = Vec::new();
    for name in names {
        if name.is_empty() {
            return Err(InvalidNames::EmptyName);
        }
        if !name.iter().all(u8::is_ascii_graphic) {
            return Err(InvalidNames::NotPrintable(name.escape_ascii().to_string()));
        }
        checked.push(name.into());
    }
    if checked.is_empty() { Err(InvalidNames::Empty) } else { Ok(checked) }
}

/// Removes the port from the name of an upstream, as nginx does: the name may come from
/// `$proxy_host` or `$http_host`.
pub fn without_port(name: &[u8]) -> &[u8] {
    let after_literal = match name.first() {
        Some(b'[') => name.iter().position(|byte| *byte == b']').unwrap_or(0),
        _ => 0,
    };
    match name[after_literal..].iter().position(|byte| *byte == b':') {
        Some(colon) => &name[..after_literal + colon],
        None => name,
    }
}

/// Returns the name of an upstream in the form used in certificates: without a port and without a
/// trailing dot.
pub fn host_of(name: &[u8]) -> &[u8] {
    without_dot(without_port(name))
}

/// Removes the trailing dot of a name.
pub fn without_dot(name: &[u8]) -> &[u8] {
    name.strip_suffix(b".").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depths() {
        for (number, depth) in [(0.0, 0), (1.0, 1), (-0.0, 0), (100.0, 100)] {
            assert_eq!(depth_from_number(number), Ok(depth), "{number}");
        }
        for number in [-1.0, 0.5, 100.5, 101.0, 4e9, f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
            assert!(depth_from_number(number).is_err(), "{number}");
        }
    }

    #[test]
    fn names() {
        assert_eq!(required_names([].into_iter()), Err(InvalidNames::Empty));
        assert_eq!(required_names([&b""[..]].into_iter()), Err(InvalidNames::EmptyName));
        for bad in [&b"a\0b"[..], b"a b", b"\xc3\xa4", b"a\n"] {
            assert!(matches!(
                required_names([bad].into_iter()),
                Err(InvalidNames::NotPrintable(_))
            ));
        }
        assert_eq!(required_names([&b"a"[..], b"b"].into_iter()).unwrap().len(), 2);
    }

    #[test]
    fn ports_are_stripped() {
        let cases: &[(&[u8], &[u8])] = &[
            (b"service.test", b"service.test"),
            (b"service.test:443", b"service.test"),
            (b"192.0.2.1:443", b"192.0.2.1"),
            (b"[2001:db8::1]", b"[2001:db8::1]"),
            (b"[2001:db8::1]:443", b"[2001:db8::1]"),
            (b"[2001:db8::1", b"[2001"),
            (b"", b""),
            (b":443", b""),
        ];
        for (name, expected) in cases {
            assert_eq!(without_port(name), *expected, "{}", name.escape_ascii());
        }
    }

    #[test]
    fn one_setting_is_enough_not_to_be_empty() {
        assert!(UpstreamTls::default().is_empty());
        assert!(!UpstreamTls { verify: Some(false), ..Default::default() }.is_empty());
        assert!(!UpstreamTls { verify_depth: Some(0), ..Default::default() }.is_empty());
    }
}
