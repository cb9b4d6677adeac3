//! How nginx counts the failures of the servers of an `upstream {}` block.
//!
//! nginx's own balancers have the list of servers in common (`ngx_http_upstream_rr_peers_t`). That a block
//! has one of them, and not another module's, is known from its directives.

use std::ptr::{self, NonNull};

use ngx::ffi::{
    ngx_conf_t, ngx_http_upstream_init_pt, ngx_http_upstream_init_round_robin,
    ngx_http_upstream_srv_conf_t, ngx_int_t, ngx_peer_connection_t,
};

use super::configuration::{self, Module};
use super::peer::Peer;

unsafe extern "C" {
    /// `bitfields.c`
    fn round_robin_forget_check(
        block: *mut ngx_http_upstream_srv_conf_t,
        pc: *const ngx_peer_connection_t,
    );
}

/// What makes the list of servers of a block.
pub type Balancer = ngx_http_upstream_init_pt;

/// What the block that is being read has, after one of nginx's directives for that.
///
/// # Safety
/// `cf` must be valid, and inside `upstream {}`.
pub unsafe fn current_balancer(cf: *mut ngx_conf_t) -> Option<Balancer> {
    // SAFETY: by contract.
    unsafe {
        let module = Module::find(cf, c"ngx_http_upstream_module")?.index();
        let block: NonNull<ngx_http_upstream_srv_conf_t> =
            module.of(configuration::context(cf).srv_conf)?;
        Some(block.as_ref().peer.init_upstream)
    }
}

/// Makes the attempt at `peer`, which is about to be released, say nothing of it: it was no failure, and no
/// proof that a server which had failed is well again.
///
/// `known` is what one of nginx's directives has given to the block.
///
/// # Safety
/// `block` must be valid, and that of the peer.
pub unsafe fn forget_attempt(
    block: NonNull<ngx_http_upstream_srv_conf_t>,
    peer: Peer<'_>,
    known: Balancer,
) {
    // SAFETY: by contract.
    let has = unsafe { block.as_ref().peer.init_upstream };
    let default: unsafe extern "C" fn(
        *mut ngx_conf_t,
        *mut ngx_http_upstream_srv_conf_t,
    ) -> ngx_int_t = ngx_http_upstream_init_round_robin;
    let is_nginx = has.is_none_or(|has| {
        ptr::fn_addr_eq(has, default) || known.is_some_and(|known| ptr::fn_addr_eq(has, known))
    });
    if is_nginx {
        // SAFETY: a block with a balancer of nginx's has that list.
        unsafe { round_robin_forget_check(block.as_ptr(), peer.as_ptr()) }
    }
}
