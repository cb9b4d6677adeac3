// SPDX-License-Identifier: Apache-2.0

//! The choice of a peer.

#![allow(unsafe_code, reason = "what nginx follows are raw pointers")]
//!
//! Around it, in every `upstream {}` block, a request gets the idle connections of its identity and
//! no others, and leaves its own where it belongs: nginx keeps idle connections by address alone.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::ptr::NonNull;

use ngx::ffi::{ngx_http_request_t, ngx_http_upstream_conf_t};
use openssl::x509::X509VerifyResult;

use crate::conf;
use crate::nginx::conf_parser::ConfParser;
use crate::nginx::connection::{Connection, close_upstream_connection, process_log};
use crate::nginx::lua::current_phase;
use crate::nginx::panic::guard;
use crate::nginx::peer::Chosen;
use crate::nginx::peer_choice::{Found, Original, PeerChooser, PeerState};
use crate::nginx::phases::Phases;
use crate::nginx::pool::OutOfMemory;
use crate::nginx::request::Request;
use crate::nginx::round_robin;
use crate::nginx::upstream::Upstream;
use crate::nginx::upstream_block::{InitUpstream, NotChosen, UpstreamBlock};
use crate::openssl::ssl;
use crate::status::counters::{self, Counter};
use crate::upstream::handshake::connection::UpstreamConnection;
use crate::upstream::handshake::context;
use crate::upstream::identity::IdentityDigest;
use crate::upstream::identity::lookup;
use crate::upstream::location::conf_copy;
use crate::upstream::peer::blocks::Blocks;
use crate::upstream::peer::keepalive::{self, Keepalive};
use crate::upstream::peer::outcome::{Outcome, Verified};
use crate::upstream::peer::unapplied::{self, Unapplied};
use crate::upstream::settings::forwarding::UpstreamNames;
use crate::upstream::settings::request_state::RequestState;

/// Takes part in the choice of a peer in every `upstream {}` block, and in those that nginx makes of a
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

/// The choice of a peer for one request: what nginx or another module had set, and for whom.
///
/// Lives in the pool of the request.
pub struct PeerChoice {
    original: Original,
    request: NonNull<ngx_http_request_t>,
    /// `None` where nginx has made the choice for this request alone: of an address in a variable.
    block: Option<UpstreamBlock>,
    /// That of the location, whatever the request follows.
    configuration: NonNull<ngx_http_upstream_conf_t>,
    /// Whether Lua code chose the current peer.
    is_lua_balanced: Cell<bool>,
    /// What became of the last connection, once nginx has let go of it.
    outcome: RefCell<Option<Outcome>>,
    /// The attempt that is to be made once more.
    once_more: Cell<Option<Attempt>>,
    /// Whether the current attempt is one that is made once more.
    is_once_more: Cell<bool>,
    /// Whether the request was refused when its peer was chosen.
    is_refused: Cell<bool>,
}

/// An attempt to reach a peer.
#[derive(Clone, Copy)]
struct Attempt {
    chosen: Chosen,
    /// What the request follows.
    configuration: NonNull<ngx_http_upstream_conf_t>,
}

impl InitUpstream for PeerChoice {
    fn init(request: Request<'_>, block: UpstreamBlock) -> Result<(), NotChosen> {
        let failed = |reason: &dyn Display| {
            request.log().error(format_args!("upstream peer initialization: {reason}"));
            NotChosen::failed()
        };
        let original = conf::blocks(request).and_then(|known| known.balancer(block));
        original.ok_or_else(|| failed(&"unknown block"))?.call(request, block)?;
        // Also without TLS: a balancer in Lua may turn it on (`set_upstream_tls`), and what
        // follows a configuration of its own is to be kept by that of its location.
        adopt(request)
            .and_then(|()| match request.upstream() {
                Some(upstream) => take_part(request, upstream, Some(block)).map(|_| ()),
                None => Ok(()),
            })
            .map_err(|error| failed(&error))
    }
}

