//! Verification of the service's certificate.
//!
//! nginx checks the result of the verification, and the name, when the handshake is done. It does so
//! for a request that overrides the location's setting too: the request gets its own copy of the
//! location's configuration, with the setting in it.

use std::ptr::NonNull;
use std::rc::Rc;

use ngx::ffi::ngx_http_upstream_conf_t;
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
    let original = original_configuration(upstream, state);
    // SAFETY: the location's configuration outlives the request.
    let (configured, has_name) = unsafe {
        let configuration = original.as_ref();
        let configured = configuration.ssl_verify != 0;
        (configured, configured || configuration.ssl_server_name != 0)
    };
    let verify = verify.unwrap_or(configured);

    if verify == configured {
        // SAFETY: the location's configuration outlives the request.
        unsafe { upstream.set_configuration(original) };
    } else {
        follow_copy(upstream, state, request.pool(), original, verify)?;
    }

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
    match [dns_names, uris].into_iter().flatten().find(is_missing) {
        None => return,
        Some(missing) => log.error(format_args!(
            "upstream SSL certificate carries none of the required {}: {}",
            missing.kind(),
            missing.list()
        )),
    }

    // nginx looks at the result next, and closes the connection; it must not be told to skip that.
    fail(ssl);
    let original = original_configuration(upstream, state);
    if follow_copy(upstream, state, pool, original, true).is_err() {
        ssl::shut_down(ssl);
    }
}

/// Makes the verification of the peer a failure.
pub fn fail(ssl: &SslRef) {
    ssl::set_verify_result(ssl, X509VerifyResult::APPLICATION_VERIFICATION);
}

/// What the location has, which `upstream` follows unless we gave it a copy.
fn original_configuration(
    upstream: Upstream<'_>,
    state: &RequestState,
) -> NonNull<ngx_http_upstream_conf_t> {
    let current = upstream.configuration();
    match state.configuration.get() {
        Some(OwnConfiguration { original, copy }) if copy == current => original,
        // The location's; another one than before if the request was redirected.
        _ => current,
    }
}

/// Makes `upstream` follow a copy of `original` in which verification is as `verify` says.
fn follow_copy(
    upstream: Upstream<'_>,
    state: &RequestState,
    pool: Pool<'_>,
    original: NonNull<ngx_http_upstream_conf_t>,
    verify: bool,
) -> Result<(), OutOfMemory> {
    // SAFETY: both configurations live as long as the request; the copy is nobody else's.
    unsafe {
        let copy = match state.configuration.get() {
            Some(own) if own.original == original => own.copy,
            _ => pool.copy(original.as_ref())?,
        };
        (*copy.as_ptr()).ssl_verify = isize::from(verify);
        state.configuration.set(Some(OwnConfiguration { original, copy }));
        upstream.set_configuration(copy);
    }
    Ok(())
}
