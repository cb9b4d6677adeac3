// SPDX-License-Identifier: Apache-2.0

//! Parses certificates in headers, as proxies write them.
//!
//! Whoever can make a text be read as another certificate than the one that was meant can
//! impersonate its owner. So each of these functions accepts the whole text, in exactly one form,
//! or nothing.

mod apache;
mod aws_alb;
mod azure;
mod encodings;
mod haproxy;
mod nginx;
mod pem;
mod rfc9440;
mod traefik;
pub mod xfcc;

pub use encodings::base64;
use xfcc::{InvalidXfcc, Which};

/// The maximum length of what a proxy sends for one request, in bytes.
pub const MAX_LENGTH: usize = 32 * 1024;
/// The maximum number of certificates that a proxy sends for one request.
const MAX_CERTIFICATES: usize = 10;

/// Why a text is not what a proxy would have sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidText {
    #[error("it is not base64")]
    Base64,
    #[error("it is not URL-encoded: \"%\" without two hexadecimal digits")]
    Escape,
    /// A byte that a sender would have encoded, such as the separator before a second value.
    #[error("it is not URL-encoded: \"{}\" at {at} should be", byte.escape_ascii())]
    NotEscaped { byte: u8, at: usize },
    #[error("it is not one certificate in PEM format, and nothing else")]
    NotOneBlock,
    #[error("it is not certificates in PEM format, and nothing else")]
    NotBlocks,
    #[error("it is not one certificate in DER, and nothing else")]
    NotDer,
    #[error("it is not a byte sequence, which has a colon at both ends")]
    NotSequence,
    #[error("it is longer than {MAX_LENGTH} bytes")]
    TooLong,
    #[error("it has more than {MAX_CERTIFICATES} certificates")]
    TooMany,
    #[error(transparent)]
    Xfcc(#[from] InvalidXfcc),
}

/// What a proxy has sent: the client's certificate, and others that it has presented, in DER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificates {
    pub leaf: Vec<u8>,
    /// Without the client's own. They are as untrusted as those in a handshake.
    pub intermediates: Vec<Vec<u8>>,
}

impl Certificates {
    fn new(leaf: Vec<u8>, others: Vec<Vec<u8>>) -> Self {
        let intermediates = others.into_iter().filter(|other| *other != leaf).collect();
        Self { leaf, intermediates }
    }

    /// Makes them of a list that the client's own certificate begins; `None` if it is empty.
    fn leaf_first(list: Vec<Vec<u8>>) -> Option<Self> {
        let mut list = list.into_iter();
        Some(Self::new(list.next()?, list.collect()))
    }
}

/// How a family of proxies writes certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Rfc9440,
    Xfcc(Which),
    Haproxy,
    AwsAlb,
    Traefik,
    Apache,
    Azure,
    Nginx,
}

impl Format {
    /// Returns the format with this name; `which` matters to `xfcc` alone.
    pub fn by_name(name: &[u8], which: Which) -> Option<Self> {
        let format = match name {
            b"rfc9440" => Self::Rfc9440,
            b"xfcc" => Self::Xfcc(which),
            b"haproxy" => Self::Haproxy,
            b"aws-alb" => Self::AwsAlb,
            b"traefik" => Self::Traefik,
            b"apache" => Self::Apache,
            b"azure" => Self::Azure,
            b"nginx" => Self::Nginx,
            _ => return None,
        };
        Some(format)
    }

    /// Reads the header with the client's certificate, and the one with the rest of its chain, for
    /// the formats that have two. Several lines of the latter are joined by `", "`, or for
    /// [`Format::Apache`] by spaces.
    pub fn read(self, text: &[u8], chain: Option<&[u8]>) -> Result<Certificates, InvalidText> {
        if text.len() + chain.map_or(0, <[u8]>::len) > MAX_LENGTH {
            return Err(InvalidText::TooLong);
        }
        let certificates = match self {
            Self::Rfc9440 => rfc9440::read(text, chain),
            Self::Xfcc(which) => xfcc::read(text, which),
            Self::Haproxy => haproxy::read(text, chain),
            Self::AwsAlb => aws_alb::read(text),
            Self::Traefik => traefik::read(text),
            Self::Apache => apache::read(text, chain),
            Self::Azure => azure::read(text),
            Self::Nginx => nginx::read(text),
        }?;
        if certificates.intermediates.len() >= MAX_CERTIFICATES {
            return Err(InvalidText::TooMany);
        }
        Ok(certificates)
    }
}

/// Decodes [`base64`], with or without the colons around a byte sequence in a structured field (RFC
/// 8941, section 3.3.5).
pub fn from_base64(text: &[u8]) -> Result<Vec<u8>, InvalidText> {
    match text {
        [b':', inner @ .., b':'] => base64(inner),
        _ => base64(text),
    }
}

