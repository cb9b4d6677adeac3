// SPDX-License-Identifier: Apache-2.0

//! The choice of a peer.
//!
//! In every `upstream {}` block, a request gets only idle connections of its own identity, and its
//! own connection is kept under that identity: nginx keeps idle connections by address alone.

#![allow(unsafe_code, reason = "what nginx follows are raw pointers")]

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::ptr::NonNull;

use ngx::ffi::ngx_http_request_t;
use openssl::x509::X509VerifyResult;

use crate::conf;
use crate::nginx::conf_parser::ConfParser;
use crate::nginx::connection::{Connection, close_upstream_connection, process_log};
use crate::nginx::detour::Target;
use crate::nginx::log_context::LogContext;
use crate::nginx::lua::current_phase;
use crate::nginx::panic::guard;
use crate::nginx::peer::Chosen;
use crate::nginx::peer_choice::{Original, PeerChooser, PeerFound, PeerState};
use crate::nginx::phases::Phases;
use crate::nginx::pool::OutOfMemory;
use crate::nginx::request::Request;
use crate::nginx::round_robin;
use crate::nginx::sockaddr::Address;
use crate::nginx::time;
use crate::nginx::upstream::Upstream;
use crate::nginx::upstream_block::{InitUpstream, NotChosen, UpstreamBlock};
use crate::openssl::ssl;
use crate::status::counters::{self, Counter};
use crate::upstream::handshake::connection::UpstreamConnection;
use crate::upstream::handshake::context;
use crate::upstream::identity::IdentityDigest;
use crate::upstream::identity::lookup;
use crate::upstream::location::conf_copy::{self, Conf};
use crate::upstream::log_lines::OfConnection;
use crate::upstream::peer::blocks::Blocks;
use crate::upstream::peer::keepalive::{self, Keepalive, LookedUpName};
use crate::upstream::peer::outcome::{Outcome, Verified};
use crate::upstream::peer::unapplied::{self, Unapplied};
use crate::upstream::settings::forwarding::UpstreamNames;
use crate::upstream::settings::request_state::RequestState;

/// Wraps `peer.init` of every `upstream {}` block, including those that nginx makes for a
/// `proxy_pass` with an address. To be called in *postconfiguration*, when the blocks have their
/// balancers.
pub fn postconfiguration(parser: ConfParser<'_>) -> Blocks {
    let blocks = UpstreamBlock::all(parser);
    let names =
        UpstreamNames::new(blocks.iter().filter(|block| block.is_written()).map(|it| it.host()));
    let balancers =
        blocks.into_iter().map(|block| (block, block.wrap_init::<PeerChoice>())).collect();
    Blocks::new(balancers, names)
}

/// The choice of a peer for one request: the functions that nginx or another module had set, and
/// the module's state about the request's attempts.
///
/// Lives in the request's pool.
pub struct PeerChoice {
    original: Original,
    request: NonNull<ngx_http_request_t>,
    /// `None` if nginx made the choice for this request alone, from an address in a variable.
    block: Option<UpstreamBlock>,
    /// The idle connections of the block, if it is written in the configuration, or else those of
    /// the location: `kong_tls_keepalive`. They live as long as the configuration.
    keepalive: Option<NonNull<Keepalive>>,
    /// The configuration of the location, even while the request follows a copy.
    configuration: Conf,
    /// Whether Lua code chose the current peer.
    is_lua_balanced: Cell<bool>,
    /// The outcome of the last connection, once nginx has released it.
    outcome: RefCell<Option<Outcome>>,
    /// The attempt that is to be repeated.
    once_more: Cell<Option<Attempt>>,
    /// Whether the current attempt is a repeated one.
    is_once_more: Cell<bool>,
    /// Whether the module refused the request when its peer was chosen.
    is_refused: Cell<bool>,
    /// How many attempts there were, the current one included.
    attempts: Cell<usize>,
    /// The address that Lua code has last set in a balancer phase.
    peer: RefCell<Option<(String, u32)>>,
    /// Whether Lua code has set it for the current attempt.
    is_peer_set: Cell<bool>,
    /// Whether the balancer looks after the target of the request, and after its function for
    /// retries.
    has_chooser: Cell<bool>,
}

/// An attempt to reach a peer.
#[derive(Clone, Copy)]
struct Attempt {
    chosen: Chosen,
    /// The configuration that the upstream followed.
    configuration: Conf,
}

