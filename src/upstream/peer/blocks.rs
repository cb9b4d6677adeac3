//! The `upstream {}` blocks of a configuration.

use ngx::ffi::{ngx_http_upstream_init_peer_pt, ngx_http_upstream_srv_conf_t};

use crate::upstream::settings::forwarding::UpstreamNames;

/// The `upstream {}` blocks of a configuration.
#[derive(Default)]
pub struct Blocks {
    /// How each chooses a peer, by the address of the block, in ascending order.
    balancers: Vec<(usize, ngx_http_upstream_init_peer_pt)>,
    /// Of those that are written in the configuration; nginx makes more of them.
    pub names: UpstreamNames,
}

impl Blocks {
    pub fn new(
        mut balancers: Vec<(usize, ngx_http_upstream_init_peer_pt)>,
        names: UpstreamNames,
    ) -> Self {
        balancers.sort_unstable_by_key(|(block, _)| *block);
        Self { balancers, names }
    }

    /// How `block` chooses a peer.
    pub fn balancer(
        &self,
        block: *mut ngx_http_upstream_srv_conf_t,
    ) -> ngx_http_upstream_init_peer_pt {
        let balancers = &self.balancers;
        let index = balancers.binary_search_by_key(&(block as usize), |(block, _)| *block).ok()?;
        balancers.get(index).and_then(|(_, init)| *init)
    }
}
