// SPDX-License-Identifier: Apache-2.0

//! The TLS settings that a request asked for on its upstream connection.

use std::ffi::{CStr, CString};
use std::rc::Rc;

use crate::openssl::client_certificate::ClientCertificate;
use crate::openssl::pins::Pins;
use crate::openssl::san::{AcceptedHost, AcceptedNames, AcceptedUri, address_of};
use crate::openssl::spiffe::Trusted;
use crate::openssl::store::TrustedStore;
use crate::openssl::tls_options::TlsOptions;

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
    /// The name that is sent (SNI; RFC 6066, section 3), over `proxy_ssl_server_name` and
    /// `proxy_ssl_name`. If it is empty, none is sent.
    pub server_name: Option<Rc<CStr>>,
    /// The names of which the service's certificate must carry one, over `proxy_ssl_name`.
    pub names: Option<Rc<AcceptedNames>>,
    /// The keys of which the service's certificate must have one.
    pub pins: Option<Rc<Pins>>,
    /// The SPIFFE IDs of which the service's certificate must carry one, and who may sign it. Such
    /// a service is always verified, by no other store, and for no other name unless
    /// [`UpstreamTls::names`] are set too.
    pub spiffe: Option<Rc<Trusted>>,
    /// Versions, ciphers and the like, over `proxy_ssl_protocols` and `proxy_ssl_ciphers`.
    pub options: Option<Rc<TlsOptions>>,
}

impl UpstreamTls {
    /// Returns whether nothing is overridden.
    pub fn is_empty(&self) -> bool {
        // Destructured without `..`, so that a new setting can't be forgotten here.
        let Self {
            client_certificate,
            verify,
            verify_depth,
            trusted_store,
            server_name,
            names,
            pins,
            spiffe,
            options,
        } = self;
        client_certificate.is_none()
            && verify.is_none()
            && verify_depth.is_none()
            && trusted_store.is_none()
            && server_name.is_none()
            && names.is_none()
            && pins.is_none()
            && spiffe.is_none()
            && options.is_none()
    }

    /// Returns whether something is required of the service's certificate, whether its chain is
    /// verified or not.
    pub fn requires(&self) -> bool {
        self.names.is_some() || self.pins.is_some() || self.spiffe.is_some()
    }

    /// Returns whether the service is to be verified, if the request says so.
    pub fn verify(&self) -> Option<bool> {
        if self.spiffe.is_some() { Some(true) } else { self.verify }
    }

    /// Returns all stores that the request trusts.
    pub fn stores(&self) -> impl Iterator<Item = &TrustedStore> {
        let spiffe = self.spiffe.iter().flat_map(|trusted| trusted.stores());
        self.trusted_store.iter().chain(spiffe).map(|store| &**store)
    }

    /// Changes the names that the service may have.
    pub fn change_names(&mut self, change: impl FnOnce(&mut AcceptedNames)) {
        let mut names = self.names.as_deref().cloned().unwrap_or_default();
        change(&mut names);
        self.names = Some(Rc::new(names));
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

/// Names that were refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNames {
    /// No certificate could satisfy an empty list.
    #[error("names must hold at least one name")]
    Empty,
    /// No certificate could satisfy this.
    #[error("names must hold at least one name if host is false")]
    NoHost,
    /// No certificate carries an empty name.
    #[error("names must not hold an empty name")]
    EmptyName,
    #[error("ips must hold IP addresses: given \"{0}\"")]
    NotAddress(String),
    #[error("emails must hold addresses with an @: given \"{0}\"")]
    NotEmail(String),
    #[error("host must be the name of a host, and not begin with a dot: given \"{0}\"")]
    LeadingDot(String),
    /// Not understood, and so nothing that a certificate could carry.
    #[error(
        "uris must have a \"*\" after \"spiffe://<trust domain>/\" alone, as all of the last segment: given \"{0}\""
    )]
    Wildcard(String),
    /// Not a name that the module knows: only its own Lua code makes these.
    #[error("names are of no known kind")]
    UnknownKind,
    /// DNS names and URIs in certificates are IA5 strings: only printable ASCII is accepted, and no
    /// NUL byte.
    #[error("names must hold printable ASCII: given \"{0}\"")]
    NotPrintable(String),
}

/// Checks a list of names given by Lua.
pub fn list_of_names<'a>(
    names: impl Iterator<Item = &'a [u8]>,
) -> Result<Vec<Box<[u8]>>, InvalidNames> {
    let checked: Vec<_> = names.map(checked_name).collect::<Result<_, _>>()?;
    if checked.is_empty() { Err(InvalidNames::Empty) } else { Ok(checked) }
}

fn checked_name(name: &[u8]) -> Result<Box<[u8]>, InvalidNames> {
    if name.is_empty() {
        return Err(InvalidNames::EmptyName);
    }
    if !name.iter().all(u8::is_ascii_graphic) {
        return Err(InvalidNames::NotPrintable(name.escape_ascii().to_string()));
    }
    Ok(name.into())
}

