// SPDX-License-Identifier: Apache-2.0

//! Passes arguments and answers between Lua code and Rust, through LuaJIT's FFI. For functions for
//! requests, this is the only place where raw pointers from Lua code become values.
//!
//! Each function for requests has the same type for Lua: it gets the request and a [`Frame`] that
//! holds the arguments, and writes its answer into the frame. No function throws, calls Lua, or
//! keeps a pointer from Lua. The text of an answer is valid until the next call.

#![allow(unsafe_code, reason = "Lua passes raw pointers")]

use std::cell::RefCell;
use std::ffi::{c_char, c_int, c_void};
use std::fmt::Display;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::slice;

use ngx::ffi::ngx_http_request_t;
use openssl::pkey::{PKeyRef, Private};
use openssl::stack::StackRef;
use openssl::x509::X509;
use openssl::x509::store::X509StoreRef;

use crate::nginx::connection::{Connection, process_log};
use crate::nginx::lua::{current_phase, socket_connection};
use crate::nginx::panic::guard;
use crate::nginx::phases::Phases;
use crate::nginx::request::Request;
use crate::openssl::lua_object::{self, InvalidObject};

/// Success; the text, if any, is the result.
pub const OK: c_int = 0;
/// Success without a result; the text, if any, says why.
pub const NONE: c_int = 1;
/// An address to be made the peer: the text is the host, the number is the port.
pub const PEER: c_int = 2;
/// A function of Lua's to be called: the number stands for it.
pub const CALLBACK: c_int = 3;
/// Failure; the text says why.
pub const ERROR: c_int = -1;

/// The call is not allowed in the current phase.
pub const WRONG_PHASE: c_int = -2;

/// A Rust type with a C declaration.
pub trait CType {
    /// Returns the declaration of a variable `name` of this type.
    fn declare(name: &str) -> String;
}

macro_rules! c_types {
    ($($rust:ty => $c:literal),*) => {
        $(impl CType for $rust {
            fn declare(name: &str) -> String {
                format!(concat!($c, "{}"), name)
            }
        })*
    };
}

c_types! {
    f64 => "double ",
    usize => "size_t ",
    *mut c_void => "void *",
    *const c_char => "const char *",
    *const Bytes => "const void *",
    *const *mut c_void => "void *const *"
}

impl<T: CType, const COUNT: usize> CType for [T; COUNT] {
    fn declare(name: &str) -> String {
        T::declare(&format!("{name}[{COUNT}]"))
    }
}