/// Gives a clone the settings of its parent before either is redirected, and is no longer known for
/// what it is.
fn adopt(request: Request<'_>) -> Result<(), OutOfMemory> {
    RequestState::find_or_inherit(request).map(|_| ())
}

fn take_part<'a>(
    request: Request<'a>,
    upstream: Upstream<'a>,
    block: Option<UpstreamBlock>,
) -> Result<&'a PeerChoice, OutOfMemory> {
    let configuration = conf_copy::shared(upstream, RequestState::find(request));
    PeerChoice::wrap(request.pool(), upstream, |original| PeerChoice {
        original,
        request: request.as_non_null(),
        block,
        configuration,
        is_lua_balanced: Cell::new(false),
        outcome: RefCell::new(None),
        once_more: Cell::new(None),
        is_once_more: Cell::new(false),
        is_refused: Cell::new(false),
    })
}

impl PeerChoice {
    /// The choice of a peer for `upstream`, in which we take part from now on where nobody has made
    /// us: it is no block's.
    pub fn of_handshake<'a>(
        request: Request<'a>,
        upstream: Upstream<'a>,
    ) -> Result<&'a Self, OutOfMemory> {
        Self::of(upstream).map_or_else(|| take_part(request, upstream, None), Ok)
    }

    /// Whether Lua code (`balancer_by_lua*`) chose the current peer.
    pub fn is_lua_balanced(&self) -> bool {
        self.is_lua_balanced.get()
    }

    /// Whether the current attempt was made before, and its handshake has failed after it had
    /// offered a session.
    pub fn is_once_more(&self) -> bool {
        self.is_once_more.get()
    }

    /// What the block has of `kong_tls_keepalive`.
    pub fn keepalive(&self) -> Option<&Keepalive> {
        self.block.and_then(conf::keepalive)
    }

    /// Whether the block has `keepalive`. Without it, nginx has idle connections all the same since
    /// 1.29.7, by address and location: that is not enough where `kong_tls_keepalive` is to keep
    /// all.
    fn has_nginx_keepalive(&self) -> bool {
        self.block.is_some_and(conf::has_nginx_keepalive)
    }

    /// Gives `f` what became of the last connection that nginx has let go of.
    pub fn with_outcome<T>(&self, f: impl FnOnce(Option<&Outcome>) -> T) -> T {
        f(self.outcome.borrow().as_ref())
    }

    fn request(&self) -> Request<'_> {
        // SAFETY: the request outlives its choice of a peer.
        unsafe { Request::from_ptr(self.request) }
    }
}

impl PeerChooser for PeerChoice {
    fn original(&self) -> &Original {
        &self.original
    }

    fn get(&self, upstream: Upstream<'_>, original: impl FnOnce() -> Found) -> Found {
        self.is_refused.set(false);
        let attempt = self.once_more.take();
        self.is_once_more.set(attempt.is_some());
        if let Some(attempt) = attempt {
            begin_once_more(self, upstream, attempt);
            return Found::Peer;
        }
        // A balancer in Lua runs here, and may override settings.
        // SAFETY: a peer is chosen, and nothing else; the configuration is that of the location.
        let found = unsafe {
            conf_copy::while_choosing(self.request(), upstream, self.configuration, original)
        };
        self.is_lua_balanced.set(current_phase(Some(self.request())) == Phases::BALANCER);
        choose(self, upstream, found)
    }

    fn free(&self, upstream: Upstream<'_>, state: PeerState, original: impl FnOnce(PeerState)) {
        release(self, upstream, state, original);
    }
}

/// Makes an attempt that was not released once more.
fn begin_once_more(choice: &PeerChoice, upstream: Upstream<'_>, attempt: Attempt) {
    let Attempt { chosen, configuration } = attempt;
    // SAFETY: the attempt was made for this upstream, and whoever has chosen its peer knows of no
    // other.
    unsafe {
        upstream.peer().choose_again(chosen);
        upstream.set_configuration(configuration);
    }
    upstream.forget_former_attempt(choice.request());
}

