// SPDX-License-Identifier: Apache-2.0

//! `request_client_certificate`

use std::cell::RefCell;

use openssl::ssl::SslRef;
use openssl::stack::StackRef;
use openssl::x509::X509;
use openssl::x509::store::X509StoreRef;

use crate::client::certificate_answer::ask;
use crate::client::connection::{ClientError, ClientState, client_ssl};
use crate::client::names::{self, InvalidName};
use crate::client::verification::ClientVerification;
use crate::client::{hook, ocsp};
use crate::conf::MainConf;
use crate::nginx::own_conf::OwnConf;
use crate::nginx::request::Request;
use crate::openssl::certificate_authorities::{
    self, AnnouncedAuthorities, CertificateAuthorities, InvalidAuthorities,
};
use crate::openssl::error::SslError;
use crate::openssl::object_cache::ObjectCache;
use crate::openssl::{ssl, store};
use crate::status::counters::{self, Cache, Counter};

/// The approximate memory budget of a worker's cache of authorities: enough for a thousand lists of
/// ten authorities.
const MOST_BYTES: usize = 16 * 1024 * 1024;

thread_local! {
    static AUTHORITIES: ObjectCache<CertificateAuthorities> =
        ObjectCache::new(MOST_BYTES, Cache::Authorities);
    static ADDRESSES: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// Why a certificate could not be requested.
#[derive(Debug, thiserror::Error)]
pub enum RequestCertificateError {
    /// The connection does not allow it.
    #[error(transparent)]
    Connection(#[from] ClientError),
    /// The list of authorities is invalid.
    #[error(transparent)]
    Authorities(#[from] InvalidAuthorities),
    /// The list of names is invalid.
    #[error(transparent)]
    Names(#[from] InvalidName),
}

/// Asks the client for a certificate, announcing the names of `authorities` if given. Phase:
/// certificate.
///
/// The client's chain is verified up to a root among `authorities`, or, with `partial_chain`, up to
/// any of them; without `authorities`, up to what the server trusts. The handshake continues in any
/// case, and `$ssl_client_verify` has the result. The result counts for the name that the client
/// asks for, and for the other `names`; the session can only be resumed under the former. `is_told`
/// says whether nothing but what was there at the end of `init_by_lua*` decides how it is asked.
pub fn request_client_certificate<'a>(
    request: Request<'_>,
    authorities: Option<&StackRef<X509>>,
    partial_chain: bool,
    names: impl ExactSizeIterator<Item = &'a [u8]> + Clone,
    is_told: bool,
) -> Result<(), RequestCertificateError> {
    let ssl = client_ssl(request)?;
    let zone = MainConf::of_request(request).and_then(MainConf::session_zone);
    let names = if names.len() == 0 { None } else { Some(names::keep(zone, names)?) };
    // Install the hook first: a client must not be asked if its session can't be bound.
    let state = hook::watch(ssl, ssl::server_name(ssl))?;
    ocsp::prepare(ssl, state).map_err(ClientError::Ssl)?;

    match authorities {
        Some(certificates) => announce(ssl, state, certificates, partial_chain)?,
        None => announce_none(ssl, state).map_err(ClientError::Ssl)?,
    }
    state.names.replace(names);
    state.is_told.set(is_told);
    state.terms.take();
    ask(ssl, state);
    if !state.certificate_requested.replace(true) {
        counters::count(Counter::ClientCertificateRequested);
    }
    Ok(())
}

/// Verifies the certificate of the client, which has already been asked for it, with `store`
/// instead of the authorities or the server's store, and with `depth` instead of the server's. The
/// server's revocation lists apply as well. `is_told` is as for [`request_client_certificate`].
/// Phase: certificate.
pub fn verify_with(
    request: Request<'_>,
    store: &X509StoreRef,
    depth: Option<u32>,
    is_told: bool,
) -> Result<(), ClientError> {
    let ssl = client_ssl(request)?;
    let state = hook::watch(ssl, ssl::server_name(ssl))?;
    ssl::set_verify_store(ssl, Some(store))?;
    state.verification.replace(Some(ClientVerification {
        store: store::reference(store)?,
        depth: Some(depth.unwrap_or(ssl::DEFAULT_DEPTH)),
        lacks_lists: true,
    }));
    state.is_told.set(state.is_told.get() && is_told);
    state.terms.take();
    ask(ssl, state);
    Ok(())
}

fn announce(
    ssl: &SslRef,
    state: &ClientState,
    certificates: &StackRef<X509>,
    partial_chain: bool,
) -> Result<(), RequestCertificateError> {
    let base = ssl.ssl_context().cert_store();

    let authorities = ADDRESSES.with_borrow_mut(|addresses| {
        CertificateAuthorities::addresses_of(certificates, partial_chain, base, addresses);
        AUTHORITIES.with(|cache| {
            cache.get_or_make(addresses, || {
                CertificateAuthorities::new(certificates, partial_chain, base)
            })
        })
    })?;

    let store = store::reference(authorities.store()).map_err(ClientError::Ssl)?;
    let previous = state.authorities.take();
    let announced = AnnouncedAuthorities::announce(ssl, authorities, previous);
    state.authorities.set(Some(announced.map_err(ClientError::Ssl)?));
    let verification = ClientVerification { store, depth: None, lacks_lists: false };
    state.verification.replace(Some(verification));
    Ok(())
}

fn announce_none(ssl: &SslRef, state: &ClientState) -> Result<(), SslError> {
    drop(state.authorities.take());
    state.verification.take();
    certificate_authorities::announce_none(ssl)
}

/// Clears the worker's cache of authorities.
pub fn clear_cache() {
    AUTHORITIES.with(ObjectCache::clear);
}
