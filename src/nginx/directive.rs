// SPDX-License-Identifier: Apache-2.0

//! Directives: the module's own, and wrappers around directives of other modules.

use std::ffi::{CStr, c_char, c_void};
use std::fmt::Display;
use std::ptr::{self, NonNull};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ngx::ffi::{ngx_command_t, ngx_conf_t, ngx_str_t, ngx_uint_t};

use crate::nginx::conf_parser::{ConfParser, NGX_CONF_ERROR, NGX_CONF_OK};
use crate::nginx::configuration::{Module, bytes};
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

/// A directive of another module, or several whose names begin alike.
pub struct ForeignDirective {
    module: &'static CStr,
    names: Names,
    /// nginx's own `set` of each directive, before it was wrapped, by the name of the directive.
    originals: Mutex<Vec<(Box<[u8]>, SetDirective)>>,
}

#[derive(Clone, Copy)]
enum Names {
    One(&'static str),
    BeginningWith(&'static str),
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
            // SAFETY: `set::<Self>` looks its directives up in `Self::directives()`, which has
            // these.
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
        let known = known.find_map(|(number, one)| Some((number, one.original(name)?)));
        let Some((number, original)) = known else {
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
    /// The directive `name` of `module`.
    pub const fn new(module: &'static CStr, name: &'static str) -> Self {
        Self { module, names: Names::One(name), originals: Mutex::new(Vec::new()) }
    }

    /// All directives of `module` whose names begin with `beginning`.
    pub const fn beginning_with(module: &'static CStr, beginning: &'static str) -> Self {
        let names = Names::BeginningWith(beginning);
        Self { module, names, originals: Mutex::new(Vec::new()) }
    }

    /// Replaces the `set` of the directives by `ours`, if this nginx has them.
    ///
    /// # Safety
    /// `ours` must be able to handle these directives, by calling the original `set`.
    unsafe fn wrap(&self, parser: ConfParser<'_>, ours: SetDirective) {
        for (name, command) in self.found(parser) {
            // SAFETY: a module's array of directives is writable, and only nginx's single thread
            // uses it.
            let command = unsafe { &mut *command.as_ptr() };
            // A configuration that fails before postconfiguration leaves the wrapper in place.
            if let Some(set) = command.set.filter(|set| !ptr::fn_addr_eq(*set, ours)) {
                let mut originals = self.originals();
                originals.retain(|(known, _)| **known != *name);
                originals.push((name.into(), set));
                command.set = Some(ours);
            }
        }
    }

    /// Restores the original `set` of the directives.
    fn restore(&self, parser: ConfParser<'_>) {
        for (name, command) in self.found(parser) {
            if let Some(set) = self.original(name) {
                // SAFETY: a module's array of directives is writable, and only nginx's single
                // thread uses it.
                unsafe { (*command.as_ptr()).set = Some(set) }
            }
        }
    }

    /// Returns those of the directives that this nginx has.
    fn found<'a>(
        &self,
        parser: ConfParser<'a>,
    ) -> impl Iterator<Item = (&'a [u8], NonNull<ngx_command_t>)> {
        let names = self.names;
        let all = parser.module(self.module).into_iter().flat_map(Module::directives);
        all.filter(move |(name, _)| match names {
            Names::One(one) => one.as_bytes() == *name,
            Names::BeginningWith(beginning) => name.starts_with(beginning.as_bytes()),
        })
    }

    fn original(&self, name: &[u8]) -> Option<SetDirective> {
        let originals = self.originals();
        originals.iter().find(|(known, _)| **known == *name).map(|(_, set)| *set)
    }

    fn originals(&self) -> MutexGuard<'_, Vec<(Box<[u8]>, SetDirective)>> {
        self.originals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
