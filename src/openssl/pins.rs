// SPDX-License-Identifier: Apache-2.0

//! Pins of public keys, in the encoding of RFC 7469, section 2.4: the SHA-256 digest of the
//! `SubjectPublicKeyInfo`, in Base64.

#![allow(unsafe_code, reason = "OpenSSL encodes a key into memory of ours")]

use std::ptr;

use openssl::sha::Sha256;
use openssl::x509::X509Ref;

use crate::openssl::error::SslError;
use crate::openssl::fingerprint::Encoding;
use crate::openssl::sys;

/// The digest of a public key.
type Digest = [u8; 32];

/// The keys that a service may have: that of its certificate must be one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pins(Vec<Digest>);

/// Pins that were refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPins {
    /// No key could satisfy an empty list.
    #[error("spki must hold at least one digest")]
    Empty,
    #[error("spki must hold SHA-256 digests in Base64: given \"{0}\"")]
    NotDigest(String),
}

impl Pins {
    /// Reads digests given by Lua.
    pub fn new<'a>(digests: impl Iterator<Item = &'a [u8]>) -> Result<Self, InvalidPins> {
        let pins: Vec<_> = digests.map(read).collect::<Result<_, _>>()?;
        if pins.is_empty() { Err(InvalidPins::Empty) } else { Ok(Self(pins)) }
    }

    /// Returns whether the key of `certificate` is one of them.
    pub fn accept(&self, certificate: &X509Ref) -> bool {
        digest_of(certificate).is_ok_and(|digest| self.0.contains(&digest))
    }

    /// Encodes the pins.
    pub fn encode(&self, encoding: &mut Encoding) {
        let Self(pins) = self;
        encoding.number(pins.len() as u64);
        pins.iter().for_each(|pin| encoding.bytes(pin));
    }

    /// Returns how many bytes the pins take.
    pub fn size(&self) -> usize {
        size_of_val(&*self.0)
    }
}

fn read(text: &[u8]) -> Result<Digest, InvalidPins> {
    let invalid = || InvalidPins::NotDigest(text.escape_ascii().to_string());
    let text = std::str::from_utf8(text).map_err(|_| invalid())?;
    let digest: Digest = openssl::base64::decode_block(text)
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(invalid)?;
    // OpenSSL also takes other texts for these bytes, such as one with a blank.
    if openssl::base64::encode_block(&digest) == text { Ok(digest) } else { Err(invalid()) }
}

/// Returns the pin of a certificate's key, in Base64.
pub fn pin_of(certificate: &X509Ref) -> Result<String, SslError> {
    digest_of(certificate).map(|digest| openssl::base64::encode_block(&digest))
}

fn digest_of(certificate: &X509Ref) -> Result<Digest, SslError> {
    let failed = || SslError::take("i2d_X509_PUBKEY");
    let key = sys::X509_get_X509_PUBKEY(certificate).ok_or_else(failed)?;
    // SAFETY: with NULL, the function writes nothing, and returns the length.
    let length = unsafe { sys::i2d_X509_PUBKEY(key, ptr::null_mut()) };
    let length = usize::try_from(length).map_err(|_| failed())?;
    let mut encoded = vec![0; length];
    let mut end = encoded.as_mut_ptr();
    // SAFETY: there is room for as many bytes as the function has said.
    let written = unsafe { sys::i2d_X509_PUBKEY(key, &mut end) };
    if usize::try_from(written) != Ok(length) {
        return Err(failed());
    }
    let mut hash = Sha256::new();
    hash.update(&encoded);
    Ok(hash.finish())
}

#[cfg(test)]
mod tests {
    use openssl::pkey::PKey;
    use openssl::sha::sha256;

    use super::*;
    use crate::openssl::test_certificate::self_signed;

    #[test]
    fn a_pin_is_that_of_a_key() {
        let keys = [PKey::generate_ed448().unwrap(), PKey::generate_ed25519().unwrap()];
        let certificates = keys.each_ref().map(|key| self_signed(key, "a", 1 << 30));
        let pins = certificates.each_ref().map(|certificate| pin_of(certificate).unwrap());
        let der = keys[0].public_key_to_der().unwrap();
        assert_eq!(pins[0], openssl::base64::encode_block(&sha256(&der)));
        let [one, both] = [&pins[..1], &pins[..]]
            .map(|pins| Pins::new(pins.iter().map(|pin| pin.as_bytes())).unwrap());
        assert!(one.accept(&certificates[0]) && !one.accept(&certificates[1]));
        assert!(both.accept(&certificates[0]) && both.accept(&certificates[1]));
    }

    #[test]
    fn what_is_no_digest_is_refused() {
        let good = openssl::base64::encode_block(&[7; 32]);
        assert!(Pins::new([good.as_bytes()].into_iter()).is_ok());
        assert_eq!(Pins::new([].into_iter()), Err(InvalidPins::Empty));
        let short = openssl::base64::encode_block(&[7; 31]);
        let long = openssl::base64::encode_block(&[7; 33]);
        let url = openssl::base64::encode_block(&[255; 32]).replace('/', "_");
        for bad in [
            "",
            &good[1..],
            &good[..43],
            &format!("{good} "),
            &format!(" {good}"),
            &format!("{good}\n"),
            &format!("sha256/{good}"),
            &good.replace('=', "A"),
            &short,
            &long,
            &url,
            "ä",
        ] {
            let pins = Pins::new([good.as_bytes(), bad.as_bytes()].into_iter());
            assert!(matches!(pins, Err(InvalidPins::NotDigest(_))), "{bad}");
        }
    }
}
