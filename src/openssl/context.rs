// SPDX-License-Identifier: Apache-2.0

//! What OpenSSL tells about a TLS context.

use openssl::ssl::{SslCipherRef, SslContextRef};

use crate::openssl::error::SslError;
use crate::openssl::fingerprint::{Encoding, Fingerprint};
use crate::openssl::{certificate, store, sys};

/// Returns a digest of what was loaded into a context for clients, and of how it is set. Groups,
/// signature algorithms and protocols of applications can't be read back.
///
/// The key is not part of it: OpenSSL loads none that does not match the certificate.
pub fn fingerprint(context: &SslContextRef) -> Result<Fingerprint, SslError> {
    let mut encoding = Encoding::new();

    let leaf = sys::SSL_CTX_get0_certificate(context);
    let chain = sys::SSL_CTX_get_extra_chain_certs(context);
    for certificates in [leaf.into_iter().collect(), chain.into_iter().flatten().collect()] {
        let certificates: Vec<_> = certificates;
        encoding.number(certificates.len() as u64);
        for one in certificates {
            certificate::encode(&mut encoding, one)?;
        }
    }

    store::encode(&mut encoding, context.cert_store())?;
    store::encode_parameters(&mut encoding, sys::SSL_CTX_get0_param(context));
    encoding.number(sys::SSL_CTX_get_verify_depth(context) as u64);
    encoding.number(sys::SSL_CTX_get_verify_mode(context) as u64);

    for version in sys::SSL_CTX_get_proto_versions(context) {
        encoding.number(version as u64);
    }
    encoding.number(sys::SSL_CTX_get_options(context));
    encoding.number(sys::SSL_CTX_get_security_level(context) as u64);
    let ciphers: Vec<&SslCipherRef> =
        sys::SSL_CTX_get_ciphers(context).into_iter().flatten().collect();
    encoding.number(ciphers.len() as u64);
    for cipher in ciphers {
        encoding.number(sys::SSL_CIPHER_get_id(cipher).into());
    }
    Ok(encoding.into())
}

#[cfg(test)]
mod tests {
    use openssl::pkey::PKey;
    use openssl::ssl::{
        SslContext, SslContextBuilder, SslMethod, SslOptions, SslVerifyMode, SslVersion,
    };
    use openssl::x509::X509;
    use openssl::x509::verify::X509VerifyFlags;

    use super::*;
    use crate::openssl::test_certificate::self_signed;

    type Setting<'a> = Box<dyn Fn(&mut SslContextBuilder) + 'a>;

    fn made(set: impl FnOnce(&mut SslContextBuilder)) -> SslContext {
        let mut builder = SslContext::builder(SslMethod::tls_client()).unwrap();
        set(&mut builder);
        builder.build()
    }

    #[test]
    fn all_that_is_loaded_or_set_makes_a_difference() {
        let key = PKey::generate_ed25519().unwrap();
        let [one, two, three] =
            ["one", "two", "three"].map(|name| self_signed(&key, name, 1 << 30));
        let identify = |builder: &mut SslContextBuilder, leaf: &X509, chain: &[&X509]| {
            builder.set_certificate(leaf).unwrap();
            builder.set_private_key(&key).unwrap();
            for certificate in chain {
                builder.add_extra_chain_cert((*certificate).clone()).unwrap();
            }
        };
        let settings: Vec<Setting<'_>> = vec![
            Box::new(|_| {}),
            Box::new(|builder| identify(builder, &one, &[])),
            Box::new(|builder| identify(builder, &two, &[])),
            Box::new(|builder| identify(builder, &one, &[&two])),
            Box::new(|builder| identify(builder, &one, &[&three])),
            Box::new(|builder| identify(builder, &one, &[&two, &three])),
            Box::new(|builder| identify(builder, &one, &[&three, &two])),
            Box::new(|builder| builder.cert_store_mut().add_cert(one.clone()).unwrap()),
            Box::new(|builder| builder.cert_store_mut().add_cert(two.clone()).unwrap()),
            Box::new(|builder| {
                builder.cert_store_mut().set_flags(X509VerifyFlags::CRL_CHECK).unwrap();
            }),
            Box::new(|builder| {
                let flags = X509VerifyFlags::PARTIAL_CHAIN;
                builder.verify_param_mut().set_flags(flags).unwrap();
            }),
            Box::new(|builder| builder.set_verify_depth(1)),
            Box::new(|builder| builder.set_verify_depth(2)),
            Box::new(|builder| builder.set_verify(SslVerifyMode::PEER)),
            Box::new(|builder| {
                builder.set_min_proto_version(Some(SslVersion::TLS1_2)).unwrap();
            }),
            Box::new(|builder| {
                builder.set_max_proto_version(Some(SslVersion::TLS1_2)).unwrap();
            }),
            Box::new(|builder| {
                builder.set_options(SslOptions::NO_TICKET);
            }),
            Box::new(|builder| builder.set_security_level(3)),
            Box::new(|builder| builder.set_cipher_list("ECDHE+AESGCM").unwrap()),
            Box::new(|builder| builder.set_cipher_list("ECDHE+CHACHA20:ECDHE+AESGCM").unwrap()),
            Box::new(|builder| builder.set_ciphersuites("TLS_AES_128_GCM_SHA256").unwrap()),
        ];
        let all: Vec<_> = settings
            .iter()
            .map(|set| {
                let [one, same] = [(); 2].map(|()| fingerprint(&made(set)).unwrap());
                assert_eq!(one, same);
                one
            })
            .collect();
        for (index, one) in all.iter().enumerate() {
            let same = all.iter().position(|other| other == one);
            assert_eq!(same, Some(index));
        }
    }
}
