// SPDX-License-Identifier: Apache-2.0

//! The directives that send the requests of a location to an upstream: `proxy_pass` and its like.

use std::cell::Cell;
use std::ffi::CStr;

use ngx::ffi::{ngx_http_request_t, ngx_int_t};

use crate::nginx::complex_value::{ComplexValue, EvaluationFailed};
use crate::nginx::configuration::{ModuleIndex, Place};
use crate::nginx::request::Request;
use crate::upstream::location::pass_url::{Destination, Scheme, Schemes};

/// A directive of nginx whose module begins its configuration of a location with an
/// `ngx_http_upstream_conf_t`.
pub struct PassDirective {
    /// The module that has it.
    pub module: &'static CStr,
    pub name: &'static str,
    pub schemes: Schemes,
    /// The directive that has a service with TLS verified.
    pub verify: Option<&'static str>,
}

/// How many there are.
pub const COUNT: usize = 6;

/// All of them.
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

/// What a location has of these directives.
pub struct Pass {
    pub directive: &'static PassDirective,
    /// As it is written.
    pub url: String,
    pub scheme: Scheme,
    /// Whether it has `$kong_upstream_target` in it.
    pub names_target: bool,
    /// Where it has variables, the URL for a request.
    pub value: Option<ComplexValue>,
    pub place: Place,
    /// Where the configuration of the directive's module is.
    pub module: ModuleIndex,
}

/// A content handler.
pub type Handler = unsafe extern "C" fn(*mut ngx_http_request_t) -> ngx_int_t;

/// The content handlers that nginx has for the directives.
#[derive(Default)]
pub struct Handlers(pub [Cell<Option<Handler>>; COUNT]);

impl Pass {
    /// Where the request is to go, if that is said by variables.
    pub fn evaluate<'a>(
        &self,
        request: Request<'a>,
    ) -> Option<Result<Destination<'a>, EvaluationFailed>> {
        let value = self.value.as_ref()?;
        let schemes = self.directive.schemes;
        Some(value.evaluate(request).map(|url| Destination::of(url, schemes)))
    }
}
