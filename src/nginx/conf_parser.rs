// SPDX-License-Identifier: Apache-2.0

//! nginx's parser of its configuration (`ngx_conf_t`), inside of `http {}`.

use std::ffi::{CStr, OsStr, c_char};
use std::fmt;
use std::marker::PhantomData;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr::{self, NonNull};

use ngx::ffi::{
    NGX_LOG_EMERG, NGX_LOG_WARN, NGX_OK, ngx_conf_full_name, ngx_conf_t, ngx_http_conf_ctx_t,
    ngx_http_core_loc_conf_t, ngx_http_handler_pt, ngx_http_upstream_conf_t, ngx_int_t, ngx_str_t,
};
use ngx::{ngx_conf_log_error, ngx_log_error};

use crate::nginx::bitfields;
use crate::nginx::configuration::{Module, ModuleIndex, Place, bytes, elements};
use crate::nginx::pool::Pool;

/// nginx's constant, which is a cast that the bindings lack.
pub const NGX_CONF_OK: *mut c_char = ptr::null_mut();
/// As [`NGX_CONF_OK`].
pub const NGX_CONF_ERROR: *mut c_char = ptr::without_provenance_mut(usize::MAX);

/// The parser: where nginx is in the configuration, and what it has made of it so far.
#[derive(Clone, Copy)]
pub struct ConfParser<'a>(NonNull<ngx_conf_t>, PhantomData<&'a ngx_conf_t>);

/// The arrays of the modules' configurations that are current.
#[derive(Clone, Copy)]
pub enum Level {
    /// `http {}`
    Main,
    /// `server {}`, or `upstream {}`.
    Server,
    Location,
}

impl<'a> ConfParser<'a> {
    /// # Safety
    /// `cf` must be valid for `'a`, and inside of `http {}`: nginx's own, in a callback.
    pub unsafe fn from_ptr(cf: *mut ngx_conf_t) -> Self {
        // SAFETY: a valid pointer is not NULL.
        Self(unsafe { NonNull::new_unchecked(cf) }, PhantomData)
    }

    pub fn as_ptr(self) -> *mut ngx_conf_t {
        self.0.as_ptr()
    }

