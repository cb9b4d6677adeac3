// SPDX-License-Identifier: Apache-2.0

//! Hooks into locations: intercepts the directives that send their requests to an upstream, and the
//! handshakes of their TLS contexts.
//!
//! nginx does not expose what it makes of a pass directive: whether `proxy_pass https://$name` uses
//! TLS can't be seen from outside. So this module wraps the pass directives while the configuration
//! is read, records their arguments, and replaces the content handler that they give to the
//! location.

use std::ffi::CStr;
use std::path::PathBuf;
use std::ptr;
use std::rc::Rc;

use ngx::ffi::ngx_http_handler_pt;

use crate::conf::{LocationConf, MainConf};
use crate::nginx::complex_value::{CompilationFailed, ComplexValue};
use crate::nginx::conf_parser::ConfParser;
use crate::nginx::directive::{ForeignDirective, Read, ReadAlong};
use crate::nginx::own_conf::OwnConf;
use crate::nginx::pool::OutOfMemory;
use crate::nginx::request_handler::{Handler, handle};
use crate::nginx::upstream::tls_context;
use crate::nginx::upstream_conf::{PassModule, TLS_MODULES, TlsModule, WrittenTrust};
use crate::openssl::error::SslError;
use crate::openssl::store::InvalidFile;
use crate::upstream::handshake::context::{ContextState, InstallError};
use crate::upstream::handshake::hook;
use crate::upstream::handshake::trust::{
    FileStore, Files, LocationTrust, ReadFiles, TrustedFiles, UnreadableFiles,
};
use crate::upstream::location::content::Content;
use crate::upstream::location::enforcement::Violation;
use crate::upstream::location::pass::{COUNT, PASS_DIRECTIVES, Pass};
use crate::upstream::location::pass_url::{Scheme, has_variable};
use crate::upstream::peer::targets::ByKeepalive;

/// The content handlers that replace those of [`PASS_DIRECTIVES`].
const HANDLERS: [Handler; COUNT] = [
    handle::<Content<0>>,
    handle::<Content<1>>,
    handle::<Content<2>>,
    handle::<Content<3>>,
    handle::<Content<4>>,
    handle::<Content<5>>,
];

struct PassDirectives;

impl ReadAlong for PassDirectives {
    fn directives() -> &'static [ForeignDirective] {
        static DIRECTIVES: [ForeignDirective; COUNT] = {
            const fn foreign(number: usize) -> ForeignDirective {
                ForeignDirective::new(PASS_DIRECTIVES[number].module, PASS_DIRECTIVES[number].name)
            }
            [foreign(0), foreign(1), foreign(2), foreign(3), foreign(4), foreign(5)]
        };
        &DIRECTIVES
    }

    fn read(parser: ConfParser<'_>, number: usize, read: impl FnOnce() -> Read) -> Read {
        match read() {
            Read::Done if note(parser, number).is_err() => Read::Failed,
            result => result,
        }
    }
}

/// Wraps the pass directives. To be called in *preconfiguration*.
pub fn preconfiguration(parser: ConfParser<'_>) {
    PassDirectives::wrap(parser);
}

/// Restores the pass directives. To be called in *postconfiguration*.
pub fn postconfiguration(parser: ConfParser<'_>) {
    PassDirectives::restore(parser);
}

/// Records the pass directive that nginx has just read for its location.
fn note(parser: ConfParser<'_>, number: usize) -> Result<(), CompilationFailed> {
    let directive = &PASS_DIRECTIVES[number];
    let (Some(main_conf), Some(location), Some(core), Some(module)) = (
        MainConf::of_parser(parser),
        LocationConf::of_parser(parser),
        parser.location(),
        PassModule::find(parser, directive.module),
    ) else {
        return Ok(());
    };
    let url = parser.arguments().first().copied().unwrap_or_default();
    let value = url.contains(&b'$').then(|| ComplexValue::compile(parser, url)).transpose()?;
    let pass = Pass {
        directive,
        url: String::from_utf8_lossy(url).into_owned(),
        scheme: Scheme::of(url, directive.schemes.tls),
        names_target: has_variable(url, b"kong_upstream_target"),
        value,
        place: parser.place(),
        module,
    };
    location.passes.borrow_mut()[number] = Some(Rc::new(pass));
    main_conf.pass_handlers.0[number].set(core.handler());
    core.set_handler(Some(HANDLERS[number]));
    Ok(())
}