impl InitUpstream for PeerChoice {
    fn init(request: Request<'_>, block: UpstreamBlock) -> Result<(), NotChosen> {
        let failed = |reason: &dyn Display| {
            request.log().error(format_args!("upstream peer initialization: {reason}"));
            NotChosen::failed()
        };
        let original = conf::blocks(request).and_then(|known| known.balancer(block));
        original.ok_or_else(|| failed(&"unknown block"))?.call(request, block)?;
        // Wrap connections without TLS too: a balancer in Lua may turn TLS on (`set_upstream_tls`),
        // and nginx is to keep idle connections under the location's configuration even if the
        // request follows a copy.
        adopt(request)
            .and_then(|()| match request.upstream() {
                Some(upstream) => take_part(request, upstream, Some(block)).map(|_| ()),
                None => Ok(()),
            })
            .map_err(|error| failed(&error))
    }
}

/// Gives a cloned subrequest the settings of its parent before either is redirected: afterwards,
/// the clone can't be recognised as one.
fn adopt(request: Request<'_>) -> Result<(), OutOfMemory> {
    RequestState::find_or_inherit(request).map(|_| ())
}

fn take_part<'a>(
    request: Request<'a>,
    upstream: Upstream<'a>,
    block: Option<UpstreamBlock>,
) -> Result<&'a PeerChoice, OutOfMemory> {
    let configuration = conf_copy::shared(upstream, RequestState::find(request));
    let keepalive = match block.filter(|block| block.is_written()) {
        Some(block) => conf::keepalive(block),
        None => conf::keepalive_of_location(request),
    };
    PeerChoice::wrap(request.pool(), upstream, |original| PeerChoice {
        original,
        request: request.as_non_null(),
        block,
        keepalive: keepalive.map(NonNull::from),
        configuration,
        is_lua_balanced: Cell::new(false),
        outcome: RefCell::new(None),
        once_more: Cell::new(None),
        is_once_more: Cell::new(false),
        is_refused: Cell::new(false),
        attempts: Cell::new(0),
        peer: RefCell::new(None),
        is_peer_set: Cell::new(false),
        has_chooser: Cell::new(false),
    })
}

/// Takes part in the choice of a peer that is in no block, when nginx has begun it.
pub fn take_part_alone(request: Request<'_>, upstream: Upstream<'_>) -> Result<(), OutOfMemory> {
    adopt(request)?;
    take_part(request, upstream, None).map(|_| ())
}

impl PeerChoice {
    /// Returns the choice of a peer for `upstream`. If no block has chosen the peer, the choice was
    /// not wrapped so far: wraps it now.
    pub fn of_handshake<'a>(
        request: Request<'a>,
        upstream: Upstream<'a>,
    ) -> Result<&'a Self, OutOfMemory> {
        Self::of(upstream).map_or_else(|| take_part(request, upstream, None), Ok)
    }

    /// Returns whether Lua code (`balancer_by_lua*`) chose the current peer.
    pub fn is_lua_balanced(&self) -> bool {
        self.is_lua_balanced.get()
    }

    /// Returns whether the current attempt repeats one whose handshake failed after it offered a
    /// session.
    pub fn is_once_more(&self) -> bool {
        self.is_once_more.get()
    }

    /// Returns the idle connections of the block or of the location, if it has
    /// `kong_tls_keepalive`.
    pub fn keepalive(&self) -> Option<&Keepalive> {
        // SAFETY: they live as long as the configuration, and so as the request.
        self.keepalive.map(|keepalive| unsafe { keepalive.as_ref() })
    }

    /// Returns whether the block has `keepalive`. Since 1.29.7 nginx keeps idle connections by
    /// address and location even without it. That must not happen where `kong_tls_keepalive` is to
    /// keep all of them.
    fn has_nginx_keepalive(&self) -> bool {
        self.block.is_some_and(conf::has_nginx_keepalive)
    }

    /// Returns whether this attempt follows another one.
    pub fn is_retry(&self) -> bool {
        self.attempts.get() > 1
    }

    /// Returns how many attempts there were, the current one included.
    pub fn attempts(&self) -> usize {
        self.attempts.get()
    }

    /// Keeps the address that Lua code sets as the peer.
    pub fn keep_peer(&self, host: &str, port: u32) {
        self.peer.replace(Some((host.to_owned(), port)));
    }

    /// Returns the address that Lua code has last set.
    pub fn kept_peer(&self) -> Option<(String, u32)> {
        self.peer.borrow().clone()
    }

    /// Notes that Lua code has set the peer of the current attempt.
    pub fn note_peer_set(&self) {
        self.is_peer_set.set(true);
    }

    /// Notes that the balancer looks after the target of the request.
    pub fn note_chooser(&self) {
        self.has_chooser.set(true);
    }

    /// Checks that what Lua code has set for the balancer was applied to the current attempt.
    fn check_balancer(&self, state: Option<&RequestState>) -> Result<(), Unapplied> {
        if !self.is_peer_set.get() && self.peer.borrow().is_some() {
            return Err(Unapplied::Peer);
        }
        let has_callback = state.is_some_and(|state| state.retry_callback().is_some());
        if has_callback && !self.has_chooser.get() {
            return Err(Unapplied::RetryCallback);
        }
        Ok(())
    }

    fn request(&self) -> Request<'_> {
        // SAFETY: the request outlives its choice of a peer: both live in the request's pool.
        unsafe { Request::from_ptr(self.request) }
    }
}