/// Returns the DER in URL-encoded PEM, such as nginx's `$ssl_client_escaped_cert`.
pub fn from_url(text: &[u8]) -> Result<Vec<u8>, InvalidText> {
    pem::one(&encodings::unescaped(text)?, pem::LINE_BREAKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colons_come_in_pairs() {
        assert_eq!(from_base64(b":TWFu:").unwrap(), b"Man");
        assert_eq!(from_base64(b"TWFu").unwrap(), b"Man");
        for text in
            [&b":TWFu"[..], b"TWFu:", b"::TWFu::", b":", b"::", b":TWFu:, :TWFu:", b": TWFu:"]
        {
            assert_eq!(from_base64(text), Err(InvalidText::Base64), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn each_format_has_a_name() {
        for (name, format) in [
            ("rfc9440", Format::Rfc9440),
            ("xfcc", Format::Xfcc(Which::Last)),
            ("haproxy", Format::Haproxy),
            ("aws-alb", Format::AwsAlb),
            ("traefik", Format::Traefik),
            ("apache", Format::Apache),
            ("azure", Format::Azure),
            ("nginx", Format::Nginx),
        ] {
            assert_eq!(Format::by_name(name.as_bytes(), Which::Last), Some(format));
        }
        for name in ["", "XFCC", "envoy"] {
            assert_eq!(Format::by_name(name.as_bytes(), Which::Only), None);
        }
    }

    #[test]
    fn sizes_are_limited() {
        let list = |count: usize| vec!["TQ=="; count].join(",").into_bytes();
        // All the same: the first is the client's, and so are the others.
        assert_eq!(Format::Traefik.read(&list(11), None).unwrap().intermediates.len(), 0);
        let others = |count: u8| {
            let texts: Vec<_> = (0..count).map(|n| openssl::base64::encode_block(&[n])).collect();
            texts.join(",").into_bytes()
        };
        assert_eq!(Format::Traefik.read(&others(10), None).unwrap().intermediates.len(), 9);
        assert_eq!(Format::Traefik.read(&others(11), None), Err(InvalidText::TooMany));
        let long = vec![b'A'; MAX_LENGTH];
        assert_eq!(Format::Azure.read(&long, None).unwrap().leaf.len(), MAX_LENGTH / 4 * 3);
        assert_eq!(
            Format::Azure.read(&[&long[..], b"AAAA"].concat(), None),
            Err(InvalidText::TooLong)
        );
        assert_eq!(Format::Haproxy.read(&long, Some(b"A")), Err(InvalidText::TooLong));
    }

    #[test]
    fn no_format_reads_nothing_or_junk() {
        for name in ["rfc9440", "xfcc", "haproxy", "aws-alb", "traefik", "apache", "azure", "nginx"]
        {
            let format = Format::by_name(name.as_bytes(), Which::Only).unwrap();
            for text in ["", " ", "junk!", ",", ";", ":", "%", "\"", "(null)", "-----BEGIN", "\0"] {
                assert!(format.read(text.as_bytes(), None).is_err(), "{name}: {text}");
            }
        }
    }

    const BEGIN: &str = "-----BEGIN%20CERTIFICATE-----%0A";
    const END: &str = "-----END%20CERTIFICATE-----";

    #[test]
    fn urls() {
        for text in [
            format!("{BEGIN}TWFu%0A{END}"),
            format!("{BEGIN}TWFu%0A{END}%0A"),
            format!("%0d%0a%20{BEGIN}TW%0D%0AFu%0D%0A{END}%20%0a%0A"),
            format!("%2D----BEGIN%20CERTIFICATE-----%0D%0A%54WFu%0A{END}"),
        ] {
            assert_eq!(from_url(text.as_bytes()).as_deref(), Ok(&b"Man"[..]), "{text}");
        }
        assert_eq!(from_url(format!("{BEGIN}+/+%2F%0A{END}").as_bytes()).unwrap(), b"\xfb\xff\xbf");
        assert_eq!(from_url(format!("{BEGIN}TQ=%3d%0A{END}").as_bytes()).unwrap(), b"M");
    }

    #[test]
    fn what_is_not_one_certificate_in_a_url() {
        let one = format!("{BEGIN}TWFu%0A{END}");
        let none = [
            String::new(),
            "%0A".to_owned(),
            "TWFu".to_owned(),
            format!("{one}{one}"),
            format!("{one}%0A{one}"),
            format!("{one}%2C{one}"),
            format!("{one}%0Ajunk"),
            format!("junk%0A{one}"),
            format!("{one}%00"),
            format!("{BEGIN}TWFu%0A"),
            format!("{BEGIN}TWFu{END}"),
            format!("{BEGIN}{END}"),
            format!("{BEGIN}%0A{END}"),
            format!("{BEGIN}TWFu%0ATQ==%0ATWFu%0A{END}"),
            format!("{BEGIN}TW%20Fu%0A{END}"),
            one.replace("%20", "+"),
            one.replace("CERTIFICATE", "TRUSTED%20CERTIFICATE"),
            "-----BEGIN%20CERTIFICATE-----TWFu%0A-----END%20CERTIFICATE-----".to_owned(),
        ];
        for text in none {
            assert_eq!(from_url(text.as_bytes()), Err(InvalidText::NotOneBlock), "{text}");
        }
        for text in ["%", "%0", "%0g", "%zz", "%%20", "%+1", "a%2"] {
            assert_eq!(from_url(text.as_bytes()), Err(InvalidText::Escape), "{text}");
        }
        for (text, byte, at) in [
            (format!("{one},{one}"), b',', one.len() + 1),
            (format!("{one};{one}"), b';', one.len() + 1),
            (format!("{one} {one}"), b' ', one.len() + 1),
            ("\"a\"".to_owned(), b'"', 1),
            ("a\n".to_owned(), b'\n', 2),
        ] {
            assert_eq!(from_url(text.as_bytes()), Err(InvalidText::NotEscaped { byte, at }));
        }
        assert_eq!(
            InvalidText::NotEscaped { byte: b',', at: 3 }.to_string(),
            "it is not URL-encoded: \",\" at 3 should be"
        );
    }
}
