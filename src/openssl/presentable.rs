// SPDX-License-Identifier: Apache-2.0

//! Checks whether OpenSSL would present a certificate.
//!
//! OpenSSL rejects keys and signatures that are too weak for its security level, and keys that TLS
//! can't use, only when a certificate is set on a connection. So the certificate is set on an SSL
//! object that is never connected.

use std::cell::OnceCell;

use openssl::pkey::{Id, PKeyRef, Private};
use openssl::ssl::{Ssl, SslContext, SslMethod};
use openssl::stack::StackRef;
use openssl::x509::X509;

use crate::openssl::client_certificate::intermediates;
use crate::openssl::error::SslError;
use crate::openssl::ssl;

/// The side of the connection that presents the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

thread_local! {
    static CLIENT: OnceCell<SslContext> = const { OnceCell::new() };
    static SERVER: OnceCell<SslContext> = const { OnceCell::new() };
}

/// Makes an SSL object with OpenSSL's system-wide configuration, which is never connected.
fn connection(side: Side) -> Result<Ssl, SslError> {
    let (contexts, method) = match side {
        Side::Client => (&CLIENT, SslMethod::tls_client as fn() -> SslMethod),
        Side::Server => (&SERVER, SslMethod::tls_server as fn() -> SslMethod),
    };
    contexts.with(|context| {
        let error = |function| move |errors| SslError::new(function, errors);
        if context.get().is_none() {
            let made = SslContext::builder(method()).map_err(error("SSL_CTX_new"))?.build();
            context.get_or_init(|| made);
        }
        let context = context.get().ok_or_else(|| SslError::take("SSL_CTX_new"))?;
        Ssl::new(context).map_err(error("SSL_new"))
    })
}

/// Checks whether `side` can present `chain`, the leaf first, with `key`. Returns the type of the
/// key: a server has one certificate per type.
pub fn check(
    side: Side,
    chain: &StackRef<X509>,
    key: &PKeyRef<Private>,
) -> Result<&'static str, SslError> {
    let ssl = connection(side)?;
    let leaf = chain.get(0).ok_or_else(|| SslError::take("SSL_use_certificate"))?;
    let intermediates = intermediates(chain)?;
    ssl::use_certificate(&ssl, leaf, key, &intermediates)?;
    Ok(match key.id() {
        Id::RSA => "RSA",
        Id::RSA_PSS => "RSA-PSS",
        Id::DSA => "DSA",
        Id::EC => "EC",
        Id::ED25519 => "Ed25519",
        Id::ED448 => "Ed448",
        _ => "other",
    })
}

#[cfg(test)]
mod tests {
    use openssl::pkey::PKey;
    use openssl::rsa::Rsa;
    use openssl::stack::Stack;

    use super::*;
    use crate::openssl::test_certificate::self_signed;

    fn check_key(key: &PKeyRef<Private>) -> Result<&'static str, String> {
        let mut chain = Stack::new().unwrap();
        chain.push(self_signed(key, "leaf", 1 << 30)).unwrap();
        let client = check(Side::Client, &chain, key).map_err(|error| error.to_string());
        let server = check(Side::Server, &chain, key).map_err(|error| error.to_string());
        assert_eq!(client, server);
        client
    }

    #[test]
    fn what_openssl_presents() {
        assert_eq!(check_key(&PKey::generate_ed25519().unwrap()), Ok("Ed25519"));
        let strong = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        assert_eq!(check_key(&strong), Ok("RSA"));
        let weak = PKey::from_rsa(Rsa::generate(512).unwrap()).unwrap();
        let error = check_key(&weak).unwrap_err();
        assert!(error.contains("key too small"), "{error}");
    }

    #[test]
    fn the_key_must_be_its_own() {
        let key = PKey::generate_ed25519().unwrap();
        let mut chain = Stack::new().unwrap();
        chain.push(self_signed(&key, "leaf", 1 << 30)).unwrap();
        let other = PKey::generate_ed25519().unwrap();
        assert!(check(Side::Server, &chain, &other).is_err());
        assert!(check(Side::Client, &Stack::new().unwrap(), &key).is_err());
    }
}
