// SPDX-License-Identifier: Apache-2.0

//! A copy of a location's configuration with settings of its own, for one request.

#![allow(unsafe_code, reason = "nginx follows a raw pointer")]

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

use ngx::ffi::{NGX_DONE, ngx_http_upstream_conf_t, ngx_http_upstream_t, ngx_int_t};

use crate::nginx::pool::OutOfMemory;
use crate::nginx::request::Request;
use crate::nginx::upstream::Upstream;
use crate::nginx::upstream_conf::PassModule;
use crate::nginx::version;
use crate::upstream::settings::forwarding::{Forwarding, Timeouts};
use crate::upstream::settings::request_state::RequestState;

/// A configuration that an upstream follows or has followed: that of its location, or a copy.
///
/// It is valid as long as the request of the upstream: only the state of that request holds one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Conf {
    /// After a redirect, a request has another upstream.
    upstream: *const ngx_http_upstream_t,
    conf: NonNull<ngx_http_upstream_conf_t>,
}

impl Conf {
    fn new(upstream: Upstream<'_>, conf: NonNull<ngx_http_upstream_conf_t>) -> Self {
        Self { upstream: upstream.as_ptr(), conf }
    }

    /// Returns the configuration that `upstream` follows now.
    pub fn followed_by(upstream: Upstream<'_>) -> Self {
        Self::new(upstream, upstream.configuration())
    }

    fn is_of(self, upstream: Upstream<'_>) -> bool {
        ptr::eq(self.upstream, upstream.as_ptr())
    }

    /// Makes `upstream` follow the configuration, if it is one of its own.
    pub fn let_follow(self, upstream: Upstream<'_>) {
        if self.is_of(upstream) {
            // SAFETY: the configuration is valid as long as the request of this upstream.
            unsafe { upstream.set_configuration(self.conf) }
        }
    }
}

/// Notes that an upstream follows a copy of its location's configuration.
#[derive(Clone, Copy)]
pub struct ConfCopy {
    own: Conf,
    /// The location's configuration, of which `own` is a copy.
    shared: Conf,
    /// The location's own `proxy_ssl_verify`.
    configured_verify: bool,
}

fn of(upstream: Upstream<'_>, state: &RequestState) -> Option<ConfCopy> {
    state.conf_copy.get().filter(|copy| copy.own.is_of(upstream))
}

/// Returns `proxy_ssl_verify` as the location of `upstream` has it, whatever the request overrides.
pub fn configured_verify(upstream: Upstream<'_>, state: Option<&RequestState>) -> bool {
    state
        .and_then(|state| of(upstream, state))
        .map_or_else(|| upstream.verifies(), |copy| copy.configured_verify)
}

/// Returns the configuration of the location of `upstream`, which its other requests follow too.
pub fn shared(upstream: Upstream<'_>, state: Option<&RequestState>) -> Conf {
    state
        .and_then(|state| of(upstream, state))
        .map_or_else(|| Conf::followed_by(upstream), |copy| copy.shared)
}

/// Copies a configuration of `request` into its pool.
fn copy(
    conf: NonNull<ngx_http_upstream_conf_t>,
    request: Request<'_>,
) -> Result<&mut ngx_http_upstream_conf_t, OutOfMemory> {
    // SAFETY: the configuration is valid as long as the request, and nothing else refers to the
    // copy.
    unsafe { request.pool().copy(conf.as_ref()) }
}

/// Makes `upstream` follow `own`, a copy of its current configuration in the pool of its request.
fn adopt(upstream: Upstream<'_>, state: &RequestState, own: NonNull<ngx_http_upstream_conf_t>) {
    let own = Conf::new(upstream, own);
    let configured_verify = configured_verify(upstream, Some(state));
    let shared = shared(upstream, Some(state));
    own.let_follow(upstream);
    state.conf_copy.set(Some(ConfCopy { own, shared, configured_verify }));
}

/// Runs `body` with the values of `own` in the memory of `shared`, and the other way round. Both
/// must be configurations of the request that `body` is for: nginx processes one request at a time,
/// so no other request sees the swapped values.
fn in_place<T>(
    shared: NonNull<ngx_http_upstream_conf_t>,
    own: NonNull<ngx_http_upstream_conf_t>,
    body: impl FnOnce() -> T,
) -> T {
    // SAFETY: both are valid as long as the request, and are borrowed nowhere.
    let swap = || unsafe { shared.swap(own) };
    swap();
    let result = body();
    swap();
    result
}