/// Looks for a connection to the peer that the balancer has `found`.
fn choose(choice: &PeerChoice, upstream: Upstream<'_>, found: Found) -> Found {
    let request = choice.request();
    let Ok(state) = RequestState::with_upstream_tls(request) else {
        return Found::Failed;
    };
    if let Found::Failed | Found::Other(_) = found {
        return found;
    }
    if let Err(error) = check_settings(request, upstream, state) {
        request.log().error(format_args!("{error}"));
        counters::count(error.counter());
        choice.is_refused.set(true);
        return Found::Failed;
    }
    let identity = || lookup::expected(request, upstream, state);
    let is_foreign =
        found == Found::IdleConnection && is_foreign(request, upstream, state, identity);
    if is_foreign {
        put_aside(choice, upstream);
    }
    if found == Found::IdleConnection && !is_foreign {
        Found::IdleConnection
    } else if upstream.uses_tls() {
        find_own(choice, upstream, identity, is_foreign)
    } else {
        Found::Peer
    }
}

/// Looks for an idle connection of the identity of the request.
fn find_own(
    choice: &PeerChoice,
    upstream: Upstream<'_>,
    identity: impl FnOnce() -> Option<IdentityDigest>,
    has_foreign: bool,
) -> Found {
    let peer = upstream.peer();
    let keepalive = choice.keepalive();
    let own = keepalive
        .and_then(|keepalive| identity().and_then(|identity| keepalive.take(peer, identity)));
    if let Some(connection) = own {
        peer.reuse(connection);
        return Found::IdleConnection;
    }
    if has_foreign || keepalive.is_some_and(|keepalive| keepalive.has_peer(peer)) {
        counters::count(Counter::IdleConnectionRefused);
    }
    Found::Peer
}

/// Whether what `request` has asked for can be applied to the peer that was chosen; `tls` is its
/// state if it has settings for TLS, or what is as good as one.
fn check_settings(
    request: Request<'_>,
    upstream: Upstream<'_>,
    tls: Option<&RequestState>,
) -> Result<(), Unapplied> {
    let uses_tls = upstream.uses_tls();
    if tls.is_some() && uses_tls && !upstream.tls_context().is_some_and(context::is_known) {
        return Err(Unapplied::Module);
    }
    unapplied::check(request, RequestState::find(request), uses_tls)
}

/// Whether the idle connection that `upstream` was given, from a cache that knows addresses only,
/// must not serve `request`: that takes one which the request would have made as it was made.
/// Without settings, and where nobody asks for more, it is nginx's own affair.
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

/// Deals with an idle connection from a cache that knows addresses only: it was made with the
/// settings of a location, and not for the request that is to get it.
fn put_aside(choice: &PeerChoice, upstream: Upstream<'_>) {
    let peer = upstream.peer();
    if let Some(keepalive) = choice.keepalive() {
        keepalive.put(peer, peer.address());
    }
    if let Some(connection) = peer.take_connection() {
        counters::count(Counter::IdleConnectionClosed);
        // SAFETY: nobody else has it, now that it was taken from its cache.
        unsafe { close_upstream_connection(connection.as_ptr()) };
    }
}

/// Releases a peer: keeps the connection where it belongs, and has `original` do the rest.
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
    // nginx 1.27.3 and later: what the resolver has removed meanwhile goes with its last request.
    let address = keepalive.and_then(|_| upstream.peer().address());
    let keep = |keepalive: &Keepalive| {
        guard("upstream peer release", process_log(), (), || {
            keepalive.put(upstream.peer(), address);
        });
    };
    if let Some(state) = RequestState::find(choice.request()) {
        state.end_silence(choice.request().log());
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
                // It has not been used, and is for the next.
                upstream.keep_alive();
                upstream.set_request_body_sent();
            }
            guard("upstream peer release", process_log(), (), || forget_attempt(choice, upstream));
            state.forgiven()
        }
    };
    // What `kong_tls_keepalive` declines where it is alone, nobody else is to keep.
    let is_alone = choice.keepalive().is_some() && !choice.has_nginx_keepalive();
    let (first, last) = if is_alone { (keepalive, None) } else { (None, keepalive) };
    first.inspect(|keepalive| keep(keepalive));
    if is_alone && upstream.uses_tls() {
        upstream.do_not_keep_alive();
    }
    let followed = upstream.configuration();
    // SAFETY: what the request has followed so far is valid for as long as it, and that of the
    // location is what nginx may note for an idle connection.
    unsafe {
        upstream.set_configuration(choice.configuration);
        original(state);
        upstream.set_configuration(followed);
    }
    last.inspect(|keepalive| keep(keepalive));
    if let Ending::OfRequest { is_final: true } = ending {
        upstream.peer().set_not_cached();
        upstream.try_no_other_peer();
    }
}