impl PeerChooser for PeerChoice {
    fn original(&self) -> &Original {
        &self.original
    }

    fn get(&self, upstream: Upstream<'_>, original: impl FnOnce() -> PeerFound) -> PeerFound {
        self.is_refused.set(false);
        let attempt = self.once_more.take();
        self.is_once_more.set(attempt.is_some());
        if let Some(attempt) = attempt {
            begin_once_more(self, upstream, attempt);
            return PeerFound::Peer;
        }
        self.attempts.set(self.attempts.get() + 1);
        self.is_peer_set.set(false);
        self.has_chooser.set(false);
        // A balancer in Lua runs here, and may override settings.
        let found =
            conf_copy::while_choosing(self.request(), upstream, self.configuration, original);
        self.is_lua_balanced.set(current_phase(Some(self.request())) == Phases::BALANCER);
        choose(self, upstream, found)
    }

    fn free(&self, upstream: Upstream<'_>, state: PeerState, original: impl FnOnce(PeerState)) {
        release(self, upstream, state, original);
    }
}

/// Starts a repeated attempt, at the peer that was not released after the first one.
fn begin_once_more(choice: &PeerChoice, upstream: Upstream<'_>, attempt: Attempt) {
    let Attempt { chosen, configuration } = attempt;
    // SAFETY: the attempt was made at the peer that this upstream's balancer chose last, and the
    // balancer was not told of its release.
    unsafe { upstream.peer().choose_again(chosen) };
    configuration.let_follow(upstream);
    upstream.forget_former_attempt(choice.request());
}

/// Looks for an idle connection to the peer that the balancer has chosen.
fn choose(choice: &PeerChoice, upstream: Upstream<'_>, found: PeerFound) -> PeerFound {
    let request = choice.request();
    let Ok(state) = RequestState::with_upstream_tls(request) else {
        return PeerFound::Failed;
    };
    if let PeerFound::Failed | PeerFound::Other(_) = found {
        return found;
    }
    if state.is_some() {
        OfConnection::add_to(request);
    }
    if let Err(error) = check_settings(choice, upstream, state) {
        request.log().error(format_args!("{error}"));
        counters::count(error.counter());
        choice.is_refused.set(true);
        return PeerFound::Failed;
    }
    let identity = || lookup::expected(request, upstream, state);
    let is_foreign =
        found == PeerFound::IdleConnection && is_foreign(request, upstream, state, identity);
    if is_foreign {
        put_aside(choice, upstream);
    }
    if found == PeerFound::IdleConnection && !is_foreign {
        PeerFound::IdleConnection
    } else if upstream.uses_tls() {
        find_own(choice, upstream, identity, is_foreign)
    } else {
        PeerFound::Peer
    }
}

