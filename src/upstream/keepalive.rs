//! Idle connections.
//!
//! nginx keeps idle connections by address alone. Around the choice of a peer in every `upstream {}`
//! block, a request with TLS settings of its own is kept from using such a connection, and from
//! leaving one.

use std::ffi::c_void;
use std::ptr::{self, NonNull};

use ngx::ffi::{
    NGX_DONE, NGX_ERROR, NGX_OK, NGX_PEER_FAILED, ngx_conf_t, ngx_event_free_peer_pt,
    ngx_event_get_peer_pt, ngx_event_notify_peer_pt, ngx_event_save_peer_session_pt,
    ngx_event_set_peer_session_pt, ngx_http_request_t, ngx_http_upstream_init_peer_pt,
    ngx_http_upstream_main_conf_t, ngx_http_upstream_srv_conf_t, ngx_int_t, ngx_peer_connection_t,
    ngx_uint_t,
};

use super::handshake;
use crate::module;
use crate::nginx::configuration::{self, Module};
use crate::nginx::connection::{Connection, close_upstream_connection, process_log};
use crate::nginx::panic::guard;
use crate::nginx::pool::OutOfMemory;
use crate::nginx::request::Request;
use crate::nginx::upstream::Upstream;
use crate::request::RequestState;

/// How the `upstream {}` blocks choose a peer, by the address of the block, in ascending order.
#[derive(Default)]
pub struct Balancers(Vec<(usize, ngx_http_upstream_init_peer_pt)>);

impl Balancers {
    fn of(&self, block: *mut ngx_http_upstream_srv_conf_t) -> ngx_http_upstream_init_peer_pt {
        let index = self.0.binary_search_by_key(&(block as usize), |(block, _)| *block).ok()?;
        self.0.get(index).and_then(|(_, init)| *init)
    }
}

/// Wraps the choice of a peer in every `upstream {}` block, and in those that nginx makes of a
/// `proxy_pass` with an address. To be called in *postconfiguration*,
/// when the blocks have their balancers.
///
/// # Safety
/// `cf` must be valid, and inside `http {}`, with all of it read.
pub unsafe fn postconfiguration(cf: *mut ngx_conf_t) -> Balancers {
    let mut balancers = Balancers::default();

    // SAFETY: nginx keeps its upstream blocks in an array of this type; this is the only time that
    // it is used while we change them.
    unsafe {
        let Some(main) = Module::find(cf, c"ngx_http_upstream_module").and_then(|module| {
            module.index().of::<ngx_http_upstream_main_conf_t>(configuration::context(cf).main_conf)
        }) else {
            return balancers;
        };
        let blocks: &[*mut ngx_http_upstream_srv_conf_t] =
            configuration::elements(&main.as_ref().upstreams);
        for block in blocks {
            balancers.0.push((*block as usize, (**block).peer.init));
            (**block).peer.init = Some(init);
        }
    }
    balancers.0.sort_unstable_by_key(|(block, _)| *block);
    balancers
}

/// The choice of a peer for one request: what nginx or another module had set, and for whom.
#[derive(Clone, Copy)]
struct PeerChoice {
    request: NonNull<ngx_http_request_t>,
    get: ngx_event_get_peer_pt,
    free: ngx_event_free_peer_pt,
    notify: ngx_event_notify_peer_pt,
    set_session: ngx_event_set_peer_session_pt,
    save_session: ngx_event_save_peer_session_pt,
    data: *mut c_void,
}

