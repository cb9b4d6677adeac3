// SPDX-License-Identifier: Apache-2.0

//! The Lua packages that the module provides to `require`.

#![allow(unsafe_code, reason = "Lua calls it")]

use std::borrow::Cow;
use std::ffi::{CStr, c_int, c_void};

use mlua::ffi::{
    LUA_OK, lua_State, lua_call, lua_error, lua_pushlightuserdata, lua_pushlstring, luaL_loadbuffer,
};

use crate::lua::{functions, x509};
use crate::nginx::conf_parser::ConfParser;
use crate::nginx::lua::{self, PackageNotRegistered};

/// A Lua package.
struct Package {
    name: &'static CStr,
    source: &'static str,
    /// The functions that its code calls.
    functions: Functions,
    open: unsafe extern "C-unwind" fn(*mut lua_State) -> c_int,
}

/// A set of functions.
#[derive(Clone, Copy)]
enum Functions {
    /// The functions for requests.
    Requests,
    /// The functions of `resty.kong.x509`.
    X509,
}

impl Functions {
    /// Returns the pointer to the functions, and their description for Lua code.
    fn describe(self) -> (*const c_void, Cow<'static, str>) {
        match self {
            Self::Requests => {
                ((&raw const functions::POINTERS).cast(), functions::describe().into())
            }
            Self::X509 => ((&raw const x509::API).cast(), x509::DECLARATION.into()),
        }
    }
}

/// Makes the list of packages: for each, its name, its file, and its set of functions. Each needs
/// its own C function, because Lua passes nothing to `open` that tells the package.
macro_rules! packages {
    ($($name:literal, $file:literal, $functions:ident;)*) => {
        const PACKAGES: &[&Package] = &[$({
            unsafe extern "C-unwind" fn open_package(state: *mut lua_State) -> c_int {
                // SAFETY: Lua calls this function from `require`, with its own state.
                unsafe { open(state, &PACKAGE) }
            }
            static PACKAGE: Package = Package {
                name: $name,
                source: include_str!($file),
                functions: Functions::$functions,
                open: open_package,
            };
            &PACKAGE
        }),*];
    };
}

packages! {
    c"resty.kong.tls.ctypes", "resty/kong/tls/ctypes.lua", Requests;
    c"resty.kong.tls.values", "resty/kong/tls/values.lua", Requests;
    c"resty.kong.tls.functions", "resty/kong/tls/functions.lua", Requests;
    c"resty.kong.tls", "resty/kong/tls.lua", Requests;
    c"resty.kong.pdk", "resty/kong/pdk.lua", Requests;
    c"resty.kong.x509", "resty/kong/x509.lua", X509;
    c"resty.kong.plugins.names", "resty/kong/plugins/names.lua", Requests;
    c"resty.kong.plugins.bounded", "resty/kong/plugins/bounded.lua", Requests;
    c"resty.kong.plugins.sni", "resty/kong/plugins/sni.lua", Requests;
    c"resty.kong.plugins.authentication", "resty/kong/plugins/authentication.lua", Requests;
    c"resty.kong.plugins.header_cert_auth", "resty/kong/plugins/header_cert_auth.lua", Requests;
    c"resty.kong.plugins.mtls_auth", "resty/kong/plugins/mtls_auth.lua", Requests;
    c"resty.kong.plugins.services", "resty/kong/plugins/services.lua", Requests;
}

/// Makes the packages available to `require`. To be called in *preconfiguration*.
pub fn preconfiguration(parser: ConfParser<'_>) -> Result<(), PackageNotRegistered> {
    PACKAGES
        .iter()
        .try_for_each(|package| lua::add_package_preload(parser, package.name, package.open))
}

/// Runs the code of a package with the pointer to its functions and their description, and returns
/// its result to Lua.
///
/// # Safety
/// `state` must be a Lua state in a call, as for any function in `package.preload`.
unsafe fn open(state: *mut lua_State, package: &Package) -> c_int {
    // SAFETY: Lua has at least 20 free stack slots (`LUA_MINSTACK`) when it calls a C function. If
    // Lua throws, it unwinds past this function, which has nothing to drop.
    unsafe {
        let status = luaL_loadbuffer(
            state,
            package.source.as_ptr().cast(),
            package.source.len(),
            package.name.as_ptr(),
        );
        if status != LUA_OK {
            lua_error(state);
        }
        push_functions(state, package.functions);
        lua_call(state, 2, 1);
    }
    1
}

/// Pushes the pointer to the functions and their description.
///
/// # Safety
/// The stack of `state` must have room for two values.
unsafe fn push_functions(state: *mut lua_State, functions: Functions) {
    let (pointers, description) = functions.describe();
    // SAFETY: Lua copies the text. If there is no memory, Lua throws, and the description is
    // leaked.
    unsafe {
        lua_pushlightuserdata(state, pointers.cast_mut());
        lua_pushlstring(state, description.as_ptr().cast(), description.len());
    }
}
