//! The locations whose upstream handshakes are ours to shape.

use std::ffi::CStr;
use std::fmt;
use std::path::PathBuf;
use std::ptr::NonNull;
use std::rc::Rc;

use ngx::ffi::{ngx_conf_t, ngx_http_upstream_conf_t, ngx_str_t, ngx_uint_t};
use openssl::x509::store::{X509Store, X509StoreRef};

use crate::nginx::configuration::{self, Module, bytes, full_name};
use crate::nginx::log::configuration_warning;
use crate::nginx::pool::{OutOfMemory, Pool};
use crate::nginx::upstream::tls_context;
use crate::openssl::error::SslError;
use crate::openssl::store::{self, InvalidFile};
use crate::upstream::handshake::hook;

/// A module of nginx that speaks TLS to an upstream. Its configuration for a location begins with
/// an `ngx_http_upstream_conf_t`; where the rest is, its directives tell.
struct UpstreamModule {
    name: &'static CStr,
    trusted_certificate: &'static str,
    crl: &'static str,
    verify_depth: &'static str,
}

const UPSTREAM_MODULES: &[UpstreamModule] = &[
    UpstreamModule {
        name: c"ngx_http_proxy_module",
        trusted_certificate: "proxy_ssl_trusted_certificate",
        crl: "proxy_ssl_crl",
        verify_depth: "proxy_ssl_verify_depth",
    },
    UpstreamModule {
        name: c"ngx_http_grpc_module",
        trusted_certificate: "grpc_ssl_trusted_certificate",
        crl: "grpc_ssl_crl",
        verify_depth: "grpc_ssl_verify_depth",
    },
    UpstreamModule {
        name: c"ngx_http_uwsgi_module",
        trusted_certificate: "uwsgi_ssl_trusted_certificate",
        crl: "uwsgi_ssl_crl",
        verify_depth: "uwsgi_ssl_verify_depth",
    },
];

/// What a location trusts. nginx gives it to the TLS context only where verification is on; a
/// request that turns it on needs it too.
#[derive(Default)]
pub struct LocationTrust {
    /// `proxy_ssl_trusted_certificate` and `proxy_ssl_crl`
    pub files: ReadFiles,
    /// `proxy_ssl_verify_depth`
    pub verify_depth: Option<u32>,
}

/// What was read of the files of a location.
#[derive(Default)]
pub enum ReadFiles {
    /// There are none.
    #[default]
    None,
    Store(Rc<X509Store>),
    /// They can't be read. nginx does not read them either where nobody verifies, and a request
    /// that does is refused.
    Unreadable(Unreadable),
}

/// Files that could not be read.
#[derive(Debug)]
pub struct Unreadable {
    error: String,
    /// Whether lists of what is revoked are among them: they would count for any store.
    has_lists: bool,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)
    }
}

impl LocationTrust {
    /// The store of the location, for a request that has a store of its own, or none; or why it
    /// can't be had.
    pub fn store(&self, has_own_store: bool) -> Result<Option<&X509StoreRef>, &Unreadable> {
        match &self.files {
            ReadFiles::None => Ok(None),
            ReadFiles::Store(store) => Ok(Some(store)),
            ReadFiles::Unreadable(Unreadable { has_lists: false, .. }) if has_own_store => Ok(None),
            ReadFiles::Unreadable(unreadable) => Err(unreadable),
        }
    }
}

/// The files that a store is read from: of certificates, and of revocation lists.
#[derive(Clone, PartialEq)]
struct Files {
    trusted: Option<PathBuf>,
    revoked: Option<PathBuf>,
}

/// The stores that were read for this configuration: many locations name the same files.
#[derive(Default)]
pub struct TrustedFiles(Vec<(Files, Rc<X509Store>)>);

impl TrustedFiles {
    /// `None` where there are no files.
    fn store(&mut self, files: Files) -> Result<Option<Rc<X509Store>>, InvalidFile> {
        let Files { trusted, revoked } = &files;
        // Lists alone are for a store that a request sets.
        if trusted.is_none() && revoked.is_none() {
            return Ok(None);
        }
        if let Some((_, store)) = self.0.iter().find(|(known, _)| *known == files) {
            return Ok(Some(Rc::clone(store)));
        }
        let store = Rc::new(store::from_files(trusted.as_deref(), revoked.as_deref())?);
        self.0.push((files, Rc::clone(&store)));
        Ok(Some(store))
    }
}

/// A location that could not be prepared.
#[derive(Debug)]
pub enum LocationError {
    /// Of the files that it trusts.
    Trust { directive: &'static str, file: PathBuf, error: SslError, has_lists: bool },
    /// Of its TLS context.
    Context { module: &'static CStr, error: SslError },
    /// No memory.
    OutOfMemory(OutOfMemory),
}

impl fmt::Display for LocationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trust { directive, file, error, has_lists: _ } => {
                write!(f, "cannot load \"{directive}\" \"{}\": {error}", file.display())
            }
            Self::Context { module, error } => {
                write!(f, "TLS context of {}: {error}", module.to_string_lossy())
            }
            Self::OutOfMemory(error) => error.fmt(f),
        }
    }
}