/// Defines a structure together with its C declaration.
macro_rules! c_struct {
    ($(#[$meta:meta])* $vis:vis struct $name:ident {
        $($(#[$field_meta:meta])* $field:ident: $type:ty,)*
    }) => {
        $(#[$meta])*
        #[repr(C)]
        $vis struct $name {
            $($(#[$field_meta])* $field: $type,)*
        }

        impl CType for $name {
            fn declare(name: &str) -> String {
                let fields = [$(<$type>::declare(stringify!($field))),*];
                format!("struct {{ {}; }} {name}", fields.join("; "))
            }
        }
    };
}

c_struct! {
    /// A string of Lua's, or the text of an answer.
    #[derive(Clone, Copy)]
    pub struct Bytes {
        data: *const c_char,
        length: usize,
    }
}

c_struct! {
    /// The arguments of a call, and its answer.
    #[derive(Clone, Copy)]
    pub struct Frame {
        /// The arguments, by kind and in order.
        texts: [Bytes; 2],
        numbers: [f64; 3],
        pointers: [*mut c_void; 2],
        /// A pointer to the array of the names.
        names: *const Bytes,
        name_count: usize,
        /// A pointer to the array of the stores.
        stores: *const *mut c_void,
        store_count: usize,
        /// The text of the answer.
        text: Bytes,
        pointer: *mut c_void,
        clocks: [f64; 2],
        /// The number of the answer.
        number: f64,
    }
}

/// The arguments of a call, to be taken in order.
pub struct Arguments<'a> {
    request: Option<Request<'a>>,
    frame: Frame,
    texts: usize,
    numbers: usize,
    pointers: usize,
}

impl<'a> Arguments<'a> {
    /// Takes the next argument.
    pub fn take<T: Argument<'a>>(&mut self) -> Result<T, &'static str> {
        T::take(self)
    }

    fn number(&mut self) -> Result<f64, &'static str> {
        self.numbers += 1;
        self.frame.numbers.get(self.numbers - 1).copied().ok_or(TOO_MANY)
    }

    fn pointer(&mut self) -> Result<*mut c_void, &'static str> {
        self.pointers += 1;
        self.frame.pointers.get(self.pointers - 1).copied().ok_or(TOO_MANY)
    }
}

const TOO_MANY: &str = "the function has more arguments than there is room for";

/// A type of an argument.
pub trait Argument<'a>: Sized {
    /// The kind of value that Lua puts into the frame: `text`, `number`, `pointer`, `names`,
    /// `stores`, or nothing.
    const KIND: &'static str;

    fn take(arguments: &mut Arguments<'a>) -> Result<Self, &'static str>;
}

/// The request that the Lua code runs for.
impl<'a> Argument<'a> for Request<'a> {
    const KIND: &'static str = "";

    fn take(arguments: &mut Arguments<'a>) -> Result<Self, &'static str> {
        arguments.request.ok_or("no request")
    }
}

/// The request that the Lua code runs for, if there is one.
impl<'a> Argument<'a> for Option<Request<'a>> {
    const KIND: &'static str = "";

    fn take(arguments: &mut Arguments<'a>) -> Result<Self, &'static str> {
        Ok(arguments.request)
    }
}

impl<'a> Argument<'a> for &'a [u8] {
    const KIND: &'static str = "text";

    fn take(arguments: &mut Arguments<'a>) -> Result<Self, &'static str> {
        arguments.texts += 1;
        let text = arguments.frame.texts.get(arguments.texts - 1).ok_or(TOO_MANY)?;
        // SAFETY: Lua code has put a string here, and keeps it alive during the call.
        Ok(unsafe { bytes(text.data, text.length) })
    }
}

impl<'a> Argument<'a> for f64 {
    const KIND: &'static str = "number";

    fn take(arguments: &mut Arguments<'a>) -> Result<Self, &'static str> {
        arguments.number()
    }
}

/// Lua code passes 1 for true and 0 for false.
impl<'a> Argument<'a> for bool {
    const KIND: &'static str = "number";

    fn take(arguments: &mut Arguments<'a>) -> Result<Self, &'static str> {
        Ok(arguments.number()? != 0.0)
    }
}

/// A pointer to a chain or a key: Lua code has checked the C type, which can't tell the two apart.
/// NULL if the argument is missing.
#[derive(Clone, Copy)]
pub struct ChainOrKey<'a>(*mut c_void, PhantomData<&'a c_void>);

impl<'a> Argument<'a> for ChainOrKey<'a> {
    const KIND: &'static str = "pointer";

    fn take(arguments: &mut Arguments<'a>) -> Result<Self, &'static str> {
        Ok(Self(arguments.pointer()?, PhantomData))
    }
}

impl<'a> ChainOrKey<'a> {
    /// Returns whether the argument was given.
    pub fn is_given(self) -> bool {
        !self.0.is_null()
    }

    /// Returns the chain.
    pub fn chain(self) -> Result<&'a StackRef<X509>, InvalidObject> {
        // SAFETY: Lua code has checked the C type, and keeps the object alive during the call.
        unsafe { lua_object::chain(self.0) }
    }

    /// Returns the key.
    pub fn key(self) -> Result<&'a PKeyRef<Private>, InvalidObject> {
        // SAFETY: Lua code has checked the C type, and keeps the object alive during the call.
        unsafe { lua_object::key(self.0) }
    }
}

/// What the Lua module keeps for a TCP socket of Lua code; NULL before it has connected. Lua code
/// has checked that it is of such a socket.
#[derive(Clone, Copy)]
pub struct SocketState<'a>(*const c_void, PhantomData<&'a c_void>);

impl<'a> Argument<'a> for SocketState<'a> {
    const KIND: &'static str = "pointer";

    fn take(arguments: &mut Arguments<'a>) -> Result<Self, &'static str> {
        Ok(Self(arguments.pointer()?, PhantomData))
    }
}

impl<'a> SocketState<'a> {
    /// Returns the connection that the socket has made for `request`, if it is open.
    pub fn connection(self, request: Request<'a>) -> Option<Connection<'a>> {
        // SAFETY: Lua code has checked that this is the state of a TCP socket, and keeps the socket
        // during the call.
        unsafe { socket_connection(NonNull::new(self.0.cast_mut())?, request) }
    }
}

/// A store; Lua code has checked the C type of its pointer.
impl<'a> Argument<'a> for &'a X509StoreRef {
    const KIND: &'static str = "pointer";

