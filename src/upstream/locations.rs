//! The locations whose upstream handshakes are ours to shape.

use std::ffi::CStr;
use std::fmt;
use std::ptr::NonNull;

use ngx::ffi::{ngx_conf_t, ngx_http_upstream_conf_t};

use super::handshake;
use crate::nginx::configuration::{self, ModuleIndex};
use crate::openssl::error::SslError;

/// The modules of nginx that speak TLS to an upstream. The configuration of each for a location
/// begins with an `ngx_http_upstream_conf_t`.
const UPSTREAM_MODULES: &[&CStr] =
    &[c"ngx_http_proxy_module", c"ngx_http_grpc_module", c"ngx_http_uwsgi_module"];

/// A location that could not be prepared.
#[derive(Debug)]
pub struct LocationError {
    module: &'static CStr,
    error: SslError,
}

impl fmt::Display for LocationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TLS context of {}: {}", self.module.to_string_lossy(), self.error)
    }
}

/// Hooks into the handshakes of the location that is being merged. nginx calls it for every
/// location, `if` blocks included, after the modules above have made their TLS contexts: they are
/// part of nginx, and modules that are loaded come after those.
///
/// # Safety
/// `cf` must be valid, and in the merge of a location.
pub unsafe fn merge_loc_conf(cf: *mut ngx_conf_t) -> Result<(), LocationError> {
    for module in UPSTREAM_MODULES {
        // SAFETY: the location's configuration of these modules begins with this type. The context
        // in it, where there is one, is owned by the configuration.
        unsafe {
            let context = ModuleIndex::find(cf, module)
                .and_then(|index| {
                    index.of::<ngx_http_upstream_conf_t>(configuration::context(cf).loc_conf)
                })
                .and_then(|upstream| NonNull::new(upstream.as_ref().ssl))
                .and_then(|ssl| NonNull::new(ssl.as_ref().ctx.cast()));
            if let Some(context) = context {
                handshake::install(context).map_err(|error| LocationError { module, error })?;
            }
        }
    }
    Ok(())
}