/// What is to follow from the end of an attempt.
#[derive(Clone, Copy)]
enum Ending {
    AsNginxHasIt,
    /// It is the request's own doing, and says nothing of the peer. If it is final, no other peer
    /// is tried.
    OfRequest {
        is_final: bool,
    },
    /// It is made once more, and nobody is to know of the first.
    OnceMore(Attempt),
}

impl Ending {
    /// Of an attempt that has not got further than to the choice of its peer.
    fn of_refusal(choice: &PeerChoice) -> Self {
        if choice.is_refused.get() {
            Self::OfRequest { is_final: true }
        } else {
            Self::AsNginxHasIt
        }
    }
}

/// Keeps nginx from taking the attempt for a failure of its peer, or for a proof that it is well
/// again.
fn forget_attempt(choice: &PeerChoice, upstream: Upstream<'_>) {
    if let Some(block) = choice.block {
        round_robin::forget_attempt(block, upstream.peer(), conf::balancer(block));
    }
}

/// Notes what became of the connection, and keeps that of a request with settings from where nginx
/// would look for one.
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
        // Of TLS 1.3 there may be no other sign; and another request may use the connection.
        attempted.note_answered();
    }
    if !state.has_failed() {
        return Ending::AsNginxHasIt;
    }
    // What the request asked for, other requests go on without: the peer has not failed.
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
        // A full handshake will tell.
        return Ending::OfRequest { is_final: false };
    }
    if has_settings && !is_timed_out && answers_request(connection, attempted, upstream) {
        return Ending::OfRequest { is_final: true };
    }
    Ending::AsNginxHasIt
}

/// Prepares to make the attempt once more, if that can be done without the request, or its client,
/// being told.
fn once_more(request: Request<'_>, upstream: Upstream<'_>) -> Option<Attempt> {
    if request.connection().has_error() {
        return None;
    }
    // What was sent may be sent again where nginx would do so, to another peer.
    if upstream.request_sent() && !(upstream.goes_on_after_error() && request.may_be_sent_again()) {
        return None;
    }
    let configuration = upstream.configuration();
    // SAFETY: the configuration is valid. What is made of it lives as long as the request.
    unsafe {
        let own = request.pool().copy(configuration.as_ref()).ok()?;
        upstream.follow_with_another_attempt(own);
    }
    let attempt = Attempt { chosen: upstream.peer().chosen(), configuration };
    upstream.peer().have_another_try();
    Some(attempt)
}

/// Whether the service, before it has answered, has given up the connection of a request with
/// settings because of what it was shown or asked for. It says so by an alert, or not at all.
fn answers_request(
    connection: Connection<'_>,
    attempted: &UpstreamConnection,
    upstream: Upstream<'_>,
) -> bool {
    if upstream.has_status() {
        return false;
    }
    if let Some(tls) = connection.tls().filter(|tls| tls.handshaked()) {
        // A request that could not be sent any more has not read why.
        if !attempted.has_alert() {
            ssl::look_for_alert(tls.ssl());
        }
    }
    attempted.has_alert() || attempted.awaits_verdict() && !upstream.has_received()
}

/// What became of the connection of `upstream`, while it has one.
pub fn outcome(upstream: Upstream<'_>, is_overridden: bool) -> Option<Outcome> {
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

/// Whether the connection, of which the handshake was just done, is given up because nginx has
/// verified the peer, and was not content.
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
