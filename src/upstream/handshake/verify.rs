// SPDX-License-Identifier: Apache-2.0

//! Verification of the service's certificate.

#![allow(unsafe_code, reason = "OpenSSL calls it")]
//!
//! nginx checks the result of the verification, and the name, when the handshake is done. It does
//! so for a request that overrides the location's setting too: the request gets its own copy of the
//! location's configuration, with the setting in it.
//!
//! By then the client's certificate was sent. A request with settings of its own ends the handshake
//! as soon as the service fails, before that, with the line that nginx would have logged.

use std::ffi::c_int;
use std::rc::Rc;

use openssl::error::ErrorStack;
use openssl::x509::{X509Ref, X509VerifyResult};
use openssl_sys::X509_STORE_CTX;

use crate::conf;
use crate::nginx::complex_value::EvaluationFailed;
use crate::nginx::connection::process_log;
use crate::nginx::panic::guard;
use crate::nginx::pool::OutOfMemory;
use crate::nginx::request::Request;
use crate::nginx::upstream::Upstream;
use crate::openssl::revocation::Found;
use crate::openssl::san::RequiredNames;
use crate::openssl::ssl::{self, Verification};
use crate::upstream::handshake::connection::UpstreamConnection;
use crate::upstream::handshake::in_progress::Handshake;
use crate::upstream::location::conf_copy;
use crate::upstream::settings::request_state::RequestState;
use crate::upstream::settings::tls::{UpstreamTls, host_of, without_port};

