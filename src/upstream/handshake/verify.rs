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
use openssl::ssl::SslRef;
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
use crate::openssl::spiffe::Trusted;
use crate::openssl::ssl::{self, Verification};
use crate::openssl::store::TrustedStore;
use crate::openssl::verification;
use crate::upstream::handshake::connection::UpstreamConnection;
use crate::upstream::handshake::context::ContextState;
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
    let overridden = state.and_then(|state| state.upstream_tls.borrow().verify());
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
    Verifier::verify(ssl);
    Ok(())
}

struct Verifier;

impl VerifyPeer for Verifier {
    const NAME: &'static str = "upstream verification";

    fn judge(verification: Option<&Verification<'_>>, is_good: bool) -> bool {
        let Some(verification) = verification else {
            return false;
        };
        let Some(handshake) = Handshake::of(verification.ssl) else {
            return false;
        };
        let Some(state) = RequestState::find(handshake.request) else {
            return false;
        };
        let service = Service { verification, handshake, state };
        let spiffe = state.upstream_tls.borrow().spiffe.clone();
        if let Some(trusted) = spiffe {
            return service.has_spiffe_id(&trusted);
        }
        match verification.found(is_good) {
            Found::Nothing => return true,
            Found::Lost => return false,
            Found::Good | Found::Bad => {}
        }
        // nginx's own callback continues after an error, so that the last error is reported.
        service.is_accepted(is_good, verification.verdict_of_context(is_good))
    }
}

/// A service that is being verified.
struct Service<'a> {
    verification: &'a Verification<'a>,
    handshake: Handshake<'a>,
    state: &'a RequestState,
}

impl Service<'_> {
    /// Returns whether the handshake may continue: `is_good` is OpenSSL's verdict on the current
    /// certificate, and `goes_on` that of nginx's callback.
    fn is_accepted(&self, is_good: bool, goes_on: bool) -> bool {
        let Self { verification, state, .. } = *self;
        // Without verification, only the leaf itself counts, whatever its chain is.
        let verifies = self.verifies();
        let is_leaf_accepted = state.leaf_accepted.get() && !self.renegotiates();
        if !verifies && is_leaf_accepted {
            return true;
        }
        let is_last = (is_good || !verifies) && verification.is_at_leaf();
        // An error found after the leaf was accepted ends the handshake at once; in a
        // renegotiation, after which nginx checks nothing, any error does.
        let is_late = verifies && !is_good && (is_leaf_accepted || self.renegotiates());
        if (goes_on || !verifies) && !is_last && !is_late {
            return true;
        }
        if !goes_on && verifies && verification.error() == X509VerifyResult::OK {
            verification.fail(X509VerifyResult::APPLICATION_VERIFICATION);
        }
        let error = verification.error();
        self.settle(if verifies && error != X509VerifyResult::OK {
            Err(verify_error(error))
        } else {
            self.check_leaf()
        })
    }

    /// Returns whether the handshake may continue with a service that must have a SPIFFE ID. The
    /// first call decides: OpenSSL itself, which has no trusted certificate, finds errors only.
    fn has_spiffe_id(&self, trusted: &Trusted) -> bool {
        let Self { verification, state, .. } = *self;
        let is_settled = state.leaf_accepted.get() && !self.renegotiates();
        let is_accepted = is_settled || self.settle(self.check_svid(trusted));
        if is_accepted {
            verification.fail(X509VerifyResult::OK);
        }
        is_accepted
    }

    /// Verifies the service's chain by the store of its trust domain, and checks its certificate.
    fn check_svid(&self, trusted: &Trusted) -> Result<(), String> {
        let Self { verification, state, .. } = *self;
        let fail = |result, reason| {
            verification.fail(result);
            Err(reason)
        };
        let Some(leaf) = verification.leaf() else {
            return fail(ssl::no_accepted_id(), NO_CERTIFICATE.to_owned());
        };
        let store = match trusted.store_for(leaf) {
            Ok(store) => store,
            Err(error) => return fail(ssl::no_accepted_id(), error.to_string()),
        };
        let set = state.upstream_tls.borrow().verify_depth;
        let depth = depth(verification.ssl, set, Some(store));
        match verification::verify_by(verification.context(), store.store(), depth) {
            X509VerifyResult::OK => self.check_leaf(),
            result => fail(result, verify_error(result)),
        }
    }

    /// Checks the service's certificate, apart from its chain.
    fn check_leaf(&self) -> Result<(), String> {
        let Self { verification, handshake, state } = *self;
        let name = UpstreamConnection::of(verification.ssl)
            .and_then(UpstreamConnection::checked_name)
            .unwrap_or_else(|| handshake.upstream.ssl_name());
        let objection = objection(verification.leaf(), name, state, self.verifies());
        objection.map_or(Ok(()), |Objection { reason, result }| {
            verification.fail(result);
            Err(reason)
        })
    }

    /// Notes the verdict on the service, and ends the handshake if it is rejected.
    fn settle(&self, verdict: Result<(), String>) -> bool {
        if let Err(reason) = &verdict {
            reject(self.handshake, self.state, reason);
        }
        self.state.leaf_accepted.set(verdict.is_ok());
        verdict.is_ok()
    }

    /// Returns whether the service has asked for another handshake on the same connection (TLS
    /// 1.2), where it may present another certificate.
    fn renegotiates(&self) -> bool {
        self.handshake.tls.handshaked()
    }

    /// Returns whether the chain counts. After the first handshake, nginx is kept from checking
    /// again: see [`check_resumed`].
    fn verifies(&self) -> bool {
        match UpstreamConnection::of(self.verification.ssl) {
            Some(known) if self.renegotiates() => known.verifies(),
            _ => self.handshake.upstream.verifies(),
        }
    }
}

const NO_CERTIFICATE: &str = "upstream SSL certificate is missing";

/// The default of `proxy_ssl_verify_depth`. nginx does not tell whether it was set explicitly.
const DEFAULT_DEPTH: u32 = 1;

/// Returns the most intermediates allowed: those `set` for the request, or else those that the
/// location allows, or else those that `store` itself allows.
pub fn depth(ssl: &SslRef, set: Option<u32>, store: Option<&TrustedStore>) -> u32 {
    let of_location = ContextState::of(ssl.ssl_context())
        .and_then(|state| state.trust.verify_depth)
        .unwrap_or_else(|| ssl::context_verify_depth(ssl));
    let of_store = || store.filter(|_| of_location == DEFAULT_DEPTH)?.depth();
    set.or_else(of_store).unwrap_or(of_location)
}

/// What is wrong with the certificate of a service, apart from its chain.
struct Objection {
    reason: String,
    result: X509VerifyResult,
}

/// Returns what is wrong with `certificate`, which is for a request to `name`. That name counts if
/// the service is verified, unless by its SPIFFE ID, or if other names were set.
fn objection(
    certificate: Option<&X509Ref>,
    name: &[u8],
    state: &RequestState,
    verifies: bool,
) -> Option<Objection> {
    let settings = state.upstream_tls.borrow();
    let UpstreamTls { names, pins, spiffe, .. } = &*settings;
    if let Some(trusted) = spiffe {
        let checked = certificate.map(|certificate| trusted.accepted.check(certificate));
        let reason = match checked {
            Some(Ok(())) => None,
            Some(Err(error)) => Some(error.to_string()),
            None => Some(NO_CERTIFICATE.to_owned()),
        };
        if let Some(reason) = reason {
            return Some(Objection { reason, result: ssl::no_accepted_id() });
        }
    }
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
    if names.is_none() && (!verifies || spiffe.is_some()) {
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