/// Reads the names that a service may have. Lua code writes before each what it is.
pub fn accepted_names<'a>(
    names: impl Iterator<Item = &'a [u8]>,
) -> Result<AcceptedNames, InvalidNames> {
    let mut accepted = AcceptedNames { host: AcceptedHost::None, ..AcceptedNames::default() };
    let mut dns = Vec::new();
    for name in names {
        let (kind, name) = name.split_first().ok_or(InvalidNames::UnknownKind)?;
        let shown = || name.escape_ascii().to_string();
        match kind {
            b'r' => accepted.host = AcceptedHost::OfRequest,
            // OpenSSL would take it for any name below (`X509_check_host(3)`).
            b'h' if name.starts_with(b".") => return Err(InvalidNames::LeadingDot(shown())),
            b'h' => accepted.host = AcceptedHost::Other(without_dot(&checked_name(name)?).into()),
            b'd' => dns.push(checked_name(name)?),
            b'u' => {
                let uri = AcceptedUri::new(&checked_name(name)?);
                accepted.uris.push(uri.ok_or_else(|| InvalidNames::Wildcard(shown()))?);
            }
            b'i' => {
                let address = address_of(name).ok_or_else(|| InvalidNames::NotAddress(shown()))?;
                accepted.addresses.push(address);
            }
            b'e' => {
                let email = checked_name(name)?;
                if !email.contains(&b'@') {
                    return Err(InvalidNames::NotEmail(shown()));
                }
                accepted.emails.push(email);
            }
            _ => return Err(InvalidNames::UnknownKind),
        }
    }
    accepted.dns = AcceptedNames::dns(dns);
    if accepted.is_empty() { Err(InvalidNames::NoHost) } else { Ok(accepted) }
}

/// A server name that was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidServerName {
    #[error("name must not be longer than {MAX_SERVER_NAME} bytes: given {0}")]
    TooLong(usize),
    /// RFC 6066, section 3.
    #[error("name must be a host name, and no IP address: given \"{0}\"")]
    NotHostName(String),
}

/// The maximum length of a server name (`TLSEXT_MAXLEN_host_name`).
const MAX_SERVER_NAME: usize = 255;

/// Checks a server name given by Lua. Removes a trailing dot (RFC 6066, section 3).
pub fn server_name(name: &[u8]) -> Result<Rc<CStr>, InvalidServerName> {
    let sent = without_dot(name);
    if sent.len() > MAX_SERVER_NAME {
        return Err(InvalidServerName::TooLong(sent.len()));
    }
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte);
    let invalid = || InvalidServerName::NotHostName(name.escape_ascii().to_string());
    if !sent.iter().all(is_allowed)
        || address_of(sent).is_some()
        || (sent.is_empty() && !name.is_empty())
    {
        return Err(invalid());
    }
    CString::new(sent).map(|name| name.into()).map_err(|_| invalid())
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
        assert_eq!(list_of_names([].into_iter()), Err(InvalidNames::Empty));
        assert_eq!(list_of_names([&b""[..]].into_iter()), Err(InvalidNames::EmptyName));
        for bad in [&b"a\0b"[..], b"a b", b"\xc3\xa4", b"a\n"] {
            assert!(matches!(list_of_names([bad].into_iter()), Err(InvalidNames::NotPrintable(_))));
        }
        assert_eq!(list_of_names([&b"a"[..], b"b"].into_iter()).unwrap().len(), 2);
    }

    #[test]
    fn names_of_all_kinds() {
        let read = |names: &[&'static [u8]]| accepted_names(names.iter().copied());
        assert_eq!(read(&[]), Err(InvalidNames::NoHost));
        assert_eq!(read(&[b"r"]).unwrap(), AcceptedNames::default());
        let all =
            read(&[b"ha.test.", b"db.test.", b"uurn:c", b"i10.0.0.1", b"i[::1]", b"ed@e.test"]);
        let all = all.unwrap();
        assert_eq!(
            all.list(b"").to_string(),
            "host \"a.test\", DNS name \"b.test\", URI \"urn:c\", e-mail address \"d@e.test\", \
             IP address 10.0.0.1, IP address ::1"
        );
        for bad in [
            &b"h"[..],
            b"d",
            b"u",
            b"da b",
            b"ia",
            b"i",
            b"ea",
            b"e@\n",
            b"",
            b"x",
            b"h.a.test",
            b"uspiffe://*",
            b"uspiffe://a/b*",
        ] {
            assert!(read(&[b"r", bad]).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn server_names() {
        for (given, sent) in [(&b"a.test"[..], c"a.test"), (b"a.test.", c"a.test"), (b"", c"")] {
            assert_eq!(&*server_name(given).unwrap(), sent);
        }
        let too_long = [b'a'; MAX_SERVER_NAME + 1];
        assert!(server_name(&too_long[1..]).is_ok());
        for bad in [&b"."[..], b"a b", b"a\0b", b"10.0.0.1", b"::1", b"[::1]", b"a:1", &too_long] {
            assert!(server_name(bad).is_err(), "{}", bad.escape_ascii());
        }
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
