//! What Lua code and our functions pass to each other, through LuaJIT's FFI.
//!
//! None of the functions throws, enters Lua, or keeps a pointer that it is given. Each answers with
//! a number and, where there is something to say, a text that is valid until the next call.

use std::cell::RefCell;
use std::ffi::{c_char, c_int};
use std::fmt::Display;

use crate::nginx::connection::process_log;
use crate::nginx::panic::guard;

/// Done; the text, if any, is the result.
pub const OK: c_int = 0;
/// Done, and there is no result; the text, if any, says why.
pub const NONE: c_int = 1;
/// Failed; the text says why.
pub const ERROR: c_int = -1;

/// A place for the text of an answer.
#[repr(C)]
pub struct Text {
    data: *const c_char,
    length: usize,
}

/// Makes the structure of functions, and its declaration for LuaJIT, which lists them in the same
/// order.
macro_rules! api {
    ($($name:ident: fn($($argument:ty),*) -> $result:ty, $declaration:literal;)*) => {
        /// The functions; Lua has a pointer to it.
        #[repr(C)]
        pub struct Api {
            $($name: unsafe extern "C" fn($($argument),*) -> $result,)*
        }

        /// The one instance.
        pub static API: Api = Api { $($name,)* };

        /// The type of a pointer to it, in C.
        pub const DECLARATION: &str = concat!("struct {", $($declaration, ";",)* "} *");
    };
}

pub(super) use api;

thread_local! {
    static TEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// # Safety
/// `text` must be valid.
pub unsafe fn say(text: *mut Text, bytes: Vec<u8>, code: c_int) -> c_int {
    TEXT.with_borrow_mut(|kept| {
        *kept = bytes;
        // SAFETY: valid by contract. The bytes are kept until the next text.
        unsafe { *text = Text { data: kept.as_ptr().cast(), length: kept.len() } }
    });
    code
}

/// What is said after a panic.
pub const INTERNAL_ERROR: &[u8] = b"internal error, see the error log";

/// Runs the body of a function that needs no request, and says its result or what went wrong.
///
/// # Safety
/// `text` must be valid.
pub unsafe fn run<E: Display>(
    name: &str,
    text: *mut Text,
    body: impl FnOnce() -> Result<Vec<u8>, E>,
) -> c_int {
    let result = guard(name, process_log(), None, || Some(body()));
    // SAFETY: by contract.
    unsafe {
        match result {
            Some(Ok(bytes)) => say(text, bytes, OK),
            Some(Err(error)) => say(text, error.to_string().into_bytes(), ERROR),
            None => say(text, INTERNAL_ERROR.to_vec(), ERROR),
        }
    }
}

/// # Safety
/// `data` must be valid for `length` bytes for `'a`, or `length` 0.
pub unsafe fn bytes<'a>(data: *const c_char, length: usize) -> &'a [u8] {
    if length == 0 {
        return &[];
    }
    // SAFETY: by contract.
    unsafe { std::slice::from_raw_parts(data.cast(), length) }
}
