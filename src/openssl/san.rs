// SPDX-License-Identifier: Apache-2.0

//! Names in a certificate's `subjectAltName` (RFC 5280, section 4.2.1.6).

use openssl::x509::X509Ref;

/// Names of which a certificate must have at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequiredNames {
    /// `dNSName`, with wildcards as in RFC 6125, section 6.4.3.
    Dns(Vec<Box<[u8]>>),
    /// `uniformResourceIdentifier`, compared byte by byte.
    Uri(Vec<Box<[u8]>>),
}

impl RequiredNames {
    /// Makes the requirement for DNS names. A trailing dot is removed (RFC 6125, section 6.4.1).
    pub fn dns(mut names: Vec<Box<[u8]>>) -> Self {
        for name in &mut names {
            if let Some(without) = name.strip_suffix(b".").filter(|name| !name.is_empty()) {
                *name = without.into();
            }
        }
        Self::Dns(names)
    }

    /// Returns whether `certificate` has one of the names.
    pub fn carried_by(&self, certificate: &X509Ref) -> bool {
        let Some(presented) = certificate.subject_alt_names() else {
            return false;
        };
        presented.iter().any(|name| match self {
            Self::Dns(wanted) => name.dnsname().is_some_and(|presented| {
                wanted.iter().any(|wanted| dns_name_matches(presented.as_bytes(), wanted))
            }),
            Self::Uri(wanted) => name.uri().is_some_and(|presented| {
                wanted.iter().any(|wanted| presented.as_bytes() == &**wanted)
            }),
        })
    }

    /// Returns the names, in the order in which they were given.
    pub fn names(&self) -> &[Box<[u8]>] {
        let (Self::Dns(names) | Self::Uri(names)) = self;
        names
    }

    /// Returns the kind of the names, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Dns(_) => "DNS names",
            Self::Uri(_) => "URIs",
        }
    }

    /// Returns the list of names, for messages.
    pub fn list(&self) -> String {
        let names: Vec<_> =
            self.names().iter().map(|name| name.escape_ascii().to_string()).collect();
        names.join(", ")
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
