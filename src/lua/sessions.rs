// SPDX-License-Identifier: Apache-2.0

//! The functions of `resty.kong.sessions`.

use mlua::prelude::LuaString;
use mlua::{Lua, Value};

use crate::conf::MainConf;
use crate::lua::objects::Natives;
use crate::nginx::cycle::Cycle;
use crate::nginx::own_conf::OwnConf;
use crate::session_zone::zone::SessionZone;

/// Why sessions could not be dropped.
#[derive(Debug, thiserror::Error)]
pub enum NotDropped {
    #[error(
        "the workers share no sessions: kong_tls_session_cache has no zone (nginx -s reload ends \
         the sessions of workers)"
    )]
    NoZone,
    #[error("the zone of kong_tls_session_cache does not exist yet: nginx is being started")]
    TooEarly,
}

/// The natives of `resty.kong.sessions`.
pub fn natives(lua: &Lua) -> mlua::Result<Value> {
    let natives = Natives::new(lua)?;
    natives.add("drop", |identity: Option<LuaString>| {
        let tag = identity.and_then(|shown| {
            u64::from_str_radix(std::str::from_utf8(&shown.as_bytes()).ok()?, 16).ok()
        });
        let main_conf = Cycle::current().and_then(MainConf::of_cycle);
        // While `init_by_lua*` runs, the default is not set yet.
        let main_conf = main_conf.filter(|conf| conf.session_cache.get().is_some());
        let zone = main_conf.ok_or(NotDropped::TooEarly)?.session_zone();
        let zone = zone.ok_or(NotDropped::NoZone)?;
        match tag {
            Some(tag) => zone.drop_sessions(tag),
            None => SessionZone::drop_all_sessions(zone),
        }
        .ok_or(NotDropped::TooEarly)
    })?;
    Ok(natives.finish())
}
