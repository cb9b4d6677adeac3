// SPDX-License-Identifier: Apache-2.0

//! Writes the client's certificates into headers for the service.

use std::iter;

use openssl::base64::encode_block;
use openssl::sha::sha256;
use openssl::stack::StackRef;
use openssl::x509::{X509, X509Ref};

use crate::client::header_certificate::MAX_LENGTH;
use crate::openssl::certificate;
use crate::openssl::error::SslError;

/// The values of the headers.
#[derive(Debug, PartialEq, Eq)]
pub struct Headers {
    /// Of `Client-Cert`, `X-Forwarded-Client-Cert` or `X-Client-Cert`.
    pub certificate: Vec<u8>,
    /// Of `Client-Cert-Chain`; `None` if the client presented its own certificate alone, and for
    /// formats without this header.
    pub chain: Option<Vec<u8>>,
}

/// Why a chain can't be sent in headers.
#[derive(Debug, thiserror::Error)]
pub enum NotForwarded {
    #[error("there is no format \"{0}\"")]
    UnknownFormat(String),
    #[error("the chain is empty")]
    Empty,
    /// Services would refuse it, or the gateway's own limit for requests.
    #[error("its headers would be longer than {MAX_LENGTH} bytes")]
    TooLong,
    #[error("its {0} has a byte that can't be in a header")]
    Unprintable(&'static str),
    #[error(transparent)]
    Ssl(#[from] SslError),
}

/// Returns the headers for a chain, the leaf first, in `format`: all of it, or an error.
pub fn write(chain: &StackRef<X509>, format: &[u8]) -> Result<Headers, NotForwarded> {
    let leaf = chain.get(0).ok_or(NotForwarded::Empty)?;
    let headers = match format {
        b"rfc9440" => rfc9440(leaf, chain)?,
        b"xfcc" => Headers { certificate: xfcc(leaf, chain)?.into_bytes(), chain: None },
        b"x-client-cert" => {
            Headers { certificate: url_encoded(&pem(leaf)?).into_bytes(), chain: None }
        }
        _ => {
            let format = String::from_utf8_lossy(format).into_owned();
            return Err(NotForwarded::UnknownFormat(format));
        }
    };
    let Headers { certificate, chain } = &headers;
    if certificate.len() + chain.as_ref().map_or(0, Vec::len) > MAX_LENGTH {
        return Err(NotForwarded::TooLong);
    }
    Ok(headers)
}

/// RFC 9440, sections 2.2 and 2.3: the chain is that of the handshake, without the leaf.
fn rfc9440(leaf: &X509Ref, chain: &StackRef<X509>) -> Result<Headers, NotForwarded> {
    let sequence = |one: &X509Ref| Ok(format!(":{}:", encode_block(&der(one)?)));
    let others: Result<Vec<_>, NotForwarded> = chain.iter().skip(1).map(sequence).collect();
    let others = others?;
    Ok(Headers {
        certificate: sequence(leaf)?.into_bytes(),
        chain: (!others.is_empty()).then(|| others.join(", ").into_bytes()),
    })
}

/// An element as Envoy writes it (see `header_certificate/xfcc.rs`), but with quotes where a name
/// needs them.
fn xfcc(leaf: &X509Ref, chain: &StackRef<X509>) -> Result<String, NotForwarded> {
    let hash: String = sha256(&der(leaf)?).iter().map(|byte| format!("{byte:02x}")).collect();
    let mut all = String::new();
    for one in chain {
        all.push_str(&url_encoded(&pem(one)?));
    }
    // In the form of RFC 2253, each quote and backslash has a backslash before it already.
    let subject = certificate::subject(leaf)?;
    let mut pairs = vec![
        format!("Hash={hash}"),
        format!("Cert=\"{}\"", url_encoded(&pem(leaf)?)),
        format!("Chain=\"{all}\""),
        format!("Subject=\"{}\"", printable(subject.as_bytes(), "subject")?),
    ];
    let names = certificate::alternative_names(leaf)?;
    for (key, kind) in [("URI", "uri"), ("DNS", "dns")] {
        for name in names.iter().filter(|name| name.kind == kind) {
            pairs.push(format!("{key}={}", value(printable(&name.text, "alternative name")?)));
        }
    }
    Ok(pairs.join(";"))
}

/// Returns a value with quotes if it needs them.
fn value(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b",;=\"\\".contains(&byte);
    if text.bytes().all(is_plain) {
        return text.to_owned();
    }
    let escape = |letter| ['"', '\\'].contains(&letter).then_some('\\');
    let escaped: String = text
        .chars()
        .flat_map(|letter| escape(letter).into_iter().chain(iter::once(letter)))
        .collect();
    format!("\"{escaped}\"")
}

/// Refuses what could end a header.
fn printable<'a>(text: &'a [u8], what: &'static str) -> Result<&'a str, NotForwarded> {
    let text = std::str::from_utf8(text).map_err(|_| NotForwarded::Unprintable(what))?;
    let is_printable = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    text.bytes().all(is_printable).then_some(text).ok_or(NotForwarded::Unprintable(what))
}

fn der(certificate: &X509Ref) -> Result<Vec<u8>, SslError> {
    certificate.to_der().map_err(|errors| SslError::new("i2d_X509", errors))
}

fn pem(certificate: &X509Ref) -> Result<Vec<u8>, SslError> {
    certificate.to_pem().map_err(|errors| SslError::new("PEM_write_bio_X509", errors))
}

/// Encodes all but the unreserved characters of RFC 3986, section 2.3.
fn url_encoded(text: &[u8]) -> String {
    let mut encoded = String::with_capacity(text.len() + text.len() / 4);
    for byte in text {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            encoded.push(char::from(*byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use openssl::pkey::PKey;
    use openssl::x509::extension::SubjectAlternativeName;
    use openssl::x509::{X509Builder, X509NameBuilder};

    use super::*;
    use crate::client::header_certificate::xfcc::Which;
    use crate::client::header_certificate::{Certificates, Format};
    use crate::openssl::test_certificate::self_signed;

    fn named(name: &str, set: impl FnOnce(&mut SubjectAlternativeName)) -> X509 {
        let key = PKey::generate_ed25519().unwrap();
        let mut subject = X509NameBuilder::new().unwrap();
        subject.append_entry_by_text("CN", name).unwrap();
        let mut builder: X509Builder = X509::builder().unwrap();
        builder.set_version(2).unwrap();
        builder.set_subject_name(&subject.build()).unwrap();
        builder.set_pubkey(&key).unwrap();
        let mut names = SubjectAlternativeName::new();
        set(&mut names);
        let names = names.build(&builder.x509v3_context(None, None)).unwrap();
        builder.append_extension(names).unwrap();
        builder.sign(&key, openssl::hash::MessageDigest::null()).unwrap();
        builder.build()
    }

    fn chain(certificates: &[&X509]) -> openssl::stack::Stack<X509> {
        certificate::chain(certificates.iter().map(|one| (*one).to_owned())).unwrap()
    }

    #[test]
    fn what_is_written_can_be_read() {
        let key = PKey::generate_ed25519().unwrap();
        let leaf = named("client \"1\", a;b\\", |names| {
            names.dns("a.test").uri("spiffe://a/b").uri("urn:x;Hash=0,Cert=\"a\\");
        });
        let others = ["one", "two"].map(|name| self_signed(&key, name, 1));
        let list = chain(&[&leaf, &others[0], &others[1]]);
        let expected = Certificates {
            leaf: leaf.to_der().unwrap(),
            intermediates: others.iter().map(|one| one.to_der().unwrap()).collect(),
        };
        let written = write(&list, b"rfc9440").unwrap();
        let read = Format::Rfc9440.read(&written.certificate, written.chain.as_deref());
        assert_eq!(read.as_ref(), Ok(&expected));
        let written = write(&list, b"xfcc").unwrap();
        assert_eq!(written.chain, None);
        for which in [Which::Only, Which::Last] {
            assert_eq!(
                Format::Xfcc(which).read(&written.certificate, None).as_ref(),
                Ok(&expected)
            );
        }
        let text = String::from_utf8(written.certificate).unwrap();
        assert!(
            text.contains(";Subject=\"CN=client \\\"1\\\"\\, a\\;b\\\\\";URI=spiffe://a/b;"),
            "{text}"
        );
        assert!(text.ends_with(";URI=\"urn:x;Hash=0,Cert=\\\"a\\\\\";DNS=a.test"), "{text}");
        let written = write(&list, b"x-client-cert").unwrap();
        let read = Format::Nginx.read(&written.certificate, None).unwrap();
        assert_eq!(read, Certificates { intermediates: Vec::new(), ..expected });
    }

    #[test]
    fn a_leaf_alone_has_no_chain() {
        let key = PKey::generate_ed25519().unwrap();
        let leaf = self_signed(&key, "alone", 1);
        assert_eq!(write(&chain(&[&leaf]), b"rfc9440").unwrap().chain, None);
        let xfcc = write(&chain(&[&leaf]), b"xfcc").unwrap().certificate;
        assert!(xfcc.ends_with(b";Subject=\"CN=alone\""), "{}", xfcc.escape_ascii());
    }

    #[test]
    fn what_does_not_fit_is_not_cut() {
        let key = PKey::generate_ed25519().unwrap();
        let leaf = self_signed(&key, "alone", 1);
        assert!(matches!(write(&chain(&[]), b"rfc9440"), Err(NotForwarded::Empty)));
        assert!(matches!(write(&chain(&[&leaf]), b"xml"), Err(NotForwarded::UnknownFormat(_))));
        let long = "a".repeat(300);
        let many = named("a", |names| {
            for number in 0..60 {
                names.dns(&format!("{long}{number}"));
            }
        });
        let length = many.to_der().unwrap().len();
        assert!(length > MAX_LENGTH / 2, "{length}");
        assert!(write(&chain(&[&many]), b"rfc9440").is_ok());
        for format in [&b"xfcc"[..], b"rfc9440"] {
            let result = write(&chain(&[&many, &many]), format);
            assert!(matches!(result, Err(NotForwarded::TooLong)));
        }
    }

    #[test]
    fn a_name_can_not_end_the_header() {
        for name in ["a\nb", "a\rb", "a\tb", "b\u{7f}"] {
            let with_uri = named("a", |names| {
                names.uri(name);
            });
            let error = write(&chain(&[&with_uri]), b"xfcc").unwrap_err();
            assert_eq!(
                error.to_string(),
                "its alternative name has a byte that can't be in a header"
            );
            assert!(write(&chain(&[&with_uri]), b"rfc9440").is_ok());
            // A subject has no such byte: OpenSSL escapes it.
            let with_subject = named(name, |names| {
                names.dns("a");
            });
            let text = write(&chain(&[&with_subject]), b"xfcc").unwrap().certificate;
            assert!(!text.iter().any(u8::is_ascii_control), "{}", text.escape_ascii());
        }
    }
}