unsafe extern "C" fn init(
    r: *mut ngx_http_request_t,
    block: *mut ngx_http_upstream_srv_conf_t,
) -> ngx_int_t {
    guard("upstream peer initialization", process_log(), NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx calls with a valid request and one of its blocks.
        unsafe {
            let request = Request::from_ptr(NonNull::new_unchecked(r));
            let Some(original) = module::balancers(request).and_then(|known| known.of(block))
            else {
                request.log().error(format_args!("upstream peer initialization: unknown block"));
                return NGX_ERROR as ngx_int_t;
            };
            let status = original(r, block);
            if status != NGX_OK as ngx_int_t {
                return status;
            }
            let wrapped = adopt(request).and_then(|()| {
                request.upstream().map_or(Ok(()), |upstream| wrap(request, upstream))
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
    RequestState::with_upstream_tls(request).map(|_| ())
}

/// Puts our functions before those that choose the peer.
fn wrap(request: Request<'_>, upstream: Upstream<'_>) -> Result<(), OutOfMemory> {
    if !upstream.uses_tls() {
        return Ok(());
    }
    // SAFETY: the peer is part of the upstream; nginx uses it after we have returned.
    unsafe {
        let peer = upstream.peer().as_mut();
        let choice = request.pool().copy(&PeerChoice {
            request: NonNull::new_unchecked(request.as_ptr()),
            get: peer.get,
            free: peer.free,
            notify: peer.notify,
            set_session: peer.set_session,
            save_session: peer.save_session,
            data: peer.data,
        })?;
        peer.get = Some(get);
        peer.free = Some(free);
        peer.notify = peer.notify.and(Some(notify));
        peer.set_session = peer.set_session.and(Some(set_session));
        peer.save_session = peer.save_session.and(Some(save_session));
        peer.data = choice.as_ptr().cast();
    }
    Ok(())
}

impl PeerChoice {
    /// Whether the request has TLS settings of its own.
    fn overridden(&self) -> Result<Option<&RequestState>, OutOfMemory> {
        RequestState::with_upstream_tls(self.request())
    }

    fn request(&self) -> Request<'_> {
        // SAFETY: the request outlives its choice of a peer.
        unsafe { Request::from_ptr(self.request) }
    }
}

unsafe extern "C" fn get(pc: *mut ngx_peer_connection_t, data: *mut c_void) -> ngx_int_t {
    // SAFETY: nginx calls with the peer that `wrap` changed, and its data.
    let (upstream, choice) =
        unsafe { (Upstream::from_peer(NonNull::new_unchecked(pc)), *data.cast::<PeerChoice>()) };
    let Some(original) = choice.get else {
        return NGX_ERROR as ngx_int_t;
    };
    // A balancer in Lua runs here, and may override settings.
    // SAFETY: as nginx would call it.
    let status = unsafe { original(pc, choice.data) };

    guard("upstream peer choice", process_log(), NGX_ERROR as ngx_int_t, || {
        match choice.overridden() {
            Ok(None) => return status,
            Ok(Some(_)) if upstream.tls_context().is_some_and(handshake::is_installed) => {}
            Ok(Some(_)) => {
                choice.request().log().error(format_args!(
                    "upstream TLS settings of the request could not be applied: they are for proxy, \
                     grpc and uwsgi alone"
                ));
                return NGX_ERROR as ngx_int_t;
            }
            Err(OutOfMemory) => return NGX_ERROR as ngx_int_t,
        }
        // SAFETY: the peer is valid. With NGX_DONE it is an idle connection, made with the settings
        // of a location: taken from its cache, it is ours. NGX_OK without a connection makes nginx
        // open one to the same peer.
        unsafe {
            if status == NGX_DONE as ngx_int_t && !(*pc).connection.is_null() {
                close_upstream_connection((*pc).connection);
                (*pc).connection = ptr::null_mut();
                (*pc).set_cached(0);
                return NGX_OK as ngx_int_t;
            }
        }
        status
    })
}

unsafe extern "C" fn free(pc: *mut ngx_peer_connection_t, data: *mut c_void, state: ngx_uint_t) {
    // SAFETY: as in `get`.
    let (upstream, choice) =
        unsafe { (Upstream::from_peer(NonNull::new_unchecked(pc)), *data.cast::<PeerChoice>()) };
    let state = guard("upstream peer release", process_log(), state, || {
        let overridden = choice.overridden();
        if !matches!(overridden, Ok(None)) {
            upstream.do_not_keep_alive();
        }
        match overridden {
            // What the request asked for, other requests go on without: the peer has not failed.
            Ok(Some(request))
                if request.handshake_refused.take() || failed_verification(upstream) =>
            {
                state & !(NGX_PEER_FAILED as ngx_uint_t)
            }
            _ => state,
        }
    });
    if let Some(original) = choice.free {
        // SAFETY: as nginx would call it.
        unsafe { original(pc, choice.data, state) }
    }
}

/// Whether the connection, of which the handshake is done, is given up before the request was sent:
/// nginx does so when verification has failed, and for nothing else.
fn failed_verification(upstream: Upstream<'_>) -> bool {
    let Some(connection) = NonNull::new(upstream.connection()) else {
        return false;
    };
    // SAFETY: the connection is still the upstream's.
    let tls = unsafe { Connection::from_ptr(connection) }.tls();
    tls.is_some_and(|tls| tls.handshaked()) && !upstream.request_sent()
}

unsafe extern "C" fn notify(pc: *mut ngx_peer_connection_t, data: *mut c_void, event: ngx_uint_t) {
    // SAFETY: as in `get`.
    unsafe {
        let choice = *data.cast::<PeerChoice>();
        if let Some(original) = choice.notify {
            original(pc, choice.data, event);
        }
    }
}

unsafe extern "C" fn set_session(pc: *mut ngx_peer_connection_t, data: *mut c_void) -> ngx_int_t {
    // SAFETY: as in `get`.
    unsafe {
        let choice = *data.cast::<PeerChoice>();
        choice.set_session.map_or(NGX_OK as ngx_int_t, |original| original(pc, choice.data))
    }
}

unsafe extern "C" fn save_session(pc: *mut ngx_peer_connection_t, data: *mut c_void) {
    // SAFETY: as in `get`.
    unsafe {
        let choice = *data.cast::<PeerChoice>();
        if let Some(original) = choice.save_session {
            original(pc, choice.data);
        }
    }
}
