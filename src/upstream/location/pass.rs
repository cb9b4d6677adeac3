// SPDX-License-Identifier: Apache-2.0

//! The directives that send the requests of a location to an upstream: `proxy_pass` and similar.

use std::cell::Cell;
use std::ffi::CStr;

use crate::nginx::complex_value::{ComplexValue, EvaluationFailed};
use crate::nginx::configuration::Place;
use crate::nginx::request::Request;
use crate::nginx::request_handler::Handler;
use crate::nginx::upstream_conf::PassModule;
use crate::upstream::location::pass_url::{Destination, Scheme, Schemes};

/// A directive of nginx whose module's location configuration begins with an
/// `ngx_http_upstream_conf_t`.
pub struct PassDirective {
    /// The module of the directive.
    pub module: &'static CStr,
    pub name: &'static str,
    pub schemes: Schemes,
    /// The directive that turns verification on, for modules that support TLS.
    pub verify: Option<&'static str>,
}

/// The number of pass directives.
pub const COUNT: usize = 6;

/// All pass directives.
pub static PASS_DIRECTIVES: [PassDirective; COUNT] = [
    PassDirective {
        module: c"ngx_http_proxy_module",
        name: "proxy_pass",
        schemes: Schemes { plain: Some("http://"), tls: Some("https://") },
        verify: Some("proxy_ssl_verify"),
    },
    PassDirective {
        module: c"ngx_http_grpc_module",
        name: "grpc_pass",
        schemes: Schemes { plain: Some("grpc://"), tls: Some("grpcs://") },
        verify: Some("grpc_ssl_verify"),
    },
    PassDirective {
        module: c"ngx_http_uwsgi_module",
        name: "uwsgi_pass",
        schemes: Schemes { plain: Some("uwsgi://"), tls: Some("suwsgi://") },
        verify: Some("uwsgi_ssl_verify"),
    },
    PassDirective {
        module: c"ngx_http_fastcgi_module",
        name: "fastcgi_pass",
        schemes: Schemes { plain: None, tls: None },
        verify: None,
    },
    PassDirective {
        module: c"ngx_http_scgi_module",
        name: "scgi_pass",
        schemes: Schemes { plain: None, tls: None },
        verify: None,
    },
    PassDirective {
        module: c"ngx_http_memcached_module",
        name: "memcached_pass",
        schemes: Schemes { plain: None, tls: None },
        verify: None,
    },
];

/// A pass directive in a location.
pub struct Pass {
    pub directive: &'static PassDirective,
    /// The URL as written.
    pub url: String,
    pub scheme: Scheme,
    /// Whether the URL contains `$kong_upstream_target`.
    pub names_target: bool,
    /// The URL as a complex value, if it has variables.
    pub value: Option<ComplexValue>,
    pub place: Place,
    /// The module whose location configuration belongs to the directive.
    pub module: PassModule,
}

/// nginx's own content handlers for the pass directives.
#[derive(Default)]
pub struct Handlers(pub [Cell<Option<Handler>>; COUNT]);

impl Pass {
    /// Evaluates the URL for `request`, if it has variables.
    pub fn evaluate<'a>(
        &self,
        request: Request<'a>,
    ) -> Option<Result<Destination<'a>, EvaluationFailed>> {
        let value = self.value.as_ref()?;
        let schemes = self.directive.schemes;
        Some(value.evaluate(request).map(|url| Destination::of(url, schemes)))
    }
}
