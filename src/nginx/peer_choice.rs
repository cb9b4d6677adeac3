// SPDX-License-Identifier: Apache-2.0

//! Who chooses the peer of an upstream: the functions of an `ngx_peer_connection_t`, before which ours
//! stand.

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::{self, NonNull};

use ngx::ffi::{
    NGX_DONE, NGX_ERROR, NGX_OK, NGX_PEER_FAILED, NGX_PEER_NEXT, ngx_event_free_peer_pt,
    ngx_event_get_peer_pt, ngx_event_notify_peer_pt, ngx_event_save_peer_session_pt,
    ngx_event_set_peer_session_pt, ngx_http_upstream_t, ngx_int_t, ngx_peer_connection_t,
    ngx_uint_t,
};

use crate::nginx::connection::process_log;
use crate::nginx::panic::guard;
use crate::nginx::pool::{OutOfMemory, Pool};
use crate::nginx::upstream::Upstream;

/// What the choice of a peer has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A peer that is to be connected to.
    Peer,
    /// A peer, and an idle connection to it.
    IdleConnection,
    Failed,
    /// Something else, such as that all peers are busy.
    Other(ngx_int_t),
}

impl Found {
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

/// How the attempt at a peer has ended, as nginx says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerState(ngx_uint_t);

impl PeerState {
    pub fn has_failed(self) -> bool {
        self.0 & NGX_PEER_FAILED as ngx_uint_t != 0
    }

    /// The same, but that the peer has not failed. To a balancer in Lua, no state at all would mean
    /// that there was no attempt.
    pub fn forgiven(self) -> Self {
        if self.has_failed() {
            Self(self.0 & !(NGX_PEER_FAILED as ngx_uint_t) | NGX_PEER_NEXT as ngx_uint_t)
        } else {
            self
        }
    }
}

/// The functions that were there before ours, and their data.
pub struct Original {
    /// After a redirect, a request has another.
    upstream: *mut ngx_http_upstream_t,
    get: ngx_event_get_peer_pt,
    free: ngx_event_free_peer_pt,
    notify: ngx_event_notify_peer_pt,
    set_session: ngx_event_set_peer_session_pt,
    save_session: ngx_event_save_peer_session_pt,
    data: *mut c_void,
}

/// A choice of a peer that takes part in that of another.
pub trait PeerChooser: Sized + 'static {
    /// The other.
    fn original(&self) -> &Original;

    /// Chooses a peer; `original` has the other do it.
    fn get(&self, upstream: Upstream<'_>, original: impl FnOnce() -> Found) -> Found;

    /// Releases the peer; `original` has the other do it.
    fn free(&self, upstream: Upstream<'_>, state: PeerState, original: impl FnOnce(PeerState));

    /// The one that takes part for `upstream`, if one does.
    fn of(upstream: Upstream<'_>) -> Option<&Self> {
        let ours: unsafe extern "C" fn(*mut ngx_peer_connection_t, *mut c_void) -> ngx_int_t =
            get::<Self>;
        // SAFETY: the peer is valid.
        let current = unsafe { (*upstream.peer().as_ptr()).get };
        current.filter(|current| ptr::fn_addr_eq(*current, ours))?;
        // SAFETY: the data of a peer with our function are ours, but while its balancer chooses:
        // while one in Lua runs, they are the Lua module's. Both live as long as the request.
        unsafe {
            let is_its_own =
                |choice: &&Self| ptr::eq(choice.original().upstream, upstream.as_ptr());
            if let Some(choosing) = CHOOSING.get().cast::<Self>().as_ref().filter(is_its_own) {
                return Some(choosing);
            }
            (*upstream.peer().as_ptr()).data.cast::<Self>().as_ref()
        }
    }

    /// Puts ours before the functions that choose the peer of `upstream`; `make` makes it. It lives
    /// in `pool`, that of the request.
    fn wrap<'a>(
        pool: Pool<'a>,
        upstream: Upstream<'a>,
        make: impl FnOnce(Original) -> Self,
    ) -> Result<&'a Self, OutOfMemory> {
        // SAFETY: the peer is part of the upstream; nginx uses it after we have returned.
        unsafe {
            let peer = &mut *upstream.peer().as_ptr();
            let choice = pool.keep(make(Original {
                upstream: upstream.as_ptr(),
                get: peer.get,
                free: peer.free,
                notify: peer.notify,
                set_session: peer.set_session,
                save_session: peer.save_session,
                data: peer.data,
            }))?;
            peer.get = Some(get::<Self>);
            peer.free = Some(free::<Self>);
            peer.notify = peer.notify.and(Some(notify::<Self>));
            peer.set_session = peer.set_session.and(Some(set_session::<Self>));
            peer.save_session = peer.save_session.and(Some(save_session::<Self>));
            peer.data = ptr::from_ref(choice).cast_mut().cast();
            Ok(choice)
        }
    }
}

