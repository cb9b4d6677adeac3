// SPDX-License-Identifier: Apache-2.0

//! Detects the directives that give an `upstream {}` block one of nginx's balancers other than the
//! default one, and `keepalive`.

use crate::conf::ServerConf;
use crate::nginx::conf_parser::ConfParser;
use crate::nginx::directive::{ForeignDirective, Read, ReadAlong};
use crate::nginx::own_conf::OwnConf;
use crate::nginx::round_robin;

/// The number of `keepalive` in the list below. It is detected while parsing: since nginx 1.29.7
/// its defaults make it indistinguishable afterwards.
const KEEPALIVE: usize = 0;

struct Balancers;

impl ReadAlong for Balancers {
    fn directives() -> &'static [ForeignDirective] {
        static DIRECTIVES: [ForeignDirective; 7] = [
            ForeignDirective::new(c"ngx_http_upstream_keepalive_module", "keepalive"),
            ForeignDirective::new(c"ngx_http_upstream_hash_module", "hash"),
            ForeignDirective::new(c"ngx_http_upstream_ip_hash_module", "ip_hash"),
            ForeignDirective::new(c"ngx_http_upstream_least_conn_module", "least_conn"),
            ForeignDirective::new(c"ngx_http_upstream_least_time_module", "least_time"),
            ForeignDirective::new(c"ngx_http_upstream_random_module", "random"),
            ForeignDirective::new(c"ngx_http_upstream_sticky_module", "sticky"),
        ];
        &DIRECTIVES
    }

    fn read(parser: ConfParser<'_>, number: usize, read: impl FnOnce() -> Read) -> Read {
        let before = round_robin::current(parser);
        let result = read();
        if let (Read::Done, Some(block)) = (result, ServerConf::of_parser(parser)) {
            let balancer = block.balancer.get();
            block.balancer.set(balancer.after_directive(before, round_robin::current(parser)));
            if number == KEEPALIVE {
                block.nginx_keepalive.set(true);
            }
        }
        result
    }
}

/// Wraps the directives. To be called in *preconfiguration*.
pub fn preconfiguration(parser: ConfParser<'_>) {
    Balancers::wrap(parser);
}

/// Restores the directives. To be called in *postconfiguration*.
pub fn postconfiguration(parser: ConfParser<'_>) {
    Balancers::restore(parser);
}
