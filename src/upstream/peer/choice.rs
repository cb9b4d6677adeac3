//! The choice of a peer.
//!
//! Around it, in every `upstream {}` block, a request gets the idle connections of its identity and
//! no others, and leaves its own where it belongs: nginx keeps idle connections by address alone.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::ptr::{self, NonNull};

use ngx::ffi::{
    NGX_DONE, NGX_ERROR, NGX_HTTP_UPSTREAM_CREATE, NGX_OK, NGX_PEER_FAILED, NGX_PEER_NEXT,
    ngx_event_free_peer_pt, ngx_event_get_peer_pt, ngx_event_notify_peer_pt,
    ngx_event_save_peer_session_pt, ngx_event_set_peer_session_pt, ngx_http_request_t,
    ngx_http_upstream_conf_t, ngx_http_upstream_main_conf_t, ngx_http_upstream_srv_conf_t,
    ngx_http_upstream_t, ngx_int_t, ngx_peer_connection_t, ngx_uint_t,
};

use openssl::x509::X509VerifyResult;

use crate::conf;
use crate::nginx::conf_parser::{ConfParser, Level};
use crate::nginx::configuration;
use crate::nginx::connection::{Connection, close_upstream_connection, process_log};
use crate::nginx::lua::current_phase;
use crate::nginx::panic::guard;
use crate::nginx::peer::Chosen;
use crate::nginx::phases::Phases;
use crate::nginx::pool::OutOfMemory;
use crate::nginx::request::Request;
use crate::nginx::upstream::Upstream;
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

/// Wraps the choice of a peer in every `upstream {}` block, and in those that nginx makes of a
/// `proxy_pass` with an address. To be called in *postconfiguration*,
/// when the blocks have their balancers.
pub fn postconfiguration(parser: ConfParser<'_>) -> Blocks {
    let mut balancers = Vec::new();

    // SAFETY: nginx keeps its upstream blocks in an array of this type; this is the only time that
    // it is used while we change them.
    unsafe {
        let Some(main) = parser.module(c"ngx_http_upstream_module").and_then(|module| {
            parser.configuration::<ngx_http_upstream_main_conf_t>(Level::Main, module.index())
        }) else {
            return Blocks::default();
        };
        let blocks: &[*mut ngx_http_upstream_srv_conf_t] =
            configuration::elements(&main.as_ref().upstreams);
        for block in blocks {
            balancers.push((*block as usize, (**block).peer.init));
            (**block).peer.init = Some(init);
        }
        let written = blocks
            .iter()
            .filter(|block| (***block).flags & NGX_HTTP_UPSTREAM_CREATE as ngx_uint_t != 0);
        let names = UpstreamNames::new(written.map(|block| configuration::bytes((**block).host)));
        Blocks::new(balancers, names)
    }
}

/// The choice of a peer for one request: what nginx or another module had set, and for whom.
///
/// Lives in the pool of the request.
pub struct PeerChoice {
    request: NonNull<ngx_http_request_t>,
    /// After a redirect, a request has another.
    upstream: *mut ngx_http_upstream_t,
    /// `None` where nginx has made the choice for this request alone: of an address in a variable.
    block: Option<NonNull<ngx_http_upstream_srv_conf_t>>,
    get: ngx_event_get_peer_pt,
    free: ngx_event_free_peer_pt,
    notify: ngx_event_notify_peer_pt,
    set_session: ngx_event_set_peer_session_pt,
    save_session: ngx_event_save_peer_session_pt,
    data: *mut c_void,
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

unsafe extern "C" fn init(
    r: *mut ngx_http_request_t,
    block: *mut ngx_http_upstream_srv_conf_t,
) -> ngx_int_t {
    guard("upstream peer initialization", process_log(), NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx calls with a valid request and one of its blocks.
        unsafe {
            let request = Request::from_ptr(NonNull::new_unchecked(r));
            let Some(original) = conf::blocks(request).and_then(|known| known.balancer(block))
            else {
                request.log().error(format_args!("upstream peer initialization: unknown block"));
                return NGX_ERROR as ngx_int_t;
            };
            let status = original(r, block);
            if status != NGX_OK as ngx_int_t {
                return status;
            }
            let block = NonNull::new(block);
            // Also without TLS: a balancer in Lua may turn it on (`set_upstream_tls`), and what
            // follows a configuration of its own is to be kept by that of its location.
            let wrapped = adopt(request).and_then(|()| match request.upstream() {
                Some(upstream) => wrap(request, upstream, block).map(|_| ()),
                None => Ok(()),
            });
            match wrapped {
                Ok(()) => NGX_OK as ngx_int_t,
                Err(error) => {
                    request.log().error(format_args!("upstream peer initialization: {error}"));
                    NGX_ERROR as ngx_int_t
                }
            }
        }
    })
}

/// Gives a clone the settings of its parent before either is redirected, and is no longer known for
/// what it is.
fn adopt(request: Request<'_>) -> Result<(), OutOfMemory> {
    RequestState::find_or_inherit(request).map(|_| ())
}

