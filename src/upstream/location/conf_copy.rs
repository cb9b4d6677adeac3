// SPDX-License-Identifier: Apache-2.0

//! A copy of the location's configuration that one request follows, with settings of its own.

#![allow(unsafe_code, reason = "nginx follows a raw pointer")]

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

use ngx::ffi::{ngx_http_upstream_conf_t, ngx_http_upstream_t};

use crate::nginx::pool::{OutOfMemory, Pool};
use crate::nginx::request::Request;
use crate::nginx::upstream::Upstream;
use crate::nginx::version;
use crate::upstream::settings::request_state::RequestState;

/// That an upstream follows a copy of its location's configuration.
#[derive(Clone, Copy)]
pub struct ConfCopy {
    /// Which upstream: after a redirect, a request has another.
    upstream: *mut ngx_http_upstream_t,
    own: NonNull<ngx_http_upstream_conf_t>,
    /// What it is a copy of.
    shared: NonNull<ngx_http_upstream_conf_t>,
    /// `proxy_ssl_verify` as the location has it.
    configured_verify: bool,
}

fn of(upstream: Upstream<'_>, state: &RequestState) -> Option<ConfCopy> {
    state.conf_copy.get().filter(|own| own.upstream == upstream.as_ptr())
}

/// `proxy_ssl_verify` as the location of `upstream` has it.
pub fn configured_verify(upstream: Upstream<'_>, state: Option<&RequestState>) -> bool {
    state
        .and_then(|state| of(upstream, state))
        .map_or_else(|| upstream.verifies(), |own| own.configured_verify)
}

/// The configuration of the location of `upstream`, which others follow too.
pub fn shared(
    upstream: Upstream<'_>,
    state: Option<&RequestState>,
) -> NonNull<ngx_http_upstream_conf_t> {
    state
        .and_then(|state| of(upstream, state))
        .map_or_else(|| upstream.configuration(), |own| own.shared)
}

/// Makes `upstream` follow `own`, a copy of what it follows, which is one that nobody else follows.
///
/// # Safety
/// `own` must live as long as the request.
pub unsafe fn adopt(
    upstream: Upstream<'_>,
    state: &RequestState,
    own: NonNull<ngx_http_upstream_conf_t>,
) {
    let configured_verify = configured_verify(upstream, Some(state));
    let shared = shared(upstream, Some(state));
    // SAFETY: by contract.
    unsafe { upstream.set_configuration(own) };
    let upstream = upstream.as_ptr();
    state.conf_copy.set(Some(ConfCopy { upstream, own, shared, configured_verify }));
}

/// Runs `body` with the values of the one configuration in the place of those of the other.
///
/// # Safety
/// Both must be valid. `body` must let nothing of another request be done.
pub unsafe fn in_place<T>(
    shared: NonNull<ngx_http_upstream_conf_t>,
    own: NonNull<ngx_http_upstream_conf_t>,
    body: impl FnOnce() -> T,
) -> T {
    // SAFETY: by contract; nginx handles one request at a time.
    unsafe {
        ptr::swap(shared.as_ptr(), own.as_ptr());
        let result = body();
        ptr::swap(shared.as_ptr(), own.as_ptr());
        result
    }
}

thread_local! {
    /// A configuration at an address that is no location's.
    static SCRATCH_CONF: UnsafeCell<MaybeUninit<ngx_http_upstream_conf_t>> =
        const { UnsafeCell::new(MaybeUninit::uninit()) };
}

/// Runs `choose`, in which a peer is chosen for `upstream`, and nginx may find an idle connection
/// that its location may use (`keepalive ... local`, which is the default since nginx 1.29.7). It
/// knows the location by the address of its configuration.
///
/// So a request that follows a copy has the values of that at the address of the location's; and
/// one with settings for its connection at another, because it could only close what it is given.
///
/// # Safety
/// `choose` must do nothing but that. `shared` must be the configuration of the location.
pub unsafe fn while_choosing<T>(
    request: Request<'_>,
    upstream: Upstream<'_>,
    shared: NonNull<ngx_http_upstream_conf_t>,
    choose: impl FnOnce() -> T,
) -> T {
    if !version::KEEPS_BY_LOCATION {
        return choose();
    }
    let followed = upstream.configuration();
    if matches!(RequestState::with_upstream_tls(request), Ok(Some(_))) {
        let nowhere = SCRATCH_CONF.with(|nowhere| {
            // SAFETY: what is in a cell is not NULL.
            unsafe { NonNull::new_unchecked(nowhere.get().cast()) }
        });
        // SAFETY: `followed` and `nowhere` are valid, and not the same. Nobody else uses `nowhere`
        // before `choose` has returned.
        return unsafe { at(upstream, followed, nowhere, shared, choose) };
    }
    let own = RequestState::find(request)
        .and_then(|state| of(upstream, state))
        .filter(|own| own.own == followed);
    let Some(ConfCopy { own, shared, .. }) = own else {
        return choose();
    };
    // SAFETY: both live as long as the request.
    unsafe {
        upstream.set_configuration(shared);
        let result = in_place(shared, own, choose);
        // If not, the Lua module has made a copy of it, for `balancer.set_timeouts`.
        if upstream.configuration() == shared {
            upstream.set_configuration(own);
        }
        result
    }
}

/// Runs `choose` while `upstream` follows a copy of `followed` that is in `place`.
///
/// # Safety
/// The configurations must be valid, and `place` be neither of the others.
unsafe fn at<T>(
    upstream: Upstream<'_>,
    followed: NonNull<ngx_http_upstream_conf_t>,
    place: NonNull<ngx_http_upstream_conf_t>,
    shared: NonNull<ngx_http_upstream_conf_t>,
    choose: impl FnOnce() -> T,
) -> T {
    // SAFETY: by contract.
    unsafe {
        place.copy_from_nonoverlapping(followed, 1);
        upstream.set_configuration(place);
        let result = choose();
        if upstream.configuration() == place {
            // The Lua module writes its timeouts where it has made a copy before.
            if followed != shared {
                followed.copy_from_nonoverlapping(place, 1);
            }
            upstream.set_configuration(followed);
        }
        result
    }
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
