// SPDX-License-Identifier: Apache-2.0

//! Directives: ours, and those of other modules, which we read along while a configuration is read.

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

/// A directive of ours.
pub trait Directive {
    const NAME: &'static CStr;
    /// Where it may stand, and how many arguments it takes: `NGX_HTTP_*_CONF`, `NGX_CONF_*`.
    const TYPE: u32;
    /// What it is written into.
    type Conf: ConfLevel;
    /// What is wrong with it.
    type Error: Display;

    /// Reads its first argument and the others.
    fn read(
        parser: ConfParser<'_>,
        conf: &Self::Conf,
        value: &[u8],
        parameters: &[&[u8]],
    ) -> Result<(), Self::Error>;
}

/// What we keep of a block.
///
/// # Safety
/// The module must keep this type at the offset.
pub unsafe trait ConfLevel {
    /// `NGX_HTTP_*_CONF_OFFSET`
    const OFFSET: usize;
}

/// The directive as nginx looks for it.
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

/// nginx calls where it reads one of our directives. What is wrong with it is an `[emerg]` line.
unsafe extern "C" fn set_own<T: Directive>(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    let name = T::NAME.to_str().unwrap_or_default();
    guard(name, process_log(), NGX_CONF_ERROR, || {
        // SAFETY: nginx calls with a valid `cf`, inside of `http {}`, at the directive, and with what
        // the module keeps at the offset.
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

/// What nginx calls when it reads a directive.
pub type SetDirective =
    unsafe extern "C" fn(*mut ngx_conf_t, *mut ngx_command_t, *mut c_void) -> *mut c_char;

/// A directive of another module.
pub struct ForeignDirective {
    pub module: &'static CStr,
    pub name: &'static str,
    /// What nginx would call.
    original: AtomicPtr<c_void>,
}

/// What nginx has made of a directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    Done,
    /// It has said what is wrong.
    Failed,
}

/// Directives of other modules that are read along, in one way.
pub trait ReadAlong {
    /// The directives.
    fn directives() -> &'static [ForeignDirective];

    /// Is called at the directive with this number of these, in a configuration that loads our
    /// module, and has nginx read it by `read`.
    fn read(parser: ConfParser<'_>, number: usize, read: impl FnOnce() -> Read) -> Read;

    /// Puts ours before the directives that this nginx has. To be called in *preconfiguration*.
    fn wrap(parser: ConfParser<'_>)
    where
        Self: Sized,
    {
        for directive in Self::directives() {
            // SAFETY: `set` answers for the directives of `Self`.
            unsafe { directive.wrap(parser, set::<Self>) };
        }
    }

    /// Leaves the directives as they were. To be called in *postconfiguration*.
    fn restore(parser: ConfParser<'_>) {
        for directive in Self::directives() {
            directive.restore(parser);
        }
    }
}

/// nginx calls where it reads one of the directives.
unsafe extern "C" fn set<T: ReadAlong>(
    cf: *mut ngx_conf_t,
    command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    guard("directive of another module", process_log(), NGX_CONF_ERROR, || {
        // SAFETY: nginx calls with a valid `cf`, inside of `http {}`, at a directive whose `set` is
        // ours; the original gets what nginx has called with.
        let (parser, known) = unsafe {
            let mut known = T::directives().iter().enumerate();
            (ConfParser::from_ptr(cf), known.find(|(_, known)| known.is(command)))
        };
        let Some((number, original)) =
            known.and_then(|(number, directive)| Some((number, directive.original()?)))
        else {
            return NGX_CONF_ERROR;
        };
        let mut status = NGX_CONF_ERROR;
        let mut read = || {
            // SAFETY: the original gets what nginx has called with.
            status = unsafe { original(cf, command, conf) };
            if status == NGX_CONF_OK { Read::Done } else { Read::Failed }
        };
        // A configuration that failed before it was complete has left ours in place, and this one
        // may be without our module.
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

    /// Puts `ours` before the directive, if this nginx has it.
    ///
    /// # Safety
    /// `ours` must answer for this directive.
    unsafe fn wrap(&self, parser: ConfParser<'_>, ours: SetDirective) {
        let module = parser.module(self.module);
        let Some(command) = module.and_then(|module| module.directive(self.name.as_bytes())) else {
            return;
        };
        // SAFETY: the directives of a module are in memory that can be written, and nginx reads
        // them in this process alone.
        let command = unsafe { &mut *command.as_ptr() };
        // A configuration that failed before it was complete has left ours in place.
        if let Some(set) = command.set.filter(|set| !ptr::fn_addr_eq(*set, ours)) {
            self.original.store(set as *mut c_void, Ordering::Relaxed);
            command.set = Some(ours);
        }
    }

    /// Leaves the directive as it was.
    fn restore(&self, parser: ConfParser<'_>) {
        let module = parser.module(self.module);
        let command = module.and_then(|module| module.directive(self.name.as_bytes()));
        if let (Some(command), Some(set)) = (command, self.original()) {
            // SAFETY: the directives of a module are in memory that can be written, and nginx reads
            // them in this process alone.
            unsafe { (*command.as_ptr()).set = Some(set) }
        }
    }

    /// Whether `command` is this directive.
    ///
    /// # Safety
    /// `command` must be valid.
    unsafe fn is(&self, command: *mut ngx_command_t) -> bool {
        // SAFETY: a valid command has a name.
        unsafe { bytes((*command).name) == self.name.as_bytes() }
    }

    fn original(&self) -> Option<SetDirective> {
        let set = self.original.load(Ordering::Relaxed);
        // SAFETY: only `wrap` stores there, a function of this type.
        (!set.is_null()).then(|| unsafe { std::mem::transmute::<*mut c_void, SetDirective>(set) })
    }
}