/// Puts our functions before those that choose the peer.
fn wrap<'a>(
    request: Request<'a>,
    upstream: Upstream<'a>,
    block: Option<NonNull<ngx_http_upstream_srv_conf_t>>,
) -> Result<&'a PeerChoice, OutOfMemory> {
    let configuration = conf_copy::shared(upstream, RequestState::find(request));
    // SAFETY: the peer is part of the upstream; nginx uses it after we have returned.
    unsafe {
        let peer = &mut *upstream.peer().as_ptr();
        let choice = request.pool().keep(PeerChoice {
            request: NonNull::new_unchecked(request.as_ptr()),
            upstream: upstream.as_ptr(),
            block,
            get: peer.get,
            free: peer.free,
            notify: peer.notify,
            set_session: peer.set_session,
            save_session: peer.save_session,
            data: peer.data,
            configuration,
            is_lua_balanced: Cell::new(false),
            outcome: RefCell::new(None),
            once_more: Cell::new(None),
            is_once_more: Cell::new(false),
            is_refused: Cell::new(false),
        })?;
        peer.get = Some(get);
        peer.free = Some(free);
        peer.notify = peer.notify.and(Some(notify));
        peer.set_session = peer.set_session.and(Some(set_session));
        peer.save_session = peer.save_session.and(Some(save_session));
        peer.data = ptr::from_ref(choice).cast_mut().cast();
        Ok(choice)
    }
}

impl PeerChoice {
    /// The choice of a peer for `upstream`, if it is one that we take part in.
    pub fn of(upstream: Upstream<'_>) -> Option<&Self> {
        let ours: unsafe extern "C" fn(*mut ngx_peer_connection_t, *mut c_void) -> ngx_int_t = get;
        // SAFETY: the peer is valid.
        let current = unsafe { (*upstream.peer().as_ptr()).get };
        current.filter(|current| ptr::fn_addr_eq(*current, ours))?;
        // SAFETY: the data of a peer with our function are ours, but while its balancer chooses:
        // while one in Lua runs, they are the Lua module's. Both live as long as the request.
        unsafe {
            let is_its_own = |choice: &&Self| ptr::eq(choice.upstream, upstream.as_ptr());
            if let Some(choosing) = CHOOSING.get().as_ref().filter(is_its_own) {
                return Some(choosing);
            }
            (*upstream.peer().as_ptr()).data.cast::<Self>().as_ref()
        }
    }

