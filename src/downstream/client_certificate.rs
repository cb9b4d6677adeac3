//! `request_client_certificate`

use std::cell::RefCell;
use std::num::NonZeroUsize;

use openssl::ssl::{SslRef, SslVerifyMode};
use openssl::stack::StackRef;
use openssl::x509::X509;

use super::connection::{DownstreamConnection, DownstreamError, client_ssl};
use super::handshake;
use super::names::{self, InvalidName};
use crate::nginx::request::Request;
use crate::openssl::certificate_authorities::{
    self, AnnouncedAuthorities, CertificateAuthorities, InvalidAuthorities,
};
use crate::openssl::object_cache::ObjectCache;
use crate::openssl::ssl;
use crate::status::counters::{self, Counter};

/// How many lists of authorities a worker keeps ready.
const LISTS: NonZeroUsize = NonZeroUsize::new(64).unwrap();

thread_local! {
    static AUTHORITIES: ObjectCache<CertificateAuthorities> = ObjectCache::new(LISTS);
    static ADDRESSES: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// Why a certificate could not be asked for.
#[derive(Debug, thiserror::Error)]
pub enum RequestCertificateError {
    /// Of the connection.
    #[error(transparent)]
    Connection(#[from] DownstreamError),
    /// Of the list of authorities.
    #[error(transparent)]
    Authorities(#[from] InvalidAuthorities),
    /// Of the list of names.
    #[error(transparent)]
    Names(#[from] InvalidName),
}

/// Asks the client for a certificate, with the names of `authorities` if given. Phase: certificate.
///
/// The client's chain is verified up to one of `authorities`, or else up to what the server trusts;
/// either way the handshake goes on, and `$ssl_client_verify` has the result. That counts for the
/// name which the client asks for, and for the other `names`; the session can be resumed under that
/// name alone.
pub fn request_client_certificate<'a>(
    request: Request<'_>,
    authorities: Option<&StackRef<X509>>,
    names: impl ExactSizeIterator<Item = &'a [u8]> + Clone,
) -> Result<(), RequestCertificateError> {
    let ssl = client_ssl(request)?;
    let names = if names.len() == 0 { None } else { Some(names::keep(names)?) };
    // First: nobody is asked whose session can't be bound.
    let state = handshake::watch(ssl, ssl::server_name(ssl))?;

    match authorities {
        Some(certificates) => announce(ssl, certificates)?,
        None => announce_none(ssl)?,
    }
    state.names.replace(names);
    ssl::ask_for_certificate(ssl);
    if !state.certificate_requested.replace(true) {
        counters::count(Counter::ClientCertificateRequested);
    }
    Ok(())
}

/// Asks the client again, if it was asked: nginx looks for the server of a second `ClientHello` too, and
/// with it takes over how that is configured. To be called whenever the handshake has gone on.
pub fn ask_again(ssl: &SslRef, state: &DownstreamConnection) {
    let is_asked = ssl.verify_mode().contains(SslVerifyMode::PEER);
    if state.certificate_requested.get() && !ssl.session_reused() && !is_asked {
        ssl::ask_for_certificate(ssl);
    }
}

/// Counts what the client has answered, if it was asked. To be called at the end of the handshake.
pub fn count_answer(ssl: &SslRef, state: &DownstreamConnection) {
    if state.certificate_requested.get() {
        counters::count(match ssl.peer_certificate() {
            Some(_) => Counter::ClientCertificatePresented,
            None => Counter::ClientCertificateAbsent,
        });
    }
}

fn announce(ssl: &SslRef, certificates: &StackRef<X509>) -> Result<(), RequestCertificateError> {
    let base = ssl.ssl_context().cert_store();

    let authorities = ADDRESSES.with_borrow_mut(|addresses| {
        CertificateAuthorities::addresses_of(certificates, base, addresses);
        AUTHORITIES.with(|cache| {
            cache.get_or_make(addresses, || CertificateAuthorities::new(certificates, base))
        })
    })?;

    let state = DownstreamConnection::find_or_make(ssl)?;
    let previous = state.authorities.take();
    let announced = AnnouncedAuthorities::announce(ssl, authorities, previous);
    state.authorities.set(Some(announced.map_err(DownstreamError::Ssl)?));
    Ok(())
}

fn announce_none(ssl: &SslRef) -> Result<(), DownstreamError> {
    if let Some(state) = DownstreamConnection::find(ssl) {
        drop(state.authorities.take());
    }
    certificate_authorities::announce_none(ssl)?;
    Ok(())
}

/// Drops the lists that this worker keeps ready.
pub fn clear_cache() {
    AUTHORITIES.with(ObjectCache::clear);
}
