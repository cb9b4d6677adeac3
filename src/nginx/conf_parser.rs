// SPDX-License-Identifier: Apache-2.0

//! nginx's configuration parser (`ngx_conf_t`), inside `http {}`.

use std::cell::Cell;
use std::ffi::{CStr, OsStr, c_char};
use std::fmt;
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

/// nginx's constant; bindgen can't translate the cast in its definition.
pub const NGX_CONF_OK: *mut c_char = ptr::null_mut();
/// See [`NGX_CONF_OK`].
pub const NGX_CONF_ERROR: *mut c_char = ptr::without_provenance_mut(usize::MAX);

/// The parser: its position in the configuration, and what it has read so far.
#[derive(Clone, Copy)]
pub struct ConfParser<'a>(&'a Cell<ngx_conf_t>);

/// The kinds of module configurations that the parser has for its current block.
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
    /// `cf` must be valid for `'a` and inside `http {}`, as is the parser that nginx passes to
    /// callbacks.
    pub unsafe fn from_ptr(cf: *mut ngx_conf_t) -> Self {
        // SAFETY: the caller ensures that `cf` is valid for `'a`.
        Self(unsafe { &*cf.cast() })
    }

    pub fn as_ptr(self) -> *mut ngx_conf_t {
        self.0.as_ptr()
    }

    /// Returns the pool of the configuration.
    pub fn pool(self) -> Pool<'a> {
        // SAFETY: a parser has a pool, which lives as long as the configuration.
        unsafe { Pool::from_ptr(NonNull::new_unchecked(self.0.get().pool)) }
    }

    /// Returns the HTTP module `name`, if this nginx has it.
    pub fn module(self, name: &CStr) -> Option<Module<'a>> {
        // SAFETY: a parser has a cycle, with an array of modules that ends with NULL.
        unsafe { Module::find((*self.0.get().cycle).modules, name) }
    }

    /// Returns a module's configuration for the current block.
    ///
    /// # Safety
    /// `T` must be the type that the module with `index` has at this level.
    pub unsafe fn configuration<T>(self, level: Level, index: ModuleIndex) -> Option<NonNull<T>> {
        // SAFETY: inside `http {}`, which `from_ptr` requires, `ctx` is of this type.
        let context: &ngx_http_conf_ctx_t = unsafe { &*self.0.get().ctx.cast() };
        let array = match level {
            Level::Main => context.main_conf,
            Level::Server => context.srv_conf,
            Level::Location => context.loc_conf,
        };
        // SAFETY: this is such an array. The caller ensures the type `T`.
        unsafe { index.of(array) }
    }

    /// Returns the upstream settings of the current location. Location configurations of modules
    /// such as `proxy` begin with an `ngx_http_upstream_conf_t`.
    ///
    /// # Safety
    /// `index` must be that of such a module.
    pub unsafe fn upstream_conf(self, index: ModuleIndex) -> Option<&'a ngx_http_upstream_conf_t> {
        // SAFETY: the caller ensures that the module's location configuration begins with this
        // type. It lives as long as the configuration.
        unsafe { self.configuration(Level::Location, index).map(|of| of.as_ref()) }
    }

    /// Returns the location that is being read or merged.
    pub fn location(self) -> Option<CoreLocation<'a>> {
        let core = self.module(c"ngx_http_core_module")?.index();
        // SAFETY: this is the type of the core module's location configuration, which lives as long
        // as the configuration.
        unsafe { self.configuration(Level::Location, core).map(|of| CoreLocation(of.as_ref())) }
    }

    /// Returns the name of the directive that is being read.
    pub fn directive(self) -> &'a [u8] {
        self.words().next().unwrap_or_default()
    }

    /// Returns the arguments of the directive that is being read.
    pub fn arguments(self) -> Vec<&'a [u8]> {
        self.words().skip(1).collect()
    }

    fn words(self) -> impl Iterator<Item = &'a [u8]> {
        // SAFETY: `args` is NULL before the first directive. Then it is an array of strings, the
        // words of a directive, which nginx does not change before it has handled that.
        let words: &[ngx_str_t] =
            unsafe { self.0.get().args.as_ref().map_or(&[], |words| elements(words)) };
        // SAFETY: the words are in the pool of the configuration.
        words.iter().map(|word| unsafe { bytes(*word) })
    }

    /// Returns the current line of the configuration.
    pub fn place(self) -> Place {
        // SAFETY: `conf_file` is NULL only while nginx reads directives from its command line.
        let Some(file) = (unsafe { self.0.get().conf_file.as_ref() }) else {
            return Place::new(PathBuf::new(), 0);
        };
        // SAFETY: the name of a file is in the pool of the configuration.
        let name = unsafe { bytes(file.file.name) };
        Place::new(OsStr::from_bytes(name).into(), file.line)
    }

    /// Returns the full path of a file that the configuration names, resolved by nginx's rules.
    pub fn full_name(self, name: &[u8]) -> Option<PathBuf> {
        self.full_name_in(name, true)
    }

    /// Like [`Self::full_name`], but relative to nginx's prefix: as the Lua module resolves names.
    pub fn full_name_in_prefix(self, name: &[u8]) -> Option<PathBuf> {
        self.full_name_in(name, false)
    }

    fn full_name_in(self, name: &[u8], conf_prefix: bool) -> Option<PathBuf> {
        let mut name = ngx_str_t { len: name.len(), data: name.as_ptr().cast_mut() };
        // SAFETY: nginx reads the name, and replaces it by one in the pool of the configuration.
        let status =
            unsafe { ngx_conf_full_name(self.0.get().cycle, &raw mut name, conf_prefix.into()) };
        // SAFETY: the name is the caller's, or in the pool of the configuration.
        let name = OsStr::from_bytes(unsafe { bytes(name) });
        (status == NGX_OK as ngx_int_t).then(|| name.into())
    }

    /// Writes an `[emerg]` line that names the current file and line.
    #[allow(clippy::undocumented_unsafe_blocks, reason = "the macro's own blocks")]
    pub fn error(self, message: fmt::Arguments<'_>) {
        // The macro dereferences the parser, which `from_ptr` requires to be valid for `'a`.
        ngx_conf_log_error!(NGX_LOG_EMERG, self.as_ptr(), "{message}");
    }

    /// Writes an `[emerg]` line that names another place.
    #[allow(clippy::undocumented_unsafe_blocks, reason = "the macro's own blocks")]
    pub fn error_at(self, place: &Place, message: fmt::Arguments<'_>) {
        // The macro dereferences the log, which every parser has.
        ngx_log_error!(NGX_LOG_EMERG, self.0.get().log, "{message} in {place}");
    }

    /// Writes a `[warn]` line that names the current file and line.
    #[allow(clippy::undocumented_unsafe_blocks, reason = "the macro's own blocks")]
    pub fn warning(self, message: fmt::Arguments<'_>) {
        // The macro dereferences the parser, which `from_ptr` requires to be valid for `'a`.
        ngx_conf_log_error!(NGX_LOG_WARN, self.as_ptr(), "{message}");
    }
}

/// A location, as in the core module's configuration.
#[derive(Clone, Copy)]
pub struct CoreLocation<'a>(&'a Cell<ngx_http_core_loc_conf_t>);

impl<'a> CoreLocation<'a> {
    pub fn name(self) -> &'a [u8] {
        // SAFETY: the name lives as long as the configuration.
        unsafe { bytes(self.0.get().name) }
    }

    /// Returns the content handler.
    pub fn handler(self) -> ngx_http_handler_pt {
        self.0.get().handler
    }

    /// Sets the content handler.
    pub fn set_handler(self, handler: ngx_http_handler_pt) {
        // SAFETY: the location lives as long as the configuration, and nginx has a single thread.
        unsafe { (*self.0.as_ptr()).handler = handler }
    }

    /// Returns whether this is an `if` or a `limit_except` block. These pass requests to the
    /// address of the enclosing location, unless they have one of their own.
    pub fn is_part_of_another(self) -> bool {
        bitfields::location_noname(self.0) || bitfields::location_lmt_excpt(self.0)
    }
}
