// SPDX-License-Identifier: Apache-2.0

//! A copy of a location's configuration with settings of its own, for one request.

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

/// Notes that an upstream follows a copy of its location's configuration.
#[derive(Clone, Copy)]
pub struct ConfCopy {
    /// The upstream the copy belongs to: after a redirect, a request has another one.
    upstream: *mut ngx_http_upstream_t,
    own: NonNull<ngx_http_upstream_conf_t>,
    /// The location's configuration, of which `own` is a copy.
    shared: NonNull<ngx_http_upstream_conf_t>,
    /// The location's own `proxy_ssl_verify`.
    configured_verify: bool,
}

fn of(upstream: Upstream<'_>, state: &RequestState) -> Option<ConfCopy> {
    state.conf_copy.get().filter(|own| own.upstream == upstream.as_ptr())
}

/// Returns `proxy_ssl_verify` as the location of `upstream` has it, whatever the request overrides.
pub fn configured_verify(upstream: Upstream<'_>, state: Option<&RequestState>) -> bool {
    state
        .and_then(|state| of(upstream, state))
        .map_or_else(|| upstream.verifies(), |own| own.configured_verify)
}

/// Returns the configuration of the location of `upstream`, which its other requests follow too.
pub fn shared(
    upstream: Upstream<'_>,
    state: Option<&RequestState>,
) -> NonNull<ngx_http_upstream_conf_t> {
    state
        .and_then(|state| of(upstream, state))
        .map_or_else(|| upstream.configuration(), |own| own.shared)
}

/// Makes `upstream` follow `own`, a copy of its current configuration that no other request
/// follows.
///
/// # Safety
/// `own` must be valid for the life of the request.
pub unsafe fn adopt(
    upstream: Upstream<'_>,
    state: &RequestState,
    own: NonNull<ngx_http_upstream_conf_t>,
) {
    let configured_verify = configured_verify(upstream, Some(state));
    let shared = shared(upstream, Some(state));
    // SAFETY: `own` is valid for the life of the request, as this function's caller ensures.
    unsafe { upstream.set_configuration(own) };
    let upstream = upstream.as_ptr();
    state.conf_copy.set(Some(ConfCopy { upstream, own, shared, configured_verify }));
}

/// Runs `body` with the values of `own` in the memory of `shared`, and the other way round.
///
/// # Safety
/// Both must be valid and must not be borrowed. `body` must not process any other request.
pub unsafe fn in_place<T>(
    shared: NonNull<ngx_http_upstream_conf_t>,
    own: NonNull<ngx_http_upstream_conf_t>,
    body: impl FnOnce() -> T,
) -> T {
    // SAFETY: both are valid and not borrowed, as this function's caller ensures. nginx processes
    // one request at a time, so no other request sees the swapped values.
    unsafe {
        ptr::swap(shared.as_ptr(), own.as_ptr());
        let result = body();
        ptr::swap(shared.as_ptr(), own.as_ptr());
        result
    }
}

thread_local! {
    /// Memory for a configuration at an address that no location uses.
    static SCRATCH_CONF: UnsafeCell<MaybeUninit<ngx_http_upstream_conf_t>> =
        const { UnsafeCell::new(MaybeUninit::uninit()) };
}

/// Runs `choose`, in which a peer is chosen for `upstream` and nginx may find an idle connection
/// kept for its location (`keepalive ... local`, the default since nginx 1.29.7).
///
/// nginx matches idle connections by configuration address. With a plain copy, swap its values into
/// the location's own address; with TLS settings, use the scratch address so that none match: the
/// module could only close such a connection.
///
/// # Safety
/// `choose` must do nothing but choose a peer for `upstream`. `shared` must be the configuration of
/// its location.
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
            // SAFETY: the address of a thread-local's content is not NULL.
            unsafe { NonNull::new_unchecked(nowhere.get().cast()) }
        });
        // SAFETY: `followed` and `shared` are valid: nginx and this module keep configurations at
        // least as long as the request. `nowhere` is neither of them, and is not used by anything
        // else until `choose` has returned.
        return unsafe { at(upstream, followed, nowhere, shared, choose) };
    }
    let own = RequestState::find(request)
        .and_then(|state| of(upstream, state))
        .filter(|own| own.own == followed);
    let Some(ConfCopy { own, shared, .. }) = own else {
        return choose();
    };
    // SAFETY: the copy is in the request's pool, and the location's configuration outlives the
    // request. `choose` only chooses a peer, so it processes no other request.
    unsafe {
        upstream.set_configuration(shared);
        let result = in_place(shared, own, choose);
        // Otherwise the Lua module has made its own copy, for `balancer.set_timeouts`.
        if upstream.configuration() == shared {
            upstream.set_configuration(own);
        }
        result
    }
}

/// Runs `choose` while `upstream` follows a copy of `followed` placed at `place`.
///
/// # Safety
/// All configurations must be valid, and `place` must differ from both `followed` and `shared`.
unsafe fn at<T>(
    upstream: Upstream<'_>,
    followed: NonNull<ngx_http_upstream_conf_t>,
    place: NonNull<ngx_http_upstream_conf_t>,
    shared: NonNull<ngx_http_upstream_conf_t>,
    choose: impl FnOnce() -> T,
) -> T {
    // SAFETY: all are valid, and `place` does not overlap with `followed`, as this function's
    // caller ensures.
    unsafe {
        place.copy_from_nonoverlapping(followed, 1);
        upstream.set_configuration(place);
        let result = choose();
        if upstream.configuration() == place {
            // If the Lua module had already made a copy (`followed`), it has written its timeouts
            // to `place` instead: take them over.
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
    // SAFETY: the copy is in the request's pool. Once `upstream` has a copy, it follows that copy
    // or one that the Lua module made of it for `balancer.set_timeouts`; no other request follows
    // either.
    unsafe {
        if of(upstream, state).is_none() {
            if verify == upstream.verifies() {
                return Ok(());
            }
            adopt(upstream, state, pool.copy(upstream.configuration().as_ref())?.into());
        }
        (*upstream.configuration().as_ptr()).ssl_verify = isize::from(verify);
    }
    Ok(())
}
