// SPDX-License-Identifier: Apache-2.0

//! Names in a certificate's `subjectAltName` (RFC 5280, section 4.2.1.6).

use std::fmt;
use std::net::IpAddr;

use openssl::x509::X509Ref;

use crate::openssl::fingerprint::Encoding;
use crate::openssl::ssl;

/// The names that a service may have: its certificate must carry one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AcceptedNames {
    pub host: AcceptedHost,
    /// `dNSName`, with wildcards in the certificate as in RFC 6125, section 6.4.3. The subject's
    /// common name does not count.
    pub dns: Vec<Box<[u8]>>,
    /// `uniformResourceIdentifier`
    pub uris: Vec<AcceptedUri>,
    /// `iPAddress`
    pub addresses: Vec<IpAddr>,
    /// `rfc822Name`
    pub emails: Vec<Box<[u8]>>,
}

/// The host that a certificate may be for. It counts as nginx has it, so that the common name does
/// if there is no `dNSName`; an address also counts as `iPAddress`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AcceptedHost {
    /// That of the request.
    #[default]
    OfRequest,
    Other(Box<[u8]>),
    None,
}

/// A URI that a certificate may carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AcceptedUri {
    /// This one, byte by byte.
    Exactly(Box<[u8]>),
    /// Any SPIFFE ID that begins like this, up to and including a slash.
    Below(Box<[u8]>),
}

impl AcceptedUri {
    /// Reads a URI, or the beginning of SPIFFE IDs: `spiffe://trust.domain/path/*`. Returns `None`
    /// for a SPIFFE ID with another `*`, which none may have.
    pub fn new(text: &[u8]) -> Option<Self> {
        let Some(rest) = text.strip_prefix(b"spiffe://").filter(|rest| rest.contains(&b'*')) else {
            return Some(Self::Exactly(text.into()));
        };
        let is_below = rest
            .strip_suffix(b"/*")
            .is_some_and(|rest| !matches!(rest, [] | [b'/', ..]) && !rest.contains(&b'*'));
        is_below.then(|| Self::Below(text[..text.len() - 1].into()))
    }

    pub fn accepts(&self, presented: &[u8]) -> bool {
        match self {
            Self::Exactly(uri) => presented == &**uri,
            Self::Below(beginning) => presented
                .strip_prefix(&**beginning)
                .is_some_and(|rest| rest.split(|byte| *byte == b'/').all(is_spiffe_segment)),
        }
    }

    /// Encodes the URI.
    pub fn encode(&self, encoding: &mut Encoding) {
        let (Self::Exactly(text) | Self::Below(text)) = self;
        encoding.flag(matches!(self, Self::Below(_)));
        encoding.bytes(text);
    }

    /// Returns how many bytes the URI takes.
    pub fn size(&self) -> usize {
        let (Self::Exactly(text) | Self::Below(text)) = self;
        text.len()
    }
}

/// Returns whether this may stand between two slashes of a SPIFFE ID (SPIFFE-ID standard, section
/// 2.2). A dot or two would lead elsewhere for whoever reads the ID as a path.
pub fn is_spiffe_segment(segment: &[u8]) -> bool {
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_".contains(byte);
    !matches!(segment, b"" | b"." | b"..") && segment.iter().all(is_allowed)
}

impl AcceptedNames {
    /// The name of the request alone.
    pub const OF_REQUEST: Self = Self {
        host: AcceptedHost::OfRequest,
        dns: Vec::new(),
        uris: Vec::new(),
        addresses: Vec::new(),
        emails: Vec::new(),
    };

    /// Makes a list of DNS names. A trailing dot is removed (RFC 6125, section 6.4.1).
    pub fn dns(names: Vec<Box<[u8]>>) -> Vec<Box<[u8]>> {
        let without_dot = |name: Box<[u8]>| match name.strip_suffix(b".") {
            Some(without) if !without.is_empty() => without.into(),
            _ => name,
        };
        names.into_iter().map(without_dot).collect()
    }

    /// Returns whether there is no name that a certificate could carry.
    pub fn is_empty(&self) -> bool {
        let Self { host, dns, uris, addresses, emails } = self;
        *host == AcceptedHost::None
            && dns.is_empty()
            && uris.is_empty()
            && addresses.is_empty()
            && emails.is_empty()
    }

