// SPDX-License-Identifier: Apache-2.0

//! The Lua packages that the module provides to `require`.

#![allow(unsafe_code, reason = "Lua calls it")]

use std::ffi::{CStr, c_int};

use mlua::ffi::{LUA_OK, lua_State, lua_call, lua_error, lua_pushcfunction, luaL_loadbuffer};
use mlua::{Lua, Value};

use crate::lua::{addresses, at_init, functions, objects, revocation, sessions, x509};
use crate::nginx::conf_parser::ConfParser;
use crate::nginx::lua::{self, PackageNotRegistered};

/// A Lua package.
struct Package {
    name: &'static CStr,
    source: &'static str,
    /// A C function that returns the functions of Rust that the package's code calls.
    natives: unsafe extern "C-unwind" fn(*mut lua_State) -> c_int,
    open: unsafe extern "C-unwind" fn(*mut lua_State) -> c_int,
}

/// Makes the list of packages: for each, its name, its file, and the function that makes its
/// argument. Each needs its own C functions, because Lua passes nothing to them that tells the
/// package.
macro_rules! packages {
    ($($name:literal, $file:literal, $natives:path;)*) => {
        const PACKAGES: &[&Package] = &[$({
            unsafe extern "C-unwind" fn natives(state: *mut lua_State) -> c_int {
                // SAFETY: Lua calls this function from `open`, with its own state.
                unsafe { Lua::entrypoint(state, |lua, ()| $natives(lua)) }
            }
            unsafe extern "C-unwind" fn open_package(state: *mut lua_State) -> c_int {
                // SAFETY: Lua calls this function from `require`, with its own state.
                unsafe { open(state, &PACKAGE) }
            }
            static PACKAGE: Package = Package {
                name: $name,
                source: include_str!($file),
                natives,
                open: open_package,
            };
            &PACKAGE
        }),*];
    };
}

packages! {
    c"resty.kong.tls.ctypes", "resty/kong/tls/ctypes.lua", none;
    c"resty.kong.tls.values", "resty/kong/tls/values.lua", none;
    c"resty.kong.tls.at_init", "resty/kong/tls/at_init.lua", at_init::natives;
    c"resty.kong.tls.objects", "resty/kong/tls/objects.lua", objects::natives;
    c"resty.kong.tls.mistakes", "resty/kong/tls/mistakes.lua", none;
    c"resty.kong.tls.recording", "resty/kong/tls/recording.lua", none;
    c"resty.kong.tls.functions", "resty/kong/tls/functions.lua", functions::for_lua;
    c"resty.kong.tls", "resty/kong/tls.lua", none;
    c"resty.kong.pdk", "resty/kong/pdk.lua", none;
    c"resty.kong.x509", "resty/kong/x509.lua", x509::natives;
    c"resty.kong.addresses", "resty/kong/addresses.lua", addresses::natives;
    c"resty.kong.sessions", "resty/kong/sessions.lua", sessions::natives;
    c"resty.kong.plugins.names", "resty/kong/plugins/names.lua", none;
    c"resty.kong.plugins.bounded", "resty/kong/plugins/bounded.lua", none;
    c"resty.kong.forwarded_certificate", "resty/kong/forwarded_certificate.lua", none;
    c"resty.kong.plugins.worker_dict", "resty/kong/plugins/worker_dict.lua", none;
    c"resty.kong.plugins.sni", "resty/kong/plugins/sni.lua", none;
    c"resty.kong.plugins.consumers", "resty/kong/plugins/consumers.lua", none;
    c"resty.kong.plugins.replaced", "resty/kong/plugins/replaced.lua", none;
    c"resty.kong.plugins.fetch", "resty/kong/plugins/fetch.lua", none;
    c"resty.kong.plugins.revocation", "resty/kong/plugins/revocation.lua", revocation::natives;
    c"resty.kong.plugins.authentication", "resty/kong/plugins/authentication.lua", none;
    c"resty.kong.plugins.header_cert_auth", "resty/kong/plugins/header_cert_auth.lua", none;
    c"resty.kong.plugins.mtls_auth", "resty/kong/plugins/mtls_auth.lua", none;
    c"resty.kong.plugins.services", "resty/kong/plugins/services.lua", none;
}

/// The argument of a package that calls no functions of Rust by itself.
fn none(_: &Lua) -> mlua::Result<Value> {
    Ok(Value::Nil)
}

/// Makes the packages available to `require`. To be called in *preconfiguration*.
pub fn preconfiguration(parser: ConfParser<'_>) -> Result<(), PackageNotRegistered> {
    PACKAGES
        .iter()
        .try_for_each(|package| lua::add_package_preload(parser, package.name, package.open))
}

/// Runs the code of a package with its natives, and returns its result to Lua.
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
        lua_pushcfunction(state, package.natives);
        lua_call(state, 0, 1);
        lua_call(state, 1, 1);
    }
    1
}
