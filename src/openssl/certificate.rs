// SPDX-License-Identifier: Apache-2.0

//! Reads the fields of certificates.

use std::ffi::c_int;
use std::net::IpAddr;

use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::base64;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKeyRef, Private};
use openssl::stack::Stack;
use openssl::x509::{GeneralName, GeneralNameRef, X509, X509NameRef, X509Ref};

use crate::openssl::error::SslError;
use crate::openssl::fingerprint::Encoding;
use crate::openssl::memory::{Allocated, Bio, BioRef, owned};
use crate::openssl::sys;

/// Why bytes are not a DER certificate.
#[derive(Debug, thiserror::Error)]
pub enum InvalidDer {
    #[error(transparent)]
    Ssl(#[from] SslError),
    /// There are other bytes, or the encoding is not DER: OpenSSL accepts both.
    #[error("it is not one certificate in DER, and nothing else")]
    NotAlone,
}

/// Parses a certificate; `der` must be its exact DER encoding.
pub fn from_der(der: &[u8]) -> Result<X509, InvalidDer> {
    let certificate = X509::from_der(der).map_err(|errors| SslError::new("d2i_X509", errors))?;
    let encoded = certificate.to_der().map_err(|errors| SslError::new("i2d_X509", errors))?;
    if encoded == der { Ok(certificate) } else { Err(InvalidDer::NotAlone) }
}

/// Encodes a certificate with what OpenSSL keeps beside it: for which purposes it is trusted
/// (`BEGIN TRUSTED CERTIFICATE`).
pub fn encode(encoding: &mut Encoding, certificate: &X509Ref) -> Result<(), SslError> {
    let mut der = Allocated::none();
    // SAFETY: there is no memory yet, so the function allocates it.
    let length = unsafe { sys::i2d_X509_AUX(certificate, &mut der) };
    let length = usize::try_from(length).ok().filter(|length| *length > 0);
    let length = length.ok_or_else(|| SslError::take("i2d_X509_AUX"))?;
    // SAFETY: the function has allocated as many bytes as it returns.
    encoding.bytes(unsafe { der.bytes(length) });
    Ok(())
}

/// Returns a chain of these certificates.
pub fn chain(certificates: impl IntoIterator<Item = X509>) -> Result<Stack<X509>, SslError> {
    let error = |function| move |errors| SslError::new(function, errors);
    let mut chain = Stack::new().map_err(error("OPENSSL_sk_new"))?;
    for certificate in certificates {
        chain.push(certificate).map_err(error("OPENSSL_sk_push"))?;
    }
    Ok(chain)
}

/// Returns the subject in the format of `$ssl_client_s_dn` (RFC 2253).
pub fn subject(certificate: &X509Ref) -> Result<String, SslError> {
    name(certificate.subject_name())
}

/// Returns the issuer in the format of `$ssl_client_i_dn` (RFC 2253).
pub fn issuer(certificate: &X509Ref) -> Result<String, SslError> {
    name(certificate.issuer_name())
}

/// Returns the common name of the subject; `None` unless there is exactly one.
pub fn common_name(certificate: &X509Ref) -> Option<Vec<u8>> {
    let mut names = certificate.subject_name().entries_by_nid(Nid::COMMONNAME);
    let name = names.next()?;
    if names.next().is_some() {
        return None;
    }
    let text = name.data().to_string();
    // A failed conversion leaves an error in the queue.
    drop(ErrorStack::get());
    text.ok().map(String::into_bytes)
}

/// Returns the first value of an attribute in the subject, in UTF-8; `None` if it has none that is a
/// text.
pub fn subject_attribute(certificate: &X509Ref, attribute: Nid) -> Option<String> {
    let text = certificate.subject_name().entries_by_nid(attribute).next()?.data().to_string();
    // A failed conversion leaves an error in the queue.
    drop(ErrorStack::get());
    text.ok()
}

/// Returns the organizational units of the subject, in UTF-8. One that is no text is an error:
/// otherwise it would be missing without notice.
pub fn organizational_units(certificate: &X509Ref) -> Result<Vec<Vec<u8>>, SslError> {
    let units = certificate.subject_name().entries_by_nid(Nid::ORGANIZATIONALUNITNAME);
    units
        .map(|unit| {
            let text = unit.data().to_string();
            let text = text.map_err(|errors| SslError::new("ASN1_STRING_to_UTF8", errors))?;
            Ok(text.into_bytes())
        })
        .collect()
}

/// Returns the thumbprint of the certificate in the form of the claim `x5t#S256` (RFC 8705, section
/// 3.1): SHA-256 in base64url, without padding (RFC 4648, section 5).
pub fn thumbprint(certificate: &X509Ref) -> Result<String, SslError> {
    let digest = certificate.digest(MessageDigest::sha256());
    let digest = digest.map_err(|errors| SslError::new("X509_digest", errors))?;
    let text = base64::encode_block(&digest);
    Ok(text.trim_end_matches('=').replace('+', "-").replace('/', "_"))
}

/// Returns a name in the format of `$ssl_client_s_dn` (RFC 2253).
pub fn name(name: &X509NameRef) -> Result<String, SslError> {
    /// `XN_FLAG_RFC2253`
    const RFC_2253: std::ffi::c_ulong = 0x0111_0317;

    printed("X509_NAME_print_ex", |bio| sys::X509_NAME_print_ex(bio, name, 0, RFC_2253))
}

/// Returns the text that `print` writes to a BIO. `print` returns a negative number on failure.
fn printed(
    function: &'static str,
    print: impl FnOnce(&BioRef) -> c_int,
) -> Result<String, SslError> {
    let mut bio = Bio::new()?;
    if print(&bio) < 0 {
        return Err(SslError::take(function));
    }
    Ok(String::from_utf8_lossy(bio.contents()).into_owned())
}

/// Returns whether `key` belongs to the certificate. Only the public keys are compared.
pub fn has_key(certificate: &X509Ref, key: &PKeyRef<Private>) -> bool {
    let result = sys::X509_check_private_key(certificate, key);
    SslError::check("X509_check_private_key", result).is_ok()
}

/// Returns the serial number in the format of `$ssl_client_serial`: upper-case hexadecimal, in
/// whole bytes.
pub fn serial(certificate: &X509Ref) -> Result<String, SslError> {
    printed("i2a_ASN1_INTEGER", |bio| sys::i2a_ASN1_INTEGER(bio, certificate.serial_number()))
}

/// Returns the beginning of the validity, in seconds since the epoch.
pub fn not_before(certificate: &X509Ref) -> Result<i64, SslError> {
    seconds(certificate.not_before())
}

/// Returns the end of the validity, in seconds since the epoch.
pub fn not_after(certificate: &X509Ref) -> Result<i64, SslError> {
    seconds(certificate.not_after())
}

/// Returns a date in seconds since the epoch.
pub fn seconds(time: &Asn1TimeRef) -> Result<i64, SslError> {
    let difference = || -> Result<i64, ErrorStack> {
        let difference = Asn1Time::from_unix(0)?.diff(time)?;
        Ok(i64::from(difference.days) * 24 * 60 * 60 + i64::from(difference.secs))
    };
    difference().map_err(|errors| SslError::new("ASN1_TIME_diff", errors))
}

/// Why a fingerprint could not be computed.
#[derive(Debug, thiserror::Error)]
pub enum FingerprintError {
    #[error("there is no digest \"{0}\"")]
    UnknownDigest(String),
    #[error(transparent)]
    Ssl(#[from] SslError),
}

/// Returns the digest of the DER certificate in lower-case hexadecimal; `digest` is its name.
pub fn fingerprint(certificate: &X509Ref, digest: &str) -> Result<String, FingerprintError> {
    let digest = MessageDigest::from_name(digest)
        .ok_or_else(|| FingerprintError::UnknownDigest(digest.to_owned()))?;
    let bytes =
        certificate.digest(digest).map_err(|errors| SslError::new("X509_digest", errors))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A subject alternative name (RFC 5280, section 4.2.1.6): its kind, which is the name of its list
/// in `sans`, and its text.
#[derive(Debug, PartialEq, Eq)]
pub struct AlternativeName {
    pub kind: &'static str,
    pub text: Vec<u8>,
}

impl AlternativeName {
    pub const KINDS: [&'static str; 4] = ["dns", "email", "ip", "uri"];
}

/// Returns the subject alternative names of the types that are text or IP addresses. Others, such
/// as directory names, are left out.
///
/// Without the extension, there are no names. An extension that can't be read is an error:
/// otherwise a certificate would be identified by its subject instead of by its first name.
pub fn alternative_names(certificate: &X509Ref) -> Result<Vec<AlternativeName>, SslError> {
    let subject_alt_name = openssl_sys::NID_subject_alt_name;
    // SAFETY: this extension is a stack of names.
    let names: Option<Stack<GeneralName>> = unsafe { extension(certificate, subject_alt_name) }?;
    Ok(names.iter().flatten().filter_map(alternative_name).collect())
}

/// Returns the extension with this number, or `None` if the certificate has none. One that can't be
/// read is an error.
///
/// # Safety
/// `T` must be the type of the extension in OpenSSL.
pub unsafe fn extension<T: ForeignType>(
    certificate: &X509Ref,
    nid: c_int,
) -> Result<Option<T>, SslError> {
    /// `X509_get_ext_d2i(3)`: the certificate has no such extension.
    const ABSENT: c_int = -1;

    let mut critical = 0;
    let value = sys::X509_get_ext_d2i(certificate, nid, &mut critical, None);
    if value.is_null() && critical == ABSENT {
        return Ok(None);
    }
    // SAFETY: the function has made a value for its caller, or returned NULL; the caller ensures
    // that it is of this type.
    unsafe { owned("X509_get_ext_d2i", value.cast()) }.map(Some)
}

/// Returns whether a name is a URI, even if it is no text: then [`GeneralNameRef::uri`] has none.
pub fn is_uri(name: &GeneralNameRef) -> bool {
    // SAFETY: the name is valid, and has its type in this field.
    unsafe { (*name.as_ptr()).type_ == openssl_sys::GEN_URI }
}

fn alternative_name(name: &GeneralNameRef) -> Option<AlternativeName> {
    let text = |kind, text: &str| AlternativeName { kind, text: text.as_bytes().to_vec() };
    if let Some(address) = name.ipaddress() {
        let address = match address.len() {
            4 => <[u8; 4]>::try_from(address).ok().map(IpAddr::from),
            16 => <[u8; 16]>::try_from(address).ok().map(IpAddr::from),
            _ => None,
        };
        return Some(text("ip", &address?.to_string()));
    }
    name.dnsname()
        .map(|name| text("dns", name))
        .or_else(|| name.email().map(|name| text("email", name)))
        .or_else(|| name.uri().map(|name| text("uri", name)))
}

#[cfg(test)]
mod tests {
    use openssl::bn::BigNum;
    use openssl::pkey::PKey;
    use openssl::x509::extension::SubjectAlternativeName;
    use openssl::x509::{X509Extension, X509NameBuilder};

    use super::*;
    use crate::openssl::test_certificate::self_signed;

    fn certificate() -> X509 {
        let key = PKey::generate_ed25519().unwrap();
        let mut name = X509NameBuilder::new().unwrap();
        name.append_entry_by_text("O", "A, B").unwrap();
        name.append_entry_by_text("CN", "Zoë").unwrap();
        let name = name.build();
        let mut builder = X509::builder().unwrap();
        builder.set_version(2).unwrap();
        builder.set_subject_name(&name).unwrap();
        builder.set_issuer_name(&name).unwrap();
        builder.set_pubkey(&key).unwrap();
        let serial = BigNum::from_hex_str("0A1B2C").unwrap().to_asn1_integer().unwrap();
        builder.set_serial_number(&serial).unwrap();
        builder.set_not_before(&Asn1Time::from_unix(1 << 30).unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::from_unix(4_102_444_800).unwrap()).unwrap();
        let names = SubjectAlternativeName::new()
            .dns("a.test")
            .email("a@b.test")
            .uri("spiffe://a/b")
            .ip("192.0.2.1")
            .ip("2001:db8::1")
            .build(&builder.x509v3_context(None, None))
            .unwrap();
        builder.append_extension(names).unwrap();
        builder.sign(&key, MessageDigest::null()).unwrap();
        builder.build()
    }

    #[test]
    fn a_certificate_is_all_of_its_bytes() {
        let der = certificate().to_der().unwrap();
        assert_eq!(from_der(&der).unwrap().to_der().unwrap(), der);
        for more in [&b"\0"[..], b"junk", &der] {
            let error = from_der(&[&der, more].concat()).unwrap_err();
            assert!(matches!(error, InvalidDer::NotAlone), "{error}");
        }
        assert!(matches!(from_der(&der[..der.len() - 1]), Err(InvalidDer::Ssl(_))));
        assert!(matches!(from_der(b""), Err(InvalidDer::Ssl(_))));
        // The length of the certificate, encoded in one byte more than needed.
        let [0x30, 0x82, high, low, body @ ..] = &*der else { panic!() };
        let longer = [&[0x30, 0x83, 0, *high, *low], body].concat();
        assert!(from_der(&longer).is_err());
        assert!(ErrorStack::get().errors().is_empty());
    }

    #[test]
    fn names_are_as_nginx_has_them() {
        assert_eq!(subject(&certificate()).unwrap(), "CN=Zo\\C3\\AB,O=A\\, B");
        assert_eq!(issuer(&certificate()).unwrap(), "CN=Zo\\C3\\AB,O=A\\, B");
        assert_eq!(serial(&certificate()).unwrap(), "0A1B2C");
        for (number, expected) in [("0", "00"), ("7f", "7F"), ("80", "80"), ("-1", "-01")] {
            let mut builder = X509::builder().unwrap();
            let number = BigNum::from_hex_str(number).unwrap().to_asn1_integer().unwrap();
            builder.set_serial_number(&number).unwrap();
            assert_eq!(serial(&builder.build()).unwrap(), expected);
        }
        assert_eq!(common_name(&certificate()).unwrap(), "Zoë".as_bytes());
    }

    #[test]
    fn attributes_of_the_subject() {
        let mut name = X509NameBuilder::new().unwrap();
        for (attribute, value) in [("OU", "Zürich"), ("OU", "B"), ("CN", "a")] {
            name.append_entry_by_text(attribute, value).unwrap();
        }
        let mut builder = X509::builder().unwrap();
        builder.set_subject_name(&name.build()).unwrap();
        let certificate = builder.build();
        let unit = subject_attribute(&certificate, Nid::ORGANIZATIONALUNITNAME);
        assert_eq!(unit.as_deref(), Some("Zürich"));
        assert_eq!(subject_attribute(&certificate, Nid::STATEORPROVINCENAME), None);
        assert_eq!(subject_attribute(&certificate, Nid::COMMONNAME).as_deref(), Some("a"));
        assert_eq!(
            organizational_units(&certificate).unwrap(),
            ["Zürich".as_bytes().to_vec(), b"B".to_vec()]
        );
        assert!(ErrorStack::get().errors().is_empty());
    }

    #[test]
    fn dates_are_in_seconds() {
        assert_eq!(not_before(&certificate()).unwrap(), 1 << 30);
        assert_eq!(not_after(&certificate()).unwrap(), 4_102_444_800);
        let key = PKey::generate_ed25519().unwrap();
        for end in [0, 1, 1 << 30, 4_102_444_800] {
            assert_eq!(not_after(&self_signed(&key, "leaf", end)).unwrap(), end);
        }
    }

    #[test]
    fn alternative_names_of_each_kind() {
        let names: Vec<_> = alternative_names(&certificate())
            .unwrap()
            .into_iter()
            .map(|name| (name.kind, String::from_utf8(name.text).unwrap()))
            .collect();
        let expected = [
            ("dns", "a.test"),
            ("email", "a@b.test"),
            ("uri", "spiffe://a/b"),
            ("ip", "192.0.2.1"),
            ("ip", "2001:db8::1"),
        ];
        assert_eq!(names, expected.map(|(kind, text)| (kind, text.to_owned())));
        let key = PKey::generate_ed25519().unwrap();
        assert!(alternative_names(&self_signed(&key, "leaf", 1)).unwrap().is_empty());
    }

    #[test]
    #[allow(deprecated, reason = "nothing else makes an extension of any bytes")]
    fn names_that_can_not_be_read_are_an_error() {
        let key = PKey::generate_ed25519().unwrap();
        let mut builder = X509::builder().unwrap();
        builder.set_pubkey(&key).unwrap();
        let broken =
            X509Extension::new_nid(None, None, Nid::SUBJECT_ALT_NAME, "DER:3003820561").unwrap();
        builder.append_extension(broken).unwrap();
        builder.sign(&key, MessageDigest::null()).unwrap();
        assert!(alternative_names(&builder.build()).is_err());
        assert!(ErrorStack::get().errors().is_empty());
    }

    #[test]
    fn thumbprints_are_fingerprints_in_base64url() {
        // Certificates whose thumbprints have each of the characters that base64 has not.
        let key = PKey::generate_ed25519().unwrap();
        let mut seen = String::new();
        for number in 0..64 {
            let certificate = self_signed(&key, "leaf", number);
            let digits = fingerprint(&certificate, "sha256").unwrap();
            let text = thumbprint(&certificate).unwrap();
            assert_eq!(text.len(), 43);
            let padded = text.replace('-', "+").replace('_', "/") + "=";
            let bytes = base64::decode_block(&padded).unwrap();
            assert_eq!(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), digits);
            seen += &text;
        }
        assert!(seen.contains('-') && seen.contains('_') && !seen.contains(['+', '/', '=']));
    }

    #[test]
    fn fingerprints() {
        let certificate = certificate();
        let sha256 = fingerprint(&certificate, "sha256").unwrap();
        assert_eq!(sha256.len(), 64);
        assert_eq!(fingerprint(&certificate, "SHA1").unwrap().len(), 40);
        assert_eq!(
            fingerprint(&certificate, "none").unwrap_err().to_string(),
            "there is no digest \"none\""
        );
    }
}
