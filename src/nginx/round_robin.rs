// SPDX-License-Identifier: Apache-2.0

//! How nginx counts failures of the servers in an `upstream {}` block.
//!
//! nginx's own balancers share the list of servers (`ngx_http_upstream_rr_peers_t`). Whether a
//! block uses one of them, and not another module's, is known from its directives.

use std::ffi::c_void;
use std::iter::successors;
use std::ptr::{self, NonNull};

use ngx::ffi::{
    ngx_conf_t, ngx_http_upstream_init_pt, ngx_http_upstream_init_round_robin,
    ngx_http_upstream_rr_peer_data_t, ngx_http_upstream_rr_peer_t, ngx_http_upstream_srv_conf_t,
    ngx_int_t, ngx_peer_connection_t,
};

use crate::nginx::conf_parser::{ConfParser, Level};
use crate::nginx::configuration::slice;
use crate::nginx::peer::Peer;
use crate::nginx::sockaddr::Address;
use crate::nginx::upstream_block::UpstreamBlock;

unsafe extern "C" {
    /// Defined in `bitfields.c`.
    fn round_robin_forget_check(
        block: *mut ngx_http_upstream_srv_conf_t,
        pc: *const ngx_peer_connection_t,
    );
}

/// Which balancer a block uses, as far as nginx's own directives tell.
#[derive(Clone, Copy, Default)]
pub enum Balancer {
    /// The default, round robin.
    #[default]
    Default,
    /// A balancer of nginx's whose directive has set this `init_upstream`.
    Nginx(ngx_http_upstream_init_pt),
    /// Another module has set `init_upstream`: the type of its data is unknown.
    Foreign,
}

/// Returns the `init_upstream` of the block that is being read.
pub fn current(parser: ConfParser<'_>) -> ngx_http_upstream_init_pt {
    let module = parser.module(c"ngx_http_upstream_module")?.index();
    // SAFETY: this is the type of that module's server configuration.
    let block: NonNull<ngx_http_upstream_srv_conf_t> =
        unsafe { parser.configuration(Level::Server, module)? };
    // SAFETY: nginx makes the configuration before it reads the block's directives.
    unsafe { block.as_ref() }.peer.init_upstream
}

impl Balancer {
    /// Returns the balancer after one of nginx's directives has changed `init_upstream` from
    /// `before` to `after`. Some of these directives wrap the previous balancer.
    pub fn after_directive(
        self,
        before: ngx_http_upstream_init_pt,
        after: ngx_http_upstream_init_pt,
    ) -> Self {
        if self.is(before) { Self::Nginx(after) } else { Self::Foreign }
    }

    /// Returns whether the `init_upstream` of a block is that of this balancer.
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

/// Makes nginx draw no conclusion from the attempt at `peer`, which is about to be released:
/// neither that the server has failed, nor that a failed server has recovered. `balancer` is that
/// of the block.
pub fn forget_attempt(block: UpstreamBlock, peer: Peer<'_>, balancer: Balancer) {
    let block = block.as_ptr();
    // SAFETY: the block lives as long as its configuration.
    let has = unsafe { block.as_ref().peer.init_upstream };
    if balancer.is(has) {
        // SAFETY: the data of nginx's own balancers are such a list, and both pointers are valid.
        unsafe { round_robin_forget_check(block.as_ptr(), peer.as_ptr()) }
    }
}

/// Returns the addresses in the list of a request.
///
/// # Safety
/// `data` must be what nginx's `ngx_http_upstream_get_round_robin_peer` works on, with a list that
/// is not in shared memory.
pub unsafe fn addresses(data: *const c_void) -> Vec<Address> {
    // SAFETY: the caller ensures that the data are of this type.
    let list = unsafe { data.cast::<ngx_http_upstream_rr_peer_data_t>().as_ref() };
    // SAFETY: a list ends with NULL, and nothing changes it.
    let first = list.and_then(|list| unsafe { list.peers.as_ref() }).map(|list| list.peer);
    // SAFETY: a peer of the list is valid, and its `next` is the next one or NULL.
    let of = |peer: *mut ngx_http_upstream_rr_peer_t| unsafe { peer.as_ref() };
    successors(first.and_then(of), |peer| of(peer.next))
        .filter_map(|peer| {
            // SAFETY: the address of a peer has this length.
            Address::new(unsafe { slice(peer.sockaddr.cast::<u8>(), peer.socklen as usize) })
        })
        .collect()
}