    /// The pool of the configuration.
    pub fn pool(self) -> Pool<'a> {
        // SAFETY: a parser has a pool, which lives as long as the configuration.
        unsafe { Pool::from_ptr(NonNull::new_unchecked((*self.as_ptr()).pool)) }
    }

    /// The HTTP module `name`, if this nginx has it.
    pub fn module(self, name: &CStr) -> Option<Module<'a>> {
        // SAFETY: a parser has a cycle, and that its modules.
        unsafe { Module::find((*(*self.as_ptr()).cycle).modules, name) }
    }

    /// What a module keeps at a level.
    ///
    /// # Safety
    /// `T` must be what the module with `index` keeps there.
    pub unsafe fn configuration<T>(self, level: Level, index: ModuleIndex) -> Option<NonNull<T>> {
        // SAFETY: inside of `http {}`, nginx sets `ctx` to its `ngx_http_conf_ctx_t`.
        unsafe {
            let context: &ngx_http_conf_ctx_t = &*(*self.as_ptr()).ctx.cast();
            index.of(match level {
                Level::Main => context.main_conf,
                Level::Server => context.srv_conf,
                Level::Location => context.loc_conf,
            })
        }
    }

    /// What one of nginx's modules that send requests to an upstream keeps for the location: it
    /// begins with this type.
    ///
    /// # Safety
    /// The module with `index` must be one of these.
    pub unsafe fn upstream_conf(self, index: ModuleIndex) -> Option<&'a ngx_http_upstream_conf_t> {
        // SAFETY: the caller vouches for the type. It lives as long as the configuration.
        unsafe { Some(self.configuration(Level::Location, index)?.as_ref()) }
    }

    /// The location that is being read or merged.
    pub fn location(self) -> Option<CoreLocation<'a>> {
        let core = self.module(c"ngx_http_core_module")?.index();
        // SAFETY: it is the type of the core module.
        let location = unsafe { self.configuration(Level::Location, core)? };
        Some(CoreLocation(location, PhantomData))
    }

    /// The arguments of the directive that is being read.
    pub fn arguments(self) -> Vec<&'a [u8]> {
        // SAFETY: nginx keeps the words of a directive, its name first, in an array of strings, in
        // the pool of the configuration; there is none before the first directive.
        unsafe {
            let Some(words) = (*self.as_ptr()).args.as_ref() else {
                return Vec::new();
            };
            let words: &[ngx_str_t] = elements(words);
            words.iter().skip(1).map(|word| bytes(*word)).collect()
        }
    }

    /// Where nginx is reading.
    pub fn place(self) -> Place {
        // SAFETY: while it reads a configuration, nginx has a file, or none for what comes from its
        // command line.
        unsafe {
            match (*self.as_ptr()).conf_file.as_ref() {
                Some(file) => {
                    Place::new(OsStr::from_bytes(bytes(file.file.name)).into(), file.line)
                }
                None => Place::new(PathBuf::new(), 0),
            }
        }
    }

    /// The full name of a file that is named in the configuration, as nginx makes it.
    pub fn full_name(self, name: &[u8]) -> Option<PathBuf> {
        let mut name = ngx_str_t { len: name.len(), data: name.as_ptr().cast_mut() };

        // SAFETY: nginx reads the name, and replaces it by one in the pool of the configuration.
        unsafe {
            let status = ngx_conf_full_name((*self.as_ptr()).cycle, &raw mut name, 1);
            (status == NGX_OK as ngx_int_t).then(|| OsStr::from_bytes(bytes(name)).into())
        }
    }

    /// Writes an `[emerg]` line that names the file and line that are being read.
    #[allow(clippy::undocumented_unsafe_blocks, reason = "the macro's own blocks")]
    pub fn error(self, message: fmt::Arguments<'_>) {
        // The macro passes on the parser, which is valid by the contract of `from_ptr`.
        ngx_conf_log_error!(NGX_LOG_EMERG, self.as_ptr(), "{message}");
    }

    /// Writes an `[emerg]` line that names another place.
    #[allow(clippy::undocumented_unsafe_blocks, reason = "the macro's own blocks")]
    pub fn error_at(self, place: &Place, message: fmt::Arguments<'_>) {
        // SAFETY: while it reads a configuration, nginx has a log.
        let log = unsafe { (*self.as_ptr()).log };
        ngx_log_error!(NGX_LOG_EMERG, log, "{message} in {place}");
    }

    /// Writes a `[warn]` line that names the file and line that are being read.
    #[allow(clippy::undocumented_unsafe_blocks, reason = "the macro's own blocks")]
    pub fn warning(self, message: fmt::Arguments<'_>) {
        // The macro passes on the parser, which is valid by the contract of `from_ptr`.
        ngx_conf_log_error!(NGX_LOG_WARN, self.as_ptr(), "{message}");
    }
}

/// A location, as the core module has it.
#[derive(Clone, Copy)]
pub struct CoreLocation<'a>(
    NonNull<ngx_http_core_loc_conf_t>,
    PhantomData<&'a ngx_http_core_loc_conf_t>,
);

impl<'a> CoreLocation<'a> {
    pub fn name(self) -> &'a [u8] {
        // SAFETY: the location, and its name, live as long as the configuration.
        unsafe { bytes((*self.0.as_ptr()).name) }
    }

    /// The content handler.
    pub fn handler(self) -> ngx_http_handler_pt {
        // SAFETY: the location is valid.
        unsafe { (*self.0.as_ptr()).handler }
    }

    /// Sets the content handler.
    pub fn set_handler(self, handler: ngx_http_handler_pt) {
        // SAFETY: the location is valid, and nobody else uses it while we do.
        unsafe { (*self.0.as_ptr()).handler = handler }
    }

    /// Whether it is an `if` or a `limit_except`: these go where the location around them goes, if
    /// they don't say.
    pub fn is_part_of_another(self) -> bool {
        let location = self.0.as_ptr();
        // SAFETY: the location is valid.
        unsafe {
            bitfields::location_noname(location) != 0
                || bitfields::location_lmt_excpt(location) != 0
        }
    }
}