/// Why verification could not be set.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The location does not allow it.
    #[error(transparent)]
    Enforced(#[from] VerificationEnforced),
    /// Of the name to verify.
    #[error("name (proxy_ssl_name): {0}")]
    Name(#[from] EvaluationFailed),
    /// No memory for the configuration.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// The location has `kong_tls_certificate_verify on`.
#[derive(Debug, thiserror::Error)]
#[error("TLS certificate verification is enforced")]
pub struct VerificationEnforced;

/// Whether the service is to be verified: as the request says, or else the location. Where that is
/// enforced, it is.
pub fn is_wanted(
    request: Request<'_>,
    upstream: Upstream<'_>,
    state: Option<&RequestState>,
) -> Result<bool, VerificationEnforced> {
    let is_enforced = conf::enforces_verification(request);
    let overridden = state.and_then(|state| state.upstream_tls.borrow().verify);
    match overridden {
        // A request may have asked before it was redirected to this location.
        Some(false) if is_enforced => Err(VerificationEnforced),
        Some(verify) => Ok(verify),
        None => Ok(is_enforced || conf_copy::configured_verify(upstream, state)),
    }
}

/// Makes the service be verified, or not, as the request says.
pub fn set(handshake: Handshake<'_>, state: &RequestState) -> Result<(), VerifyError> {
    let Handshake { ssl, request, upstream, .. } = handshake;
    // By what nginx follows now, which a former attempt may have changed.
    let has_name = upstream.verifies() || upstream.sends_server_name();
    let verify = is_wanted(request, upstream, Some(state))?;

    conf_copy::set_verify(upstream, state, request.pool(), verify)?;
    if !verify {
        return Ok(());
    }
    if !has_name {
        // nginx has had no reason yet to evaluate the name.
        let name = match upstream.configured_ssl_name(request) {
            Some(name) => name?,
            None => upstream.ssl_name(),
        };
        upstream.set_ssl_name(without_port(name));
    }
    upstream.set_ssl_name(host_of(upstream.ssl_name()));
    state.leaf_accepted.set(false);
    // SAFETY: `verify_callback` calls the one of the context.
    unsafe { ssl::verify_peer(ssl, verify_callback) };
    Ok(())
}

/// OpenSSL calls for each error that it finds in the service's certificates, and then for each of
/// them that is good, the service's own last.
extern "C" fn verify_callback(preverified: c_int, context: *mut X509_STORE_CTX) -> c_int {
    guard("upstream verification", process_log(), 0, || {
        // SAFETY: OpenSSL calls with a verification that is under way.
        let Some(verification) = (unsafe { Verification::from_ptr(context) }) else {
            return 0;
        };
        match verification.found(preverified == 1) {
            Found::Nothing => return 1,
            Found::Lost => return 0,
            Found::Good | Found::Bad => {}
        }
        // What nginx has for this goes on after an error, so that the last of them is reported.
        let goes_on = ssl::context_verify_callback(verification.ssl)
            .map_or(preverified, |previous| previous(preverified, context));
        decide(&verification, preverified == 1, goes_on == 1).into()
    })
}

/// Whether the handshake may go on: `is_good` is OpenSSL's verdict on what it looks at.
fn decide(verification: &Verification<'_>, is_good: bool, goes_on: bool) -> bool {
    let Some(handshake) = Handshake::of(verification.ssl) else {
        return false;
    };
    let Some(state) = RequestState::find(handshake.request) else {
        return false;
    };
    let is_last = is_good && verification.is_at_leaf();
    // What is found after the last certificate was accepted ends it at once.
    let is_late = !is_good && state.leaf_accepted.get();
    if goes_on && !is_last && !is_late {
        return true;
    }
    if !goes_on && verification.error() == X509VerifyResult::OK {
        verification.fail(X509VerifyResult::APPLICATION_VERIFICATION);
    }
    match rejection(verification, handshake.upstream, state) {
        None => {
            state.leaf_accepted.set(true);
            true
        }
        Some(reason) => {
            reject(handshake, state, &reason);
            false
        }
    }
}

/// Why the service is rejected, if it is.
fn rejection(
    verification: &Verification<'_>,
    upstream: Upstream<'_>,
    state: &RequestState,
) -> Option<String> {
    let error = verification.error();
    if error != X509VerifyResult::OK {
        return Some(verify_error(error));
    }
    let leaf = verification.leaf();
    let name = UpstreamConnection::of(verification.ssl)
        .and_then(UpstreamConnection::verified_name)
        .unwrap_or_else(|| upstream.ssl_name());
    if !leaf.is_some_and(|leaf| ssl::is_for_host(leaf, name)) {
        verification.fail(ssl::hostname_mismatch());
        let name = String::from_utf8_lossy(name);
        return Some(format!("upstream SSL certificate does not match \"{name}\""));
    }
    let missing = missing_names(leaf, &state.upstream_tls.borrow());
    if missing.is_some() {
        verification.fail(X509VerifyResult::APPLICATION_VERIFICATION);
    }
    missing
}

/// The service failed.
pub struct Rejected;

/// Whether the service of a handshake that is to be verified is good, by whoever has judged it.
pub fn check_verdict(handshake: Handshake<'_>, state: &RequestState) -> Result<(), Rejected> {
    let result = handshake.ssl.verify_result();
    if !handshake.upstream.verifies() || result == X509VerifyResult::OK {
        return Ok(());
    }
    reject(handshake, state, &verify_error(result));
    Err(Rejected)
}

/// As nginx says it.
fn verify_error(error: X509VerifyResult) -> String {
    format!("upstream SSL certificate verify error: ({}:{})", error.as_raw(), error.error_string())
}

/// Ends a handshake whose service was rejected, with this one line in the log. nginx tries the next
/// peer, as it does after its own verification.
fn reject(handshake: Handshake<'_>, state: &RequestState, reason: &str) {
    handshake.connection.log().error(format_args!("{reason}"));
    state.handshake_refused.set(true);

    // Otherwise nginx would report OpenSSL's "certificate verify failed" as well.
    handshake.tls.set_handshake_rejected();
    handshake.connection.demote_errors();
}

/// Checks the names that a request requires the service's certificate to carry: those of a session
/// that was resumed, and of a service that is not verified otherwise.
pub fn check_names(handshake: Handshake<'_>, state: &RequestState) {
    let Handshake { ssl, connection, request, upstream, .. } = handshake;
    let certificate = ssl.peer_certificate();
    let missing = missing_names(certificate.as_deref(), &state.upstream_tls.borrow());
    let Some(reason) = missing else {
        return;
    };
    connection.log().error(format_args!("{reason}"));

    // nginx looks at the result next, and closes the connection; it must not be told to skip that.
    ssl::set_verify_result(ssl, X509VerifyResult::APPLICATION_VERIFICATION);
    if conf_copy::set_verify(upstream, state, request.pool(), true).is_err() {
        ssl::shut_down(ssl);
    }
}

/// What is wrong with `certificate`, if it carries none of the names of a list in `settings`.
fn missing_names(certificate: Option<&X509Ref>, settings: &UpstreamTls) -> Option<String> {
    let UpstreamTls { dns_names, uris, .. } = settings;
    if dns_names.is_none() && uris.is_none() {
        return None;
    }
    let is_missing = |names: &&Rc<RequiredNames>| {
        !certificate.is_some_and(|certificate| names.carried_by(certificate))
    };
    let missing = [dns_names, uris].into_iter().flatten().find(is_missing);
    // A malformed extension leaves errors behind, which nginx would take for those of a later call.
    drop(ErrorStack::get());
    missing.map(|missing| {
        format!(
            "upstream SSL certificate carries none of the required {}: {}",
            missing.kind(),
            missing.list()
        )
    })
}
