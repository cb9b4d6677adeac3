//! `get_full_client_certificate_chain`

use openssl::error::ErrorStack;
use openssl::ssl::SslRef;
use openssl::x509::X509Ref;

use super::connection::{DownstreamConnection, DownstreamError, client_ssl};
use super::intermediates::Intermediates;
use super::resumption::{self, FirstHandshake};
use crate::nginx::request::Request;
use crate::openssl::error::SslError;
use crate::openssl::{session, ssl};

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
    if ssl.session_reused() {
        let first_handshake = DownstreamConnection::find(ssl)
            .and_then(|state| state.first_handshake.borrow().clone());
        if let Some(FirstHandshake { intermediates }) = first_handshake {
            return Ok(intermediates.unwrap_or_default());
        }
        // A session of OpenSSL's own cache has all of the chain, under whatever name it was made.
        let made_for = ssl.session().and_then(session::server_name);
        if !resumption::is_same_name(ssl::server_name(ssl), made_for) {
            return Err(ChainError::Resumed);
        }
    }
    // On the side of the server, OpenSSL leaves the leaf out of the chain.
    let chain = ssl.peer_cert_chain().ok_or(ChainError::Resumed)?;
    Ok(chain.iter().map(X509Ref::to_owned).collect())
}
