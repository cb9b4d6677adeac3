// SPDX-License-Identifier: Apache-2.0

//! The configuration of other modules, found by module name: linking to the symbol of a module that
//! this nginx lacks would keep this module from loading.

use std::cell::Cell;
use std::ffi::{CStr, c_void};
use std::fmt;
use std::iter;
use std::path::PathBuf;
use std::ptr::NonNull;

use ngx::ffi::{
    NGX_HTTP_LOC_CONF_OFFSET, NGX_HTTP_MODULE, NGX_HTTP_SRV_CONF_OFFSET, ngx_array_t,
    ngx_command_t, ngx_flag_t, ngx_list_part_t, ngx_list_t, ngx_module_t, ngx_parse_size,
    ngx_parse_time, ngx_str_t, ngx_uint_t,
};

/// An HTTP module.
#[derive(Clone, Copy)]
pub struct Module<'a>(&'a ngx_module_t);

impl<'a> Module<'a> {
    /// Returns the HTTP module `name` of `modules`, if it is there.
    ///
    /// # Safety
    /// `modules` must be nginx's array of modules, which ends with NULL, and valid for `'a`.
    pub unsafe fn find(modules: *mut *mut ngx_module_t, name: &CStr) -> Option<Self> {
        // SAFETY: the caller ensures that the array ends with NULL, and is valid for `'a`.
        let modules = unsafe { until(modules, |module| module.is_null()) };
        // SAFETY: nginx's modules are static, with their names.
        let mut modules = modules.map(|module| Self(unsafe { &*module.get() }));
        modules.find(|module| module.is_http() && module.name() == Some(name))
    }

    fn is_http(self) -> bool {
        self.0.type_ == NGX_HTTP_MODULE as ngx_uint_t
    }

    fn name(self) -> Option<&'a CStr> {
        // SAFETY: the name of a module is NULL, or a static C string.
        (!self.0.name.is_null()).then(|| unsafe { CStr::from_ptr(self.0.name) })
    }

    /// Returns the module's index in the arrays of configurations.
    pub fn index(self) -> ModuleIndex {
        ModuleIndex::new(self.0.ctx_index)
    }

    /// Returns the offset of a directive's value in the module's location configuration. That
    /// structure is private to its module, and differs between versions of nginx.
    pub fn location_offset(self, directive: &[u8]) -> Option<usize> {
        let command = self.command(directive)?.get();
        (command.conf == NGX_HTTP_LOC_CONF_OFFSET).then_some(command.offset)
    }

    /// Returns where a directive that is `on` or `off` has its value in the module's server
    /// configuration; `None` if this nginx has no such directive.
    pub fn server_flag(self, directive: &[u8]) -> Option<ServerFlag> {
        let command = self.command(directive)?.get();
        (command.conf == NGX_HTTP_SRV_CONF_OFFSET)
            .then_some(ServerFlag { module: self.index(), offset: command.offset })
    }

    /// Returns the module's directives, with their names.
    pub fn directives(self) -> impl Iterator<Item = (&'a [u8], NonNull<ngx_command_t>)> {
        // SAFETY: the names of directives are static.
        self.commands()
            .map(|command| (unsafe { bytes(command.get().name) }, NonNull::from(command).cast()))
    }

    fn command(self, name: &[u8]) -> Option<&'a Cell<ngx_command_t>> {
        // SAFETY: the names of directives are static.
        self.commands().find(|command| unsafe { bytes(command.get().name) } == name)
    }

    fn commands(self) -> impl Iterator<Item = &'a Cell<ngx_command_t>> {
        let first = NonNull::new(self.0.commands);
        first.into_iter().flat_map(|first| {
            // SAFETY: a module's array of directives is static, and ends with an empty name.
            unsafe { until(first.as_ptr(), |command| command.name.len == 0) }
        })
    }

    pub fn as_ptr(self) -> *const ngx_module_t {
        self.0
    }
}

/// Where a server has the value of a directive that is `on` or `off`.
#[derive(Clone, Copy, Debug)]
pub struct ServerFlag {
    module: ModuleIndex,
    offset: usize,
}

impl ServerFlag {
    /// Returns whether the directive is on in the server with the configurations `array`.
    ///
    /// # Safety
    /// `array` must be NULL or the `srv_conf` of a server whose configuration has been read.
    pub unsafe fn is_on(self, array: *mut *mut c_void) -> bool {
        // SAFETY: the caller ensures that `array` is NULL or a server's.
        let configuration = unsafe { self.module.of::<u8>(array) };
        // SAFETY: a module has an `ngx_flag_t` at the offset of such a directive.
        let flag = configuration.map(|of| unsafe { of.add(self.offset).cast().read_unaligned() });
        flag == Some::<ngx_flag_t>(1)
    }
}

/// A line of a configuration file.
#[derive(Clone, Debug)]
pub struct Place {
    file: PathBuf,
    line: usize,
}

