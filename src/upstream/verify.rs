//! Verification of the service's certificate.
//!
//! nginx checks the result of the verification, and the name, when the handshake is done. It does so
//! for a request that overrides the location's setting too: the request gets its own copy of the
//! location's configuration, with the setting in it.

use std::rc::Rc;

use openssl::error::ErrorStack;
use openssl::ssl::SslRef;
use openssl::x509::X509VerifyResult;

use super::settings::{UpstreamTls, without_port};
use crate::nginx::log::Log;
use crate::nginx::pool::{OutOfMemory, Pool};
use crate::nginx::request::Request;
use crate::nginx::upstream::{EvaluationFailed, Upstream};
use crate::openssl::san::RequiredNames;
use crate::openssl::ssl;
use crate::request::{OwnConfiguration, RequestState};

/// Why verification could not be set.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Of the name to verify.
    #[error("name (proxy_ssl_name): {0}")]
    Name(#[from] EvaluationFailed),
    /// No memory for the configuration.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// Makes nginx verify the service, or not, whatever the location has; `None` is as it has.
pub fn set(
    request: Request<'_>,
    upstream: Upstream<'_>,
    state: &RequestState,
    verify: Option<bool>,
) -> Result<(), VerifyError> {
    let configured = configured(upstream, state);
    // SAFETY: the configuration outlives the request.
    let has_name = configured || unsafe { upstream.configuration().as_ref() }.ssl_server_name != 0;
    let verify = verify.unwrap_or(configured);

    follow(upstream, state, request.pool(), verify)?;
    if verify && !has_name {
        // nginx has had no reason yet to evaluate the name.
        let name = match upstream.configured_ssl_name(request) {
            Some(name) => name?,
            None => upstream.ssl_name(),
        };
        upstream.set_ssl_name(without_port(name));
    }
    Ok(())
}

/// Checks the names that a request requires the service's certificate to carry.
pub fn check_names(
    ssl: &SslRef,
    upstream: Upstream<'_>,
    log: Log<'_>,
    state: &RequestState,
    pool: Pool<'_>,
) {
    let UpstreamTls { dns_names, uris, .. } = &*state.upstream_tls.borrow();
    if dns_names.is_none() && uris.is_none() {
        return;
    }
    let certificate = ssl.peer_certificate();
    let is_missing = |names: &&Rc<RequiredNames>| {
        !certificate.as_ref().is_some_and(|certificate| names.carried_by(certificate))
    };
    let missing = [dns_names, uris].into_iter().flatten().find(is_missing);
    // A malformed extension leaves errors behind, which nginx would take for those of a later call.
    drop(ErrorStack::get());
    match missing {
        None => return,
        Some(missing) => log.error(format_args!(
            "upstream SSL certificate carries none of the required {}: {}",
            missing.kind(),
            missing.list()
        )),
    }

    // nginx looks at the result next, and closes the connection; it must not be told to skip that.
    fail(ssl);
    if follow(upstream, state, pool, true).is_err() {
        ssl::shut_down(ssl);
    }
}

/// Makes the verification of the peer a failure.
fn fail(ssl: &SslRef) {
    ssl::set_verify_result(ssl, X509VerifyResult::APPLICATION_VERIFICATION);
}

/// That `upstream` follows a configuration of its own, if it does.
fn own(upstream: Upstream<'_>, state: &RequestState) -> Option<OwnConfiguration> {
    state.own_configuration.get().filter(|own| own.upstream == upstream.as_ptr())
}

/// What the location of `upstream` has.
fn configured(upstream: Upstream<'_>, state: &RequestState) -> bool {
    match own(upstream, state) {
        Some(own) => own.configured_verify,
        // SAFETY: the configuration outlives the request.
        None => unsafe { upstream.configuration().as_ref() }.ssl_verify != 0,
    }
}

/// Makes `upstream` follow a configuration of its own in which verification is as `verify` says.
fn follow(
    upstream: Upstream<'_>,
    state: &RequestState,
    pool: Pool<'_>,
    verify: bool,
) -> Result<(), OutOfMemory> {
    // SAFETY: both configurations live as long as the request. Once there is a copy for this
    // upstream, what it follows is that copy, or one that the Lua module has made of it for
    // `balancer.set_timeouts`: nobody else's.
    unsafe {
        if own(upstream, state).is_none() {
            let configured_verify = configured(upstream, state);
            if verify == configured_verify {
                return Ok(());
            }
            let copy = pool.copy(upstream.configuration().as_ref())?;
            upstream.set_configuration(copy);
            let upstream = upstream.as_ptr();
            state.own_configuration.set(Some(OwnConfiguration { upstream, configured_verify }));
        }
        (*upstream.configuration().as_ptr()).ssl_verify = isize::from(verify);
    }
    Ok(())
}
