// SPDX-License-Identifier: Apache-2.0

//! Wraps the functions of an `ngx_peer_connection_t` that choose the peer of an upstream.

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::{self, NonNull};

use ngx::ffi::{
    NGX_DONE, NGX_ERROR, NGX_OK, NGX_PEER_FAILED, NGX_PEER_NEXT, ngx_event_free_peer_pt,
    ngx_event_get_peer_pt, ngx_event_notify_peer_pt, ngx_event_save_peer_session_pt,
    ngx_event_set_peer_session_pt, ngx_http_upstream_get_round_robin_peer, ngx_http_upstream_t,
    ngx_int_t, ngx_peer_connection_t, ngx_uint_t,
};

use crate::nginx::connection::process_log;
use crate::nginx::panic::guard;
use crate::nginx::pool::{OutOfMemory, Pool};
use crate::nginx::round_robin;
use crate::nginx::sockaddr::Address;
use crate::nginx::upstream::Upstream;

/// The result of choosing a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerFound {
    /// A peer to connect to.
    Peer,
    /// A peer, with an idle connection to it.
    IdleConnection,
    Failed,
    /// Another status, such as that all peers are busy.
    Other(ngx_int_t),
}

impl PeerFound {
    fn of(status: ngx_int_t) -> Self {
        match status {
            _ if status == NGX_OK as ngx_int_t => Self::Peer,
            _ if status == NGX_DONE as ngx_int_t => Self::IdleConnection,
            _ if status == NGX_ERROR as ngx_int_t => Self::Failed,
            other => Self::Other(other),
        }
    }

    fn status(self) -> ngx_int_t {
        match self {
            Self::Peer => NGX_OK as ngx_int_t,
            Self::IdleConnection => NGX_DONE as ngx_int_t,
            Self::Failed => NGX_ERROR as ngx_int_t,
            Self::Other(status) => status,
        }
    }
}

/// nginx's flags for how an attempt at a peer ended (`NGX_PEER_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerState(ngx_uint_t);

impl PeerState {
    pub fn has_failed(self) -> bool {
        self.0 & NGX_PEER_FAILED as ngx_uint_t != 0
    }

    /// Returns the state without the failure of the peer. The state must not become 0: to a
    /// balancer in Lua that would mean that there was no attempt.
    pub fn forgiven(self) -> Self {
        if self.has_failed() {
            Self(self.0 & !(NGX_PEER_FAILED as ngx_uint_t) | NGX_PEER_NEXT as ngx_uint_t)
        } else {
            self
        }
    }
}

/// The original functions that choose the peer, and their data.
pub struct Original {
    /// The upstream that they belong to: after a redirect, a request has another one.
    upstream: *mut ngx_http_upstream_t,
    get: ngx_event_get_peer_pt,
    free: ngx_event_free_peer_pt,
    notify: ngx_event_notify_peer_pt,
    set_session: ngx_event_set_peer_session_pt,
    save_session: ngx_event_save_peer_session_pt,
    data: *mut c_void,
}

impl Original {
    /// Returns the addresses of all peers, if nginx has made the list for this request alone: for a
    /// name that its resolver looked up. `is_alone` says whether the peer is in no block.
    pub fn resolved_addresses(&self, is_alone: bool) -> Vec<Address> {
        let own: unsafe extern "C" fn(*mut ngx_peer_connection_t, *mut c_void) -> ngx_int_t =
            ngx_http_upstream_get_round_robin_peer;
        if !is_alone || !self.get.is_some_and(|get| ptr::fn_addr_eq(get, own)) {
            return Vec::new();
        }
        // SAFETY: these are the data that nginx's function works on, and those of a list for one
        // request are in that request's pool.
        unsafe { round_robin::addresses(self.data) }
    }
}

