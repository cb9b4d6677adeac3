// SPDX-License-Identifier: Apache-2.0

//! The configuration of modules that pass requests to an upstream. That of a location begins with
//! an `ngx_http_upstream_conf_t`; what else is in it is private to its module, and differs between
//! versions of nginx.

use std::ffi::CStr;
use std::ptr::NonNull;

use ngx::ffi::{ngx_http_upstream_conf_t, ngx_str_t, ngx_uint_t};

use crate::nginx::conf_parser::{ConfParser, Level};
use crate::nginx::configuration::{ModuleIndex, bytes};
use crate::nginx::detour::{self, Detour};
use crate::nginx::pool::OutOfMemory;
use crate::nginx::request::Request;

/// A module that passes requests to an upstream.
#[derive(Clone, Copy)]
pub struct PassModule(ModuleIndex);

/// The modules whose configuration of a location is known to begin so.
const PASS_MODULES: [&CStr; 6] = [
    c"ngx_http_proxy_module",
    c"ngx_http_grpc_module",
    c"ngx_http_uwsgi_module",
    c"ngx_http_fastcgi_module",
    c"ngx_http_scgi_module",
    c"ngx_http_memcached_module",
];

impl PassModule {
    /// Returns the module `name`, if this nginx has it and it is one of these.
    pub fn find(parser: ConfParser<'_>, name: &CStr) -> Option<Self> {
        let module = parser.module(name).filter(|_| PASS_MODULES.contains(&name));
        module.map(|module| Self(module.index()))
    }

    /// Returns the module's configuration of the location that is being read or merged.
    pub fn of_parser(self, parser: ConfParser<'_>) -> Option<&ngx_http_upstream_conf_t> {
        // SAFETY: this is one of `PASS_MODULES`.
        unsafe { parser.upstream_conf(self.0) }
    }

    /// Sends the requests of the location that is being merged by the way of `T`.
    pub fn detour<T: Detour>(self, parser: ConfParser<'_>) -> Result<(), OutOfMemory> {
        // SAFETY: this is one of `PASS_MODULES`.
        match unsafe { parser.configuration(Level::Location, self.0) } {
            // SAFETY: the configuration is that of the location that is being merged.
            Some(conf) => unsafe { detour::install::<T>(parser, conf) },
            None => Ok(()),
        }
    }

    /// Returns the module's configuration of the location of `request`.
    pub fn of_request(self, request: Request<'_>) -> Option<NonNull<ngx_http_upstream_conf_t>> {
        // SAFETY: this is one of `PASS_MODULES`.
        unsafe { request.location_configuration(self.0) }
    }
}

/// A module that speaks TLS to an upstream.
pub struct TlsModule {
    pub name: &'static CStr,
    /// What the names of its TLS directives begin with.
    pub prefix: &'static str,
    pub trusted_certificate: &'static str,
    pub crl: &'static str,
    verify_depth: &'static str,
}

/// All modules that speak TLS to an upstream.
pub static TLS_MODULES: [TlsModule; 3] = [
    TlsModule {
        name: c"ngx_http_proxy_module",
        prefix: "proxy_ssl_",
        trusted_certificate: "proxy_ssl_trusted_certificate",
        crl: "proxy_ssl_crl",
        verify_depth: "proxy_ssl_verify_depth",
    },
    TlsModule {
        name: c"ngx_http_grpc_module",
        prefix: "grpc_ssl_",
        trusted_certificate: "grpc_ssl_trusted_certificate",
        crl: "grpc_ssl_crl",
        verify_depth: "grpc_ssl_verify_depth",
    },
    TlsModule {
        name: c"ngx_http_uwsgi_module",
        prefix: "uwsgi_ssl_",
        trusted_certificate: "uwsgi_ssl_trusted_certificate",
        crl: "uwsgi_ssl_crl",
        verify_depth: "uwsgi_ssl_verify_depth",
    },
];

/// What the location that is being merged says about whom it trusts.
pub struct WrittenTrust<'a> {
    pub trusted_certificate: Option<&'a [u8]>,
    pub crl: Option<&'a [u8]>,
    pub verify_depth: Option<usize>,
}

impl TlsModule {
    /// Returns whom the location that is being merged trusts.
    pub fn read<'a>(&self, parser: ConfParser<'a>) -> WrittenTrust<'a> {
        let file = |directive| {
            // SAFETY: nginx keeps the name of a file in an `ngx_str_t`, whose bytes live as long as
            // the configuration.
            let name = unsafe { bytes(self.value::<ngx_str_t>(parser, directive)?) };
            Some(name).filter(|name| !name.is_empty())
        };
        WrittenTrust {
            trusted_certificate: file(self.trusted_certificate),
            crl: file(self.crl),
            // SAFETY: nginx keeps a number in an `ngx_uint_t`.
            verify_depth: unsafe { self.value::<ngx_uint_t>(parser, self.verify_depth) },
        }
    }

    /// Returns the value of a directive, if this nginx has it.
    ///
    /// # Safety
    /// `T` must be what nginx keeps the value in.
    unsafe fn value<T: Copy>(&self, parser: ConfParser<'_>, directive: &str) -> Option<T> {
        let module = parser.module(self.name)?;
        let offset = module.location_offset(directive.as_bytes())?;
        // SAFETY: the value is at this offset of the module's configuration of the location, and
        // the caller ensures its type.
        unsafe {
            let conf = parser.configuration::<u8>(Level::Location, module.index())?;
            Some(conf.add(offset).cast::<T>().read())
        }
    }
}