thread_local! {
    /// The choice whose balancer is choosing.
    static CHOOSING: Cell<*const c_void> = const { Cell::new(ptr::null()) };
}

/// The upstream of a peer that `wrap` has changed, and the data that it has given to that.
///
/// # Safety
/// Both must be valid for `'a`, and of a `T`.
unsafe fn of_callback<'a, T>(
    pc: *mut ngx_peer_connection_t,
    data: *mut c_void,
) -> (Upstream<'a>, &'a T) {
    // SAFETY: the caller vouches for both.
    unsafe { (Upstream::from_peer(NonNull::new_unchecked(pc)), &*data.cast()) }
}

unsafe extern "C" fn get<T: PeerChooser>(
    pc: *mut ngx_peer_connection_t,
    data: *mut c_void,
) -> ngx_int_t {
    // SAFETY: nginx calls with the peer that `wrap` changed, and its data.
    let (upstream, choice) = unsafe { of_callback::<T>(pc, data) };
    let original = choice.original();
    guard("upstream peer choice", process_log(), NGX_ERROR as ngx_int_t, || {
        let found = choice.get(upstream, || {
            let Some(get) = original.get else {
                return Found::Failed;
            };
            let outer = CHOOSING.replace(ptr::from_ref(choice).cast());
            // SAFETY: as nginx would call it.
            let status = unsafe { get(pc, original.data) };
            CHOOSING.set(outer);
            Found::of(status)
        });
        found.status()
    })
}

unsafe extern "C" fn free<T: PeerChooser>(
    pc: *mut ngx_peer_connection_t,
    data: *mut c_void,
    state: ngx_uint_t,
) {
    // SAFETY: nginx calls with the peer that `wrap` changed, and its data.
    let (upstream, choice) = unsafe { of_callback::<T>(pc, data) };
    let original = choice.original();
    choice.free(upstream, PeerState(state), |PeerState(state)| {
        if let Some(free) = original.free {
            // SAFETY: as nginx would call it.
            unsafe { free(pc, original.data, state) }
        }
    });
}

unsafe extern "C" fn notify<T: PeerChooser>(
    pc: *mut ngx_peer_connection_t,
    data: *mut c_void,
    event: ngx_uint_t,
) {
    // SAFETY: nginx calls with the peer that `wrap` changed, and its data; and so do we.
    unsafe {
        let original = of_callback::<T>(pc, data).1.original();
        if let Some(notify) = original.notify {
            notify(pc, original.data, event);
        }
    }
}

unsafe extern "C" fn set_session<T: PeerChooser>(
    pc: *mut ngx_peer_connection_t,
    data: *mut c_void,
) -> ngx_int_t {
    // SAFETY: nginx calls with the peer that `wrap` changed, and its data; and so do we.
    unsafe {
        let original = of_callback::<T>(pc, data).1.original();
        original.set_session.map_or(NGX_OK as ngx_int_t, |set| set(pc, original.data))
    }
}

unsafe extern "C" fn save_session<T: PeerChooser>(
    pc: *mut ngx_peer_connection_t,
    data: *mut c_void,
) {
    // SAFETY: nginx calls with the peer that `wrap` changed, and its data; and so do we.
    unsafe {
        let original = of_callback::<T>(pc, data).1.original();
        if let Some(save) = original.save_session {
            save(pc, original.data);
        }
    }
}
