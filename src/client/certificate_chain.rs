// SPDX-License-Identifier: Apache-2.0

//! `get_full_client_certificate_chain`

use std::iter;

use openssl::error::ErrorStack;
use openssl::ssl::SslRef;
use openssl::x509::X509Ref;

use crate::client::connection::{ChainDigest, ClientError, ClientState, client_ssl};
use crate::client::intermediates::Intermediates;
use crate::client::session_binding;
use crate::nginx::request::Request;
use crate::openssl::error::SslError;
use crate::openssl::fingerprint::Encoding;

/// Why the chain is not available.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The connection does not allow it.
    #[error(transparent)]
    Connection(#[from] ClientError),
    /// A session keeps the client's own certificate, but not always the rest of its chain.
    #[error(
        "the TLS session was resumed, and does not hold the certificate chain of the first handshake"
    )]
    Resumed,
    /// Longer than any real chain.
    #[error("the certificate chain is longer than {MAX_LEN} bytes")]
    TooLong,
    /// OpenSSL could not encode the chain.
    #[error("error while obtaining client certificate chain: {0}")]
    Encode(#[from] SslError),
}

impl ChainError {
    /// Returns whether a client can cause the error, as often as it likes.
    pub fn is_fault_of_client(&self) -> bool {
        match self {
            Self::Resumed | Self::TooLong => true,
            Self::Connection(_) | Self::Encode(_) => false,
        }
    }
}

/// Returns the certificates that the client presented, as PEM, the leaf first; `None` if it
/// presented none.
pub fn get_full_client_certificate_chain(
    request: Request<'_>,
) -> Result<Option<Vec<u8>>, ChainError> {
    let ssl = client_ssl(request)?;
    let Some(leaf) = ssl.peer_certificate() else {
        return Ok(None);
    };
    let encode_error =
        |errors: ErrorStack| ChainError::Encode(SslError::new("PEM_write_bio_X509", errors));
    let mut pem = leaf.to_pem().map_err(encode_error)?;
    for certificate in &*intermediates(ssl)? {
        pem.extend(certificate.to_pem().map_err(encode_error)?);
    }
    Ok(Some(pem))
}

/// The maximum size of a chain to be digested, in DER.
const MAX_LEN: usize = 16 * 1024;

/// Returns the digest of the chain that the client presented; `None` if it presented none. Computed
/// once per connection.
pub fn digest(request: Request<'_>) -> Result<Option<ChainDigest>, ChainError> {
    let ssl = client_ssl(request)?;
    let Some(leaf) = ssl.peer_certificate() else {
        return Ok(None);
    };
    let state = ClientState::find_or_make(ssl)?;
    if let Some(known) = state.chain_digest.get() {
        return known.map(Some).ok_or(ChainError::TooLong);
    }
    let intermediates = intermediates(ssl)?;
    let mut encoding = Encoding::new();
    let mut length = 0;
    for certificate in iter::once(&leaf).chain(&*intermediates) {
        let der = certificate
            .to_der()
            .map_err(|errors| ChainError::Encode(SslError::new("i2d_X509", errors)))?;
        length += der.len();
        if length > MAX_LEN {
            state.chain_digest.set(None).ok();
            return Err(ChainError::TooLong);
        }
        encoding.bytes(&der);
    }
    let digest = encoding.digest();
    state.chain_digest.set(Some(digest)).ok();
    Ok(Some(digest))
}

/// Returns the certificates that the client presented, without its own.
fn intermediates(ssl: &SslRef) -> Result<Intermediates, ChainError> {
    if let Some(intermediates) = session_binding::intermediates_of_first_handshake(ssl) {
        return Ok(intermediates);
    }
    // On the server side, OpenSSL does not include the leaf in the peer's chain. A resumed session
    // has no chain, except one from OpenSSL's own cache.
    let chain = ssl.peer_cert_chain().ok_or(ChainError::Resumed)?;
    Ok(chain.iter().map(X509Ref::to_owned).collect())
}