/// Looks for an idle connection of the request's identity in `kong_tls_keepalive`.
fn find_own(
    choice: &PeerChoice,
    upstream: Upstream<'_>,
    identity: impl FnOnce() -> Option<IdentityDigest>,
    has_foreign: bool,
) -> PeerFound {
    let peer = upstream.peer();
    let keepalive = choice.keepalive();
    let own = keepalive
        .and_then(|keepalive| identity().and_then(|identity| keepalive.take(peer, identity)));
    if let Some(connection) = own {
        // SAFETY: the connection was just taken out of the cache, which alone had it.
        unsafe { peer.reuse(connection) };
        return PeerFound::IdleConnection;
    }
    if has_foreign || keepalive.is_some_and(|keepalive| keepalive.has_peer(peer)) {
        counters::count(Counter::IdleConnectionOtherIdentity);
    }
    PeerFound::Peer
}

/// Checks that the settings of `request` can be applied to the chosen peer. `tls` is its state if
/// it has TLS settings, or if enforced verification counts as one.
fn check_settings(
    choice: &PeerChoice,
    upstream: Upstream<'_>,
    tls: Option<&RequestState>,
) -> Result<(), Unapplied> {
    let (request, uses_tls) = (choice.request(), upstream.uses_tls());
    if uses_tls {
        let context = upstream.tls_context().ok_or(Unapplied::NoContext)?;
        if tls.is_some() && !context::is_known(context) {
            return Err(Unapplied::Module);
        }
    }
    let state = RequestState::find(request);
    choice.check_balancer(state)?;
    unapplied::check(request, state, uses_tls)
}

/// Returns whether `request` must not use the idle connection that nginx found, by address alone:
/// with TLS settings, enforced verification or Lua code in the handshake, the connection must have
/// been made under the request's identity. Other requests use whatever nginx finds.
fn is_foreign(
    request: Request<'_>,
    upstream: Upstream<'_>,
    tls: Option<&RequestState>,
    identity: impl FnOnce() -> Option<IdentityDigest>,
) -> bool {
    let is_particular = tls.is_some()
        || conf::enforces_verification(request)
        || conf::lua_handshake(request).is_some();
    let Some(connection) = upstream.peer().connection().filter(|_| is_particular) else {
        return false;
    };
    match (connection.tls().is_some(), upstream.uses_tls()) {
        (false, false) => false,
        (true, true) => {
            let made_under = keepalive::made_under(connection);
            made_under.is_none() || made_under != identity()
        }
        (true, false) | (false, true) => true,
    }
}

/// Removes from `upstream` an idle connection that nginx found by address alone: keeps it in
/// `kong_tls_keepalive` for requests of its identity, or else closes it.
fn put_aside(choice: &PeerChoice, upstream: Upstream<'_>) {
    let peer = upstream.peer();
    if let Some(keepalive) = choice.keepalive() {
        keepalive.put(peer, peer.address().as_ref().map(Address::as_bytes));
    }
    // SAFETY: nginx is choosing a peer, and has not used the connection yet.
    if let Some(connection) = unsafe { peer.take_connection() } {
        counters::count(Counter::IdleConnectionClosed);
        // SAFETY: nothing else refers to the connection: it was taken out of nginx's cache and of
        // the peer.
        unsafe { close_upstream_connection(connection) };
    }
}

