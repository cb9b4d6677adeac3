//! The packages that `require` finds.

use std::ffi::{CStr, c_int, c_void};

use mlua::ffi::{
    LUA_OK, lua_State, lua_call, lua_error, lua_pushlightuserdata, lua_pushlstring, luaL_loadbuffer,
};
use ngx::ffi::ngx_conf_t;

use super::api::{API, DECLARATION};
use crate::nginx::lua;

/// A package and its Lua code.
struct Package {
    name: &'static CStr,
    source: &'static str,
    open: unsafe extern "C-unwind" fn(*mut lua_State) -> c_int,
}

const FUNCTIONS: Package = Package {
    name: c"resty.kong.tls.functions",
    source: include_str!("functions.lua"),
    open: open_functions,
};
const TLS: Package =
    Package { name: c"resty.kong.tls", source: include_str!("resty_kong_tls.lua"), open: open_tls };
const PDK: Package =
    Package { name: c"resty.kong.pdk", source: include_str!("resty_kong_pdk.lua"), open: open_pdk };

/// Makes `require` find our packages. To be called in *preconfiguration*.
///
/// # Safety
/// `cf` must be valid.
pub unsafe fn preconfiguration(cf: *mut ngx_conf_t) -> Result<(), &'static CStr> {
    for Package { name, source: _, open } in [FUNCTIONS, TLS, PDK] {
        // SAFETY: `cf` is valid by contract.
        unsafe { lua::add_package_preload(cf, name, open) }.map_err(|()| name)?;
    }
    Ok(())
}

unsafe extern "C-unwind" fn open_functions(state: *mut lua_State) -> c_int {
    // SAFETY: called by Lua.
    unsafe { open(state, &FUNCTIONS) }
}

unsafe extern "C-unwind" fn open_tls(state: *mut lua_State) -> c_int {
    // SAFETY: called by Lua.
    unsafe { open(state, &TLS) }
}

unsafe extern "C-unwind" fn open_pdk(state: *mut lua_State) -> c_int {
    // SAFETY: called by Lua.
    unsafe { open(state, &PDK) }
}

/// Runs the code of a package with the pointers of our functions and their declaration, and returns
/// what it returns.
///
/// # Safety
/// `state` must be a Lua state in a call, as Lua calls a function of `package.preload`.
unsafe fn open(state: *mut lua_State, package: &Package) -> c_int {
    // SAFETY: `state` has room for the few values pushed. Where Lua throws, it leaves this function
    // for its caller in Lua, and nothing here is to be dropped.
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
        lua_pushlightuserdata(state, (&raw const API).cast_mut().cast::<c_void>());
        lua_pushlstring(state, DECLARATION.as_ptr().cast(), DECLARATION.len());
        lua_call(state, 2, 1);
    }
    1
}
