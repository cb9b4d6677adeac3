// SPDX-License-Identifier: Apache-2.0

//! `upstream {}` blocks (`ngx_http_upstream_srv_conf_t`), and those that nginx makes of a `proxy_pass`
//! with an address.

use std::ptr::NonNull;

use ngx::ffi::{
    NGX_ERROR, NGX_HTTP_UPSTREAM_CREATE, NGX_OK, ngx_http_request_t,
    ngx_http_upstream_init_peer_pt, ngx_http_upstream_main_conf_t, ngx_http_upstream_srv_conf_t,
    ngx_int_t, ngx_uint_t,
};

use crate::nginx::conf_parser::{ConfParser, Level};
use crate::nginx::configuration::{ModuleIndex, bytes, elements};
use crate::nginx::connection::process_log;
use crate::nginx::panic::guard;
use crate::nginx::request::Request;

/// A block. It lives as long as its configuration, which outlives the requests that are handled by
/// it: nobody else keeps one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UpstreamBlock(NonNull<ngx_http_upstream_srv_conf_t>);

/// How a block begins to choose the peer for a request.
#[derive(Clone, Copy)]
pub struct InitPeer(ngx_http_upstream_init_peer_pt);

/// Nobody chooses.
#[derive(Debug)]
pub struct NotChosen(ngx_int_t);

impl UpstreamBlock {
    /// All of them, when all of `http {}` is read.
    pub fn all(parser: ConfParser<'_>) -> Vec<Self> {
        let Some(module) = parser.module(c"ngx_http_upstream_module") else {
            return Vec::new();
        };
        // SAFETY: it is the type of that module, which keeps its blocks in an array of pointers.
        unsafe {
            let main =
                parser.configuration::<ngx_http_upstream_main_conf_t>(Level::Main, module.index());
            let Some(main) = main else {
                return Vec::new();
            };
            let blocks: &[*mut ngx_http_upstream_srv_conf_t] = elements(&main.as_ref().upstreams);
            blocks.iter().filter_map(|block| NonNull::new(*block)).map(Self).collect()
        }
    }

    pub fn as_ptr(self) -> NonNull<ngx_http_upstream_srv_conf_t> {
        self.0
    }

    /// Its name.
    pub fn host<'a>(self) -> &'a [u8] {
        // SAFETY: the block is valid, and its name lives as long.
        unsafe { bytes(self.0.as_ref().host) }
    }

    /// Whether it is written in the configuration.
    pub fn is_written(self) -> bool {
        // SAFETY: the block is valid.
        unsafe { self.0.as_ref().flags & NGX_HTTP_UPSTREAM_CREATE as ngx_uint_t != 0 }
    }

    /// What a module keeps for it; `None` where nginx has made the block itself.
    ///
    /// # Safety
    /// `T` must be what the module with `index` keeps there.
    pub unsafe fn configuration<'a, T>(self, index: ModuleIndex) -> Option<&'a T> {
        // SAFETY: the block is valid; one that nginx has made itself has no such array.
        unsafe { Some(index.of::<T>(self.0.as_ref().srv_conf)?.as_ref()) }
    }

    /// Has `T` called where the block begins to choose the peer for a request; returns who was.
    pub fn wrap_init<T: InitUpstream>(self) -> InitPeer {
        // SAFETY: the block is valid, and nobody else uses it while the configuration is read.
        let init = unsafe { &mut (*self.0.as_ptr()).peer.init };
        InitPeer(init.replace(init_peer::<T>))
    }
}

/// Who takes part where a block begins to choose the peer for a request.
pub trait InitUpstream {
    /// Is called in place of the original, which it is to find.
    fn init(request: Request<'_>, block: UpstreamBlock) -> Result<(), NotChosen>;
}

impl InitPeer {
    /// Calls it.
    pub fn call(self, request: Request<'_>, block: UpstreamBlock) -> Result<(), NotChosen> {
        let Some(init) = self.0 else {
            return Err(NotChosen::failed());
        };
        // SAFETY: as nginx would call it.
        let status = unsafe { init(request.as_ptr(), block.0.as_ptr()) };
        if status == NGX_OK as ngx_int_t { Ok(()) } else { Err(NotChosen(status)) }
    }
}

impl NotChosen {
    pub fn failed() -> Self {
        Self(NGX_ERROR as ngx_int_t)
    }
}

unsafe extern "C" fn init_peer<T: InitUpstream>(
    r: *mut ngx_http_request_t,
    block: *mut ngx_http_upstream_srv_conf_t,
) -> ngx_int_t {
    guard("upstream peer initialization", process_log(), NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx calls with a valid request and one of its blocks.
        let (request, block) = unsafe {
            (
                Request::from_ptr(NonNull::new_unchecked(r)),
                UpstreamBlock(NonNull::new_unchecked(block)),
            )
        };
        match T::init(request, block) {
            Ok(()) => NGX_OK as ngx_int_t,
            Err(NotChosen(status)) => status,
        }
    })
}
