// SPDX-License-Identifier: Apache-2.0

//! Readable descriptions of the signatures that a peer accepts, and of keys.

use std::borrow::Cow;
use std::ffi::c_int;

use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKeyRef, Private};
use openssl::ssl::{SslRef, SslVersion};

use crate::openssl::sys;

/// Returns the signature algorithms that the peer of `ssl` accepts, by OpenSSL's names
/// (`SSL_CTX_set1_sigalgs(3)`). Empty before TLS 1.2, which introduced the list.
pub fn taken_by_peer(ssl: &SslRef) -> String {
    if ![Some(SslVersion::TLS1_2), Some(SslVersion::TLS1_3)].contains(&ssl.version2()) {
        return String::new();
    }
    let names: Vec<_> = (0..count(ssl)).filter_map(|index| at(ssl, index)).map(name).collect();
    names.join(", ")
}

fn count(ssl: &SslRef) -> c_int {
    sys::SSL_get_sigalgs(ssl, 0, None, None, None, None, None)
}

/// Returns the `SignatureScheme` (RFC 8446, section 4.2.3) with this index.
fn at(ssl: &SslRef, index: c_int) -> Option<u16> {
    // In TLS 1.2 the first byte is the hash, the second the signature.
    let (mut signature, mut hash) = (0, 0);
    let places = (Some(&mut signature), Some(&mut hash));
    let count = sys::SSL_get_sigalgs(ssl, index, None, None, None, places.0, places.1);
    (count > index).then_some(u16::from_be_bytes([hash, signature]))
}

fn name(scheme: u16) -> Cow<'static, str> {
    const HASHES: [&str; 7] = ["", "MD5", "SHA1", "SHA224", "SHA256", "SHA384", "SHA512"];

    let [hash, signature] = scheme.to_be_bytes();
    let of_pair = |signature| {
        HASHES
            .get(usize::from(hash))
            .filter(|hash| !hash.is_empty())
            .map(|hash| format!("{signature}+{hash}").into())
    };
    let known = match (hash, signature) {
        (8, 4) => Some("RSA-PSS+SHA256".into()),
        (8, 5) => Some("RSA-PSS+SHA384".into()),
        (8, 6) => Some("RSA-PSS+SHA512".into()),
        (8, 7) => Some("ed25519".into()),
        (8, 8) => Some("ed448".into()),
        (8, 9) => Some("rsa_pss_pss_sha256".into()),
        (8, 10) => Some("rsa_pss_pss_sha384".into()),
        (8, 11) => Some("rsa_pss_pss_sha512".into()),
        (_, 1) => of_pair("RSA"),
        (_, 2) => of_pair("DSA"),
        (_, 3) => of_pair("ECDSA"),
        _ => None,
    };
    known.unwrap_or_else(|| format!("0x{scheme:04x}").into())
}

/// Describes a key: "EC P-256", "RSA of 2048 bits".
pub fn describe_key(key: &PKeyRef<Private>) -> String {
    let described = match key.id() {
        Id::RSA => format!("RSA of {} bits", key.bits()),
        Id::RSA_PSS => format!("RSA-PSS of {} bits", key.bits()),
        Id::DSA => format!("DSA of {} bits", key.bits()),
        Id::EC => match key.ec_key().ok().and_then(|key| key.group().curve_name()) {
            Some(Nid::X9_62_PRIME256V1) => "EC P-256".to_owned(),
            Some(Nid::SECP384R1) => "EC P-384".to_owned(),
            Some(Nid::SECP521R1) => "EC P-521".to_owned(),
            Some(curve) => format!("EC {}", curve.short_name().unwrap_or("of an unknown curve")),
            None => format!("EC of {} bits", key.bits()),
        },
        Id::ED25519 => "Ed25519".to_owned(),
        Id::ED448 => "Ed448".to_owned(),
        other => Nid::from_raw(other.as_raw()).short_name().unwrap_or("of an unknown type").into(),
    };
    // nginx would report errors left in the queue as errors of a later call.
    drop(ErrorStack::get());
    described
}

#[cfg(test)]
mod tests {
    use openssl::ec::{EcGroup, EcKey};
    use openssl::pkey::PKey;
    use openssl::rsa::Rsa;

    use super::*;

    #[test]
    fn schemes_have_the_names_of_a_configuration() {
        for (scheme, expected) in [
            (0x0401, "RSA+SHA256"),
            (0x0203, "ECDSA+SHA1"),
            (0x0603, "ECDSA+SHA512"),
            (0x0402, "DSA+SHA256"),
            (0x0804, "RSA-PSS+SHA256"),
            (0x0807, "ed25519"),
            (0x080b, "rsa_pss_pss_sha512"),
            (0x0001, "0x0001"),
            (0x0701, "0x0701"),
            (0x0904, "0x0904"),
        ] {
            assert_eq!(name(scheme), expected);
        }
    }

    #[test]
    fn keys_are_described() {
        let curve = |nid| {
            let group = EcGroup::from_curve_name(nid).unwrap();
            PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
        };
        for (key, expected) in [
            (PKey::from_rsa(Rsa::generate(1024).unwrap()).unwrap(), "RSA of 1024 bits"),
            (curve(Nid::X9_62_PRIME256V1), "EC P-256"),
            (curve(Nid::SECP521R1), "EC P-521"),
            (curve(Nid::SECP224R1), "EC secp224r1"),
            (PKey::generate_ed25519().unwrap(), "Ed25519"),
            (PKey::generate_ed448().unwrap(), "Ed448"),
        ] {
            assert_eq!(describe_key(&key), expected);
        }
    }
}
