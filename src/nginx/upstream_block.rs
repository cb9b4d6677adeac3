// SPDX-License-Identifier: Apache-2.0

//! `upstream {}` blocks (`ngx_http_upstream_srv_conf_t`), including the implicit ones that nginx
//! makes for a `proxy_pass` with an address.

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

/// A block. It lives as long as its configuration, and so outlives the requests that it handles.
/// Only the state of that configuration and of such requests holds one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UpstreamBlock(NonNull<ngx_http_upstream_srv_conf_t>);

/// A block's function that begins the choice of a peer for a request (`peer.init`).
#[derive(Clone, Copy)]
pub struct InitPeer(ngx_http_upstream_init_peer_pt);

/// The choice of a peer could not begin.
#[derive(Debug)]
pub struct NotChosen(ngx_int_t);

impl UpstreamBlock {
    /// Returns all blocks. To be called after `http {}` has been read.
    pub fn all(parser: ConfParser<'_>) -> Vec<Self> {
        let Some(module) = parser.module(c"ngx_http_upstream_module") else {
            return Vec::new();
        };
        // SAFETY: this is the type of that module's main configuration.
        let main: Option<NonNull<ngx_http_upstream_main_conf_t>> =
            unsafe { parser.configuration(Level::Main, module.index()) };
        let Some(main) = main else {
            return Vec::new();
        };
        // SAFETY: the array is of pointers to blocks, and does not change once `http {}` was read.
        let blocks: &[*mut ngx_http_upstream_srv_conf_t] =
            unsafe { elements(&main.as_ref().upstreams) };
        blocks.iter().filter_map(|block| NonNull::new(*block)).map(Self).collect()
    }

    pub fn as_ptr(self) -> NonNull<ngx_http_upstream_srv_conf_t> {
        self.0
    }

    /// Returns the block's name.
    pub fn host<'a>(self) -> &'a [u8] {
        // SAFETY: the block is valid, and its name lives as long as the block.
        unsafe { bytes(self.0.as_ref().host) }
    }

    /// Returns whether nginx takes the block for this host of a URL with variables.
    pub fn is_for(self, host: &[u8], port: u16, has_no_port: bool) -> bool {
        // SAFETY: the block lives as long as its configuration.
        let of_block = unsafe { self.0.as_ref().port };
        ((of_block == 0 && has_no_port) || of_block == port)
            && self.host().eq_ignore_ascii_case(host)
    }

    /// Returns whether the block is written in the configuration, not implicit.
    pub fn is_written(self) -> bool {
        // SAFETY: the block lives as long as its configuration.
        unsafe { self.0.as_ref().flags & NGX_HTTP_UPSTREAM_CREATE as ngx_uint_t != 0 }
    }

    /// Returns a module's configuration for the block; `None` for an implicit block.
    ///
    /// # Safety
    /// `T` must be the type of the server configuration of the module with `index`.
    pub unsafe fn configuration<'a, T>(self, index: ModuleIndex) -> Option<&'a T> {
        // SAFETY: the block is valid, and `srv_conf` is NULL for an implicit one. The caller
        // ensures the type `T`.
        unsafe { Some(index.of::<T>(self.0.as_ref().srv_conf)?.as_ref()) }
    }

    /// Replaces the block's `peer.init` by one that calls `T`, and returns the original.
    pub fn wrap_init<T: InitUpstream>(self) -> InitPeer {
        // SAFETY: the block is valid, and nothing else uses it while the configuration is read.
        let init = unsafe { &mut (*self.0.as_ptr()).peer.init };
        InitPeer(init.replace(init_peer::<T>))
    }
}

/// Takes part in the beginning of the choice of a peer.
pub trait InitUpstream {
    /// Runs instead of the block's original `peer.init`, which the implementation must look up and
    /// call.
    fn init(request: Request<'_>, block: UpstreamBlock) -> Result<(), NotChosen>;
}

impl InitPeer {
    /// Calls the original function.
    pub fn call(self, request: Request<'_>, block: UpstreamBlock) -> Result<(), NotChosen> {
        let Some(init) = self.0 else {
            return Err(NotChosen::failed());
        };
        // SAFETY: the function gets a valid request and its own block, as from nginx.
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
        // SAFETY: nginx calls `peer.init` with a valid request and the block that it is set in.
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
