// SPDX-License-Identifier: Apache-2.0

//! `kong_tls_keepalive` of a location, for its peers that are in no `upstream {}` block: those of
//! `set_target`, and of other URLs with variables.

use crate::conf::{self, LocationConf};
use crate::nginx::detour::{Detour, Target, Way};
use crate::nginx::own_conf::OwnConf;
use crate::nginx::pool::OutOfMemory;
use crate::nginx::request::Request;
use crate::nginx::time;
use crate::nginx::upstream::Upstream;
use crate::upstream::peer::choice;
use crate::upstream::peer::keepalive::LookedUpName;

/// Sends requests by a way on which [`choice::PeerChoice`] takes part.
pub struct ByKeepalive;

impl Detour for ByKeepalive {
    fn way<'a>(request: Request<'a>, upstream: Upstream<'a>, target: Target<'a>) -> Option<Way> {
        let keepalive = LocationConf::of_request(request)?.keepalive()?;
        let (host, port) = (target.host(), target.port());
        let is_in_block = conf::blocks(request)?.has(host, port, target.has_no_port());
        if is_in_block || !upstream.uses_tls() {
            return None;
        }
        if target.is_address() {
            // nginx says so if a port is missing.
            return (port != 0 || target.is_unix()).then_some(Way::Address);
        }
        // A name that was not looked up lately is left to nginx, which connects as soon as it has
        // the addresses.
        let name = LookedUpName::of(request, target);
        keepalive.addresses_of(&name, time::monotonic()).map(Way::Known)
    }

    fn begin(request: Request<'_>, upstream: Upstream<'_>) -> Result<(), OutOfMemory> {
        choice::take_part_alone(request, upstream)
    }
}
