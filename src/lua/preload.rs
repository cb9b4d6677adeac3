//! The packages that `require` finds.

use std::ffi::{CStr, c_int, c_void};

use mlua::ffi::{
    LUA_OK, lua_State, lua_call, lua_error, lua_pushlightuserdata, lua_pushlstring, luaL_loadbuffer,
};

use crate::lua::{api, x509};
use crate::nginx::conf_parser::ConfParser;
use crate::nginx::lua::{self, PackageNotRegistered};

/// A package and its Lua code.
struct Package {
    name: &'static CStr,
    source: &'static str,
    /// Our functions that it calls, and their declaration.
    api: (Functions, &'static str),
    open: unsafe extern "C-unwind" fn(*mut lua_State) -> c_int,
}

/// The address of a structure of functions.
struct Functions(*const c_void);

// SAFETY: it is that of a constant.
unsafe impl Sync for Functions {}

/// What the functions for requests, and those of `resty.kong.x509`, are called by.
const REQUESTS: (Functions, &str) = (Functions((&raw const api::API).cast()), api::DECLARATION);
const X509: (Functions, &str) = (Functions((&raw const x509::API).cast()), x509::DECLARATION);

/// Makes the list of packages: for each, its name, its file, and the functions that it calls. Lua
/// calls a function without arguments of ours for a package, so each has one of its own.
macro_rules! packages {
    ($($name:literal, $file:literal, $api:expr;)*) => {
        const PACKAGES: &[&Package] = &[$({
            unsafe extern "C-unwind" fn open_package(state: *mut lua_State) -> c_int {
                // SAFETY: called by Lua.
                unsafe { open(state, &PACKAGE) }
            }
            static PACKAGE: Package = Package {
                name: $name,
                source: include_str!($file),
                api: $api,
                open: open_package,
            };
            &PACKAGE
        }),*];
    };
}

packages! {
    c"resty.kong.tls.functions", "functions.lua", REQUESTS;
    c"resty.kong.tls", "resty_kong_tls.lua", REQUESTS;
    c"resty.kong.pdk", "resty_kong_pdk.lua", REQUESTS;
    c"resty.kong.x509", "resty_kong_x509.lua", X509;
    c"resty.kong.plugins.names", "plugins/names.lua", REQUESTS;
    c"resty.kong.plugins.bounded", "plugins/bounded.lua", REQUESTS;
    c"resty.kong.plugins.sni", "plugins/sni.lua", REQUESTS;
    c"resty.kong.plugins.authentication", "plugins/authentication.lua", REQUESTS;
    c"resty.kong.plugins.header_cert_auth", "plugins/header_cert_auth.lua", REQUESTS;
    c"resty.kong.plugins.mtls_auth", "plugins/mtls_auth.lua", REQUESTS;
    c"resty.kong.plugins.services", "plugins/services.lua", REQUESTS;
}

/// Makes `require` find our packages. To be called in *preconfiguration*.
pub fn preconfiguration(parser: ConfParser<'_>) -> Result<(), PackageNotRegistered> {
    PACKAGES
        .iter()
        .try_for_each(|package| lua::add_package_preload(parser, package.name, package.open))
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
        let (Functions(functions), declaration) = &package.api;
        lua_pushlightuserdata(state, functions.cast_mut());
        lua_pushlstring(state, declaration.as_ptr().cast(), declaration.len());
        lua_call(state, 2, 1);
    }
    1
}
