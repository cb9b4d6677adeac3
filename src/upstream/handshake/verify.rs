// SPDX-License-Identifier: Apache-2.0

//! Verification of the service's certificate.
//!
//! nginx checks the verification result, and the name, when the handshake is done. It does so too
//! for a request that overrides the location's setting: the request follows its own copy of the
//! location's configuration, with the setting in it.
//!
//! By then the client certificate has been sent. So for a request with settings of its own, this
//! module ends the handshake as soon as verification fails, before that, with the line that nginx
//! would have logged.

use openssl::error::ErrorStack;
use openssl::x509::{X509Ref, X509VerifyResult};

use crate::conf;
use crate::nginx::complex_value::EvaluationFailed;
use crate::nginx::pool::OutOfMemory;
use crate::nginx::request::Request;
use crate::nginx::tls_callbacks::VerifyPeer;
use crate::nginx::upstream::Upstream;
use crate::openssl::pins::pin_of;
use crate::openssl::revocation::Found;
use crate::openssl::san::{self, AcceptedNames};
use crate::openssl::ssl::{self, Verification};
use crate::upstream::handshake::connection::UpstreamConnection;
use crate::upstream::handshake::in_progress::Handshake;
use crate::upstream::location::conf_copy;
use crate::upstream::settings::request_state::RequestState;
use crate::upstream::settings::tls::{UpstreamTls, host_of, without_port};