/// What is wrong with a location.
#[derive(Debug)]
pub enum InvalidLocation {
    /// The location violates `kong_tls_certificate_verify`.
    Violation(Violation),
    /// The location could not be prepared.
    Error(LocationError),
}

/// Completes the module's configuration of the location that is being merged, checks it, and hooks
/// into its handshakes. To be called after nginx's own modules have merged their configurations.
pub fn merge_loc_conf(
    parser: ConfParser<'_>,
    around: &LocationConf,
    location: &LocationConf,
) -> Result<(), InvalidLocation> {
    let Some(main_conf) = MainConf::of_parser(parser) else {
        return Ok(());
    };
    location.enforcement.merge(&around.enforcement).map_err(InvalidLocation::Violation)?;
    location.inherit(around);
    merge_passes(parser, main_conf, around, location).map_err(InvalidLocation::Violation)?;
    hook_handshakes(parser, &mut main_conf.trusted_files.borrow_mut(), location)
        .and_then(|()| keep_connections(parser, location))
        .map_err(InvalidLocation::Error)
}

/// Keeps the connections to peers of the location that are in no `upstream {}` block, if it has
/// `kong_tls_keepalive`.
fn keep_connections(parser: ConfParser<'_>, location: &LocationConf) -> Result<(), LocationError> {
    if location.keepalive().is_none() {
        return Ok(());
    }
    for pass in location.passes.borrow().iter().flatten() {
        if pass.value.is_some() && pass.directive.schemes.tls.is_some() {
            pass.module.detour::<ByKeepalive>(parser)?;
        }
    }
    Ok(())
}

/// Replaces nginx's content handlers of the location by this module's, and checks that enforced
/// verification holds for its pass directives.
fn merge_passes(
    parser: ConfParser<'_>,
    main_conf: &MainConf,
    around: &LocationConf,
    location: &LocationConf,
) -> Result<(), Violation> {
    let Some(core) = parser.location() else {
        return Ok(());
    };
    let around = around.passes.borrow();
    let mut passes = location.passes.borrow_mut();
    for (number, handler) in HANDLERS.into_iter().enumerate() {
        if core.is_part_of_another() && passes[number].is_none() {
            passes[number].clone_from(&around[number]);
        }
        let Some(pass) = &passes[number] else {
            continue;
        };
        // When nginx merges a `limit_except` block, it gives it its own handler.
        if is_same(core.handler(), main_conf.pass_handlers.0[number].get()) {
            core.set_handler(Some(handler));
        }
        if is_same(core.handler(), Some(handler)) {
            let upstream = pass.module.of_parser(parser);
            let verifies = upstream.is_some_and(|upstream| upstream.ssl_verify == 1);
            let name = String::from_utf8_lossy(core.name());
            location.enforcement.check(&name, pass, verifies)?;
        }
    }
    Ok(())
}

fn is_same(one: ngx_http_handler_pt, other: ngx_http_handler_pt) -> bool {
    one.zip(other).is_some_and(|(one, other)| ptr::fn_addr_eq(one, other))
}