impl Place {
    /// Makes the place of a line. For a directive from nginx's command line, `file` is empty.
    pub fn new(file: PathBuf, line: usize) -> Self {
        Self { file, line }
    }
}

/// Prints the place in nginx's own format.
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

    /// Returns this module's element of one of nginx's arrays (`main_conf`, `srv_conf`, `loc_conf`,
    /// `ctx`).
    ///
    /// # Safety
    /// `array` must be NULL or such an array, and `T` the type of the module's element.
    pub unsafe fn of<T>(self, array: *mut *mut c_void) -> Option<NonNull<T>> {
        if array.is_null() {
            return None;
        }
        // SAFETY: each of these arrays has an element for every HTTP module.
        NonNull::new(unsafe { *array.add(self.0) }.cast())
    }

    /// Sets the module's element of a request's `ctx`.
    ///
    /// # Safety
    /// `array` must be the `ctx` of a request, and `T` the type of the module's element.
    pub unsafe fn set<T>(self, array: *mut *mut c_void, value: NonNull<T>) {
        // SAFETY: the `ctx` of a request has an element for every HTTP module.
        unsafe { *array.add(self.0) = value.as_ptr().cast() }
    }
}

/// Parses a time in nginx's notation, and returns it in milliseconds.
pub fn milliseconds(value: &[u8]) -> Option<usize> {
    let mut value = ngx_str_t { len: value.len(), data: value.as_ptr().cast_mut() };
    // SAFETY: `ngx_parse_time` only reads the string, which outlives the call.
    let parsed = unsafe { ngx_parse_time(&raw mut value, 0) };
    usize::try_from(parsed).ok()
}

/// Parses a size in nginx's notation, and returns it in bytes.
pub fn size_in_bytes(value: &[u8]) -> Option<usize> {
    let mut value = ngx_str_t { len: value.len(), data: value.as_ptr().cast_mut() };
    // SAFETY: `ngx_parse_size` only reads the string, which outlives the call.
    let parsed = unsafe { ngx_parse_size(&raw mut value) };
    usize::try_from(parsed).ok().filter(|size| *size > 0)
}

/// Returns the elements of an `ngx_array_t`.
///
/// # Safety
/// `array` must hold elements of type `T`, and must not change while the slice is used.
pub unsafe fn elements<T>(array: &ngx_array_t) -> &[T] {
    // SAFETY: the array has `nelts` elements at `elts`, which the caller ensures to be of type `T`.
    unsafe { slice(array.elts.cast(), array.nelts) }
}

/// Returns the elements of an `ngx_list_t`.
///
/// # Safety
/// `list` must hold elements of type `T`, and must not change while they are used.
pub unsafe fn list_elements<'a, T: 'a>(list: &'a ngx_list_t) -> impl Iterator<Item = &'a T> {
    let mut next: *const ngx_list_part_t = &raw const list.part;
    let parts = iter::from_fn(move || {
        // SAFETY: the parts of a list are linked; the last one has no next one.
        let part = unsafe { next.as_ref()? };
        next = part.next;
        Some(part)
    });
    // SAFETY: a part has `nelts` elements at `elts`, which the caller ensures to be of type `T`.
    parts.flat_map(|part| unsafe { slice(part.elts.cast::<T>(), part.nelts) })
}

/// Returns the bytes of an nginx string.
///
/// # Safety
/// `string` must be empty, or its bytes must be valid for `'a`.
pub unsafe fn bytes<'a>(string: ngx_str_t) -> &'a [u8] {
    // SAFETY: the caller ensures that the bytes of `string` are valid for `'a`.
    unsafe { slice(string.data, string.len) }
}

/// Returns the `count` elements from `first`, which is NULL if there are none.
///
/// # Safety
/// The elements must be valid for `'a`, and not change meanwhile.
pub unsafe fn slice<'a, T>(first: *const T, count: usize) -> &'a [T] {
    if first.is_null() {
        return &[];
    }
    // SAFETY: the caller ensures that the elements are valid for `'a`.
    unsafe { std::slice::from_raw_parts(first, count) }
}

/// Returns the elements from `first` to the one before that which `is_end` accepts.
///
/// # Safety
/// There must be such an element, and those before it must be valid for `'a`.
pub unsafe fn until<'a, T: Copy + 'a>(
    first: *mut T,
    is_end: impl Fn(T) -> bool,
) -> impl Iterator<Item = &'a Cell<T>> {
    let mut next: *mut Cell<T> = first.cast();
    iter::from_fn(move || {
        // SAFETY: `next` has not passed the last element, which the caller ensures to be there.
        let (element, following) = unsafe { (&*next, next.add(1)) };
        if is_end(element.get()) {
            return None;
        }
        next = following;
        Some(element)
    })
}

/// Returns `text` as an nginx string, which nginx must not write to.
pub fn string(text: &'static str) -> ngx_str_t {
    ngx_str_t { len: text.len(), data: text.as_ptr().cast_mut() }
}
