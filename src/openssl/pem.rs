// SPDX-License-Identifier: Apache-2.0

//! Parses certificates, keys and revocation lists in PEM (RFC 7468), with the line of an error.
//!
//! Text between blocks is skipped, as by OpenSSL, but a block never is. OpenSSL itself treats the
//! malformed beginning of a block as text, and silently skips the block.

use std::ffi::{c_long, c_uchar};
use std::ptr;

use foreign_types::ForeignType;
use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::stack::Stack;
use openssl::x509::{X509, X509Crl};

use crate::openssl::certificate;
use crate::openssl::error::SslError;
use crate::openssl::memory::{Allocated, Bio, owned};
use crate::openssl::sys;

/// Why a text was rejected.
#[derive(Debug, thiserror::Error)]
pub enum InvalidPem {
    /// The text has no block of the wanted kind.
    #[error("no {0} in PEM format found")]
    Nothing(&'static str),
    /// The same, and the text seems to be the name of a file.
    #[error("no {0} in PEM format found: give the text of the file, not its name")]
    FileName(&'static str),
    /// The text is not a sequence of blocks with text between them.
    #[error("line {line}: {problem}")]
    Structure { line: usize, problem: Structure },
    /// A block could not be parsed.
    #[error("{what} {number} (line {line}): {problem}")]
    Block { what: &'static str, number: usize, line: usize, problem: InvalidBlock },
    /// The key is encrypted, and no password was given.
    #[error("key (line {line}): it is encrypted, and there is no password for it")]
    PasswordMissing { line: usize },
    /// The key is encrypted, and OpenSSL could not decrypt it: the password may be wrong, or this
    /// OpenSSL may lack the cipher.
    #[error(
        "key (line {line}): it is encrypted, and could not be read with this password: {error}"
    )]
    Encrypted { line: usize, error: SslError },
    /// Out of memory.
    #[error(transparent)]
    Ssl(#[from] SslError),
}

/// What is wrong with the structure.
#[derive(Debug, thiserror::Error)]
pub enum Structure {
    #[error("\"-----END {0}-----\" is missing for what begins here")]
    Unterminated(String),
    #[error("the end of a block that has no beginning")]
    NotBegun,
    #[error("a block must begin with a line of its own, \"-----BEGIN ...-----\"")]
    Beginning,
    #[error("blocks of {0:?} are not known here")]
    UnknownLabel(String),
}

/// What is wrong with the content of a block.
#[derive(Debug, thiserror::Error)]
pub enum InvalidBlock {
    #[error(transparent)]
    Ssl(#[from] SslError),
    #[error("it is encrypted")]
    Encrypted,
    /// Bytes follow the object, which OpenSSL would ignore.
    #[error("other bytes follow it")]
    Trailing,
}

const CERTIFICATES: &[&str] = &["CERTIFICATE", "X509 CERTIFICATE", TRUSTED_CERTIFICATE];
/// A certificate with OpenSSL's trust settings.
const TRUSTED_CERTIFICATE: &str = "TRUSTED CERTIFICATE";
const REVOCATION_LISTS: &[&str] = &["X509 CRL"];
/// The length up to which a text may be the name of a file.
const MAX_FILE_NAME: usize = 255;
/// The end of the label of every kind of private key.
const PRIVATE_KEY: &str = "PRIVATE KEY";
/// Other known labels, which are skipped.
const OTHERS: &[&str] = &[
    "CERTIFICATE REQUEST",
    "DH PARAMETERS",
    "DSA PARAMETERS",
    "EC PARAMETERS",
    "NEW CERTIFICATE REQUEST",
    "PUBLIC KEY",
    "RSA PUBLIC KEY",
    "SSL SESSION PARAMETERS",
    "X9.42 DH PARAMETERS",
];

/// A block, with its place in the text.
struct Block<'a> {
    label: &'a str,
    text: &'a [u8],
    /// The number of its first line, counted from 1.
    line: usize,
}

/// Returns all blocks of `text`.
fn blocks(text: &[u8]) -> Result<Vec<Block<'_>>, InvalidPem> {
    let mut blocks = Vec::new();
    let mut begun: Option<(usize, usize, &str)> = None;
    let mut offset = 0;

    for (number, whole) in (1..).zip(text.split_inclusive(|byte| *byte == b'\n')) {
        let mut start = offset;
        offset += whole.len();
        let mut line = whole.trim_ascii_end();
        let at = |line, problem| InvalidPem::Structure { line, problem };

        if let Some((first, first_line, label)) = begun {
            if label_of(line, "-----END ") == Some(label) {
                blocks.push(Block { label, text: &text[first..offset], line: first_line });
                begun = None;
            } else if contains(line, b"-----BEGIN ") || contains(line, b"-----END ") {
                return Err(at(first_line, Structure::Unterminated(label.to_owned())));
            }
            continue;
        }
        // Skip a byte order mark, also within the text: files may have been concatenated.
        if let Some(rest) = line.strip_prefix(b"\xef\xbb\xbf") {
            start += line.len() - rest.len();
            line = rest;
        }
        if let Some(label) = label_of(line, "-----BEGIN ") {
            if !is_known(label) {
                return Err(at(number, Structure::UnknownLabel(label.to_owned())));
            }
            begun = Some((start, number, label));
        } else if contains(line, b"-----BEGIN ") {
            return Err(at(number, Structure::Beginning));
        } else if contains(line, b"-----END ") {
            return Err(at(number, Structure::NotBegun));
        }
    }
    match begun {
        Some((_, line, label)) => {
            Err(InvalidPem::Structure { line, problem: Structure::Unterminated(label.to_owned()) })
        }
        None => Ok(blocks),
    }
}

fn label_of<'a>(line: &'a [u8], before: &str) -> Option<&'a str> {
    std::str::from_utf8(line).ok()?.strip_prefix(before)?.strip_suffix("-----")
}