/// Releases a peer: keeps its connection in `kong_tls_keepalive` if possible, and calls `original`
/// for the rest.
fn release(
    choice: &PeerChoice,
    upstream: Upstream<'_>,
    state: PeerState,
    original: impl FnOnce(PeerState),
) {
    let keepalive = choice.keepalive().filter(|_| {
        upstream.uses_tls()
            && upstream.keepalive()
            && upstream.request_body_sent()
            && !state.has_failed()
    });
    // Read it before the release: since nginx 1.27.3, releasing the last request of a peer that the
    // resolver has removed frees the address.
    let address = keepalive.and_then(|_| upstream.peer().address());
    let keep = |keepalive: &Keepalive| {
        guard("upstream peer release", process_log(), (), || {
            keepalive.put(upstream.peer(), address.as_ref().map(Address::as_bytes));
            if let Some(target) = Target::of(upstream).filter(|target| target.is_resolved()) {
                let addresses = choice.original.resolved_addresses(choice.block.is_none());
                let name = LookedUpName::of(choice.request(), target);
                keepalive.note_addresses(&name, addresses, time::monotonic());
            }
        });
    };
    if let Some(state) = RequestState::find(choice.request()) {
        state.end_silence(choice.request().log());
    }
    if state.has_failed() && choice.block.is_none() {
        // The name may have other addresses by now.
        if let (Some(keepalive), Some(target)) = (choice.keepalive(), Target::of(upstream)) {
            keepalive.forget_addresses(&LookedUpName::of(choice.request(), target));
        }
    }
    let ending = guard("upstream peer release", process_log(), Ending::AsNginxHasIt, || {
        if upstream.uses_tls() {
            before_release(choice, upstream, state)
        } else {
            Ending::of_refusal(choice)
        }
    });
    let state = match ending {
        Ending::OnceMore(attempt) => {
            choice.once_more.set(Some(attempt));
            return;
        }
        Ending::AsNginxHasIt => state,
        Ending::OfRequest { .. } => {
            if choice.is_refused.get() && upstream.peer().is_cached() {
                // The connection has not been used: leave it for the next request.
                upstream.keep_alive();
                upstream.set_request_body_sent();
            }
            guard("upstream peer release", process_log(), (), || forget_attempt(choice, upstream));
            state.forgiven()
        }
    };
    // Without nginx's `keepalive`, a connection that `kong_tls_keepalive` declines must not be kept
    // by nginx.
    let is_alone = choice.keepalive().is_some() && !choice.has_nginx_keepalive();
    let (first, last) = if is_alone { (keepalive, None) } else { (None, keepalive) };
    first.inspect(|keepalive| keep(keepalive));
    if is_alone && upstream.uses_tls() {
        upstream.do_not_keep_alive();
    }
    // nginx may record the address of the location's configuration for an idle connection: it
    // outlives the request.
    let followed = Conf::followed_by(upstream);
    choice.configuration.let_follow(upstream);
    original(state);
    followed.let_follow(upstream);
    last.inspect(|keepalive| keep(keepalive));
    if let Ending::OfRequest { is_final: true } = ending {
        upstream.peer().set_not_cached();
        upstream.try_no_other_peer();
    }
}

/// What follows from the end of an attempt.
#[derive(Clone, Copy)]
enum Ending {
    AsNginxHasIt,
    /// The request itself caused the end, which says nothing about the peer. If it is final, no
    /// other peer is tried.
    OfRequest {
        is_final: bool,
    },
    /// The attempt is repeated, and the balancer is not told that the first one ended.
    OnceMore(Attempt),
}

impl Ending {
    /// Returns the ending of an attempt that ended when its peer was chosen.
    fn of_refusal(choice: &PeerChoice) -> Self {
        if choice.is_refused.get() {
            Self::OfRequest { is_final: true }
        } else {
            Self::AsNginxHasIt
        }
    }
}

/// Prevents nginx from counting the attempt as a failure of its peer, or as a proof that a failed
/// peer has recovered.
fn forget_attempt(choice: &PeerChoice, upstream: Upstream<'_>) {
    if let Some(block) = choice.block {
        round_robin::forget_attempt(block, upstream.peer(), conf::balancer(block));
    }
}

/// Records the outcome of the connection, and prevents nginx from keeping the connection of a
/// request with TLS settings, or with Lua code in its handshake. Returns what is to follow.
fn before_release(choice: &PeerChoice, upstream: Upstream<'_>, state: PeerState) -> Ending {
    let overridden = RequestState::with_upstream_tls(choice.request());
    let outcome = outcome(upstream, !matches!(overridden, Ok(None)));
    let verified = outcome.as_ref().map(|outcome| outcome.verified);
    if let (Some(Verified::Failed(reason)), false) = (verified, upstream.peer().is_cached()) {
        counters::count_verification_failure(reason);
    }
    choice.outcome.replace(outcome);

    let request = choice.request();
    if !matches!(overridden, Ok(None)) || conf::lua_handshake(request).is_some() {
        upstream.do_not_keep_alive();
    }
    if choice.is_refused.get() {
        return Ending::of_refusal(choice);
    }
    let attempted = upstream.peer().connection().and_then(|connection| {
        Some((connection, UpstreamConnection::of(connection.tls()?.ssl())?))
    });
    if let Some((_, attempted)) = attempted.filter(|_| upstream.has_status()) {
        // With TLS 1.3 a response may be the only sign that the peer accepted the session, and the
        // certificate. Record it: another request may use the connection.
        attempted.note_answered();
    }
    if !state.has_failed() {
        return Ending::AsNginxHasIt;
    }
    // The request's own settings caused this, and other requests don't have them: the peer has not
    // failed.
    let has_settings = matches!(overridden, Ok(Some(_)));
    if let Ok(Some(state)) = overridden {
        if state.handshake_refused.take() {
            return Ending::OfRequest { is_final: upstream.has_no_other_peer() };
        }
    }
    if failed_verification(upstream) {
        return if has_settings {
            Ending::OfRequest { is_final: false }
        } else {
            Ending::AsNginxHasIt
        };
    }
    let Some((connection, attempted)) = attempted else {
        return Ending::AsNginxHasIt;
    };
    let is_timed_out = connection.is_timed_out();
    let is_first = !choice.is_once_more.get();
    if attempted.forget_offered() && is_first && !is_timed_out {
        if let Some(attempt) = once_more(request, upstream) {
            connection.log().info(format_args!(
                "the service has not taken the TLS session that it was offered: a full handshake follows"
            ));
            return Ending::OnceMore(attempt);
        }
        // The next attempt, with a full handshake, will show whether the peer fails.
        return Ending::OfRequest { is_final: false };
    }
    if has_settings && !is_timed_out && answers_request(connection, attempted, upstream) {
        return Ending::OfRequest { is_final: true };
    }
    Ending::AsNginxHasIt
}

