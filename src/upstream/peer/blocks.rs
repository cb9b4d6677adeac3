// SPDX-License-Identifier: Apache-2.0

//! The `upstream {}` blocks of a configuration.

use crate::nginx::upstream_block::{InitPeer, UpstreamBlock};
use crate::upstream::settings::forwarding::UpstreamNames;

/// The `upstream {}` blocks of a configuration, including those that nginx makes implicitly.
#[derive(Default)]
pub struct Blocks {
    /// The original `peer.init` function of each block, sorted by block.
    balancers: Vec<(UpstreamBlock, InitPeer)>,
    /// The names of the blocks written in the configuration, without nginx's implicit ones.
    pub names: UpstreamNames,
}

impl Blocks {
    pub fn new(mut balancers: Vec<(UpstreamBlock, InitPeer)>, names: UpstreamNames) -> Self {
        balancers.sort_unstable_by_key(|(block, _)| *block);
        Self { balancers, names }
    }

    /// Returns whether nginx takes one of the blocks for this host of a URL with variables.
    pub fn has(&self, host: &[u8], port: u16, has_no_port: bool) -> bool {
        self.balancers.iter().any(|(block, _)| block.is_for(host, port, has_no_port))
    }

    /// Returns the original `peer.init` function of `block`.
    pub fn balancer(&self, block: UpstreamBlock) -> Option<InitPeer> {
        let balancers = &self.balancers;
        let index = balancers.binary_search_by_key(&block, |(block, _)| *block).ok()?;
        balancers.get(index).map(|(_, init)| *init)
    }
}