/// Why a location could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum LocationError {
    /// Reading its trusted certificates or revocation lists failed.
    #[error("cannot load \"{directive}\" \"{}\": {error}", file.display())]
    Trust { directive: &'static str, file: PathBuf, error: SslError, has_lists: bool },
    /// Hooking into its TLS context failed.
    #[error("TLS context of {}: {error}", module.to_string_lossy())]
    Context { module: &'static CStr, error: SslError },
    /// Out of memory.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// Hooks into the handshakes of the location that is being merged, and notes what decides its TLS
/// contexts. nginx calls this for every location, including `if` blocks, after the modules above
/// have made their contexts: they are built into nginx, and loaded modules come after built-in
/// ones.
fn hook_handshakes(
    parser: ConfParser<'_>,
    files: &mut TrustedFiles,
    location: &LocationConf,
) -> Result<(), LocationError> {
    let is_enforced = location.enforcement.is_enforced();
    let has_lua = location.lua_handshake.get().is_some();
    for (tls_module, written) in TLS_MODULES.iter().zip(&location.written_tls) {
        let module = PassModule::find(parser, tls_module.name);
        let Some(upstream) = module.and_then(|module| module.of_parser(parser)) else {
            continue;
        };
        let Some(context) = tls_context(upstream) else {
            continue;
        };
        // An `if` block shares the context of its enclosing location. Since nginx 1.23.0, all
        // locations without TLS directives share one.
        if ContextState::of(context).is_none() {
            let verifies = upstream.ssl_verify != 0;
            let trust = if verifies {
                LocationTrust::default()
            } else {
                trust(parser, files, tls_module, is_enforced)?
            };
            hook::install(parser.pool(), context, trust).map_err(|error| match error {
                InstallError::Ssl(error) => {
                    LocationError::Context { module: tls_module.name, error }
                }
                InstallError::OutOfMemory(error) => LocationError::OutOfMemory(error),
            })?;
        }
        if let Some(state) = ContextState::of(context) {
            let id = state.id(tls_module.name, written.in_effect(), has_lua);
            location.contexts.note(context, id);
        }
    }
    Ok(())
}

/// Warns about unreadable files.
fn unreadable(parser: ConfParser<'_>, error: &LocationError) -> UnreadableFiles {
    parser.warning(format_args!("{error}; requests that want the service verified are refused"));
    let has_lists = matches!(error, LocationError::Trust { has_lists: true, .. });
    UnreadableFiles { error: error.to_string(), has_lists }
}

/// Returns what the location that is being merged trusts. Where verification is enforced,
/// unreadable files are an error.
fn trust(
    parser: ConfParser<'_>,
    files: &mut TrustedFiles,
    module: &TlsModule,
    is_enforced: bool,
) -> Result<LocationTrust, LocationError> {
    let written = module.read(parser);
    let verify_depth = written.verify_depth;
    let files = match store(parser, files, module, written)? {
        Ok(None) => ReadFiles::None,
        Ok(Some(store)) => ReadFiles::Store(store),
        Err(error) if is_enforced => return Err(error),
        Err(error) => ReadFiles::Unreadable(unreadable(parser, &error)),
    };
    let verify_depth = verify_depth.map(|depth| u32::try_from(depth).unwrap_or(u32::MAX));
    Ok(LocationTrust { files, verify_depth })
}

/// The store made of a location's files, `None` if it has none, or why they can't be read.
type ReadStore = Result<Option<Rc<FileStore>>, LocationError>;

/// Returns the store of the location that is being merged.
fn store(
    parser: ConfParser<'_>,
    files: &mut TrustedFiles,
    module: &TlsModule,
    written: WrittenTrust<'_>,
) -> Result<ReadStore, LocationError> {
    let WrittenTrust { trusted_certificate, crl, verify_depth: _ } = written;
    let file = |name: Option<&[u8]>| {
        name.map(|name| parser.full_name(name).ok_or(LocationError::OutOfMemory(OutOfMemory)))
            .transpose()
    };
    let named = Files { trusted: file(trusted_certificate)?, revoked: file(crl)? };

    let has_lists = named.revoked.is_some();
    Ok(files.store(named.clone()).map_err(|error| {
        let (directive, file, error) = match error {
            InvalidFile::Trusted(error) => (module.trusted_certificate, named.trusted, error),
            InvalidFile::Revoked(error) => (module.crl, named.revoked, error),
        };
        LocationError::Trust { directive, file: file.unwrap_or_default(), error, has_lists }
    }))
}