/// Why verification could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The location does not allow a request to turn verification off.
    #[error(transparent)]
    Enforced(#[from] VerificationEnforced),
    /// Evaluating the name to verify failed.
    #[error("name (proxy_ssl_name): {0}")]
    Name(#[from] EvaluationFailed),
    /// Out of memory for the copy of the configuration.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// The location has `kong_tls_certificate_verify on`.
#[derive(Debug, thiserror::Error)]
#[error("TLS certificate verification is enforced")]
pub struct VerificationEnforced;

/// Returns whether the service is to be verified: as the request says, or else as the location
/// says. Always true where verification is enforced.
pub fn is_wanted(
    request: Request<'_>,
    upstream: Upstream<'_>,
    state: Option<&RequestState>,
) -> Result<bool, VerificationEnforced> {
    let is_enforced = conf::enforces_verification(request);
    let overridden = state.and_then(|state| state.upstream_tls.borrow().verify);
    match overridden {
        // The request may have turned verification off before it was redirected to this location.
        Some(false) if is_enforced => Err(VerificationEnforced),
        Some(verify) => Ok(verify),
        None => Ok(is_enforced || conf_copy::configured_verify(upstream, state)),
    }
}

/// Turns verification of the service on or off, as the request says.
pub fn set(handshake: Handshake<'_>, state: &RequestState) -> Result<(), VerifyError> {
    let Handshake { ssl, request, upstream, .. } = handshake;
    // Test what nginx follows now, which an earlier attempt may have changed.
    let has_name = upstream.verifies() || upstream.sends_server_name();
    let verify = is_wanted(request, upstream, Some(state))?;

    conf_copy::set_verify(request, verify)?;
    if !verify && !state.upstream_tls.borrow().requires() {
        return Ok(());
    }
    if !has_name {
        // Without either, nginx has not evaluated the name.
        let name = match upstream.configured_ssl_name(request) {
            Some(name) => name?,
            None => upstream.ssl_name(),
        };
        upstream.set_ssl_name(without_port(name));
    }
    upstream.set_ssl_name(host_of(upstream.ssl_name()));
    state.leaf_accepted.set(false);
    Service::verify(ssl);
    Ok(())
}

struct Service;

impl VerifyPeer for Service {
    const NAME: &'static str = "upstream verification";

    fn judge(verification: Option<&Verification<'_>>, is_good: bool) -> bool {
        let Some(verification) = verification else {
            return false;
        };
        match verification.found(is_good) {
            Found::Nothing => return true,
            Found::Lost => return false,
            Found::Good | Found::Bad => {}
        }
        // nginx's own callback continues after an error, so that the last error is reported.
        decide(verification, is_good, verification.verdict_of_context(is_good))
    }
}

/// Returns whether the handshake may continue: `is_good` is OpenSSL's verdict on the current
/// certificate, and `goes_on` that of nginx's callback.
fn decide(verification: &Verification<'_>, is_good: bool, goes_on: bool) -> bool {
    let Some(handshake) = Handshake::of(verification.ssl) else {
        return false;
    };
    let Some(state) = RequestState::find(handshake.request) else {
        return false;
    };
    // Without verification, only the leaf itself counts, whatever its chain is.
    let verifies = handshake.upstream.verifies();
    if !verifies && state.leaf_accepted.get() {
        return true;
    }
    let is_last = (is_good || !verifies) && verification.is_at_leaf();
    // An error found after the leaf was accepted ends the handshake at once.
    let is_late = verifies && !is_good && state.leaf_accepted.get();
    if (goes_on || !verifies) && !is_last && !is_late {
        return true;
    }
    if !goes_on && verifies && verification.error() == X509VerifyResult::OK {
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

/// Returns why the service is rejected, if it is.
fn rejection(
    verification: &Verification<'_>,
    upstream: Upstream<'_>,
    state: &RequestState,
) -> Option<String> {
    let error = verification.error();
    if upstream.verifies() && error != X509VerifyResult::OK {
        return Some(verify_error(error));
    }
    let name = UpstreamConnection::of(verification.ssl)
        .and_then(UpstreamConnection::checked_name)
        .unwrap_or_else(|| upstream.ssl_name());
    let Objection { reason, result } =
        objection(verification.leaf(), name, state, upstream.verifies())?;
    verification.fail(result);
    Some(reason)
}

/// What is wrong with the certificate of a service, apart from its chain.
struct Objection {
    reason: String,
    result: X509VerifyResult,
}

/// Returns what is wrong with `certificate`, which is for a request to `name`. That name counts if
/// the service is verified, or if other names were set.
fn objection(
    certificate: Option<&X509Ref>,
    name: &[u8],
    state: &RequestState,
    verifies: bool,
) -> Option<Objection> {
    let settings = state.upstream_tls.borrow();
    let UpstreamTls { names, pins, .. } = &*settings;
    if let Some(pins) = pins {
        if !certificate.is_some_and(|certificate| pins.accept(certificate)) {
            let key = certificate.and_then(|certificate| pin_of(certificate).ok());
            let key = key.unwrap_or_default();
            return Some(Objection {
                reason: format!(
                    "upstream SSL certificate has none of the pinned keys: its key is \"{key}\""
                ),
                result: ssl::no_pinned_key(),
            });
        }
    }
    if names.is_none() && !verifies {
        return None;
    }
    let accepted = names.as_deref().unwrap_or(const { &AcceptedNames::OF_REQUEST });
    let is_accepted = certificate.is_some_and(|certificate| accepted.accept(certificate, name));
    // A malformed extension leaves errors in OpenSSL's queue, which nginx would attribute to a
    // later call.
    drop(ErrorStack::get());
    if is_accepted {
        return None;
    }
    Some(match names {
        // nginx's own words.
        None => Objection {
            reason: format!(
                "upstream SSL certificate does not match \"{}\"",
                String::from_utf8_lossy(name)
            ),
            result: ssl::hostname_mismatch(),
        },
        Some(names) => Objection {
            reason: format!(
                "upstream SSL certificate carries none of the accepted names: {}",
                names.list(name)
            ),
            result: X509VerifyResult::APPLICATION_VERIFICATION,
        },
    })
}

/// The service was rejected.
pub struct Rejected;

/// Checks the verification result of the service in a handshake that verifies it, whoever has set
/// that result.
pub fn check_verdict(handshake: Handshake<'_>, state: &RequestState) -> Result<(), Rejected> {
    let result = handshake.ssl.verify_result();
    if !handshake.upstream.verifies() || result == X509VerifyResult::OK {
        return Ok(());
    }
    reject(handshake, state, &verify_error(result));
    Err(Rejected)
}

/// Formats a verification error as nginx does.
fn verify_error(error: X509VerifyResult) -> String {
    format!("upstream SSL certificate verify error: ({}:{})", error.as_raw(), error.error_string())
}

/// Ends a handshake whose service was rejected, with `reason` as its only log line. nginx tries the
/// next peer, as it does after its own verification.
fn reject(handshake: Handshake<'_>, state: &RequestState, reason: &str) {
    handshake.connection.log().error(format_args!("{reason}"));
    state.handshake_refused.set(true);

    // Otherwise nginx would also log OpenSSL's "certificate verify failed".
    handshake.tls.set_handshake_rejected();
    handshake.connection.demote_errors();
}

/// Checks the certificate of the service when the handshake is done. The verify callback has not
/// done so for a resumed session. Keeps nginx from checking again: it knows only one name, and
/// takes an address for a DNS name.
pub fn check_resumed(handshake: Handshake<'_>, state: &RequestState) {
    let Handshake { ssl, connection, request, upstream, .. } = handshake;
    let requires = state.upstream_tls.borrow().requires();
    let name = upstream.ssl_name();
    let is_verified = upstream.verifies() && ssl.verify_result() == X509VerifyResult::OK;
    let is_for_address = is_verified && san::address_of(name).is_some();
    if !requires && !is_for_address {
        return;
    }
    let certificate = ssl.peer_certificate();
    let objection = objection(certificate.as_deref(), name, state, upstream.verifies());
    match objection {
        Some(Objection { reason, result }) if requires => {
            connection.log().error(format_args!("{reason}"));
            // nginx checks the verification result next, and closes the connection: make sure that
            // it does.
            ssl::set_verify_result(ssl, result);
            if conf_copy::set_verify(request, true).is_err() {
                ssl::shut_down(ssl);
            }
        }
        // nginx says so.
        Some(_) => {}
        // If there is no memory for this, nginx rejects the name.
        None if is_verified => drop(conf_copy::set_verify(request, false)),
        None => {}
    }
}
