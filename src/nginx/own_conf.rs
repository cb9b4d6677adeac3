// SPDX-License-Identifier: Apache-2.0

//! This module's own configurations, found by their type.

use std::ptr::NonNull;

use ngx::ffi::{NGX_HTTP_MAIN_CONF_OFFSET, NGX_HTTP_SRV_CONF_OFFSET};

use crate::nginx::conf_parser::{ConfParser, Level};
use crate::nginx::configuration::ModuleIndex;
use crate::nginx::cycle::Cycle;
use crate::nginx::directive::ConfLevel;
use crate::nginx::request::Request;
use crate::nginx::server::Server;
use crate::nginx::this_module;
use crate::nginx::upstream_block::UpstreamBlock;

/// A configuration of this module, and where it is found. All of them are in the pool of the
/// configuration, which outlives its servers, blocks and requests.
pub trait OwnConf: ConfLevel + Sized {
    /// Returns the configuration of the block that is being read or merged.
    fn of_parser(parser: ConfParser<'_>) -> Option<&Self> {
        // SAFETY: `ConfLevel` ties the type to this level of the module's configurations.
        unsafe { Some(parser.configuration(level::<Self>(), this_module::index())?.as_ref()) }
    }

    /// Returns the configuration of `request`, which changes as the request moves to another
    /// location.
    fn of_request(request: Request<'_>) -> Option<&Self> {
        type Find<'a, T> = unsafe fn(Request<'a>, ModuleIndex) -> Option<NonNull<T>>;
        let find: Find<'_, Self> = match level::<Self>() {
            Level::Main => Request::main_configuration,
            Level::Server => Request::server_configuration,
            Level::Location => Request::location_configuration,
        };
        // SAFETY: `ConfLevel` ties the type to this level of the module's configurations.
        unsafe { Some(find(request, this_module::index())?.as_ref()) }
    }

    /// Returns the configuration of `server`; `None` for one of locations.
    fn of_server(server: Server<'_>) -> Option<&Self> {
        type Find<'a, T> = unsafe fn(Server<'a>, ModuleIndex) -> Option<&'a T>;
        let find: Find<'_, Self> = match level::<Self>() {
            Level::Main => Server::main_configuration,
            Level::Server => Server::configuration,
            Level::Location => return None,
        };
        // SAFETY: `ConfLevel` ties the type to this level of the module's configurations.
        unsafe { find(server, this_module::index()) }
    }

    /// Returns the configuration of `block`; `None` for a block that nginx has made implicitly, and
    /// for configurations of another level.
    fn of_block<'a>(block: UpstreamBlock) -> Option<&'a Self> {
        match level::<Self>() {
            // SAFETY: `ConfLevel` ties the type to the module's server configurations.
            Level::Server => unsafe { block.configuration(this_module::index()) },
            Level::Main | Level::Location => None,
        }
    }

    /// Returns the main configuration in `cycle`, if it has `http {}`; `None` for configurations of
    /// another level.
    fn of_cycle(cycle: Cycle<'_>) -> Option<&Self> {
        match level::<Self>() {
            // SAFETY: `ConfLevel` ties the type to the module's main configuration.
            Level::Main => unsafe { cycle.main_configuration(this_module::index()) },
            Level::Server | Level::Location => None,
        }
    }
}

impl<T: ConfLevel> OwnConf for T {}

const fn level<T: ConfLevel>() -> Level {
    match T::OFFSET {
        NGX_HTTP_MAIN_CONF_OFFSET => Level::Main,
        NGX_HTTP_SRV_CONF_OFFSET => Level::Server,
        _ => Level::Location,
    }
}
