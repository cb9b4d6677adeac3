//! A copy of the location's configuration that one request follows, with settings of its own.

use std::ptr::NonNull;

use ngx::ffi::{ngx_http_upstream_conf_t, ngx_http_upstream_t};

use crate::nginx::pool::{OutOfMemory, Pool};
use crate::nginx::upstream::Upstream;
use crate::request::RequestState;

/// That an upstream follows a copy of its location's configuration.
#[derive(Clone, Copy)]
pub struct OwnConfiguration {
    /// Which upstream: after a redirect, a request has another.
    upstream: *mut ngx_http_upstream_t,
    /// `proxy_ssl_verify` as the location has it.
    configured_verify: bool,
}

fn of(upstream: Upstream<'_>, state: &RequestState) -> Option<OwnConfiguration> {
    state.own_configuration.get().filter(|own| own.upstream == upstream.as_ptr())
}

/// `proxy_ssl_verify` as the location of `upstream` has it.
pub fn configured_verify(upstream: Upstream<'_>, state: Option<&RequestState>) -> bool {
    state
        .and_then(|state| of(upstream, state))
        .map_or_else(|| upstream.verifies(), |own| own.configured_verify)
}

/// Makes `upstream` follow `configuration`, which is one that nobody else follows.
///
/// # Safety
/// `configuration` must live as long as the request.
pub unsafe fn adopt(
    upstream: Upstream<'_>,
    state: &RequestState,
    configuration: NonNull<ngx_http_upstream_conf_t>,
) {
    let configured_verify = configured_verify(upstream, Some(state));
    // SAFETY: by contract.
    unsafe { upstream.set_configuration(configuration) };
    let upstream = upstream.as_ptr();
    state.own_configuration.set(Some(OwnConfiguration { upstream, configured_verify }));
}

/// Makes `upstream` verify its peer, or not, with nginx's own check after the handshake.
pub fn set_verify(
    upstream: Upstream<'_>,
    state: &RequestState,
    pool: Pool<'_>,
    verify: bool,
) -> Result<(), OutOfMemory> {
    // SAFETY: both configurations live as long as the request. Once there is a copy for this
    // upstream, what it follows is that copy, or one that the Lua module has made of it for
    // `balancer.set_timeouts`: nobody else's.
    unsafe {
        if of(upstream, state).is_none() {
            if verify == upstream.verifies() {
                return Ok(());
            }
            adopt(upstream, state, pool.copy(upstream.configuration().as_ref())?);
        }
        (*upstream.configuration().as_ptr()).ssl_verify = isize::from(verify);
    }
    Ok(())
}