    /// Returns whether `certificate` carries one of the names.
    pub fn accept(&self, certificate: &X509Ref, host_of_request: &[u8]) -> bool {
        let host = match &self.host {
            AcceptedHost::OfRequest => Some(host_of_request),
            AcceptedHost::Other(host) => Some(&**host),
            AcceptedHost::None => None,
        };
        // OpenSSL would take a name that begins with a dot for any below it.
        host.is_some_and(|host| !host.starts_with(b".") && is_for_host(certificate, host))
            || self.accept_alternative(certificate)
    }

    fn accept_alternative(&self, certificate: &X509Ref) -> bool {
        let Self { host: _, dns, uris, addresses, emails } = self;
        let Some(presented) = certificate.subject_alt_names() else {
            return false;
        };
        presented.iter().any(|name| {
            name.dnsname().is_some_and(|presented| {
                dns.iter().any(|accepted| dns_name_matches(presented.as_bytes(), accepted))
            }) || name.uri().is_some_and(|presented| {
                uris.iter().any(|accepted| accepted.accepts(presented.as_bytes()))
            }) || name.ipaddress().is_some_and(|presented| {
                addresses.iter().any(|accepted| is_address(presented, *accepted))
            }) || name.email().is_some_and(|presented| {
                emails.iter().any(|accepted| email_matches(presented.as_bytes(), accepted))
            })
        })
    }

    /// Encodes the names.
    pub fn encode(&self, encoding: &mut Encoding) {
        let Self { host, dns, uris, addresses, emails } = self;
        match host {
            AcceptedHost::OfRequest => encoding.number(0),
            AcceptedHost::Other(host) => {
                encoding.number(1);
                encoding.bytes(host);
            }
            AcceptedHost::None => encoding.number(2),
        }
        for names in [dns, emails] {
            encoding.number(names.len() as u64);
            names.iter().for_each(|name| encoding.bytes(name));
        }
        encoding.number(uris.len() as u64);
        uris.iter().for_each(|uri| uri.encode(encoding));
        encoding.number(addresses.len() as u64);
        for address in addresses {
            with_octets(*address, |octets| encoding.bytes(octets));
        }
    }

    /// Returns about how many bytes the names take.
    pub fn size(&self) -> usize {
        let Self { host, dns, uris, addresses, emails } = self;
        let host = match host {
            AcceptedHost::Other(host) => host.len(),
            AcceptedHost::OfRequest | AcceptedHost::None => 0,
        };
        let texts = [dns, emails].into_iter().flatten().map(|name| name.len()).sum::<usize>();
        let uris = uris.iter().map(AcceptedUri::size);
        host + texts + uris.sum::<usize>() + size_of_val(&**addresses)
    }

    /// Returns the names, for messages.
    pub fn list(&self, host_of_request: &[u8]) -> impl fmt::Display + use<> {
        let Self { host, dns, uris, addresses, emails } = self;
        let mut list = Vec::new();
        let mut add = |kind: &str, name: &[u8]| {
            list.push(format!("{kind} \"{}\"", name.escape_ascii()));
        };
        match host {
            AcceptedHost::OfRequest => add("host", host_of_request),
            AcceptedHost::Other(host) => add("host", host),
            AcceptedHost::None => {}
        }
        dns.iter().for_each(|name| add("DNS name", name));
        for uri in uris {
            match uri {
                AcceptedUri::Exactly(uri) => add("URI", uri),
                AcceptedUri::Below(beginning) => add("URI", &[beginning, &b"*"[..]].concat()),
            }
        }
        emails.iter().for_each(|name| add("e-mail address", name));
        list.extend(addresses.iter().map(|address| format!("IP address {address}")));
        list.join(", ")
    }
}

/// Returns whether `certificate` is for `host`: by nginx's rules, or as an address.
pub fn is_for_host(certificate: &X509Ref, host: &[u8]) -> bool {
    ssl::is_for_host(certificate, host)
        || address_of(host).is_some_and(|address| {
            let presented = certificate.subject_alt_names();
            presented.is_some_and(|presented| {
                let mut addresses = presented.iter().filter_map(|name| name.ipaddress());
                addresses.any(|presented| is_address(presented, address))
            })
        })
}

/// Returns the address that a host is, if it is one; that of IPv6 may be in brackets.
pub fn address_of(host: &[u8]) -> Option<IpAddr> {
    let in_brackets = host.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]"));
    let address: IpAddr = std::str::from_utf8(in_brackets.unwrap_or(host)).ok()?.parse().ok()?;
    (in_brackets.is_none() || address.is_ipv6()).then_some(address)
}

