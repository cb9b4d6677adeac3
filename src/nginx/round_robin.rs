// SPDX-License-Identifier: Apache-2.0

//! How nginx counts the failures of the servers of an `upstream {}` block.
//!
//! nginx's own balancers have the list of servers in common (`ngx_http_upstream_rr_peers_t`). That
//! a block has one of them, and not another module's, is known from its directives.

use std::ptr::{self, NonNull};

use ngx::ffi::{
    ngx_conf_t, ngx_http_upstream_init_pt, ngx_http_upstream_init_round_robin,
    ngx_http_upstream_srv_conf_t, ngx_int_t, ngx_peer_connection_t,
};

use crate::nginx::conf_parser::{ConfParser, Level};
use crate::nginx::peer::Peer;
use crate::nginx::upstream_block::UpstreamBlock;

unsafe extern "C" {
    /// `bitfields.c`
    fn round_robin_forget_check(
        block: *mut ngx_http_upstream_srv_conf_t,
        pc: *const ngx_peer_connection_t,
    );
}

/// Who has made the list of servers of a block, as far as the directives of nginx's tell.
#[derive(Clone, Copy, Default)]
pub enum Balancer {
    /// Nobody but nginx, by default.
    #[default]
    Default,
    /// One of those directives, which has set this.
    Nginx(ngx_http_upstream_init_pt),
    /// Another module had set something before: what it keeps may be anything.
    Foreign,
}

/// What the block that is being read has.
pub fn current(parser: ConfParser<'_>) -> ngx_http_upstream_init_pt {
    let module = parser.module(c"ngx_http_upstream_module")?.index();
    // SAFETY: it is the type of that module, and nginx makes the block before it reads what is in
    // it.
    unsafe {
        let block: NonNull<ngx_http_upstream_srv_conf_t> =
            parser.configuration(Level::Server, module)?;
        block.as_ref().peer.init_upstream
    }
}

impl Balancer {
    /// After a directive of nginx's has been read, which has found `before` and left `after`. Some
    /// of them stand before whatever was there.
    pub fn after_directive(
        self,
        before: ngx_http_upstream_init_pt,
        after: ngx_http_upstream_init_pt,
    ) -> Self {
        if self.is(before) { Self::Nginx(after) } else { Self::Foreign }
    }

    /// Whether what a block has is what this one has set.
    fn is(self, has: ngx_http_upstream_init_pt) -> bool {
        let default: unsafe extern "C" fn(
            *mut ngx_conf_t,
            *mut ngx_http_upstream_srv_conf_t,
        ) -> ngx_int_t = ngx_http_upstream_init_round_robin;
        match self {
            Self::Foreign => false,
            Self::Default => has.is_none_or(|has| ptr::fn_addr_eq(has, default)),
            Self::Nginx(None) => Self::Default.is(has),
            Self::Nginx(Some(known)) => has.is_some_and(|has| ptr::fn_addr_eq(has, known)),
        }
    }
}

/// Makes the attempt at `peer`, which is about to be released, say nothing of it: it was no
/// failure, and no proof that a server which had failed is well again. `balancer` is what is known
/// of the block.
pub fn forget_attempt(block: UpstreamBlock, peer: Peer<'_>, balancer: Balancer) {
    let block = block.as_ptr();
    // SAFETY: the block is valid.
    let has = unsafe { block.as_ref().peer.init_upstream };
    if balancer.is(has) {
        // SAFETY: a block with a balancer of nginx's has that list.
        unsafe { round_robin_forget_check(block.as_ptr(), peer.as_ptr()) }
    }
}