    /// As [`PeerChoice::of`]; takes part from now on where it is not one, because it is no block's.
    pub fn of_handshake<'a>(
        request: Request<'a>,
        upstream: Upstream<'a>,
    ) -> Result<&'a Self, OutOfMemory> {
        Self::of(upstream).map_or_else(|| wrap(request, upstream, None), Ok)
    }

    /// # Safety
    /// `data` must be what `wrap` has given to nginx, and valid for `'a`.
    unsafe fn from_data<'a>(data: *mut c_void) -> &'a Self {
        // SAFETY: by contract.
        unsafe { &*data.cast() }
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
        // SAFETY: the block is part of the configuration, which outlives the request.
        self.block.and_then(|block| unsafe { conf::keepalive(block) })
    }

    /// Whether the block has `keepalive`. Without it, nginx has idle connections all the same since
    /// 1.29.7, by address and location: that is not enough where `kong_tls_keepalive` is to keep
    /// all.
    fn has_nginx_keepalive(&self) -> bool {
        // SAFETY: as above.
        self.block.is_some_and(|block| unsafe { conf::has_nginx_keepalive(block) })
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

thread_local! {
    /// The choice whose balancer is choosing.
    static CHOOSING: Cell<*const PeerChoice> = const { Cell::new(ptr::null()) };
}

unsafe extern "C" fn get(pc: *mut ngx_peer_connection_t, data: *mut c_void) -> ngx_int_t {
    // SAFETY: nginx calls with the peer that `wrap` changed, and its data.
    let (upstream, choice) =
        unsafe { (Upstream::from_peer(NonNull::new_unchecked(pc)), PeerChoice::from_data(data)) };
    let Some(original) = choice.get else {
        return NGX_ERROR as ngx_int_t;
    };
    choice.is_refused.set(false);
    let attempt = choice.once_more.take();
    choice.is_once_more.set(attempt.is_some());
    if let Some(attempt) = attempt {
        begin_once_more(choice, upstream, attempt);
        return NGX_OK as ngx_int_t;
    }
    // A balancer in Lua runs here, and may override settings.
    let outer = CHOOSING.replace(choice);
    // SAFETY: as nginx would call it.
    let status = unsafe {
        conf_copy::while_choosing(choice.request(), upstream, choice.configuration, || {
            original(pc, choice.data)
        })
    };
    CHOOSING.set(outer);
    guard("upstream peer choice", process_log(), NGX_ERROR as ngx_int_t, || {
        choose(choice, upstream, status)
    })
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

/// Looks for a connection to the peer that was chosen; `status` is what the balancer has said.
fn choose(choice: &PeerChoice, upstream: Upstream<'_>, status: ngx_int_t) -> ngx_int_t {
    /// The peer is chosen, and to be connected to.
    const CONNECT: ngx_int_t = NGX_OK as ngx_int_t;
    /// The peer is chosen, and its connection was idle.
    const REUSE: ngx_int_t = NGX_DONE as ngx_int_t;

    let request = choice.request();
    let peer = upstream.peer();
    let uses_tls = upstream.uses_tls();
    choice.is_lua_balanced.set(current_phase(Some(request)) == Phases::BALANCER);

    let Ok(state) = RequestState::with_upstream_tls(request) else {
        return NGX_ERROR as ngx_int_t;
    };
    let mut status = status;
    if status == CONNECT || status == REUSE {
        if let Err(error) = check_settings(request, upstream, state) {
            request.log().error(format_args!("{error}"));
            counters::count(error.counter());
            choice.is_refused.set(true);
            return NGX_ERROR as ngx_int_t;
        }
    }
    let identity = || lookup::expected(request, upstream, state);
    let is_foreign = status == REUSE && is_foreign(request, upstream, state, identity);
    if is_foreign {
        put_aside(choice, upstream);
        status = CONNECT;
    }
    if status != CONNECT || !uses_tls {
        return status;
    }
    let keepalive = choice.keepalive();
    let own = keepalive
        .and_then(|keepalive| identity().and_then(|identity| keepalive.take(peer, identity)));
    if let Some(connection) = own {
        peer.reuse(connection);
        return REUSE;
    }
    if is_foreign || keepalive.is_some_and(|keepalive| keepalive.has_peer(peer)) {
        counters::count(Counter::IdleConnectionRefused);
    }
    CONNECT
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

unsafe extern "C" fn free(pc: *mut ngx_peer_connection_t, data: *mut c_void, state: ngx_uint_t) {
    // SAFETY: as in `get`.
    let (upstream, choice) =
        unsafe { (Upstream::from_peer(NonNull::new_unchecked(pc)), PeerChoice::from_data(data)) };
    let keepalive = choice.keepalive().filter(|_| {
        upstream.uses_tls()
            && upstream.keepalive()
            && upstream.request_body_sent()
            && state & NGX_PEER_FAILED as ngx_uint_t == 0
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
    let mut state = state;
    match ending {
        Ending::OnceMore(attempt) => {
            choice.once_more.set(Some(attempt));
            return;
        }
        Ending::AsNginxHasIt => {}
        Ending::OfRequest { .. } => {
            if choice.is_refused.get() && upstream.peer().is_cached() {
                // It has not been used, and is for the next.
                upstream.keep_alive();
                upstream.set_request_body_sent();
            }
            guard("upstream peer release", process_log(), (), || forget_attempt(choice, upstream));
            if state & NGX_PEER_FAILED as ngx_uint_t != 0 {
                // To a balancer in Lua, no state at all would mean that there was no attempt.
                state = state & !(NGX_PEER_FAILED as ngx_uint_t) | NGX_PEER_NEXT as ngx_uint_t;
            }
        }
    }
    // What `kong_tls_keepalive` declines where it is alone, nobody else is to keep.
    let is_alone = choice.keepalive().is_some() && !choice.has_nginx_keepalive();
    let (first, last) = if is_alone { (keepalive, None) } else { (None, keepalive) };
    first.inspect(|keepalive| keep(keepalive));
    if is_alone && upstream.uses_tls() {
        upstream.do_not_keep_alive();
    }
    if let Some(original) = choice.free {
        let followed = upstream.configuration();
        // SAFETY: as nginx would call it. What the request has followed so far is valid for as long
        // as it, and that of the location is what nginx may note for an idle connection.
        unsafe {
            upstream.set_configuration(choice.configuration);
            original(pc, choice.data, state);
            upstream.set_configuration(followed);
        }
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
        // SAFETY: the block is the one that the peer was chosen of, and part of the configuration.
        unsafe { conf::forget_attempt(block, upstream.peer()) };
    }
}

/// Notes what became of the connection, and keeps that of a request with settings from where nginx
/// would look for one.
fn before_release(choice: &PeerChoice, upstream: Upstream<'_>, state: ngx_uint_t) -> Ending {
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
    if state & NGX_PEER_FAILED as ngx_uint_t == 0 {
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

unsafe extern "C" fn notify(pc: *mut ngx_peer_connection_t, data: *mut c_void, event: ngx_uint_t) {
    // SAFETY: as in `get`.
    unsafe {
        let choice = PeerChoice::from_data(data);
        if let Some(original) = choice.notify {
            original(pc, choice.data, event);
        }
    }
}

unsafe extern "C" fn set_session(pc: *mut ngx_peer_connection_t, data: *mut c_void) -> ngx_int_t {
    // SAFETY: as in `get`.
    unsafe {
        let choice = PeerChoice::from_data(data);
        choice.set_session.map_or(NGX_OK as ngx_int_t, |original| original(pc, choice.data))
    }
}

unsafe extern "C" fn save_session(pc: *mut ngx_peer_connection_t, data: *mut c_void) {
    // SAFETY: as in `get`.
    unsafe {
        let choice = PeerChoice::from_data(data);
        if let Some(original) = choice.save_session {
            original(pc, choice.data);
        }
    }
}