fn is_address(presented: &[u8], accepted: IpAddr) -> bool {
    with_octets(accepted, |octets| presented == octets)
}

fn with_octets<T>(address: IpAddr, f: impl FnOnce(&[u8]) -> T) -> T {
    match address {
        IpAddr::V4(address) => f(&address.octets()),
        IpAddr::V6(address) => f(&address.octets()),
    }
}

/// Returns whether two e-mail addresses are the same: the case of the host does not count (RFC
/// 5280, section 7.5).
fn email_matches(presented: &[u8], accepted: &[u8]) -> bool {
    let at = |email: &[u8]| email.iter().rposition(|byte| *byte == b'@');
    match (at(presented), at(accepted)) {
        (Some(at), Some(other)) if at == other => {
            presented[..at] == accepted[..at]
                && presented[at..].eq_ignore_ascii_case(&accepted[at..])
        }
        _ => false,
    }
}

/// Returns whether the certificate's name `presented` matches the host `wanted`.
///
/// A `*` must be the whole leftmost label, matches exactly one label, and must be followed by at
/// least two more. All these labels must be valid in host names (RFC 1123, section 2.1). OpenSSL's
/// `X509_check_host` has the same rules.
fn dns_name_matches(presented: &[u8], wanted: &[u8]) -> bool {
    if presented.is_empty() || wanted.is_empty() {
        return false;
    }
    if presented.eq_ignore_ascii_case(wanted) {
        return true;
    }
    let Some(suffix) = presented.strip_prefix(b"*.") else {
        return false;
    };
    let Some(dot) = wanted.iter().position(|byte| *byte == b'.') else {
        return false;
    };
    let mut labels = suffix.split(|byte| *byte == b'.');
    suffix.contains(&b'.')
        && suffix.eq_ignore_ascii_case(&wanted[dot + 1..])
        && dot > 0
        && wanted[..dot].iter().all(|byte| is_of_label(*byte))
        && labels.all(|label| {
            label.iter().all(|byte| is_of_label(*byte))
                && !matches!(label, [] | [b'-', ..] | [.., b'-'])
        })
}