    fn take(arguments: &mut Arguments<'a>) -> Result<Self, &'static str> {
        // SAFETY: Lua code has checked the C type, and keeps the object alive during the call.
        let store = unsafe { lua_object::store(arguments.pointer()?) };
        store.map_err(|_| "store is not a certificate store")
    }
}

/// A list of strings.
#[derive(Clone)]
pub struct NameList<'a>(&'a [Bytes]);

impl<'a> Argument<'a> for NameList<'a> {
    const KIND: &'static str = "names";

    fn take(arguments: &mut Arguments<'a>) -> Result<Self, &'static str> {
        let Frame { names, name_count, .. } = arguments.frame;
        if name_count == 0 {
            return Ok(Self(&[]));
        }
        // SAFETY: Lua code has put an array of `name_count` elements here, and keeps it alive
        // during the call.
        Ok(Self(unsafe { slice::from_raw_parts(names, name_count) }))
    }
}

impl<'a> NameList<'a> {
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone + use<'a> {
        // SAFETY: each element is a string of Lua's, which Lua code keeps alive during the call.
        self.0.iter().map(|name| unsafe { bytes(name.data, name.length) })
    }
}

/// A list of stores.
impl<'a> Argument<'a> for Vec<&'a X509StoreRef> {
    const KIND: &'static str = "stores";

    fn take(arguments: &mut Arguments<'a>) -> Result<Self, &'static str> {
        let Frame { stores, store_count, .. } = arguments.frame;
        if store_count == 0 {
            return Ok(Self::new());
        }
        // SAFETY: Lua code has put an array of `store_count` pointers here, and keeps it alive
        // during the call.
        let pointers = unsafe { slice::from_raw_parts(stores, store_count) };
        let of_pointer = |pointer: &*mut c_void| {
            // SAFETY: Lua code has checked the C type, and keeps the object alive during the call.
            let store = unsafe { lua_object::store(*pointer) };
            store.map_err(|_| "store is not a certificate store")
        };
        pointers.iter().map(of_pointer).collect()
    }
}

/// The answer of a function to Lua code.
pub enum Answer {
    Done,
    /// No result.
    None,
    Text(Vec<u8>),
    /// No result, and the reason.
    Missing(String),
    Pointer(*mut c_void),
    Clocks([f64; 2]),
    Number(u32),
    /// An address to be made the peer: host and port.
    Peer(String, u32),
    /// The number of a function of Lua's to be called.
    Callback(u32),
}

/// Why a call has failed.
pub enum CallFailure {
    /// The call is not allowed in the current phase.
    WrongPhase,
    Error(String),
}

impl<E: Display> From<E> for CallFailure {
    fn from(error: E) -> Self {
        Self::Error(error.to_string())
    }
}

/// A return type of a function, converted to its answer.
pub trait IntoAnswer {
    fn into_answer(self) -> Result<Answer, CallFailure>;
}

impl IntoAnswer for () {
    fn into_answer(self) -> Result<Answer, CallFailure> {
        Ok(Answer::Done)
    }
}

impl IntoAnswer for Answer {
    fn into_answer(self) -> Result<Answer, CallFailure> {
        Ok(self)
    }
}

impl IntoAnswer for Vec<u8> {
    fn into_answer(self) -> Result<Answer, CallFailure> {
        Ok(Answer::Text(self))
    }
}

impl<T: IntoAnswer> IntoAnswer for Option<T> {
    fn into_answer(self) -> Result<Answer, CallFailure> {
        self.map_or(Ok(Answer::None), T::into_answer)
    }
}

impl<T: IntoAnswer, E: Display> IntoAnswer for Result<T, E> {
    fn into_answer(self) -> Result<Answer, CallFailure> {
        self.map_err(CallFailure::from).and_then(T::into_answer)
    }
}

/// A function that Lua code calls.
pub type Function = unsafe extern "C" fn(*mut ngx_http_request_t, *mut Frame) -> c_int;

