// SPDX-License-Identifier: Apache-2.0

//! The content handler of a location with a pass directive. It wraps nginx's own handler: nginx
//! offers no other hook between the choice of an upstream and the connection to it.

#![allow(unsafe_code, reason = "nginx calls it")]

use std::cell::Cell;
use std::ptr;

use ngx::ffi::{
    NGX_HTTP_INTERNAL_SERVER_ERROR, NGX_HTTP_SERVICE_UNAVAILABLE, ngx_http_request_t, ngx_int_t,
};

use crate::conf::{self, LocationConf};
use crate::nginx::complex_value::EvaluationFailed;
use crate::nginx::log::LogLevel;
use crate::nginx::own_conf::OwnConf;
use crate::nginx::pool::OutOfMemory;
use crate::nginx::request::Request;
use crate::nginx::request_handler::RequestHandler;
use crate::nginx::url;
use crate::status::counters::{self, Counter};
use crate::upstream::location::conf_copy;
use crate::upstream::location::pass::Pass;
use crate::upstream::location::pass_url::Scheme;
use crate::upstream::peer::unapplied::{self, Unapplied};
use crate::upstream::settings::forwarding::Forwarding;
use crate::upstream::settings::request_state::RequestState;

thread_local! {
    /// The request for which nginx is about to evaluate its upstream's address.
    static CHOOSING: Cell<*const ngx_http_request_t> = const { Cell::new(ptr::null()) };
    /// The request whose destination this module evaluates before nginx does.
    static ASKING: Cell<*const ngx_http_request_t> = const { Cell::new(ptr::null()) };
    /// Why the current request has no target, and the level that its log had before it was
    /// silenced.
    static TARGET_MISSING: Cell<Option<(MissingTarget, LogLevel)>> = const { Cell::new(None) };
}

/// Returns whether nginx is evaluating where to send `request`.
pub fn is_choosing_upstream(request: Request<'_>) -> bool {
    CHOOSING.get() == request.as_ptr().cast_const() && request.has_incomplete_upstream()
}

/// Returns whether nginx or this module is evaluating where to send `request`.
pub fn is_looked_at(request: Request<'_>) -> bool {
    is_choosing_upstream(request) || ASKING.get() == request.as_ptr().cast_const()
}

/// Why a request has no target.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum MissingTarget {
    #[error(
        "neither kong.service.set_upstream nor kong.service.set_target was called for the request"
    )]
    NotSet,
    #[error("out of memory")]
    OutOfMemory,
}