/// Prepares to repeat the attempt, if neither the request nor its client would notice.
fn once_more(request: Request<'_>, upstream: Upstream<'_>) -> Option<Attempt> {
    if request.connection().has_error() {
        return None;
    }
    // Repeat a request that was sent only if nginx would send it again to another peer.
    if upstream.request_sent() && !(upstream.goes_on_after_error() && request.may_be_sent_again()) {
        return None;
    }
    let configuration = conf_copy::allow_another_attempt(request).ok()?;
    let attempt = Attempt { chosen: upstream.peer().chosen(), configuration };
    upstream.peer().have_another_try();
    Some(attempt)
}

/// Returns whether the service closed the connection of a request with settings, before it
/// answered, because of the certificate or the names presented to it. It says so by a fatal alert,
/// or not at all.
fn answers_request(
    connection: Connection<'_>,
    attempted: &UpstreamConnection,
    upstream: Upstream<'_>,
) -> bool {
    if upstream.has_status() {
        return false;
    }
    if let Some(tls) = connection.tls().filter(|tls| tls.handshaked()) {
        // If sending the request failed, the alert that explains it may not have been read yet.
        if !attempted.has_alert() {
            ssl::look_for_alert(tls.ssl());
        }
    }
    attempted.has_alert() || attempted.awaits_verdict() && !upstream.has_received()
}

/// Calls `f` with the outcome of the request's current connection to the service, or of the last
/// one after nginx has released it. Returns `None` if there is none.
pub fn with_outcome<T>(request: Request<'_>, f: impl FnOnce(&Outcome) -> Option<T>) -> Option<T> {
    let upstream = request.upstream()?;
    let is_overridden = !matches!(RequestState::with_upstream_tls(request), Ok(None));
    match outcome(upstream, is_overridden) {
        Some(outcome) => f(&outcome),
        None => f(PeerChoice::of(upstream)?.outcome.borrow().as_ref()?),
    }
}

/// Returns the outcome of the connection of `upstream`, while it has one.
fn outcome(upstream: Upstream<'_>, is_overridden: bool) -> Option<Outcome> {
    let tls = upstream.peer().connection()?.tls()?;
    let mut outcome = Outcome::of(
        tls.ssl(),
        tls.handshaked(),
        upstream.verifies(),
        failed_verification(upstream),
    );
    outcome.identity = outcome.identity.filter(|_| is_overridden);
    Some(outcome)
}

/// Returns whether nginx gives up a connection whose handshake was just done because the peer
/// failed nginx's verification.
fn failed_verification(upstream: Upstream<'_>) -> bool {
    let peer = upstream.peer();
    let Some(tls) = peer.connection().and_then(|connection| connection.tls()) else {
        return false;
    };
    if !tls.handshaked() || peer.is_cached() || upstream.request_sent() || !upstream.verifies() {
        return false;
    }
    let certificate = tls.ssl().peer_certificate();
    tls.ssl().verify_result() != X509VerifyResult::OK
        || !certificate.is_some_and(|leaf| ssl::is_for_host(&leaf, upstream.ssl_name()))
}
