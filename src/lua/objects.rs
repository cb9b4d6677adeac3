// SPDX-License-Identifier: Apache-2.0

//! Objects for Lua code: `mlua` userdata that own an OpenSSL object or a value of this module, and
//! release it in their finalizer. Lua code can't replace what they own.
//!
//! The functions that take or make such objects are natives: Rust functions that a package of Lua
//! gets when it is loaded. The functions for requests, which LuaJIT compiles, take the addresses of
//! the objects instead (see `ffi`).

use std::cell::RefCell;
use std::ffi::c_void;
use std::fmt::Display;

use foreign_types::{ForeignType, ForeignTypeRef};
use mlua::{
    AnyUserData, FromLuaMulti, Function, IntoLua, IntoLuaMulti, LightUserData, Lua, MultiValue,
    Nil, Table, UserDataFields, Value,
};
use openssl::stack::Stack;
use openssl::x509::store::X509Store;
use openssl::x509::{X509, X509Ref};

use crate::address_ranges::AddressRanges;
use crate::lua::ffi::{ChainOrKey, INTERNAL_ERROR};
use crate::lua::x509;
use crate::nginx::connection::process_log;
use crate::nginx::panic::guard;
use crate::openssl::certificate;
use crate::openssl::error::SslError;
use crate::openssl::lua_object::InvalidObject;
use crate::openssl::refreshed::RefreshedStore;
use crate::openssl::stored_key::OwnedKey;

/// A result that becomes an object.
pub struct Object<T>(pub T);

impl<T: 'static> IntoLua for Object<T> {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        lua.create_any_userdata(self.0).map(Value::UserData)
    }
}

/// A result that becomes a string, which need not be UTF-8.
pub struct Text(pub Vec<u8>);

impl IntoLua for Text {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        lua.create_string(self.0).map(Value::String)
    }
}

/// The natives of a package.
pub struct Natives<'a> {
    lua: &'a Lua,
    functions: Table,
}

impl<'a> Natives<'a> {
    pub fn new(lua: &'a Lua) -> mlua::Result<Self> {
        Ok(Self { lua, functions: lua.create_table()? })
    }

    /// Adds a function that returns the result of `body` to Lua, or nil and the error's text.
    ///
    /// The package's Lua code checks the types of arguments first: `mlua`'s own errors about them
    /// are neither strings nor at the user's line.
    pub fn add<A: FromLuaMulti, R: IntoLuaMulti, E: Display>(
        &self,
        name: &'static str,
        body: impl Fn(A) -> Result<R, E> + 'static,
    ) -> mlua::Result<()> {
        let function = self.lua.create_function(move |lua, arguments| {
            match guard(name, process_log(), None, || Some(body(arguments))) {
                Some(Ok(result)) => result.into_lua_multi(lua),
                Some(Err(error)) => failure(lua, &error.to_string()),
                None => failure(lua, INTERNAL_ERROR),
            }
        })?;
        self.functions.raw_set(name, function)
    }

    /// Adds a value that is no function.
    pub fn set(&self, name: &'static str, value: impl IntoLua) -> mlua::Result<()> {
        self.functions.raw_set(name, value)
    }

    /// Returns the natives as the argument of the package.
    pub fn finish(self) -> Value {
        Value::Table(self.functions)
    }
}

fn failure(lua: &Lua, text: &str) -> mlua::Result<MultiValue> {
    (Nil, text).into_lua_multi(lua)
}

/// A kind of object.
trait Kind: Sized + 'static {
    /// Its name in the module's Lua code.
    const NAME: &'static str;

    /// Returns the address that other libraries know the object by.
    fn address(&self) -> Option<*mut c_void>;
}

impl Kind for X509 {
    const NAME: &'static str = "certificate";

    fn address(&self) -> Option<*mut c_void> {
        Some(self.as_ptr().cast())
    }
}

impl Kind for Stack<X509> {
    const NAME: &'static str = "chain";

    fn address(&self) -> Option<*mut c_void> {
        Some(self.as_ptr().cast())
    }
}

