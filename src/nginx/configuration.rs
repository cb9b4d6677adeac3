//! The configuration of other modules, found by module name: a symbol of a module that this nginx
//! is built without would keep ours from loading.

use std::ffi::{CStr, OsStr, c_void};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr::NonNull;

use ngx::ffi::{
    NGX_HTTP_LOC_CONF_OFFSET, NGX_HTTP_MODULE, NGX_HTTP_SRV_CONF_OFFSET, NGX_OK, ngx_array_t,
    ngx_command_t, ngx_conf_full_name, ngx_conf_t, ngx_cycle_t, ngx_flag_t, ngx_http_conf_ctx_t,
    ngx_http_core_loc_conf_t, ngx_http_module, ngx_http_request_t, ngx_int_t, ngx_module_t,
    ngx_parse_time, ngx_str_t, ngx_uint_t,
};

/// An HTTP module.
#[derive(Clone, Copy)]
pub struct Module<'a>(&'a ngx_module_t);

impl<'a> Module<'a> {
    /// The HTTP module `name`, if this nginx has it.
    ///
    /// # Safety
    /// `cf` must be valid for `'a`.
    pub unsafe fn find(cf: *mut ngx_conf_t, name: &CStr) -> Option<Self> {
        // SAFETY: while it reads a configuration, nginx keeps its modules in an array that ends
        // with NULL, and each of them has a name.
        unsafe {
            let mut next: *mut *mut ngx_module_t = (*(*cf).cycle).modules;
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
    /// Where nginx is reading.
    ///
    /// # Safety
    /// `cf` must be valid.
    pub unsafe fn current(cf: *mut ngx_conf_t) -> Self {
        // SAFETY: while it reads a configuration, nginx has a file, or none for what comes from its
        // command line.
        unsafe {
            match (*cf).conf_file.as_ref() {
                Some(file) => {
                    Self { file: OsStr::from_bytes(bytes(file.file.name)).into(), line: file.line }
                }
                None => Self { file: PathBuf::new(), line: 0 },
            }
        }
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

/// The arrays of configurations that are current while a configuration is read or merged.
///
/// # Safety
/// `cf` must be valid, and inside `http {}`.
pub unsafe fn context<'a>(cf: *mut ngx_conf_t) -> &'a ngx_http_conf_ctx_t {
    // SAFETY: nginx sets `ctx` to its `ngx_http_conf_ctx_t` there.
    unsafe { &*(*cf).ctx.cast() }
}

/// The array of configurations for `http {}` of a cycle; `None` if it has no `http {}`.
///
/// # Safety
/// `cycle` must be valid.
pub unsafe fn main_configurations(cycle: *mut ngx_cycle_t) -> Option<*mut *mut c_void> {
    // SAFETY: a cycle has an element for each module; that of `http {}` is an
    // `ngx_http_conf_ctx_t`.
    unsafe {
        let index = (&raw const ngx_http_module.index).read();
        let context = *(*cycle).conf_ctx.add(index);
        let context = NonNull::new(context.cast::<ngx_http_conf_ctx_t>())?;
        Some(context.as_ref().main_conf)
    }
}

/// The handler of the location that is being read.
///
/// # Safety
/// `cf` must be valid, and in a location.
pub unsafe fn set_handler(
    cf: *mut ngx_conf_t,
    handler: unsafe extern "C" fn(*mut ngx_http_request_t) -> ngx_int_t,
) {
    // SAFETY: by contract.
    if let Some(location) = unsafe { core_location(cf) } {
        // SAFETY: the location is valid.
        unsafe { (*location.as_ptr()).handler = Some(handler) }
    }
}

/// The core module's configuration of the location that is being read or merged.
///
/// # Safety
/// `cf` must be valid, and in a location or the merge of one.
pub unsafe fn core_location(cf: *mut ngx_conf_t) -> Option<NonNull<ngx_http_core_loc_conf_t>> {
    // SAFETY: by contract.
    unsafe { Module::find(cf, c"ngx_http_core_module")?.index().of(context(cf).loc_conf) }
}

/// The arguments of the directive that is being read.
///
/// # Safety
/// `cf` must be valid, and at a directive.
pub unsafe fn arguments<'a>(cf: *mut ngx_conf_t) -> Vec<&'a [u8]> {
    // SAFETY: nginx keeps the words of a directive, its name first, in an array of strings, in the
    // pool of the configuration.
    unsafe {
        let words: &[ngx_str_t] = elements(&*(*cf).args);
        words.iter().skip(1).map(|word| bytes(*word)).collect()
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

/// The full name of a file that is named in the configuration, as nginx makes it.
///
/// # Safety
/// `cf` must be valid.
pub unsafe fn full_name(cf: *mut ngx_conf_t, name: &[u8]) -> Option<PathBuf> {
    let mut name = ngx_str_t { len: name.len(), data: name.as_ptr().cast_mut() };

    // SAFETY: nginx reads the name, and replaces it by one in the pool of the configuration.
    unsafe {
        let status = ngx_conf_full_name((*cf).cycle, &raw mut name, 1);
        (status == NGX_OK as ngx_int_t).then(|| OsStr::from_bytes(bytes(name)).into())
    }
}
