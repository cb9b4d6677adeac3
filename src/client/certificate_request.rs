//! `request_client_certificate`

use std::cell::RefCell;
use std::ffi::c_int;

use openssl::error::ErrorStack;
use openssl::ssl::{SslRef, SslVerifyMode};
use openssl::stack::StackRef;
use openssl::x509::store::{X509Store, X509StoreRef};
use openssl::x509::{X509, X509VerifyResult};
use openssl_sys::X509_STORE_CTX;

use crate::client::connection::{DownstreamConnection, DownstreamError, client_ssl};
use crate::client::names::{self, InvalidName};
use crate::client::{hook, ocsp};
use crate::nginx::connection::process_log;
use crate::nginx::panic::guard;
use crate::nginx::request::Request;
use crate::openssl::certificate_authorities::{
    self, AnnouncedAuthorities, CertificateAuthorities, InvalidAuthorities,
};
use crate::openssl::error::SslError;
use crate::openssl::object_cache::ObjectCache;
use crate::openssl::revocation::Found;
use crate::openssl::ssl::{self, Verification};
use crate::openssl::{store, verification};
use crate::status::counters::{self, Cache, Counter};

/// How many bytes the lists of authorities take that a worker keeps ready, about: a thousand lists of
/// ten authorities.
const MOST_BYTES: usize = 16 * 1024 * 1024;

thread_local! {
    static AUTHORITIES: ObjectCache<CertificateAuthorities> =
        ObjectCache::new(MOST_BYTES, Cache::Authorities);
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

/// With what a client's certificate is verified, where it is not what the server trusts.
pub struct ClientVerification {
    pub store: X509Store,
    /// How many intermediates there may be, where it is not what the server has.
    depth: Option<u32>,
    /// Whether the store does not have the server's revocation lists, which hold all the same.
    lacks_lists: bool,
}

/// Asks the client for a certificate, with the names of `authorities` if given. Phase: certificate.
///
/// The client's chain is verified up to a root of `authorities`, with `partial_chain` up to any of
/// them, or else up to what the server trusts; either way the handshake goes on, and
/// `$ssl_client_verify` has the result. That counts for the name which the client asks for, and for
/// the other `names`; the session can be resumed under that name alone.
pub fn request_client_certificate<'a>(
    request: Request<'_>,
    authorities: Option<&StackRef<X509>>,
    partial_chain: bool,
    names: impl ExactSizeIterator<Item = &'a [u8]> + Clone,
) -> Result<(), RequestCertificateError> {
    let ssl = client_ssl(request)?;
    let names = if names.len() == 0 { None } else { Some(names::keep(names)?) };
    // First: nobody is asked whose session can't be bound.
    let state = hook::watch(ssl, ssl::server_name(ssl))?;
    ocsp::prepare(ssl).map_err(DownstreamError::Ssl)?;

    match authorities {
        Some(certificates) => announce(ssl, state, certificates, partial_chain)?,
        None => announce_none(ssl, state).map_err(DownstreamError::Ssl)?,
    }
    state.names.replace(names);
    ask(ssl, state);
    if !state.certificate_requested.replace(true) {
        counters::count(Counter::ClientCertificateRequested);
    }
    Ok(())
}

/// Asks the client again, if it was asked: nginx looks for the server of a second `ClientHello`
/// too, and with it takes over how that is configured. To be called whenever the handshake has gone
/// on.
pub fn ask_again(ssl: &SslRef, state: &DownstreamConnection) {
    let is_asked = ssl.verify_mode().contains(SslVerifyMode::PEER);
    if state.certificate_requested.get() && !ssl.session_reused() && !is_asked {
        ask(ssl, state);
    }
}

/// Verifies the client's certificate, which it has been asked for, with `store`, whatever it was
/// asked with, and with `depth` for the server's. The server's revocation lists hold too. Phase:
/// certificate.
pub fn verify_with(
    request: Request<'_>,
    store: &X509StoreRef,
    depth: Option<u32>,
) -> Result<(), DownstreamError> {
    let ssl = client_ssl(request)?;
    let state = hook::watch(ssl, ssl::server_name(ssl))?;
    ssl::set_verify_store(ssl, Some(store))?;
    state.verification.replace(Some(ClientVerification {
        store: store::reference(store)?,
        depth: Some(depth.unwrap_or(ssl::DEFAULT_DEPTH)),
        lacks_lists: true,
    }));
    ask(ssl, state);
    Ok(())
}

fn ask(ssl: &SslRef, state: &DownstreamConnection) {
    // SAFETY: `judge` lets the handshake go on.
    unsafe { ssl::ask_for_certificate(ssl, judge) };
    let depth = state.verification.borrow().as_ref().and_then(|verification| verification.depth);
    ssl::set_verify_depth(ssl, depth.unwrap_or_else(|| ssl::context_verify_depth(ssl)));
}

/// OpenSSL calls for each error that it finds in the client's certificates, and for each of them
/// that is good, the client's own last. Whatever it is, the handshake goes on, and the result
/// tells; without memory for that, it ends.
extern "C" fn judge(preverified: c_int, context: *mut X509_STORE_CTX) -> c_int {
    guard("client verification", process_log(), 0, || {
        // SAFETY: OpenSSL calls with a verification that is under way.
        let Some(verification) = (unsafe { Verification::from_ptr(context) }) else {
            // That of the issuer of a list is another one, whose failure is an error of this one.
            return preverified;
        };
        let found = verification.found(preverified == 1);
        if found == Found::Lost {
            return 0;
        }
        if found == Found::Good
            && verification.is_at_leaf()
            && verification.error() == X509VerifyResult::OK
        {
            let result = by_lists_of_server(&verification);
            if result != X509VerifyResult::OK {
                verification.fail(result);
            }
        }
        // nginx would find what is left there, and take it for an error of a later call.
        drop(ErrorStack::get());
        1
    })
}

/// What the server's own lists say of a chain that is good by the store of a plugin.
fn by_lists_of_server(verification: &Verification<'_>) -> X509VerifyResult {
    let ssl = verification.ssl;
    let is_due = DownstreamConnection::find(ssl).is_some_and(|state| {
        state.verification.borrow().as_ref().is_some_and(|verification| verification.lacks_lists)
    });
    let base = ssl.ssl_context().cert_store();
    if !is_due || store::revocation_flags(base).is_empty() {
        return X509VerifyResult::OK;
    }
    verification::check_lists(verification.context(), base)
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

fn announce(
    ssl: &SslRef,
    state: &DownstreamConnection,
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

    let store = store::reference(authorities.store()).map_err(DownstreamError::Ssl)?;
    let previous = state.authorities.take();
    let announced = AnnouncedAuthorities::announce(ssl, authorities, previous);
    state.authorities.set(Some(announced.map_err(DownstreamError::Ssl)?));
    let verification = ClientVerification { store, depth: None, lacks_lists: false };
    state.verification.replace(Some(verification));
    Ok(())
}

fn announce_none(ssl: &SslRef, state: &DownstreamConnection) -> Result<(), SslError> {
    drop(state.authorities.take());
    state.verification.take();
    certificate_authorities::announce_none(ssl)
}

/// Drops the lists that this worker keeps ready.
pub fn clear_cache() {
    AUTHORITIES.with(ObjectCache::clear);
}