impl Kind for OwnedKey {
    const NAME: &'static str = "key";

    fn address(&self) -> Option<*mut c_void> {
        Some(self.as_ptr().cast())
    }
}

impl Kind for X509Store {
    const NAME: &'static str = "store";

    fn address(&self) -> Option<*mut c_void> {
        Some(self.as_ptr().cast())
    }
}

/// It has no address of its own: that is of the store that it is at the moment.
impl Kind for RefreshedStore {
    const NAME: &'static str = "store";

    fn address(&self) -> Option<*mut c_void> {
        None
    }
}

impl Kind for AddressRanges {
    const NAME: &'static str = "addresses";

    fn address(&self) -> Option<*mut c_void> {
        None
    }
}

/// What the natives of `resty.kong.tls.objects` need of a [`Kind`].
struct KindFunctions {
    name: &'static str,
    describe: fn(&AnyUserData) -> Option<Description>,
    define: fn(&Lua, Metatable) -> mlua::Result<()>,
}

/// The name of an object's kind, and its address.
type Description = (&'static str, Option<LightUserData>);

/// The display name of a kind, and its metamethods `__index` and `__newindex`.
type Metatable = (String, Function, Function);

impl KindFunctions {
    const fn of<T: Kind>() -> Self {
        Self { name: T::NAME, describe: describe::<T>, define: define::<T> }
    }
}

const KINDS: &[KindFunctions] = &[
    KindFunctions::of::<X509>(),
    KindFunctions::of::<Stack<X509>>(),
    KindFunctions::of::<OwnedKey>(),
    KindFunctions::of::<X509Store>(),
    KindFunctions::of::<RefreshedStore>(),
    KindFunctions::of::<AddressRanges>(),
];

fn describe<T: Kind>(object: &AnyUserData) -> Option<Description> {
    let object = object.borrow::<T>().ok()?;
    Some((T::NAME, object.address().map(LightUserData)))
}

fn define<T: Kind>(lua: &Lua, (name, index, newindex): Metatable) -> mlua::Result<()> {
    lua.register_userdata_type::<T>(move |kind| {
        kind.add_meta_field("__name", name);
        kind.add_meta_field("__index", index);
        kind.add_meta_field("__newindex", newindex);
    })
}

thread_local! {
    static PASSED: RefCell<Option<Stack<X509>>> = const { RefCell::new(None) };
}

/// Why another library's chain can't become an object.
#[derive(Debug, thiserror::Error)]
pub enum ChainNotPassed {
    #[error(transparent)]
    Invalid(#[from] InvalidObject),
    #[error(transparent)]
    Ssl(#[from] SslError),
}

/// Keeps another library's chain for `passed_chain`, which makes an object of it: natives can't
/// take a pointer from Lua code, which only the functions for requests do.
pub fn pass_chain(chain: ChainOrKey<'_>) -> Result<(), ChainNotPassed> {
    PASSED.set(Some(certificate::chain(chain.chain()?.iter().map(X509Ref::to_owned))?));
    Ok(())
}

/// The natives of `resty.kong.tls.objects`.
pub fn natives(lua: &Lua) -> mlua::Result<Value> {
    let natives = Natives::new(lua)?;
    // Returns the kind of an object and its address, or nil for any other value.
    natives.add("describe", |value: Value| {
        let object = value.as_userdata();
        let description =
            object.and_then(|object| KINDS.iter().find_map(|kind| (kind.describe)(object)));
        Ok::<_, SslError>(description.unzip())
    })?;
    natives.add("current_store", x509::current_store)?;
    natives.add("passed_chain", |()| Ok::<_, SslError>(PASSED.take().map(Object)))?;
    let define = lua.create_function(|lua, (name, metatable): (String, Metatable)| {
        KINDS
            .iter()
            .filter(|kind| kind.name == name)
            .try_for_each(|kind| (kind.define)(lua, metatable.clone()))
    })?;
    natives.functions.raw_set("define", define)?;
    Ok(natives.finish())
}
