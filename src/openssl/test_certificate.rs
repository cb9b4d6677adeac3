// SPDX-License-Identifier: Apache-2.0

//! Certificates for unit tests.

use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::pkey::{Id, PKey, PKeyRef, Private};
use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage};
use openssl::x509::{X509, X509Name};

/// Returns a self-signed certificate for `key` that expires `not_after` seconds after the epoch.
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
    let digest = match key.id() {
        Id::RSA => MessageDigest::sha256(),
        _ => MessageDigest::null(),
    };
    certificate.sign(key, digest).unwrap();
    certificate.build()
}

/// A certificate authority with an Ed25519 key.
pub struct Authority {
    pub certificate: X509,
    key: PKey<Private>,
    name: &'static str,
}

/// The content of a leaf certificate.
#[derive(Clone, Copy)]
pub struct Leaf {
    pub name: &'static str,
    pub not_after: i64,
    pub usage: Option<&'static str>,
}

impl Authority {
    pub fn root(name: &'static str) -> Self {
        let key = PKey::generate_ed25519().unwrap();
        let certificate = issue(name, &key, 1 << 33, true, None, (name, &key));
        Self { certificate, key, name }
    }

    /// Returns an intermediate authority issued by this one.
    pub fn authority(&self, name: &'static str) -> Self {
        let key = PKey::generate_ed25519().unwrap();
        let certificate = issue(name, &key, 1 << 33, true, None, (self.name, &self.key));
        Self { certificate, key, name }
    }

    pub fn leaf(&self, Leaf { name, not_after, usage }: Leaf) -> X509 {
        let key = PKey::generate_ed25519().unwrap();
        issue(name, &key, not_after, false, usage, (self.name, &self.key))
    }

    pub fn pem(&self) -> Vec<u8> {
        self.certificate.to_pem().unwrap()
    }
}

fn issue(
    name: &str,
    key: &PKeyRef<Private>,
    not_after: i64,
    is_authority: bool,
    usage: Option<&str>,
    (issuer, issuer_key): (&str, &PKeyRef<Private>),
) -> X509 {
    let named = |name| {
        let mut builder = X509Name::builder().unwrap();
        builder.append_entry_by_text("CN", name).unwrap();
        builder.build()
    };
    let mut certificate = X509::builder().unwrap();
    certificate.set_version(2).unwrap();
    certificate.set_subject_name(&named(name)).unwrap();
    certificate.set_issuer_name(&named(issuer)).unwrap();
    certificate.set_pubkey(key).unwrap();
    certificate.set_not_before(&Asn1Time::from_unix(0).unwrap()).unwrap();
    certificate.set_not_after(&Asn1Time::from_unix(not_after).unwrap()).unwrap();
    if is_authority {
        let constraints = BasicConstraints::new().critical().ca().build().unwrap();
        certificate.append_extension(constraints).unwrap();
    }
    if let Some(usage) = usage {
        let usage = ExtendedKeyUsage::new().other(usage).build().unwrap();
        certificate.append_extension(usage).unwrap();
    }
    certificate.sign(issuer_key, MessageDigest::null()).unwrap();
    certificate.build()
}

impl Authority {
    /// Returns a revocation list that revokes nothing, in PEM: with these dates, and a number.
    pub fn list(&self, (since, until): (i64, i64), number: u32) -> Vec<u8> {
        use foreign_types::{ForeignType, ForeignTypeRef};
        use openssl::asn1::Asn1Integer;
        use openssl::bn::BigNum;
        use openssl::x509::X509Crl;

        /// `NID_crl_number`
        const CRL_NUMBER: std::ffi::c_int = 88;
        let [since, until] = [since, until].map(|date| Asn1Time::from_unix(date).unwrap());
        let number = Asn1Integer::from_bn(&BigNum::from_u32(number).unwrap()).unwrap();
        // SAFETY: the new list is owned by `list`, and all other objects outlive the calls.
        unsafe {
            let list = X509Crl::from_ptr(openssl_sys::X509_CRL_new());
            let crl = list.as_ptr();
            let name = self.certificate.subject_name().as_ptr();
            let number = number.as_ptr().cast();
            let done = [
                openssl_sys::X509_CRL_set_version(crl, 1),
                openssl_sys::X509_CRL_set_issuer_name(crl, name),
                openssl_sys::X509_CRL_set1_lastUpdate(crl, since.as_ptr()),
                openssl_sys::X509_CRL_set1_nextUpdate(crl, until.as_ptr()),
                openssl_sys::X509_CRL_add1_ext_i2d(crl, CRL_NUMBER, number, 0, 0),
                openssl_sys::X509_CRL_sign(crl, self.key.as_ptr(), std::ptr::null()).min(1),
            ];
            assert_eq!(done, [1; 6]);
            list.to_pem().unwrap()
        }
    }
}
