// SPDX-License-Identifier: Apache-2.0

//! What `init_by_lua*` has loaded and made, of which the sessions of clients depend: see
//! `client/lua_code.rs`. It is told by a digest, and is the same in all processes: only the process
//! that reads the configuration runs that code.

#![allow(unsafe_code, reason = "Lua calls it")]

use std::cell::{Cell, RefCell};
use std::ffi::c_int;
use std::rc::Rc;

use mlua::ffi::lua_State;
use mlua::prelude::LuaString;
use mlua::{AnyUserData, Lua, Table, Value};
use openssl::stack::Stack;
use openssl::x509::X509;
use openssl::x509::store::X509Store;

use crate::client::lua_files::Paths;
use crate::lua::objects::Natives;
use crate::nginx::lua::Vm;
use crate::openssl::error::SslError;
use crate::openssl::fingerprint::{Encoding, Fingerprint};
use crate::openssl::{certificate, store};

/// What was made during `init_by_lua*`, in that order.
struct Made {
    encoding: RefCell<Encoding>,
    /// Whether all of it could be encoded.
    tells_all: Cell<bool>,
}

/// The name of the table of packages that were loaded at the end, in Lua's registry.
const LOADED: &str = "kong_tls_loaded_at_init";

/// The packages without a file, which are parts of LuaJIT and of the Lua module.
const BUILT_IN: [&[u8]; 14] = [
    b"_G",
    b"bit",
    b"coroutine",
    b"debug",
    b"io",
    b"jit",
    b"jit.opt",
    b"math",
    b"ndk",
    b"ngx",
    b"os",
    b"package",
    b"string",
    b"table",
];

/// Why it can't be told what `init_by_lua*` has loaded and made.
#[derive(Debug, thiserror::Error)]
pub enum Untold {
    #[error("Lua package \"{}\" has no file that can be read", .0.escape_ascii())]
    Package(Vec<u8>),
    #[error("an object that init_by_lua* has made could not be read")]
    Object,
    #[error("the Lua VM could not be read")]
    Vm,
}

thread_local! {
    static COMPLETED: Cell<Option<Result<Fingerprint, Untold>>> = const { Cell::new(None) };
}

/// The natives of `resty.kong.tls.at_init`.
pub fn natives(lua: &Lua) -> mlua::Result<Value> {
    let natives = Natives::new(lua)?;
    let made = Rc::new(Made {
        encoding: RefCell::new(Encoding::new()),
        // What was made for another instance of the package is not known to this one.
        tells_all: Cell::new(lua.app_data_ref::<Rc<Made>>().is_none()),
    });
    lua.set_app_data(Rc::clone(&made));

    // Notes an object, and returns whether that tells all about it.
    let objects = Rc::clone(&made);
    natives.add("note", move |object: AnyUserData| {
        let result = encode(&mut objects.encoding.borrow_mut(), &object);
        if result.is_err() {
            objects.tells_all.set(false);
        }
        result
    })?;
    natives.add("note_text", move |text: LuaString| {
        let mut encoding = made.encoding.borrow_mut();
        encoding.number(TEXT);
        encoding.bytes(&text.as_bytes());
        Ok::<_, SslError>(())
    })?;
    let loaded = lua.create_table()?;
    lua.set_named_registry_value(LOADED, &loaded)?;
    natives.set("loaded", loaded)?;
    Ok(natives.finish())
}

const CHAIN: u64 = 1;
const STORE: u64 = 2;
const OTHER: u64 = 3;
const TEXT: u64 = 4;

fn encode(encoding: &mut Encoding, object: &AnyUserData) -> Result<bool, SslError> {
    if let Ok(chain) = object.borrow::<Stack<X509>>() {
        encoding.number(CHAIN);
        encoding.number(chain.len() as u64);
        for certificate in &**chain {
            certificate::encode(encoding, certificate)?;
        }
        return Ok(true);
    }
    if let Ok(store) = object.borrow::<X509Store>() {
        let is_told = store::tells_all(&store);
        encoding.number(STORE);
        encoding.flag(is_told);
        store::encode(encoding, &store)?;
        return Ok(is_told);
    }
    encoding.number(OTHER);
    Ok(false)
}

/// Completes what is told about the VM of a configuration. To be called after `init_by_lua*`.
pub fn complete(vm: Option<Vm>) -> Result<Fingerprint, Untold> {
    COMPLETED.take();
    if let Some(vm) = vm {
        vm.call(complete_vm);
    }
    COMPLETED.take().unwrap_or(Err(Untold::Vm))
}

unsafe extern "C-unwind" fn complete_vm(state: *mut lua_State) -> c_int {
    // SAFETY: Lua calls this function from `Vm::call`, with its own state.
    unsafe {
        Lua::entrypoint(state, |lua, ()| {
            COMPLETED.set(Some(digest(lua)?));
            Ok(Value::Nil)
        })
    }
}

fn digest(lua: &Lua) -> mlua::Result<Result<Fingerprint, Untold>> {
    let Some(made) = lua.app_data_ref::<Rc<Made>>().map(|made| Rc::clone(&made)) else {
        return Ok(Err(Untold::Vm));
    };
    let loaded: Table = lua.named_registry_value("_LOADED")?;
    let mut packages = Vec::new();
    for entry in loaded.pairs::<Value, Value>() {
        let (name, value) = entry?;
        let Value::String(name) = name else {
            return Ok(Err(Untold::Package(name.type_name().into())));
        };
        packages.push((name.as_bytes().to_vec(), value));
    }
    packages.sort_by(|(one, _), (other, _)| one.cmp(other));

    let preload: Table = lua.named_registry_value("_PRELOAD")?;
    let package: Table = loaded.raw_get("package")?;
    let (of_lua, of_c): (LuaString, LuaString) =
        (package.raw_get("path")?, package.raw_get("cpath")?);
    let (of_lua, of_c) = (of_lua.as_bytes(), of_c.as_bytes());
    let paths = Paths { of_lua: &of_lua, of_c: &of_c };

    let mut encoding = Encoding::new();
    encoding.number(packages.len() as u64);
    for (name, _) in &packages {
        encoding.bytes(name);
        let is_told = match preload.raw_get(lua.create_string(name)?)? {
            // What is compiled in is the same until nginx is started anew.
            Value::Function(open) => open.info().what == "C",
            Value::Nil if BUILT_IN.contains(&&name[..]) => true,
            Value::Nil => paths.encode(&mut encoding, name),
            _ => false,
        };
        if !is_told {
            return Ok(Err(Untold::Package(name.clone())));
        }
    }
    if !made.tells_all.get() {
        return Ok(Err(Untold::Object));
    }
    encoding.bytes(&made.encoding.replace(Encoding::new()).digest());

    let at_end: Table = lua.named_registry_value(LOADED)?;
    for (name, value) in packages {
        at_end.raw_set(lua.create_string(name)?, value)?;
    }
    Ok(Ok(encoding.into()))
}
