// SPDX-License-Identifier: Apache-2.0

//! What the Lua module (`ngx_http_lua_module`) exports for other modules.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::{self, NonNull};

use mlua::ffi::{lua_CFunction, lua_State, lua_cpcall, lua_gettop, lua_settop};
use ngx::ffi::{NGX_OK, ngx_conf_t, ngx_http_request_t, ngx_int_t};

use crate::nginx::conf_parser::ConfParser;
use crate::nginx::connection::Connection;
use crate::nginx::phases::Phases;
use crate::nginx::request::Request;

unsafe extern "C" {
    fn ngx_http_lua_add_package_preload(
        cf: *mut ngx_conf_t,
        package: *const c_char,
        function: lua_CFunction,
    ) -> ngx_int_t;
    fn ngx_http_lua_get_global_state(cf: *mut ngx_conf_t) -> *mut lua_State;
    fn ngx_http_lua_ffi_get_phase(r: *mut ngx_http_request_t, err: *mut *mut c_char) -> c_int;
}

/// Returns the phase that Lua code runs in for `request`.
pub fn current_phase(request: Option<Request<'_>>) -> Phases {
    let Some(request) = request else {
        return Phases::INIT;
    };
    let mut error = ptr::null_mut();

    // SAFETY: the request is valid; the function reads its Lua context, and points `error` at a
    // constant if there is none.
    let context = unsafe { ngx_http_lua_ffi_get_phase(request.as_ptr(), &raw mut error) };
    u32::try_from(context).map_or(Phases::NONE, Phases::from_lua_context)
}

/// How many pointers the state of a TCP socket (`ngx_http_lua_socket_tcp_upstream_t`) begins with,
/// at least: the request is among them, and behind it is the connection, the first field of the peer.
/// Older versions have seven before the request, newer ones eight.
const SOCKET_POINTERS: usize = 12;

/// Returns the connection of a TCP socket of Lua code, if it is open and was made for `request`.
///
/// The Lua module has no function for this. Its connection is found by what stands around it:
/// behind the request, and with the state as its `data`.
///
/// # Safety
/// `state` must be that of a TCP socket of the Lua module, valid for `'a`.
pub unsafe fn socket_connection<'a>(
    state: NonNull<c_void>,
    request: Request<'a>,
) -> Option<Connection<'a>> {
    // SAFETY: the caller ensures that this is such a state, which is much longer and is aligned as
    // its pointers. Any bits are valid for a pointer that is only compared.
    let pointers: &[*mut c_void; SOCKET_POINTERS] = unsafe { state.cast().as_ref() };
    let before = pointers.iter().position(|pointer| *pointer == request.as_ptr().cast())?;
    let connection = NonNull::new(*pointers.get(before + 1)?)?;
    // SAFETY: the Lua module resets the field when it closes the connection, and nginx frees the
    // memory of its connections only when it ends.
    let connection = unsafe { Connection::from_ptr(connection.cast()) };
    (connection.data() == Some(state)).then_some(connection)
}

/// A package could not be registered.
#[derive(Debug, thiserror::Error)]
#[error("could not register Lua package {}", .0.to_string_lossy())]
pub struct PackageNotRegistered(&'static CStr);

/// Makes `require "package"` call `function`. To be called in *preconfiguration*.
pub fn add_package_preload(
    parser: ConfParser<'_>,
    package: &'static CStr,
    function: lua_CFunction,
) -> Result<(), PackageNotRegistered> {
    // SAFETY: the parser is valid, and the name and the function are static.
    let status =
        unsafe { ngx_http_lua_add_package_preload(parser.as_ptr(), package.as_ptr(), function) };
    if status == NGX_OK as ngx_int_t { Ok(()) } else { Err(PackageNotRegistered(package)) }
}

/// The Lua VM of a configuration, which all its Lua code shares.
#[derive(Clone, Copy)]
pub struct Vm(NonNull<lua_State>);

impl Vm {
    /// Returns the VM of the configuration that is being read, if the Lua module has made it. To be
    /// called in *postconfiguration*, and used as long as the configuration is.
    pub fn of_parser(parser: ConfParser<'_>) -> Option<Self> {
        // SAFETY: the parser is valid, and inside `http {}`.
        NonNull::new(unsafe { ngx_http_lua_get_global_state(parser.as_ptr()) }).map(Self)
    }

    /// Calls `function` in the VM; returns whether it has thrown no error. To be called while the
    /// VM runs no other code.
    pub fn call(self, function: lua_CFunction) -> bool {
        let state = self.0.as_ptr();
        // SAFETY: the state is the main thread of the VM, which lives as long as the configuration.
        // The call is protected, so no error leaves it; what it leaves on the stack is removed.
        unsafe {
            let top = lua_gettop(state);
            let status = lua_cpcall(state, function, ptr::null_mut());
            lua_settop(state, top);
            status == 0
        }
    }
}