fn contains(line: &[u8], part: &[u8]) -> bool {
    line.windows(part.len()).any(|window| window == part)
}

fn is_known(label: &str) -> bool {
    [CERTIFICATES, REVOCATION_LISTS, OTHERS].iter().any(|labels| labels.contains(&label))
        || is_private_key(label)
}

fn is_private_key(label: &str) -> bool {
    label.ends_with(PRIVATE_KEY)
}

/// Returns what `read` makes of each block with one of the labels.
fn all<T>(
    text: &[u8],
    what: &'static str,
    labels: &[&str],
    read: impl Fn(&Block<'_>) -> Result<T, InvalidBlock>,
) -> Result<Vec<T>, InvalidPem> {
    let blocks = blocks(text)?;
    let blocks = blocks.iter().filter(|block| labels.contains(&block.label));
    let all: Vec<_> = (1..)
        .zip(blocks)
        .map(|(number, block)| {
            let line = block.line;
            read(block).map_err(|problem| InvalidPem::Block { what, number, line, problem })
        })
        .collect::<Result<_, _>>()?;
    if all.is_empty() { Err(nothing(text, what)) } else { Ok(all) }
}

/// Returns the error for a text without a block of the wanted kind. A short line with a `/` or `.`
/// is probably the name of a file.
fn nothing(text: &[u8], what: &'static str) -> InvalidPem {
    let is_file_name = text.len() <= MAX_FILE_NAME
        && text.iter().any(|byte| matches!(byte, b'/' | b'.'))
        && !text.iter().any(u8::is_ascii_control);
    if is_file_name { InvalidPem::FileName(what) } else { InvalidPem::Nothing(what) }
}

/// Returns the certificates in `text`, in order.
pub fn certificates(text: &[u8]) -> Result<Vec<X509>, InvalidPem> {
    all(text, "certificate", CERTIFICATES, |block| {
        let der = decoded(block.text)?;
        if block.label == TRUSTED_CERTIFICATE {
            whole(&der, "d2i_X509_AUX", sys::d2i_X509_AUX)
        } else {
            whole(&der, "d2i_X509", openssl_sys::d2i_X509)
        }
    })
}

/// Returns the certificates in `text` as an OpenSSL stack.
pub fn chain(text: &[u8]) -> Result<Stack<X509>, InvalidPem> {
    Ok(certificate::chain(certificates(text)?)?)
}

/// Returns the revocation lists in `text`.
pub fn revocation_lists(text: &[u8]) -> Result<Vec<X509Crl>, InvalidPem> {
    all(text, "revocation list", REVOCATION_LISTS, |block| {
        whole(&decoded(block.text)?, "d2i_X509_CRL", openssl_sys::d2i_X509_CRL)
    })
}

/// Returns the DER content of a block.
fn decoded(text: &[u8]) -> Result<Vec<u8>, InvalidBlock> {
    let (mut name, mut header) = (Allocated::none(), Allocated::none());
    let (mut data, mut length) = (Allocated::none(), 0);
    let status = Bio::over(text, |bio| {
        sys::PEM_read_bio(bio, &mut name, &mut header, &mut data, &mut length)
    })?;
    SslError::check("PEM_read_bio", status)?;
    if header.text().bytes().is_some_and(|header| !header.is_empty()) {
        return Err(InvalidBlock::Encrypted);
    }
    // SAFETY: OpenSSL has allocated as many bytes of data as it says.
    Ok(unsafe { data.bytes(usize::try_from(length).unwrap_or_default()) }.to_vec())
}

/// `d2i_X509(3)` and similar functions.
type Decode<T> = unsafe extern "C" fn(*mut *mut T, *mut *const c_uchar, c_long) -> *mut T;

/// Decodes `der`, all of which must be consumed.
fn whole<T: ForeignType>(
    der: &[u8],
    function: &'static str,
    decode: Decode<T::CType>,
) -> Result<T, InvalidBlock> {
    let length = c_long::try_from(der.len()).unwrap_or(c_long::MAX);
    let mut end = der.as_ptr();
    // SAFETY: the function reads at most `length` bytes, and sets `end` to the end of what it read.
    let made = unsafe { decode(ptr::null_mut(), &raw mut end, length) };
    // SAFETY: the function has made an object for its caller, or returned NULL.
    let made = unsafe { owned(function, made) }?;
    if end == der.as_ptr_range().end { Ok(made) } else { Err(InvalidBlock::Trailing) }
}

/// Returns the first private key in `text`.
pub fn key(text: &[u8], password: Option<&[u8]>) -> Result<PKey<Private>, InvalidPem> {
    let found = blocks(text)?.into_iter().find(|block| is_private_key(block.label));
    let Block { text, line, .. } = found.ok_or_else(|| nothing(text, "key"))?;
    // Without a callback, OpenSSL would prompt for the password on the terminal.
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
    key.map_err(|errors| {
        let error = SslError::new("PEM_read_bio_PrivateKey", errors);
        match (was_asked, password) {
            (true, None | Some([])) => InvalidPem::PasswordMissing { line },
            (true, Some(_)) => InvalidPem::Encrypted { line, error },
            (false, _) => InvalidPem::Block { what: "key", number: 1, line, problem: error.into() },
        }
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
        // The text may lack its final line feed.
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
            format!(
                "line {first_line}: \"-----END CERTIFICATE-----\" is missing for what begins here"
            )
        );
        for nothing in [&b""[..], b"\0", b"certificate", b"-----\n"] {
            let error = certificates(nothing).unwrap_err().to_string();
            assert_eq!(error, "no certificate in PEM format found");
        }
        assert_eq!(key(&one, None).unwrap_err().to_string(), "no key in PEM format found");
    }

    #[test]
    fn the_name_of_a_file_is_recognized() {
        let long = [b'.'; MAX_FILE_NAME + 1];
        for name in [&b"a.pem"[..], b"/etc/ssl/my key", b"\xc3\xa4/a", &long[1..]] {
            let expected = "in PEM format found: give the text of the file, not its name";
            assert_eq!(
                certificates(name).unwrap_err().to_string(),
                format!("no certificate {expected}")
            );
            assert_eq!(key(name, None).unwrap_err().to_string(), format!("no key {expected}"));
        }
        for other in [&long[..], b"", b"pem", b"/a\n", b"0\x82\0.", b"two\nlines."] {
            let error = certificates(other).unwrap_err().to_string();
            assert_eq!(error, "no certificate in PEM format found");
        }
    }

    #[test]
    fn keys_with_and_without_a_password() {
        let private = PKey::generate_ed25519().unwrap();
        let plain = private.private_key_to_pem_pkcs8().unwrap();
        assert!(key(&plain, None).unwrap().public_eq(&private));
        // A password that is not needed is ignored.
        assert!(key(&plain, Some(b"secret")).is_ok());

        let cipher = Cipher::aes_128_cbc();
        let encrypted = private.private_key_to_pem_pkcs8_passphrase(cipher, b"secret").unwrap();
        assert!(key(&encrypted, Some(b"secret")).unwrap().public_eq(&private));
        for (password, problem) in [
            (None, "there is no password for it"),
            (Some(&b""[..]), "there is no password for it"),
            (
                Some(b"wrong"),
                "could not be read with this password: PEM_read_bio_PrivateKey() failed",
            ),
            (Some(&[b'x'; 5000]), "could not be read with this password: "),
        ] {
            let error = key(&encrypted, password).unwrap_err().to_string();
            let expected = format!("key (line 1): it is encrypted, and {problem}");
            assert!(error.starts_with(&expected), "{error}");
        }
        // For one in 256 wrong passwords, the padding is valid by chance, and the error is another
        // one.
        let is_named = (0..4).any(|_| {
            let encrypted = private.private_key_to_pem_pkcs8_passphrase(cipher, b"secret").unwrap();
            key(&encrypted, Some(b"wrong")).unwrap_err().to_string().contains("bad decrypt")
        });
        assert!(is_named);
        assert!(ErrorStack::get().errors().is_empty());
    }

    #[test]
    fn revocation_lists_are_no_certificates() {
        let error = revocation_lists(&pem(&["one"])).err().unwrap().to_string();
        assert_eq!(error, "no revocation list in PEM format found");
    }

    #[test]
    fn no_block_is_passed_over() {
        let (one, two) = (pem(&["one"]), pem(&["two"]));
        let count = |text: &[u8]| certificates(text).map(|all| all.len());
        let is_refused = |parts: &[&[u8]], expected: &str| {
            let error = count(&parts.concat()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
        for text in [
            [BYTE_ORDER_MARK, &one, &two].concat(),
            [&*one, BYTE_ORDER_MARK, &two].concat(),
            [BYTE_ORDER_MARK, b"words\n", &one, b"more\r\n", &two, b"words"].concat(),
            [one.as_slice(), two.as_slice()].concat().replace_all(b"\n", b"\r\n"),
            [one.as_slice(), two.as_slice()].concat().replace_all(b"-----\n", b"----- \t\n"),
            [&*one, b"-----BEGIN DH PARAMETERS-----\nAA==\n-----END DH PARAMETERS-----\n", &two]
                .concat(),
        ] {
            assert_eq!(count(&text).unwrap(), 2, "{}", text.escape_ascii());
        }
        let cut = &one[..100];
        is_refused(&[cut, b"\n", &two], "line 1: \"-----END CERTIFICATE-----\" is missing");
        is_refused(&[&two, cut, &one], "is missing for what begins here");
        is_refused(&[&one[100..], &two], "the end of a block that has no beginning");
        is_refused(&[one.trim_ascii_end(), &two], "is missing for what begins here");
        is_refused(&[&one, b" ", &two], "a block must begin with a line of its own");
        is_refused(&[&one, b"x", &two], "a block must begin with a line of its own");
        is_refused(&[&[&*one, &two].concat().replace_all(b"\n", b"\r")], "line 1: ");
        is_refused(
            &[&one, &two.replace_all(b"CERTIFICATE", b"CERTIFCATE")],
            "blocks of \"CERTIFCATE\" are not known here",
        );
        is_refused(&[&one, &two.replace_all(b"CERTIFICATE", b"PKCS7")], "are not known here");
        is_refused(
            &[&one, &two.replace_all(b"END CERTIFICATE", b"END X509 CERTIFICATE")],
            "is missing for what begins here",
        );
        let key = PKey::generate_ed25519().unwrap().private_key_to_pem_pkcs8().unwrap();
        let key_of = |parts: &[&[u8]]| super::key(&parts.concat(), None).map(|_| ());
        assert!(key_of(&[&one, &key, &two]).is_ok());
        assert!(key_of(&[cut, b"\n", &key]).is_err());
        assert!(key_of(&[&key[..40], b"\n", &key]).is_err());
    }

    #[test]
    fn a_block_is_read_whole() {
        let der = certificates(&pem(&["one"])).unwrap()[0].to_der().unwrap();
        let encoded = |label: &str, more: &[u8]| {
            let text = openssl::base64::encode_block(&[&*der, more].concat());
            let lines: Vec<_> =
                text.as_bytes().chunks(64).map(|line| [line, b"\n"].concat()).collect();
            let begin = format!("-----BEGIN {label}-----\n");
            let end = format!("-----END {label}-----\n");
            [begin.as_bytes(), &lines.concat(), end.as_bytes()].concat()
        };
        for label in CERTIFICATES {
            assert_eq!(certificates(&encoded(label, b"")).unwrap().len(), 1, "{label}");
        }
        let error = certificates(&encoded("CERTIFICATE", b"x")).unwrap_err().to_string();
        assert_eq!(error, "certificate 1 (line 1): other bytes follow it");
        assert!(certificates(&encoded(TRUSTED_CERTIFICATE, b"x")).is_err());
        // Trust settings.
        let trust = b"\x30\x0c\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01";
        assert!(certificates(&encoded(TRUSTED_CERTIFICATE, trust)).is_ok());
        let mut encrypted = encoded("CERTIFICATE", b"");
        let header = b"Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n";
        let place = lines(b"\n") + b"-----BEGIN CERTIFICATE-----".len();
        encrypted.splice(place..place, header.iter().copied());
        let error = certificates(&encrypted).unwrap_err().to_string();
        assert_eq!(error, "certificate 1 (line 1): it is encrypted");
        assert!(ErrorStack::get().errors().is_empty());
    }

    trait ReplaceAll {
        fn replace_all(&self, from: &[u8], to: &[u8]) -> Vec<u8>;
    }

    impl ReplaceAll for [u8] {
        fn replace_all(&self, from: &[u8], to: &[u8]) -> Vec<u8> {
            let mut all = Vec::new();
            let mut rest = self;
            while !rest.is_empty() {
                match rest.strip_prefix(from) {
                    Some(after) => {
                        all.extend(to);
                        rest = after;
                    }
                    None => {
                        all.push(rest[0]);
                        rest = &rest[1..];
                    }
                }
            }
            all
        }
    }
}