/// Hooks into the handshakes of the location that is being merged. Where verification is enforced,
/// files that can't be read are an error of the configuration. nginx calls it for every
/// location, `if` blocks included, after the modules above have made their TLS contexts: they are
/// part of nginx, and modules that are loaded come after those.
///
/// # Safety
/// `cf` must be valid, and in the merge of a location.
pub unsafe fn merge_loc_conf(
    cf: *mut ngx_conf_t,
    files: &mut TrustedFiles,
    is_enforced: bool,
) -> Result<(), LocationError> {
    for upstream_module in UPSTREAM_MODULES {
        // SAFETY: the location's configuration of these modules begins with this type. The context
        // in it, where there is one, is owned by the configuration.
        unsafe {
            let Some(module) = Module::find(cf, upstream_module.name) else {
                continue;
            };
            let Some(upstream) =
                module.index().of::<ngx_http_upstream_conf_t>(configuration::context(cf).loc_conf)
            else {
                continue;
            };
            let Some(context) = tls_context(upstream) else {
                continue;
            };
            if hook::is_installed(context) {
                // An `if` block shares the context of the location around it, and since nginx
                // 1.23.0 all that say nothing of TLS share one.
                continue;
            }
            let trust = if upstream.as_ref().ssl_verify == 0 {
                let (files, verify_depth) = trust(cf, files, module, upstream_module, upstream)?;
                let files = match files {
                    Ok(None) => ReadFiles::None,
                    Ok(Some(store)) => ReadFiles::Store(store),
                    Err(error) if is_enforced => return Err(error),
                    Err(error) => ReadFiles::Unreadable(unreadable(cf, &error)),
                };
                LocationTrust { files, verify_depth }
            } else {
                LocationTrust::default()
            };
            let pool = NonNull::new((*cf).pool).map(|pool| Pool::from_ptr(pool));
            let pool = pool.ok_or(LocationError::OutOfMemory(OutOfMemory))?;
            hook::install(pool, context, trust).map_err(|error| match error {
                hook::InstallError::Ssl(error) => {
                    LocationError::Context { module: upstream_module.name, error }
                }
                hook::InstallError::OutOfMemory(error) => LocationError::OutOfMemory(error),
            })?;
        }
    }
    Ok(())
}

/// Warns of files that can't be read.
///
/// # Safety
/// `cf` must be valid.
unsafe fn unreadable(cf: *mut ngx_conf_t, error: &LocationError) -> Unreadable {
    // SAFETY: by contract.
    unsafe {
        configuration_warning(
            cf,
            format_args!("{error}; requests that want the service verified are refused"),
        );
    }
    let has_lists = matches!(error, LocationError::Trust { has_lists: true, .. });
    Unreadable { error: error.to_string(), has_lists }
}

/// A store made of files, if there are any and they can be read.
type ReadStore = Result<Option<Rc<X509Store>>, LocationError>;

/// What the location with the configuration `upstream` trusts, if that can be read, and its depth.
///
/// # Safety
/// `cf` must be valid, and `upstream` the configuration of `module`.
unsafe fn trust(
    cf: *mut ngx_conf_t,
    files: &mut TrustedFiles,
    module: Module<'_>,
    upstream_module: &UpstreamModule,
    upstream: NonNull<ngx_http_upstream_conf_t>,
) -> Result<(ReadStore, Option<u32>), LocationError> {
    let UpstreamModule { name: _, trusted_certificate, crl, verify_depth } = *upstream_module;

    // SAFETY: a directive of nginx that takes a file has a string at its offset, and this one that
    // takes a number has an `ngx_uint_t`. Both are merged.
    let (named, verify_depth) = unsafe {
        let file = |directive: &str| {
            let name = module
                .location_offset(directive.as_bytes())
                .map(|offset| bytes(upstream.byte_add(offset).cast::<ngx_str_t>().read()))
                .filter(|name| !name.is_empty());
            name.map(|name| full_name(cf, name).ok_or(LocationError::OutOfMemory(OutOfMemory)))
                .transpose()
        };
        let depth = module
            .location_offset(verify_depth.as_bytes())
            .map(|offset| upstream.byte_add(offset).cast::<ngx_uint_t>().read());
        (Files { trusted: file(trusted_certificate)?, revoked: file(crl)? }, depth)
    };

    let has_lists = named.revoked.is_some();
    let store = files.store(named.clone()).map_err(|error| {
        let (directive, file, error) = match error {
            InvalidFile::Trusted(error) => (trusted_certificate, named.trusted, error),
            InvalidFile::Revoked(error) => (crl, named.revoked, error),
        };
        LocationError::Trust { directive, file: file.unwrap_or_default(), error, has_lists }
    });
    let verify_depth = verify_depth.map(|depth| u32::try_from(depth).unwrap_or(u32::MAX));
    Ok((store, verify_depth))
}
