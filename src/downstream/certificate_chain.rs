//! `get_full_client_certificate_chain`

use openssl::error::ErrorStack;
use openssl::ssl::SslRef;
use openssl::x509::X509Ref;

use super::connection::{DownstreamError, client_ssl};
use super::intermediates::Intermediates;
use super::resumption;
use crate::nginx::request::Request;
use crate::openssl::error::SslError;

/// Why the chain is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// Of the connection.
    #[error(transparent)]
    Connection(#[from] DownstreamError),
    /// A session keeps the client's certificate, and not always the rest of its chain.
    #[error(
        "the TLS session was resumed, and does not hold the certificate chain of the first handshake"
    )]
    Resumed,
    /// OpenSSL could not write it.
    #[error(transparent)]
    Encode(#[from] SslError),
}

/// The certificates that the client presented, as PEM, the leaf first; `None` if it presented none.
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

/// What the client presented but for its own certificate.
fn intermediates(ssl: &SslRef) -> Result<Intermediates, ChainError> {
    if let Some(intermediates) = resumption::intermediates_of_first_handshake(ssl) {
        return Ok(intermediates);
    }
    // On the side of the server, OpenSSL leaves the leaf out of the chain. A session has none, but for one
    // of OpenSSL's own cache.
    let chain = ssl.peer_cert_chain().ok_or(ChainError::Resumed)?;
    Ok(chain.iter().map(X509Ref::to_owned).collect())
}
