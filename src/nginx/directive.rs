// SPDX-License-Identifier: Apache-2.0

//! Directives: the module's own, and wrappers around directives of other modules.

use std::ffi::{CStr, c_char, c_void};
use std::fmt::Display;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use ngx::ffi::{ngx_command_t, ngx_conf_t, ngx_str_t, ngx_uint_t};

use crate::nginx::conf_parser::{ConfParser, NGX_CONF_ERROR, NGX_CONF_OK};
use crate::nginx::configuration::bytes;
use crate::nginx::connection::process_log;
use crate::nginx::panic::guard;
use crate::nginx::this_module;

/// A directive of this module.
pub trait Directive {
    const NAME: &'static CStr;
    /// Contexts and argument counts that the directive accepts: `NGX_HTTP_*_CONF`, `NGX_CONF_*`.
    const TYPE: u32;
    /// The configuration structure that receives the value.
    type Conf: ConfLevel;
    /// Why a value is rejected.
    type Error: Display;

    /// Reads the directive: `value` is its first argument, `parameters` are the others.
    fn read(
        parser: ConfParser<'_>,
        conf: &Self::Conf,
        value: &[u8],
        parameters: &[&[u8]],
    ) -> Result<(), Self::Error>;
}

/// A configuration structure of this module, for one kind of block.
///
/// # Safety
/// This must be the type of the module's configuration at `OFFSET`.
pub unsafe trait ConfLevel {
    /// `NGX_HTTP_*_CONF_OFFSET`
    const OFFSET: usize;
}

/// Returns the entry for nginx's array of directives.
pub const fn command<T: Directive>() -> ngx_command_t {
    let name = T::NAME;
    ngx_command_t {
        name: ngx_str_t { len: name.to_bytes().len(), data: name.as_ptr().cast_mut().cast() },
        type_: T::TYPE as ngx_uint_t,
        set: Some(set_own::<T>),
        conf: T::Conf::OFFSET,
        offset: 0,
        post: ptr::null_mut(),
    }
}

/// Handles a directive of this module; nginx calls it. An error becomes an `[emerg]` line.
unsafe extern "C" fn set_own<T: Directive>(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    let name = T::NAME.to_str().unwrap_or_default();
    guard(name, process_log(), NGX_CONF_ERROR, || {
        // SAFETY: `cf` is valid and inside `http {}`: nginx passes its own parser to directive
        // callbacks. `conf` is the module's configuration at `T::Conf::OFFSET`, which `ConfLevel`
        // ties to that type.
        let (parser, conf) = unsafe { (ConfParser::from_ptr(cf), &*conf.cast::<T::Conf>()) };
        let arguments = parser.arguments();
        let (first, others) =
            arguments.split_first().map_or((&[][..], &[][..]), |(first, others)| (*first, others));
        match T::read(parser, conf, first, others) {
            Ok(()) => NGX_CONF_OK,
            Err(error) => {
                parser.error(format_args!("\"{name}\" directive {error}"));
                NGX_CONF_ERROR
            }
        }
    })
}

/// The function that nginx calls to read a directive (`set`).
pub type SetDirective =
    unsafe extern "C" fn(*mut ngx_conf_t, *mut ngx_command_t, *mut c_void) -> *mut c_char;

/// A directive of another module.
pub struct ForeignDirective {
    pub module: &'static CStr,
    pub name: &'static str,
    /// nginx's own `set` of the directive, before it was wrapped.
    original: AtomicPtr<c_void>,
}

/// The result of a directive's original `set`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    Done,
    /// The original `set` has logged why.
    Failed,
}

/// Directives of other modules that are wrapped in one way.
pub trait ReadAlong {
    /// Returns the directives to wrap.
    fn directives() -> &'static [ForeignDirective];

