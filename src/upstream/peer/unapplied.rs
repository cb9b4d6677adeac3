// SPDX-License-Identifier: Apache-2.0

//! Settings that have nothing to apply to.
//!
//! A request that has asked for something, and would go on without, is refused where its peer is
//! chosen: by then everybody has said what there is to say, a balancer in Lua too. A request for
//! which no peer is chosen asks in vain, and that is no fault.

use crate::conf::{self, LocationConf};
use crate::nginx::request::Request;
use crate::status::counters::Counter;
use crate::upstream::settings::request_state::RequestState;

/// Why a request can't go to the peer that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unapplied {
    /// Settings for TLS, and no TLS.
    #[error(
        "the request has TLS settings, and its service is spoken to without TLS (\
         \"kong_tls_allow_plaintext on\" allows that)"
    )]
    Plaintext,
    /// TLS of a module whose handshakes are not ours to shape.
    #[error(
        "the TLS settings of the request could not be applied: they are for proxy, grpc and uwsgi alone"
    )]
    Module,
    /// A target, and a location that goes elsewhere.
    #[error(
        "kong.service.set_upstream or set_target was called, and the location does not send requests to \
         \"$kong_upstream_target\""
    )]
    Target,
    /// Retries or timeouts, and a location that knows nothing of them.
    #[error(
        "kong.service.set_retries or set_timeouts was called, and the location has no pass directive of nginx's"
    )]
    Forwarding,
    /// `kong_tls_required`
    #[error(
        "\"kong_tls_required\" is on, and nobody has set how TLS is to be done for this request"
    )]
    Required,
}

impl Unapplied {
    pub fn counter(self) -> Counter {
        match self {
            Self::Plaintext => Counter::RefusedPlaintext,
            Self::Module | Self::Forwarding => Counter::RefusedModule,
            Self::Target => Counter::RefusedTarget,
            Self::Required => Counter::RefusedRequired,
        }
    }
}

/// Whether `request`, whose location and state these are, may go on to a peer, with TLS or without.
pub fn check(
    request: Request<'_>,
    state: Option<&RequestState>,
    uses_tls: bool,
) -> Result<(), Unapplied> {
    let location = conf::location_conf_of(request);
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
    let forwarding = state.forwarding.get();
    if forwarding.target.is_some() && !state.target_is_used.get() {
        return Err(Unapplied::Target);
    }
    if forwarding.overrides_location() && !state.is_passed_in(location) {
        return Err(Unapplied::Forwarding);
    }
    Ok(())
}
