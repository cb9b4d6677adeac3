// SPDX-License-Identifier: Apache-2.0

//! The configuration of other modules, found by module name: a symbol of a module that this nginx
//! is built without would keep ours from loading.

use std::ffi::{CStr, c_void};
use std::fmt;
use std::path::PathBuf;
use std::ptr::NonNull;

use ngx::ffi::{
    NGX_HTTP_LOC_CONF_OFFSET, NGX_HTTP_MODULE, NGX_HTTP_SRV_CONF_OFFSET, ngx_array_t,
    ngx_command_t, ngx_flag_t, ngx_module_t, ngx_parse_time, ngx_str_t, ngx_uint_t,
};

/// An HTTP module.
#[derive(Clone, Copy)]
pub struct Module<'a>(&'a ngx_module_t);

impl<'a> Module<'a> {
    /// The HTTP module `name` among `modules`, if it is there.
    ///
    /// # Safety
    /// `modules` must be nginx's array of modules, and valid for `'a`.
    pub unsafe fn find(modules: *mut *mut ngx_module_t, name: &CStr) -> Option<Self> {
        let mut next = modules;
        // SAFETY: the array ends with NULL, and each module has a name once it is counted.
        unsafe {
            while let Some(module) = NonNull::new(*next) {
                let module = module.as_ref();
                if module.type_ == NGX_HTTP_MODULE as ngx_uint_t
                    && !module.name.is_null()
                    && CStr::from_ptr(module.name) == name
                {
                    return Some(Self(module));
                }
                next = next.add(1);
            }
        }
        None
    }

    /// Where the configurations of the module are.
    pub fn index(self) -> ModuleIndex {
        ModuleIndex::new(self.0.ctx_index)
    }

    /// Where the value of a directive is within the module's configuration for a location. The
    /// structure itself is the module's own, and differs between versions of nginx.
    pub fn location_offset(self, directive: &[u8]) -> Option<usize> {
        // SAFETY: nobody changes the offset of a directive.
        let command = unsafe { self.directive(directive)?.as_ref() };
        (command.conf == NGX_HTTP_LOC_CONF_OFFSET).then_some(command.offset)
    }

    /// Where the value of a directive that is `on` or `off` is within the module's configuration
    /// for a server; `None` where this nginx has no such directive.
    pub fn server_flag(self, directive: &[u8]) -> Option<ServerFlag> {
        // SAFETY: nobody changes the offset of a directive.
        let command = unsafe { self.directive(directive)?.as_ref() };
        (command.conf == NGX_HTTP_SRV_CONF_OFFSET)
            .then_some(ServerFlag { module: self.index(), offset: command.offset })
    }

    /// How nginx reads the directive `name` of the module.
    pub fn directive(self, name: &[u8]) -> Option<NonNull<ngx_command_t>> {
        // SAFETY: the directives of a module are in an array that ends with an empty name.
        unsafe {
            let mut next = NonNull::new(self.0.commands)?;
            while next.as_ref().name.len != 0 {
                if bytes(next.as_ref().name) == name {
                    return Some(next);
                }
                next = next.add(1);
            }
        }
        None
    }

    /// What the module is.
    pub fn as_ptr(self) -> *const ngx_module_t {
        self.0
    }
}

/// A directive of a server that is `on` or `off`.
#[derive(Clone, Copy, Debug)]
pub struct ServerFlag {
    module: ModuleIndex,
    offset: usize,
}

impl ServerFlag {
    /// Its value for the server whose configurations are in `array`.
    ///
    /// # Safety
    /// `array` must be the `srv_conf` of a server, of a configuration that has been read.
    pub unsafe fn is_on(self, array: *mut *mut c_void) -> bool {
        // SAFETY: by contract; nginx keeps an `ngx_flag_t` there.
        unsafe {
            let Some(configuration) = self.module.of::<u8>(array) else {
                return false;
            };
            configuration.add(self.offset).cast::<ngx_flag_t>().read_unaligned() == 1
        }
    }
}

/// A place in the files of the configuration.
#[derive(Clone, Debug)]
pub struct Place {
    file: PathBuf,
    line: usize,
}

impl Place {
    /// A line of a file; the file has no name for what comes from nginx's command line.
    pub fn new(file: PathBuf, line: usize) -> Self {
        Self { file, line }
    }
}

/// As nginx says it.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// The index of an HTTP module in the arrays of configurations and request contexts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModuleIndex(ngx_uint_t);

impl ModuleIndex {
    pub const fn new(ctx_index: ngx_uint_t) -> Self {
        Self(ctx_index)
    }

    /// The element of one of nginx's arrays (`main_conf`, `srv_conf`, `loc_conf`, `ctx`).
    ///
    /// # Safety
    /// `array` must be NULL or such an array, and `T` what the module keeps there.
    pub unsafe fn of<T>(self, array: *mut *mut c_void) -> Option<NonNull<T>> {
        if array.is_null() {
            return None;
        }
        // SAFETY: each of these arrays has an element for every HTTP module.
        NonNull::new(unsafe { *array.add(self.0) }.cast())
    }

    /// Sets the element of a request's `ctx`.
    ///
    /// # Safety
    /// `array` must be the `ctx` of a request, and `value` what this module keeps there.
    pub unsafe fn set<T>(self, array: *mut *mut c_void, value: NonNull<T>) {
        // SAFETY: as above.
        unsafe { *array.add(self.0) = value.as_ptr().cast() }
    }
}

/// A time as it is written in a configuration, in milliseconds.
pub fn milliseconds(value: &[u8]) -> Option<usize> {
    let mut value = ngx_str_t { len: value.len(), data: value.as_ptr().cast_mut() };
    // SAFETY: nginx only reads the string.
    let parsed = unsafe { ngx_parse_time(&raw mut value, 0) };
    usize::try_from(parsed).ok()
}

/// The elements of an `ngx_array_t`.
///
/// # Safety
/// `array` must hold values of type `T`, and not change while the slice is used.
pub unsafe fn elements<T>(array: &ngx_array_t) -> &[T] {
    if array.elts.is_null() {
        return &[];
    }
    // SAFETY: an array has `nelts` elements at `elts`.
    unsafe { std::slice::from_raw_parts(array.elts.cast(), array.nelts) }
}

/// The bytes of a string.
///
/// # Safety
/// `string` must be empty or valid for `'a`.
pub unsafe fn bytes<'a>(string: ngx_str_t) -> &'a [u8] {
    if string.data.is_null() {
        return &[];
    }
    // SAFETY: by contract.
    unsafe { std::slice::from_raw_parts(string.data, string.len) }
}

/// A string of nginx's, which only reads it.
pub fn string(text: &'static str) -> ngx_str_t {
    ngx_str_t { len: text.len(), data: text.as_ptr().cast_mut() }
}
