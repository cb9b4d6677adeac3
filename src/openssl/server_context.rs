// SPDX-License-Identifier: Apache-2.0

//! What is known of the TLS contexts of servers: what decides them, and which is which.

#![allow(unsafe_code, reason = "what is kept with a context may be used in any thread")]

use openssl::ssl::SslContextRef;

use crate::openssl::error::SslError;
use crate::openssl::fingerprint::{Encoding, Fingerprint};
use crate::openssl::slot::Slot;
use crate::openssl::{context, sys};

// SAFETY: a digest is `Send` and `Sync`.
static IDENTITIES: Slot<SslContextRef, Fingerprint> = unsafe { Slot::new() };

/// Random bytes that tell a context from all others.
pub type Origin = [u8; 32];

// SAFETY: so are they.
static ORIGINS: Slot<SslContextRef, Origin> = unsafe { Slot::new() };

/// Says which context this is, if nothing has said it yet.
pub fn set_origin(context: &SslContextRef, origin: Origin) -> Result<(), SslError> {
    ORIGINS.get_or_make(context, || Ok::<_, SslError>(origin)).map(|_| ())
}

/// Returns what [`set_origin`] has said of a context.
pub fn origin(context: &SslContextRef) -> Option<Origin> {
    ORIGINS.get(context).copied()
}

/// Returns a digest of what was loaded into a context, and of what is `written` about it; it is
/// kept with the context.
pub fn identify(context: &SslContextRef, written: Fingerprint) -> Result<Fingerprint, SslError> {
    let identity = IDENTITIES.get_or_make::<SslError>(context, || {
        let mut encoding = Encoding::new();
        encoding.fingerprint(written);
        // A server may have certificates for several types of keys. Each in turn is the current
        // one, which is part of the fingerprint.
        let current = sys::SSL_CTX_get0_certificate(context).map(ToOwned::to_owned);
        let mut which = sys::SSL_CERT_SET_FIRST;
        while sys::SSL_CTX_set_current_cert(context, which) {
            encoding.fingerprint(context::fingerprint(context)?);
            which = sys::SSL_CERT_SET_NEXT;
        }
        if let Some(current) = current {
            sys::SSL_CTX_select_current_cert(context, &current);
        }
        encoding.fingerprint(context::fingerprint(context)?);
        Ok(encoding.into())
    })?;
    Ok(*identity)
}

/// Returns what [`identify`] has found for a context.
pub fn identity(context: &SslContextRef) -> Option<Fingerprint> {
    IDENTITIES.get(context).copied()
}

#[cfg(test)]
mod tests {
    use openssl::pkey::{PKey, Private};
    use openssl::ssl::{SslContext, SslMethod};

    use super::*;
    use crate::openssl::test_certificate::self_signed;

    fn made(certificates: &[(&PKey<Private>, &str)]) -> SslContext {
        let mut builder = SslContext::builder(SslMethod::tls_server()).unwrap();
        for (key, name) in certificates {
            builder.set_certificate(&self_signed(key, name, 1 << 30)).unwrap();
            builder.set_private_key(key).unwrap();
        }
        builder.build()
    }

    #[test]
    fn each_certificate_counts() {
        let one = PKey::generate_ed448().unwrap();
        let other = PKey::generate_ed25519().unwrap();
        let written = Fingerprint::of([&b"written"[..]]);
        let all: [&[(&PKey<Private>, &str)]; 5] = [
            &[],
            &[(&one, "a")],
            &[(&one, "a"), (&other, "b")],
            &[(&one, "c"), (&other, "b")],
            &[(&one, "a"), (&other, "c")],
        ];
        let mut seen = Vec::new();
        for certificates in all {
            let context = made(certificates);
            let current = sys::SSL_CTX_get0_certificate(&context).map(ToOwned::to_owned);
            assert!(identity(&context).is_none());
            let identified = identify(&context, written).unwrap();
            assert_eq!(identity(&context), Some(identified));
            assert!(!seen.contains(&identified));
            seen.push(identified);
            let now = sys::SSL_CTX_get0_certificate(&context).map(ToOwned::to_owned);
            assert!(now == current);
            assert_eq!(identify(&made(certificates), written).unwrap(), identified);
            let otherwise =
                identify(&made(certificates), Fingerprint::of([&b"other"[..]])).unwrap();
            assert_ne!(otherwise, identified);
        }
    }
}