/// Takes part in the choice of a peer by the original functions.
pub trait PeerChooser: Sized + 'static {
    /// Returns the original functions.
    fn original(&self) -> &Original;

    /// Chooses a peer; `original` lets the original function choose.
    fn get(&self, upstream: Upstream<'_>, original: impl FnOnce() -> PeerFound) -> PeerFound;

    /// Releases the peer; `original` lets the original function release it.
    fn free(&self, upstream: Upstream<'_>, state: PeerState, original: impl FnOnce(PeerState));

    /// Returns the chooser that wraps the functions of `upstream`, if any.
    fn of(upstream: Upstream<'_>) -> Option<&Self> {
        let ours: unsafe extern "C" fn(*mut ngx_peer_connection_t, *mut c_void) -> ngx_int_t =
            get::<Self>;
        let ngx_peer_connection_t { get: current, data, .. } = upstream.peer().get();
        current.filter(|current| ptr::fn_addr_eq(*current, ours))?;
        // SAFETY: this is NULL, or a chooser whose original `get` is running, in a request's pool.
        let choosing = unsafe { CHOOSING.get().cast::<Self>().as_ref() };
        if choosing.is_some_and(|it| ptr::eq(it.original().upstream, upstream.as_ptr())) {
            return choosing;
        }
        // SAFETY: while `get` is ours, so are the peer's `data`, except while the original `get`
        // runs: a balancer in Lua sets `data` to its own. `CHOOSING` then has the chooser. The data
        // live as long as the request.
        unsafe { data.cast::<Self>().as_ref() }
    }

    /// Wraps the functions that choose the peer of `upstream`; `make` makes the chooser. It is kept
    /// in `pool`, the request's pool.
    fn wrap<'a>(
        pool: Pool<'a>,
        upstream: Upstream<'a>,
        make: impl FnOnce(Original) -> Self,
    ) -> Result<&'a Self, OutOfMemory> {
        let peer = upstream.peer().get();
        let choice = pool.keep(make(Original {
            upstream: upstream.as_ptr(),
            get: peer.get,
            free: peer.free,
            notify: peer.notify,
            set_session: peer.set_session,
            save_session: peer.save_session,
            data: peer.data,
        }))?;
        // SAFETY: the functions are for these data, which live in the request's pool, as long as
        // the peer.
        unsafe {
            let place = &mut *upstream.peer().as_ptr();
            place.get = Some(get::<Self>);
            place.free = Some(free::<Self>);
            place.notify = peer.notify.and(Some(notify::<Self>));
            place.set_session = peer.set_session.and(Some(set_session::<Self>));
            place.save_session = peer.save_session.and(Some(save_session::<Self>));
            place.data = ptr::from_ref(choice).cast_mut().cast();
        }
        Ok(choice)
    }
}

thread_local! {
    /// The chooser whose original `get` is running, or NULL.
    static CHOOSING: Cell<*const c_void> = const { Cell::new(ptr::null()) };
}

/// Returns the upstream and the chooser of a callback.
///
/// # Safety
/// Both must be valid for `'a`; `pc` must be the peer of an upstream, and `data` a `T`.
unsafe fn of_callback<'a, T>(
    pc: *mut ngx_peer_connection_t,
    data: *mut c_void,
) -> (Upstream<'a>, &'a T) {
    // SAFETY: the caller ensures that `pc` is the peer of a valid upstream and `data` a valid `T`.
    unsafe { (Upstream::from_peer(NonNull::new_unchecked(pc)), &*data.cast()) }
}

unsafe extern "C" fn get<T: PeerChooser>(
    pc: *mut ngx_peer_connection_t,
    data: *mut c_void,
) -> ngx_int_t {
    // SAFETY: `wrap` has set this function together with `data`, on the peer of an upstream.
    let (upstream, choice) = unsafe { of_callback::<T>(pc, data) };
    let original = choice.original();
    guard("upstream peer choice", process_log(), NGX_ERROR as ngx_int_t, || {
        let found = choice.get(upstream, || {
            let Some(get) = original.get else {
                return PeerFound::Failed;
            };
            let outer = CHOOSING.replace(ptr::from_ref(choice).cast());
            // SAFETY: the original function gets its own data and the peer that it was set on.
            let status = unsafe { get(pc, original.data) };
            CHOOSING.set(outer);
            PeerFound::of(status)
        });
        found.status()
    })
}

unsafe extern "C" fn free<T: PeerChooser>(
    pc: *mut ngx_peer_connection_t,
    data: *mut c_void,
    state: ngx_uint_t,
) {
    // SAFETY: `wrap` has set this function together with `data`, on the peer of an upstream.
    let (upstream, choice) = unsafe { of_callback::<T>(pc, data) };
    let original = choice.original();
    choice.free(upstream, PeerState(state), |PeerState(state)| {
        if let Some(free) = original.free {
            // SAFETY: the original function gets its own data and the peer that it was set on.
            unsafe { free(pc, original.data, state) }
        }
    });
}

unsafe extern "C" fn notify<T: PeerChooser>(
    pc: *mut ngx_peer_connection_t,
    data: *mut c_void,
    event: ngx_uint_t,
) {
    // SAFETY: `wrap` has set this function together with `data`, on the peer of an upstream.
    let original = unsafe { of_callback::<T>(pc, data) }.1.original();
    if let Some(notify) = original.notify {
        // SAFETY: the original function gets its own data and the peer that it was set on.
        unsafe { notify(pc, original.data, event) }
    }
}

unsafe extern "C" fn set_session<T: PeerChooser>(
    pc: *mut ngx_peer_connection_t,
    data: *mut c_void,
) -> ngx_int_t {
    // SAFETY: `wrap` has set this function together with `data`, on the peer of an upstream.
    let original = unsafe { of_callback::<T>(pc, data) }.1.original();
    // SAFETY: the original function gets its own data and the peer that it was set on.
    original.set_session.map_or(NGX_OK as ngx_int_t, |set| unsafe { set(pc, original.data) })
}

unsafe extern "C" fn save_session<T: PeerChooser>(
    pc: *mut ngx_peer_connection_t,
    data: *mut c_void,
) {
    // SAFETY: `wrap` has set this function together with `data`, on the peer of an upstream.
    let original = unsafe { of_callback::<T>(pc, data) }.1.original();
    if let Some(save) = original.save_session {
        // SAFETY: the original function gets its own data and the peer that it was set on.
        unsafe { save(pc, original.data) }
    }
}