/// Runs `body`, nginx's content handler of `module` for `request`, with the retries and timeouts of
/// the request instead of those of its location.
///
/// nginx reads the configuration as soon as its handler has chosen the upstream, and may have
/// connected before the handler returns: there is no time to replace the pointer in between. So the
/// values are swapped while the handler runs; afterwards the upstream follows the request's copy.
pub fn while_overridden(
    request: Request<'_>,
    module: PassModule,
    forwarding: Forwarding,
    body: impl FnOnce() -> ngx_int_t,
) -> Result<ngx_int_t, OutOfMemory> {
    let (Some(state), Some(shared)) = (RequestState::find(request), module.of_request(request))
    else {
        return Ok(body());
    };
    let own = copy(shared, request)?;
    let Forwarding { tries, timeouts } = forwarding;
    if let Some(tries) = tries {
        own.next_upstream_tries = tries;
    }
    if let Some(Timeouts { connect, send, read }) = timeouts {
        own.connect_timeout = connect;
        own.send_timeout = send;
        own.read_timeout = read;
    }
    let own = NonNull::from(own);
    let status = in_place(shared, own, body);

    let upstream = request.upstream().filter(|_| status == NGX_DONE as ngx_int_t);
    if let Some(upstream) = upstream.filter(|upstream| upstream.configuration() == shared) {
        adopt(upstream, state, own);
    }
    Ok(status)
}

thread_local! {
    /// Memory for a configuration at an address that no location uses.
    static SCRATCH_CONF: UnsafeCell<MaybeUninit<ngx_http_upstream_conf_t>> =
        const { UnsafeCell::new(MaybeUninit::uninit()) };
}

/// Runs `choose`, in which a peer is chosen for `upstream` and nginx may find an idle connection
/// kept for its location (`keepalive ... local`, the default since nginx 1.29.7). `shared` is the
/// configuration of its location.
///
/// nginx matches idle connections by configuration address. With a plain copy, swap its values into
/// the location's own address; with TLS settings, use the scratch address so that none match: the
/// module could only close such a connection.
pub fn while_choosing<T>(
    request: Request<'_>,
    upstream: Upstream<'_>,
    shared: Conf,
    choose: impl FnOnce() -> T,
) -> T {
    if !version::KEEPS_BY_LOCATION {
        return choose();
    }
    let followed = Conf::followed_by(upstream);
    if matches!(RequestState::with_upstream_tls(request), Ok(Some(_))) {
        return SCRATCH_CONF.with(|nowhere| {
            let nowhere = Conf::new(upstream, NonNull::from(nowhere).cast());
            at(upstream, followed, nowhere, shared, choose)
        });
    }
    let copy = RequestState::find(request)
        .and_then(|state| of(upstream, state))
        .filter(|copy| copy.own == followed);
    let Some(ConfCopy { own, shared, .. }) = copy else {
        return choose();
    };
    shared.let_follow(upstream);
    let result = in_place(shared.conf, own.conf, choose);
    // Otherwise the Lua module has made its own copy, for `balancer.set_timeouts`.
    if Conf::followed_by(upstream) == shared {
        own.let_follow(upstream);
    }
    result
}

/// Runs `choose` while `upstream` follows a copy of `followed` placed at `place`.
fn at<T>(
    upstream: Upstream<'_>,
    followed: Conf,
    place: Conf,
    shared: Conf,
    choose: impl FnOnce() -> T,
) -> T {
    // SAFETY: `followed` is valid as long as the request of `upstream`, and `place` has room for a
    // configuration.
    unsafe { place.conf.copy_from(followed.conf, 1) };
    place.let_follow(upstream);
    let result = choose();
    if Conf::followed_by(upstream) == place {
        // If the Lua module had already made a copy (`followed`), it has written its timeouts to
        // `place` instead: take them over.
        if followed != shared {
            // SAFETY: `followed` is valid as long as the request of `upstream`, and `place` has
            // got its values above.
            unsafe { followed.conf.copy_from(place.conf, 1) };
        }
        followed.let_follow(upstream);
    }
    result
}

/// Makes the upstream of `request` verify its peer, or not, with nginx's own check after the
/// handshake. `request` must have a state.
pub fn set_verify(request: Request<'_>, verify: bool) -> Result<(), OutOfMemory> {
    let (Some(upstream), Some(state)) = (request.upstream(), RequestState::find(request)) else {
        return Err(OutOfMemory);
    };
    if of(upstream, state).is_none() {
        if verify == upstream.verifies() {
            return Ok(());
        }
        adopt(upstream, state, copy(upstream.configuration(), request)?.into());
    }
    // SAFETY: once `upstream` has a copy, it follows that copy or one that the Lua module made of
    // it for `balancer.set_timeouts`, both in the request's pool. No other request follows either.
    unsafe { (*upstream.configuration().as_ptr()).ssl_verify = isize::from(verify) };
    Ok(())
}

/// Makes the upstream of `request` follow a copy with which nginx tries again after an error.
/// Returns the configuration that it has followed so far.
pub fn allow_another_attempt(request: Request<'_>) -> Result<Conf, OutOfMemory> {
    let upstream = request.upstream().ok_or(OutOfMemory)?;
    let followed = Conf::followed_by(upstream);
    // SAFETY: the upstream is that of `request`.
    unsafe { upstream.follow_with_another_attempt(request)? };
    Ok(followed)
}
