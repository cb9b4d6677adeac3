// SPDX-License-Identifier: Apache-2.0

//! The functions of `resty.kong.addresses`.

use std::convert::Infallible;

use mlua::prelude::LuaString;
use mlua::{Lua, UserDataRef, Value};

use crate::address_ranges::{AddressRanges, InvalidRange};
use crate::lua::objects::{Natives, Object};

/// The natives of `resty.kong.addresses`.
pub fn natives(lua: &Lua) -> mlua::Result<Value> {
    let natives = Natives::new(lua)?;
    natives.add("new", |ranges: Vec<LuaString>| {
        let ranges: Vec<_> = ranges.iter().map(LuaString::as_bytes).collect();
        let ranges = AddressRanges::new(ranges.iter().map(AsRef::as_ref))?;
        Ok::<_, InvalidRange>(Object(ranges))
    })?;
    natives.add("contain", |(ranges, address): (UserDataRef<AddressRanges>, LuaString)| {
        Ok::<_, Infallible>(ranges.contain(&address.as_bytes()))
    })?;
    Ok(natives.finish())
}
