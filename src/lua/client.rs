// SPDX-License-Identifier: Apache-2.0

//! Lua functions for the client's side.

use std::fmt::Display;

use foreign_types::ForeignTypeRef;
use openssl::x509::store::X509StoreRef;

use crate::client::certificate_request::RequestCertificateError;
use crate::client::connection::{ClientError, client_ssl};
use crate::client::finding::{self, Moment};
use crate::client::header_certificate::{self, InvalidText};
use crate::client::header_names::is_one_of;
use crate::client::{
    alpn, asking, certificate_chain, certificate_request, client_verify, guarded_headers,
    objection, session_reuse,
};
use crate::lua::ffi::{Answer, ChainOrKey, NameList, SocketState};
use crate::nginx::connection::Connection;
use crate::nginx::pool::OutOfMemory;
use crate::nginx::request::Request;
use crate::nginx::time;
use crate::status::counters::{self, Cache, CacheEvent};
use crate::upstream::settings::request_state::RequestState;

/// Asks the client for a certificate; `ca_certs` may be missing.
pub fn request_client_certificate(
    request: Request<'_>,
    ca_certs: ChainOrKey<'_>,
    partial_chain: bool,
    names: NameList<'_>,
    is_told: bool,
) -> Result<(), String> {
    let authorities = if ca_certs.is_given() {
        Some(ca_certs.chain().map_err(|error| format!("ca_certs: {error}"))?)
    } else {
        None
    };
    let names = names.iter();
    let asked = certificate_request::request_client_certificate(
        request,
        authorities,
        partial_chain,
        names,
        is_told,
    );
    asked.map_err(|error: RequestCertificateError| error.to_string())
}

pub use alpn::disable_http2_alpn;
pub use guarded_headers::guard as guard_headers;
pub use session_reuse::disable_session_reuse;

/// Removes the guarded headers and `others` from the request.
pub fn strip_headers(request: Request<'_>, others: NameList<'_>) -> Result<(), OutOfMemory> {
    guarded_headers::strip(request, others.iter())
}

/// Removes `names` from the request, and leaves the guarded headers.
pub fn remove_headers(request: Request<'_>, names: NameList<'_>) -> Result<(), OutOfMemory> {
    request.remove_headers(|name| is_one_of(name, names.iter()))
}

/// Records that Lua code has access to [`request_client_certificate`].
pub fn library_is_loaded() {
    asking::library_is_loaded();
}

/// Verifies the client with a plugin's store; a negative `depth` means none is set.
pub fn verify_client_with(
    request: Request<'_>,
    store: &X509StoreRef,
    depth: f64,
    is_told: bool,
) -> Result<(), ClientError> {
    // The cast saturates.
    let depth = (depth >= 0.0).then_some(depth as u32);
    certificate_request::verify_with(request, store, depth, is_told)
}

/// Returns the digest of the chain that the client has presented.
pub fn client_chain_digest(request: Request<'_>) -> Result<Option<Vec<u8>>, impl Display> {
    certificate_chain::digest(request)
        .inspect_err(|error| {
            if !error.is_fault_of_client() {
                request.log().error(format_args!("certificate chain of the client: {error}"));
            }
        })
        .map(|digest| digest.map(|digest| digest.to_vec()))
}

/// Returns nginx's objection to the client's certificate, which applies even if a plugin accepts
/// the certificate.
pub fn client_objection(request: Request<'_>) -> Option<Vec<u8>> {
    objection::of(request.connection()).map(|words| words.into())
}

pub use certificate_chain::get_full_client_certificate_chain;

/// Overrides `$kong_client_verify`.
pub fn set_client_verify(request: Request<'_>, value: &[u8]) -> Result<(), String> {
    client_verify::check(value).map_err(|error| error.to_string())?;
    RequestState::set_client_verify(request, value).map_err(|error| error.to_string())
}

/// Keeps a text under a name for the life of the request.
pub fn keep_text(request: Request<'_>, name: &[u8], value: &[u8]) -> Result<(), OutOfMemory> {
    RequestState::keep_text(request, name, value)
}

/// Returns the text that was kept under a name.
pub fn kept_text(request: Request<'_>, name: &[u8]) -> Option<Vec<u8>> {
    RequestState::find(request)?.kept_text(name).map(<[u8]>::to_vec)
}

/// Returns whether the location of a request has an `error_page` for a status.
pub fn has_error_page(request: Request<'_>, status: f64) -> Option<()> {
    // The cast saturates.
    request.has_error_page(status as u16).then_some(())
}

/// Returns the time of the monotonic clock and the date, in milliseconds.
pub fn clocks() -> Answer {
    let Moment { monotonic, date } = time::moment();
    Answer::Clocks([monotonic as f64, date as f64])
}

/// Returns whether a verdict from a [`moment`] is still valid; `ends` is the date at which it may
/// change.
pub fn still_holds(monotonic: f64, date: f64, ends: f64) -> Option<()> {
    // Both are whole numbers, made from integers.
    let found = Moment { monotonic: monotonic as i64, date: date as i64 };
    finding::still_holds(found, ends, time::moment()).then_some(())
}

/// Counts an event in a cache of the plugins: 0 for a hit, 1 for a miss, 2 for an eviction.
pub fn count_cache(cache: &[u8], event: f64) {
    let events = [CacheEvent::Hit, CacheEvent::Miss, CacheEvent::Eviction];
    // The cast saturates.
    if let (Some(cache), Some(event)) = (Cache::by_name(cache), events.get(event as usize)) {
        counters::count_cache(cache, *event, 1);
    }
}

/// Decodes a certificate in URL-encoded PEM to DER.
pub fn decode_url(value: &[u8]) -> Result<Vec<u8>, InvalidText> {
    header_certificate::from_url(value)
}

/// Decodes a certificate in base64 to DER.
pub fn decode_base64(value: &[u8]) -> Result<Vec<u8>, InvalidText> {
    header_certificate::from_base64(value)
}

/// Returns the SSL object of the client's connection.
pub fn get_request_ssl_pointer(request: Request<'_>) -> Result<Answer, NoSslObject> {
    client_ssl(request).map_err(|_| NoSslObject).map(|ssl| Answer::Pointer(ssl.as_ptr().cast()))
}

/// Returns the SSL object of a connection that Lua code has made itself, by a TCP socket.
pub fn get_ssl_pointer(
    request: Request<'_>,
    socket: SocketState<'_>,
) -> Result<Answer, NoSslObject> {
    let tls = socket.connection(request).and_then(Connection::tls).ok_or(NoSslObject)?;
    Ok(Answer::Pointer(tls.ssl().as_ptr().cast()))
}

/// A connection is there without TLS, or not at all.
#[derive(Debug, thiserror::Error)]
#[error("no ssl object")]
pub struct NoSslObject;
