//! Certificates for unit tests.

use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKeyRef, Private};
use openssl::x509::{X509, X509Name};

/// A self-signed certificate for an Ed25519 `key`, which ends `not_after` seconds after the epoch.
pub fn self_signed(key: &PKeyRef<Private>, name: &str, not_after: i64) -> X509 {
    let mut subject = X509Name::builder().unwrap();
    subject.append_entry_by_text("CN", name).unwrap();
    let subject = subject.build();

    let mut certificate = X509::builder().unwrap();
    certificate.set_subject_name(&subject).unwrap();
    certificate.set_issuer_name(&subject).unwrap();
    certificate.set_pubkey(key).unwrap();
    certificate.set_not_before(&Asn1Time::from_unix(0).unwrap()).unwrap();
    certificate.set_not_after(&Asn1Time::from_unix(not_after).unwrap()).unwrap();
    certificate.sign(key, MessageDigest::null()).unwrap();
    certificate.build()
}