fn is_of_label(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris() {
        let cases: &[(&[u8], &[u8], bool)] = &[
            (b"spiffe://a.test/b", b"spiffe://a.test/b", true),
            (b"spiffe://a.test/b", b"spiffe://a.test/B", false),
            (b"spiffe://a.test/b/*", b"spiffe://a.test/b", false),
            (b"spiffe://a.test/b/*", b"spiffe://a.test/b/", false),
            (b"spiffe://a.test/b/*", b"spiffe://a.test/b/c", true),
            (b"spiffe://a.test/b/*", b"spiffe://a.test/b/c/d", true),
            (b"spiffe://a.test/b/*", b"spiffe://a.test/b/../c", false),
            (b"spiffe://a.test/b/*", b"spiffe://a.test/b/c/.", false),
            (b"spiffe://a.test/b/*", b"spiffe://a.test/b/c//d", false),
            (b"spiffe://a.test/b/*", b"spiffe://a.test/b/%2e%2e", false),
            (b"spiffe://a.test/b/*", b"spiffe://a.test/b/c?d", false),
            (b"spiffe://a.test/b/*", b"spiffe://a.test/b/*", false),
            (b"spiffe://a.test/b/*", b"spiffe://a.test/bc/d", false),
            (b"spiffe://a.test/*", b"spiffe://a.test/b", true),
            (b"spiffe://a.test/*", b"spiffe://a.test.evil.test/b", false),
            (b"https://a.test/*", b"https://a.test/b", false),
            (b"https://a.test/*", b"https://a.test/*", true),
        ];
        for (accepted, presented, expected) in cases {
            assert_eq!(
                AcceptedUri::new(accepted).unwrap().accepts(presented),
                *expected,
                "{} for {}",
                presented.escape_ascii(),
                accepted.escape_ascii()
            );
        }
    }

    #[test]
    fn a_wildcard_is_a_whole_path_below_a_trust_domain() {
        for bad in ["*", "/*", "a*/b", "a/b*", "a/*/b", "a/*/*", "**", "a*"] {
            assert_eq!(AcceptedUri::new(format!("spiffe://{bad}").as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn emails() {
        let cases: &[(&[u8], &[u8], bool)] = &[
            (b"a@b.test", b"a@b.test", true),
            (b"a@B.test", b"a@b.TEST", true),
            (b"A@b.test", b"a@b.test", false),
            (b"a@b.test", b"a@c.test", false),
            (b"a@b@c.test", b"a@b@c.test", true),
            (b"b.test", b"b.test", false),
            (b"", b"", false),
        ];
        for (presented, accepted, expected) in cases {
            assert_eq!(email_matches(presented, accepted), *expected, "{presented:?}");
        }
    }

    #[test]
    fn addresses() {
        for (host, address) in [
            (&b"10.0.0.1"[..], Some("10.0.0.1")),
            (b"2001:db8::1", Some("2001:db8::1")),
            (b"[2001:db8::1]", Some("2001:db8::1")),
            (b"[10.0.0.1]", None),
            (b"10.0.0.1.", None),
            (b"a.test", None),
            (b"", None),
        ] {
            assert_eq!(address_of(host), address.map(|address| address.parse().unwrap()));
        }
        assert!(is_address(&[10, 0, 0, 1], "10.0.0.1".parse().unwrap()));
        assert!(!is_address(b"10.0.0.1", "10.0.0.1".parse().unwrap()));
        // An IPv4 address is no IPv6 address that contains it.
        assert!(!is_address(&[10, 0, 0, 1], "::ffff:10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn different_names_have_different_encodings() {
        let text = |text: &[u8]| Box::from(text);
        let all = [
            AcceptedNames::default(),
            AcceptedNames { host: AcceptedHost::None, ..Default::default() },
            AcceptedNames { host: AcceptedHost::Other(text(b"a")), ..Default::default() },
            AcceptedNames { dns: vec![text(b"a")], ..Default::default() },
            AcceptedNames { dns: vec![text(b"a"), text(b"b")], ..Default::default() },
            AcceptedNames { emails: vec![text(b"a")], ..Default::default() },
            AcceptedNames { uris: vec![AcceptedUri::Exactly(text(b"a"))], ..Default::default() },
            AcceptedNames { uris: vec![AcceptedUri::Below(text(b"a"))], ..Default::default() },
            AcceptedNames { addresses: vec![[1, 2, 3, 4].into()], ..Default::default() },
        ];
        let digests = all.each_ref().map(|names| {
            let mut encoding = Encoding::new();
            names.encode(&mut encoding);
            encoding.digest()
        });
        for (number, digest) in digests.iter().enumerate() {
            assert_eq!(digests.iter().position(|other| other == digest), Some(number));
        }
        let empty = all.each_ref().map(AcceptedNames::is_empty);
        assert_eq!(empty.iter().filter(|is_empty| **is_empty).count(), 1);
    }

    #[test]
    fn dns_names() {
        let cases: &[(&[u8], &[u8], bool)] = &[
            (b"service.test", b"service.test", true),
            (b"Service.Test", b"service.TEST", true),
            (b"service.test", b"other.test", false),
            (b"service.test", b"service.test.", false),
            (b"service.test\0.evil.test", b"service.test", false),
            (b"service.test", b"service.test\0.evil.test", false),
            (b"*.wild.test", b"a.wild.test", true),
            (b"*.wild.test", b"A.WILD.test", true),
            (b"*.wild.test", b"wild.test", false),
            (b"*.wild.test", b".wild.test", false),
            (b"*.wild.test", b"a.b.wild.test", false),
            (b"*.test", b"service.test", false),
            (b"a*.wild.test", b"ab.wild.test", false),
            (b"a.*.test", b"a.b.test", false),
            (b"*", b"a", false),
            (b"*.", b"a.", false),
            (b"*.wild.test", b"a_b.wild.test", false),
            (b"*.wild.test", b"*.wild.test", true),
            (b"*.-a.test", b"a.-a.test", false),
            (b"*.a-.test", b"a.a-.test", false),
            (b"*.a_b.test", b"a.a_b.test", false),
            (b"*.wild.test.", b"a.wild.test.", false),
            (b"*..test", b"a..test", false),
            (b"", b"", false),
        ];
        for (presented, wanted, expected) in cases {
            assert_eq!(
                dns_name_matches(presented, wanted),
                *expected,
                "{} for {}",
                presented.escape_ascii(),
                wanted.escape_ascii()
            );
        }
    }
}