    /// Runs instead of the directive with this index in `directives()`, if the configuration loads
    /// this module. Must call `read`, which runs the original `set`.
    fn read(parser: ConfParser<'_>, number: usize, read: impl FnOnce() -> Read) -> Read;

    /// Wraps those of the directives that this nginx has. To be called in *preconfiguration*.
    fn wrap(parser: ConfParser<'_>)
    where
        Self: Sized,
    {
        for directive in Self::directives() {
            // SAFETY: `set::<Self>` looks its directive up in `Self::directives()`, which has this
            // one.
            unsafe { directive.wrap(parser, set::<Self>) };
        }
    }

    /// Restores the directives. To be called in *postconfiguration*.
    fn restore(parser: ConfParser<'_>) {
        for directive in Self::directives() {
            directive.restore(parser);
        }
    }
}

/// Handles a wrapped directive; nginx calls it.
unsafe extern "C" fn set<T: ReadAlong>(
    cf: *mut ngx_conf_t,
    command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    guard("directive of another module", process_log(), NGX_CONF_ERROR, || {
        // SAFETY: `cf` and `command` are valid, and `cf` is inside `http {}`: nginx passes its own
        // parser and the directive that it reads, whose name is a constant of its module.
        let (parser, name) = unsafe { (ConfParser::from_ptr(cf), bytes((*command).name)) };
        let mut known = T::directives().iter().enumerate();
        let known = known.find(|(_, directive)| directive.name.as_bytes() == name);
        let Some((number, original)) =
            known.and_then(|(number, directive)| Some((number, directive.original()?)))
        else {
            return NGX_CONF_ERROR;
        };
        let mut status = NGX_CONF_ERROR;
        let mut read = || {
            // SAFETY: the original `set` gets the arguments that nginx passed for this directive.
            status = unsafe { original(cf, command, conf) };
            if status == NGX_CONF_OK { Read::Done } else { Read::Failed }
        };
        // A configuration that fails before postconfiguration leaves the wrappers in place, and the
        // next configuration may not load this module.
        let result = if this_module::is_loaded(parser) {
            T::read(parser, number, &mut read)
        } else {
            read()
        };
        match result {
            Read::Done => status,
            Read::Failed if status == NGX_CONF_OK => NGX_CONF_ERROR,
            Read::Failed => status,
        }
    })
}

impl ForeignDirective {
    pub const fn new(module: &'static CStr, name: &'static str) -> Self {
        Self { module, name, original: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Replaces the directive's `set` by `ours`, if this nginx has the directive.
    ///
    /// # Safety
    /// `ours` must be able to handle this directive, by calling its original `set`.
    unsafe fn wrap(&self, parser: ConfParser<'_>, ours: SetDirective) {
        let module = parser.module(self.module);
        let Some(command) = module.and_then(|module| module.directive(self.name.as_bytes())) else {
            return;
        };
        // SAFETY: a module's array of directives is writable, and only nginx's single thread uses
        // it.
        let command = unsafe { &mut *command.as_ptr() };
        // A configuration that fails before postconfiguration leaves the wrapper in place.
        if let Some(set) = command.set.filter(|set| !ptr::fn_addr_eq(*set, ours)) {
            self.original.store(set as *mut c_void, Ordering::Relaxed);
            command.set = Some(ours);
        }
    }

    /// Restores the directive's original `set`.
    fn restore(&self, parser: ConfParser<'_>) {
        let module = parser.module(self.module);
        let command = module.and_then(|module| module.directive(self.name.as_bytes()));
        if let (Some(command), Some(set)) = (command, self.original()) {
            // SAFETY: a module's array of directives is writable, and only nginx's single thread
            // uses it.
            unsafe { (*command.as_ptr()).set = Some(set) }
        }
    }

    fn original(&self) -> Option<SetDirective> {
        let set = self.original.load(Ordering::Relaxed);
        // SAFETY: only `wrap` stores here, and it stores a function of this type.
        (!set.is_null()).then(|| unsafe { std::mem::transmute::<*mut c_void, SetDirective>(set) })
    }
}