/// Makes a request without a target end with 503 and a single log line. Returns a text that is
/// invalid as the host of any URL: nginx would insert an empty string for a variable without a
/// value.
pub fn refuse_missing_target(request: Request<'_>, missing: MissingTarget) -> &'static [u8] {
    // Silence nginx's own error about the invalid URL. nginx may evaluate the variable more than
    // once: keep the original level.
    if TARGET_MISSING.get().is_none() {
        TARGET_MISSING.set(Some((missing, request.log().silence())));
    }
    b":-"
}

const FAILED: ngx_int_t = NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;

/// The content handler for the pass directive with this number: calls nginx's handler for that
/// directive, which starts the upstream request.
pub struct Content<const DIRECTIVE: usize>;

impl<const DIRECTIVE: usize> RequestHandler for Content<DIRECTIVE> {
    const NAME: &'static str = "content handler";

    fn handle(request: Request<'_>) -> ngx_int_t {
        let Some((pass, handler)) = conf::pass_of(request, DIRECTIVE) else {
            request.log().error(format_args!("content handler: unknown location"));
            return FAILED;
        };
        // SAFETY: nginx has called this handler for the request, and would have called `handler`,
        // in whose place the module has put it.
        let original = || unsafe { handler(request.as_ptr()) };
        match pass {
            Some(pass) => pass_on(request, &pass, original),
            // The location of the request has no such directive: there is nothing to check.
            None => original(),
        }
    }
}

/// Passes the request on to nginx's own handler, `original`, with what it asked for.
fn pass_on(request: Request<'_>, pass: &Pass, original: impl FnOnce() -> ngx_int_t) -> ngx_int_t {
    if let Err(refusal) = check(request, pass) {
        return refusal.finish(request);
    }
    let original = || {
        // A redirect inside the handler may re-enter this function.
        let outer = CHOOSING.replace(request.as_ptr());
        let status = original();
        CHOOSING.set(outer);
        status
    };
    let forwarding = RequestState::find(request).map(|state| state.forwarding.get());
    let status = match forwarding.filter(Forwarding::overrides_location) {
        None => Ok(original()),
        Some(forwarding) => conf_copy::while_overridden(request, pass.module, forwarding, original),
    };
    let status = match status {
        Ok(status) => status,
        Err(error) => {
            request.log().error(format_args!("retries and timeouts: {error}"));
            return FAILED;
        }
    };
    if let Some((missing, level)) = TARGET_MISSING.take() {
        request.log().set_level(level);
        if status == FAILED {
            return Refusal::MissingTarget(missing).finish(request);
        }
    }
    status
}

/// Why a request is not passed on to nginx.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("\"$kong_upstream_target\" is not set: {0}")]
    MissingTarget(MissingTarget),
    #[error(transparent)]
    Unapplied(#[from] Unapplied),
    #[error("where the request is to go: {0}")]
    Evaluation(#[from] EvaluationFailed),
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

impl Refusal {
    /// Writes the log line, and returns the status the request ends with.
    fn finish(self, request: Request<'_>) -> ngx_int_t {
        let (counter, status) = match self {
            Self::MissingTarget(_) => (Some(Counter::RefusedTarget), NGX_HTTP_SERVICE_UNAVAILABLE),
            Self::Unapplied(error) => (Some(error.counter()), NGX_HTTP_INTERNAL_SERVER_ERROR),
            Self::Evaluation(_) => (None, NGX_HTTP_INTERNAL_SERVER_ERROR),
            Self::OutOfMemory(_) => (Some(Counter::RefusedMemory), NGX_HTTP_INTERNAL_SERVER_ERROR),
        };
        if let Some(counter) = counter {
            counters::count(counter);
        }
        request.log().error(format_args!("{self}"));
        status as ngx_int_t
    }
}

/// Makes the checks that can't be made later: where the URL of a location has variables, nginx may
/// choose a peer without an `upstream {}` block, and so without calling this module.
fn check(request: Request<'_>, pass: &Pass) -> Result<(), Refusal> {
    let location = LocationConf::of_request(request);
    let state = RequestState::find_or_inherit(request)?;
    if let Some(state) = state {
        state.pass_in(location);
    }
    let target = state.and_then(RequestState::target);
    if pass.names_target {
        if target.is_none() {
            return Err(Refusal::MissingTarget(MissingTarget::NotSet));
        }
        if let Some(state) = state {
            state.target_is_used.set(true);
        }
    }
    let is_required = location.is_some_and(|location| location.required.is_on());
    let has_settings = state.is_some_and(|state| !state.upstream_tls.borrow().is_empty());
    let needs_tls = (has_settings || is_required) && pass.scheme != Scheme::Tls;
    let needs_settings = is_required && !has_settings;
    let scheme = state.and_then(|state| state.scheme.get());
    let has_callback = state.is_some_and(|state| state.retry_callback().is_some());
    if !(needs_tls
        || needs_settings
        || target.is_some() && !pass.names_target
        || has_callback
        || scheme.is_some())
    {
        return Ok(());
    }
    // A URL without variables always has a block; one with variables has a block only if they name
    // it.
    let outer = ASKING.replace(request.as_ptr());
    let destination = pass.evaluate(request).transpose();
    ASKING.set(outer);
    let Some(destination) = destination? else {
        return Ok(());
    };
    // If the variable was evaluated before, its cached value was used: compare the destination.
    if let (Some(state), Some(target)) = (state, target) {
        if destination.is(target) {
            state.target_is_used.set(true);
        }
    }
    let host = url::host_without_port(request, destination.rest);
    if host.is_some_and(|host| conf::has_block(request, host)) {
        return Ok(());
    }
    if has_callback {
        return Err(Unapplied::RetryCallback.into());
    }
    Ok(unapplied::check(request, state, destination.uses_tls)?)
}
