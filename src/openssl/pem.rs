//! Certificates, keys and revocation lists from PEM (RFC 7468), and where in it something is wrong.

use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::stack::Stack;
use openssl::x509::{X509, X509Crl};

use super::error::SslError;

/// Why a text was refused.
#[derive(Debug, thiserror::Error)]
pub enum InvalidPem {
    /// There is none of what was asked for.
    #[error("no {0} in PEM format found")]
    Nothing(&'static str),
    /// A block has no end.
    #[error("{what} {number} (line {line}): \"-----END {label}-----\" is missing")]
    Unterminated { what: &'static str, number: usize, line: usize, label: String },
    /// OpenSSL could not read a block.
    #[error("{what} {number} (line {line}): {error}")]
    Block { what: &'static str, number: usize, line: usize, error: SslError },
    /// An encrypted key without a password, or with a wrong one.
    #[error("key (line {line}): it is encrypted, and {problem}")]
    Password { line: usize, problem: &'static str },
    /// No memory.
    #[error(transparent)]
    Ssl(#[from] SslError),
}

/// A block, and where it is.
struct Block<'a> {
    text: &'a [u8],
    /// Of its first line, counted from 1.
    line: usize,
}

/// The blocks of `text` whose label is one of `labels`.
fn blocks<'a>(
    text: &'a [u8],
    what: &'static str,
    labels: &[&str],
) -> Result<Vec<Block<'a>>, InvalidPem> {
    let mut blocks = Vec::new();
    let mut begun: Option<(usize, usize, &[u8])> = None;
    let mut offset = 0;

    for (number, line) in (1..).zip(text.split_inclusive(|byte| *byte == b'\n')) {
        let start = offset;
        offset += line.len();
        let line = line.trim_ascii();
        if let Some(label) = label_of(line, b"-----BEGIN ") {
            begun = Some((start, number, label));
        } else if let (Some((start, first, label)), Some(end)) =
            (begun, label_of(line, b"-----END "))
        {
            if end == label {
                if is_one_of(label, labels) {
                    blocks.push(Block { text: &text[start..offset], line: first });
                }
                begun = None;
            }
        }
    }
    match begun {
        Some((_, line, label)) if is_one_of(label, labels) => Err(InvalidPem::Unterminated {
            what,
            number: blocks.len() + 1,
            line,
            label: String::from_utf8_lossy(label).into_owned(),
        }),
        _ if blocks.is_empty() => Err(InvalidPem::Nothing(what)),
        _ => Ok(blocks),
    }
}

fn label_of<'a>(line: &'a [u8], before: &[u8]) -> Option<&'a [u8]> {
    line.strip_prefix(before)?.strip_suffix(b"-----")
}

fn is_one_of(label: &[u8], labels: &[&str]) -> bool {
    labels.iter().any(|known| known.as_bytes() == label)
}

/// What `read` makes of each block.
fn all<T>(
    text: &[u8],
    what: &'static str,
    labels: &[&str],
    read: impl Fn(&[u8]) -> Result<T, ErrorStack>,
    function: &'static str,
) -> Result<Vec<T>, InvalidPem> {
    (1..)
        .zip(blocks(text, what, labels)?)
        .map(|(number, Block { text, line })| {
            read(text).map_err(|errors| {
                let error = SslError::new(function, errors);
                InvalidPem::Block { what, number, line, error }
            })
        })
        .collect()
}

/// The certificates in `text`, in their order. What else is in it is passed over.
pub fn certificates(text: &[u8]) -> Result<Vec<X509>, InvalidPem> {
    const LABELS: &[&str] = &["CERTIFICATE", "X509 CERTIFICATE"];
    all(text, "certificate", LABELS, X509::from_pem, "PEM_read_bio_X509")
}

/// As [`certificates`], as OpenSSL has chains.
pub fn chain(text: &[u8]) -> Result<Stack<X509>, InvalidPem> {
    let error = |errors| SslError::new("OPENSSL_sk_push", errors);
    let mut chain = Stack::new().map_err(error)?;
    for certificate in certificates(text)? {
        chain.push(certificate).map_err(error)?;
    }
    Ok(chain)
}

/// The revocation lists in `text`.
pub fn revocation_lists(text: &[u8]) -> Result<Vec<X509Crl>, InvalidPem> {
    all(text, "revocation list", &["X509 CRL"], X509Crl::from_pem, "PEM_read_bio_X509_CRL")
}

