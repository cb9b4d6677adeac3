// SPDX-License-Identifier: Apache-2.0

//! Settings that can't be applied.
//!
//! A request whose settings would have no effect is refused when its peer is chosen: by then
//! everything, including a balancer in Lua, has made its settings. If no peer is chosen for a
//! request, its settings have no effect, and that is no error.

use crate::conf::LocationConf;
use crate::nginx::own_conf::OwnConf;
use crate::nginx::request::Request;
use crate::status::counters::Counter;
use crate::upstream::settings::request_state::RequestState;

/// Why a request can't go to the chosen peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unapplied {
    /// TLS settings, but a connection without TLS.
    #[error(
        "the request has TLS settings, and its service is spoken to without TLS (\
         \"kong_tls_allow_plaintext on\" allows that)"
    )]
    Plaintext,
    /// TLS settings, but TLS of a module whose handshakes this module does not hook.
    #[error(
        "the TLS settings of the request could not be applied: they are for proxy, grpc and uwsgi alone"
    )]
    Module,
    /// TLS was turned on by Lua code, but the location has no TLS context: nginx would crash.
    #[error(
        "TLS was turned on for the request, and the location has nothing for it: its URL must begin with \
         \"https://\", or with a variable"
    )]
    NoContext,
    /// A target, but a location that sends its requests elsewhere.
    #[error(
        "kong.service.set_upstream or set_target was called, and the location does not send requests to \
         \"$kong_upstream_target\""
    )]
    Target,
    /// A peer that Lua code has set, and a later attempt for which it has set none.
    #[error(
        "kong.service.set_target was called in the balancer phase of a former attempt, and not in that of this one \
         (kong.service.choose_target keeps to it)"
    )]
    Peer,
    /// A function for retries, but nobody who calls it.
    #[error(
        "kong.service.set_target_retry_callback was called, and no balancer_by_lua* calls kong.service.choose_target"
    )]
    RetryCallback,
    /// A scheme, but a location whose requests have the other one.
    #[error(
        "kong.service.request.set_scheme was called, and the location sends the request without that scheme: \
         it does not begin its URL with \"$kong_upstream_scheme://\""
    )]
    Scheme,
    /// Retries or timeouts, but a location that does not apply them.
    #[error(
        "kong.service.set_retries or set_timeouts was called, and the location has no pass directive of nginx's"
    )]
    Forwarding,
    /// `kong_tls_required`, but no TLS settings.
    #[error(
        "\"kong_tls_required\" is on, and nobody has set how TLS is to be done for this request"
    )]
    Required,
}

impl Unapplied {
    pub fn counter(self) -> Counter {
        match self {
            Self::Plaintext => Counter::RefusedPlaintext,
            Self::Module | Self::NoContext | Self::Forwarding => Counter::RefusedModule,
            Self::Target | Self::Peer | Self::RetryCallback | Self::Scheme => {
                Counter::RefusedTarget
            }
            Self::Required => Counter::RefusedRequired,
        }
    }
}

/// Checks that `request`, with this state, may go on to its peer, with TLS (`uses_tls`) or without.
pub fn check(
    request: Request<'_>,
    state: Option<&RequestState>,
    uses_tls: bool,
) -> Result<(), Unapplied> {
    let location = LocationConf::of_request(request);
    let has_settings = state.is_some_and(|state| !state.upstream_tls.borrow().is_empty());
    let is_on = |flag: fn(&LocationConf) -> bool| location.is_some_and(flag);

    if has_settings && !uses_tls && !is_on(|location| location.allow_plaintext.is_on()) {
        return Err(Unapplied::Plaintext);
    }
    if !has_settings && is_on(|location| location.required.is_on()) {
        return Err(Unapplied::Required);
    }
    let Some(state) = state else {
        return Ok(());
    };
    if state.scheme.get().is_some_and(|scheme| scheme.is_tls() != uses_tls) {
        return Err(Unapplied::Scheme);
    }
    if state.target().is_some() && !state.target_is_used.get() {
        return Err(Unapplied::Target);
    }
    if state.forwarding.get().overrides_location() && !state.is_passed_in(location) {
        return Err(Unapplied::Forwarding);
    }
    Ok(())
}