/// Calls `body` with the arguments in `frame` if the phase allows it, and writes its answer into
/// the frame.
///
/// # Safety
/// `r` must be NULL or the request that the Lua code runs for. `frame` must be valid, and hold the
/// arguments that `body` takes.
pub unsafe fn call(
    name: &str,
    phases: Option<Phases>,
    r: *mut ngx_http_request_t,
    frame: *mut Frame,
    body: impl FnOnce(&mut Arguments<'_>) -> Result<Answer, CallFailure>,
) -> c_int {
    // The frame is copied: Lua code that runs during the call could fill it for another one.
    // SAFETY: the caller ensures that `r` is NULL or valid, and `frame` valid. Both stay valid
    // until this call returns to Lua.
    let (request, arguments) = unsafe { (NonNull::new(r).map(|r| Request::from_ptr(r)), *frame) };
    let log = request.map_or_else(process_log, Request::log);
    let answer = guard(name, log, None, || {
        if phases.is_some_and(|phases| !phases.contains(current_phase(request))) {
            return Some(Err(CallFailure::WrongPhase));
        }
        let mut arguments =
            Arguments { request, frame: arguments, texts: 0, numbers: 0, pointers: 0 };
        Some(body(&mut arguments))
    });
    // SAFETY: the caller ensures that `frame` is valid, and no Lua code runs before this returns.
    let frame = unsafe { &mut *frame };
    let (code, text) = match answer {
        Some(Ok(Answer::Done)) => return OK,
        Some(Ok(Answer::None)) => return NONE,
        Some(Ok(Answer::Text(text))) => (OK, text),
        Some(Ok(Answer::Missing(reason))) => (NONE, reason.into_bytes()),
        Some(Ok(Answer::Pointer(pointer))) => {
            frame.pointer = pointer;
            return OK;
        }
        Some(Ok(Answer::Clocks(clocks))) => {
            frame.clocks = clocks;
            return OK;
        }
        Some(Ok(Answer::Number(number))) => {
            frame.number = number.into();
            return OK;
        }
        Some(Ok(Answer::Peer(host, port))) => {
            frame.number = port.into();
            (PEER, host.into_bytes())
        }
        Some(Ok(Answer::Callback(number))) => {
            frame.number = number.into();
            return CALLBACK;
        }
        Some(Err(CallFailure::WrongPhase)) => return WRONG_PHASE,
        Some(Err(CallFailure::Error(text))) => (ERROR, text.into_bytes()),
        None => (ERROR, INTERNAL_ERROR.into()),
    };
    frame.say(code, text)
}

impl Frame {
    /// Writes the text of an answer, which is kept until the next text, and returns `code`.
    fn say(&mut self, code: c_int, bytes: Vec<u8>) -> c_int {
        TEXT.with_borrow_mut(|kept| {
            *kept = bytes;
            self.text = Bytes { data: kept.as_ptr().cast(), length: kept.len() };
        });
        code
    }
}

/// A row of the table of functions.
pub struct Row {
    pub name: &'static str,
    /// The phases in which users may call it; `None` for functions of the module's own Lua code.
    pub phases: Option<Phases>,
    /// The kinds of its arguments.
    pub arguments: fn() -> Vec<&'static str>,
    pub function: Function,
}

/// Makes the table of functions: for each its name, its phases, its implementation, and the types
/// of its arguments.
macro_rules! functions {
    ($($name:ident: $phases:expr, $body:path, ($($argument:ty),*);)*) => {
        /// The functions that Lua code calls.
        pub static FUNCTIONS: &[$crate::lua::ffi::Row] = &[$({
            #[allow(unsafe_code, reason = "what Lua calls is made here alone")]
            unsafe extern "C" fn function(
                r: *mut ngx::ffi::ngx_http_request_t,
                frame: *mut $crate::lua::ffi::Frame,
            ) -> std::ffi::c_int {
                // SAFETY: the module's Lua code passes the request that it runs for, and a frame
                // filled according to the kinds of these arguments.
                unsafe {
                    $crate::lua::ffi::call(stringify!($name), $phases, r, frame, |_arguments| {
                        $crate::lua::ffi::IntoAnswer::into_answer(
                            $body($(_arguments.take::<$argument>()?),*),
                        )
                    })
                }
            }
            $crate::lua::ffi::Row {
                name: stringify!($name),
                phases: $phases,
                arguments: || {
                    vec![$(<$argument as $crate::lua::ffi::Argument<'_>>::KIND),*]
                },
                function,
            }
        }),*];
    };
}

pub(super) use functions;

thread_local! {
    static TEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The error for a function that panicked.
pub const INTERNAL_ERROR: &str = "internal error, see the error log";

/// Returns the bytes of a string.
///
/// # Safety
/// `data` must be valid for `length` bytes for `'a`, unless `length` is 0.
unsafe fn bytes<'a>(data: *const c_char, length: usize) -> &'a [u8] {
    if length == 0 {
        return &[];
    }
    // SAFETY: the caller ensures that `data` is valid for `length` bytes.
    unsafe { slice::from_raw_parts(data.cast(), length) }
}