/// The first private key in `text`.
pub fn key(text: &[u8], password: Option<&[u8]>) -> Result<PKey<Private>, InvalidPem> {
    const LABELS: &[&str] = &[
        "PRIVATE KEY",
        "ENCRYPTED PRIVATE KEY",
        "RSA PRIVATE KEY",
        "EC PRIVATE KEY",
        "DSA PRIVATE KEY",
    ];
    let blocks = blocks(text, "key", LABELS)?;
    let Some(Block { text, line }) = blocks.first() else {
        return Err(InvalidPem::Nothing("key"));
    };
    // Without a callback of ours, OpenSSL would ask whoever sits at the terminal.
    let mut was_asked = false;
    let key = PKey::private_key_from_pem_callback(text, |buffer| {
        was_asked = true;
        let password = password.unwrap_or_default();
        match buffer.get_mut(..password.len()) {
            Some(place) if !password.is_empty() => {
                place.copy_from_slice(password);
                Ok(password.len())
            }
            _ => Err(ErrorStack::get()),
        }
    });
    key.map_err(|errors| match (was_asked, password) {
        (true, None | Some([])) => {
            InvalidPem::Password { line: *line, problem: "there is no password for it" }
        }
        (true, Some(_)) => InvalidPem::Password { line: *line, problem: "the password is wrong" },
        (false, _) => InvalidPem::Block {
            what: "key",
            number: 1,
            line: *line,
            error: SslError::new("PEM_read_bio_PrivateKey", errors),
        },
    })
}

#[cfg(test)]
mod tests {
    use openssl::symm::Cipher;

    use super::*;
    use crate::openssl::test_certificate::self_signed;

    fn pem(names: &[&str]) -> Vec<u8> {
        let key = PKey::generate_ed25519().unwrap();
        names.iter().flat_map(|name| self_signed(&key, name, 1 << 30).to_pem().unwrap()).collect()
    }

    fn lines(text: &[u8]) -> usize {
        text.iter().filter(|byte| **byte == b'\n').count()
    }

    #[test]
    fn certificates_are_found_in_their_order_among_other_things() {
        let key = PKey::generate_ed25519().unwrap();
        let mut text = b"some words\r\n".to_vec();
        text.extend(pem(&["one"]));
        text.extend(key.private_key_to_pem_pkcs8().unwrap());
        text.extend(pem(&["two"]));
        let names: Vec<_> = certificates(&text)
            .unwrap()
            .iter()
            .map(|one| one.subject_name().entries().next().unwrap().data().to_string().unwrap())
            .collect();
        assert_eq!(names, ["one", "two"]);
        assert_eq!(chain(&text).unwrap().len(), 2);
        // Without a line feed at the end.
        assert_eq!(certificates(text.trim_ascii_end()).unwrap().len(), 2);
    }

    #[test]
    fn what_is_wrong_has_its_place() {
        let one = pem(&["one"]);
        let first_line = lines(&one) + 1;

        let mut bad = one.clone();
        bad.extend(b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n");
        let error = certificates(&bad).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("certificate 2 (line {first_line}): PEM_read")),
            "{error}"
        );

        let mut cut = one.clone();
        cut.extend(&one[..100]);
        assert_eq!(
            certificates(&cut).unwrap_err().to_string(),
            format!("certificate 2 (line {first_line}): \"-----END CERTIFICATE-----\" is missing")
        );
        for nothing in [&b""[..], b"\0", b"certificate", b"-----END CERTIFICATE-----\n"] {
            let error = certificates(nothing).unwrap_err().to_string();
            assert_eq!(error, "no certificate in PEM format found");
        }
        assert_eq!(key(&one, None).unwrap_err().to_string(), "no key in PEM format found");
    }

    #[test]
    fn keys_with_and_without_a_password() {
        let private = PKey::generate_ed25519().unwrap();
        let plain = private.private_key_to_pem_pkcs8().unwrap();
        assert!(key(&plain, None).unwrap().public_eq(&private));
        // One too many does no harm.
        assert!(key(&plain, Some(b"secret")).is_ok());

        let cipher = Cipher::aes_128_cbc();
        let encrypted = private.private_key_to_pem_pkcs8_passphrase(cipher, b"secret").unwrap();
        assert!(key(&encrypted, Some(b"secret")).unwrap().public_eq(&private));
        for (password, problem) in [
            (None, "there is no password for it"),
            (Some(&b""[..]), "there is no password for it"),
            (Some(b"wrong"), "the password is wrong"),
            (Some(&[b'x'; 5000]), "the password is wrong"),
        ] {
            assert_eq!(
                key(&encrypted, password).unwrap_err().to_string(),
                format!("key (line 1): it is encrypted, and {problem}")
            );
        }
        assert!(ErrorStack::get().errors().is_empty());
    }

    #[test]
    fn revocation_lists_are_no_certificates() {
        let error = revocation_lists(&pem(&["one"])).err().unwrap().to_string();
        assert_eq!(error, "no revocation list in PEM format found");
    }
}
