// SPDX-License-Identifier: Apache-2.0

//! The `upstream {}` blocks of a configuration.

use crate::nginx::upstream_block::{InitPeer, UpstreamBlock};
use crate::upstream::settings::forwarding::UpstreamNames;

/// The blocks.
#[derive(Default)]
pub struct Blocks {
    /// How each begins to choose a peer, in ascending order of the blocks.
    balancers: Vec<(UpstreamBlock, InitPeer)>,
    /// Of those that are written in the configuration; nginx makes more of them.
    pub names: UpstreamNames,
}

impl Blocks {
    pub fn new(mut balancers: Vec<(UpstreamBlock, InitPeer)>, names: UpstreamNames) -> Self {
        balancers.sort_unstable_by_key(|(block, _)| *block);
        Self { balancers, names }
    }

    /// How `block` begins to choose a peer.
    pub fn balancer(&self, block: UpstreamBlock) -> Option<InitPeer> {
        let balancers = &self.balancers;
        let index = balancers.binary_search_by_key(&block, |(block, _)| *block).ok()?;
        balancers.get(index).map(|(_, init)| *init)
    }
}
