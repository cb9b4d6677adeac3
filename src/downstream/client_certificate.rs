//! `request_client_certificate`

use std::cell::RefCell;
use std::ffi::c_int;
use std::num::NonZeroUsize;

use foreign_types::ForeignTypeRef;
use openssl::ssl::SslRef;
use openssl::stack::StackRef;
use openssl::x509::X509;
use openssl_sys::SSL;

use super::connection::{DownstreamConnection, DownstreamError, client_ssl};
use crate::nginx::connection::{Connection, process_log};
use crate::nginx::panic::guard;
use crate::nginx::request::Request;
use crate::openssl::certificate_authorities::{
    self, AnnouncedAuthorities, CertificateAuthorities, InvalidAuthorities,
};
use crate::openssl::object_cache::ObjectCache;
use crate::openssl::ssl::{self, HandshakeEvent};
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
}

/// Asks the client for a certificate, with the names of `authorities` if given. Phase: certificate.
///
/// The client's chain is verified up to one of `authorities`, or else up to what the server trusts;
/// either way the handshake goes on, and `$ssl_client_verify` has the result.
pub fn request_client_certificate(
    request: Request<'_>,
    authorities: Option<&StackRef<X509>>,
) -> Result<(), RequestCertificateError> {
    let ssl = client_ssl(request)?;

    match authorities {
        Some(certificates) => announce(ssl, certificates)?,
        None => announce_none(ssl)?,
    }
    ssl::ask_for_certificate(ssl);
    if !DownstreamConnection::find_or_make(ssl)?.certificate_requested.replace(true) {
        count(ssl);
    }
    Ok(())
}

/// Counts that the client is asked, and at the end of the handshake what it has answered.
fn count(ssl: &SslRef) {
    counters::count(Counter::ClientCertificateRequested);
    // SAFETY: `info_callback` calls the one of the context.
    unsafe { ssl::set_connection_info_callback(ssl, info_callback) };
}

/// Takes the place of the callback of the context, for one connection.
unsafe extern "C" fn info_callback(ssl: *const SSL, r#where: c_int, ret: c_int) {
    guard("client handshake", process_log(), (), || {
        // SAFETY: OpenSSL calls with a valid SSL.
        let ssl = unsafe { SslRef::from_ptr(ssl.cast_mut()) };
        if let Some(of_context) = ssl::info_callback(ssl.ssl_context()) {
            // SAFETY: as OpenSSL would call it.
            unsafe { of_context(ssl.as_ptr(), r#where, ret) };
        }
        let is_first = Connection::from_ssl(ssl)
            .and_then(Connection::tls)
            .is_some_and(|tls| !tls.handshaked());
        if is_first && HandshakeEvent::from_where(r#where) == Some(HandshakeEvent::Done) {
            counters::count(match ssl.peer_certificate() {
                Some(_) => Counter::ClientCertificatePresented,
                None => Counter::ClientCertificateAbsent,
            });
        }
    });
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
