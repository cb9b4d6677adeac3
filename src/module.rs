// SPDX-License-Identifier: Apache-2.0

//! The module as nginx sees it, and what it does when nginx reads a configuration.

#![allow(unsafe_code, reason = "nginx finds the module by its symbol")]

use ngx::ffi::{ngx_http_module_t, ngx_module_t};

use crate::client::{alpn, lua_code, post_read, resumption, ssl_directives, ticket_keys};
use crate::conf::{LocationConf, MainConf, ServerConf};
use crate::directives::NGX_HTTP_KONG_TLS_COMMANDS;
use crate::lua::{at_init, preload};
use crate::nginx::conf_parser::ConfParser;
use crate::nginx::connection::process_log;
use crate::nginx::cycle::Cycle;
use crate::nginx::http_module::{self, HttpModule, Reported};
use crate::nginx::layout;
use crate::nginx::own_conf::OwnConf;
use crate::openssl::{folder, stored_key, version};
use crate::status::zone;
use crate::upstream::handshake::lua_directives;
use crate::upstream::location::enforcement::Violation;
use crate::upstream::location::install::{self, InvalidLocation};
use crate::upstream::location::tls_directives;
use crate::upstream::peer::{balancers, choice};
use crate::{variables, worker};

static NGX_HTTP_KONG_TLS_MODULE_CTX: ngx_http_module_t = http_module::context::<KongTls>();

#[allow(missing_docs, reason = "what nginx looks for in a file that it loads")]
mod exports {
    use super::ngx_http_kong_tls_module;

    ngx::ngx_modules!(ngx_http_kong_tls_module);
}

/// The module.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "nginx's name for it")]
pub static mut ngx_http_kong_tls_module: ngx_module_t = http_module::module::<KongTls>(
    &raw const NGX_HTTP_KONG_TLS_MODULE_CTX,
    (&raw mut NGX_HTTP_KONG_TLS_COMMANDS).cast(),
);

/// Why a configuration can't use the module.
#[derive(Debug, thiserror::Error)]
enum ConfigurationError {
    #[error(transparent)]
    Version(#[from] version::WrongOpenSsl),
    #[error(transparent)]
    Layout(#[from] layout::WrongLayout),
    #[error(transparent)]
    Package(#[from] crate::nginx::lua::PackageNotRegistered),
    #[error(transparent)]
    Variable(#[from] crate::nginx::variable::RegistrationFailed),
    #[error(transparent)]
    Ssl(#[from] crate::openssl::error::SslError),
    #[error(transparent)]
    OutOfMemory(#[from] crate::nginx::pool::OutOfMemory),
    #[error("kong_tls_session_cache: could not make its shared memory zone: {0}")]
    Zone(#[from] crate::nginx::shared_zone::ZoneError),
    #[error("the configuration of http {{}} is missing")]
    NoMainConf,
}

struct KongTls;

impl HttpModule for KongTls {
    type MainConf = MainConf;
    type ServerConf = ServerConf;
    type LocationConf = LocationConf;
    type Error = ConfigurationError;

    fn preconfiguration(parser: ConfParser<'_>) -> Result<(), ConfigurationError> {
        version::check()?;
        layout::check()?;
        stored_key::forget_refused();
        preload::preconfiguration(parser)?;
        folder::report_to(|words| process_log().error(format_args!("{words}")));
        install::preconfiguration(parser);
        balancers::preconfiguration(parser);
        lua_directives::preconfiguration(parser);
        tls_directives::preconfiguration(parser);
        lua_code::preconfiguration(parser);
        ssl_directives::preconfiguration(parser);
        variables::preconfiguration(parser)?;
        Ok(())
    }

    fn postconfiguration(parser: ConfParser<'_>) -> Result<(), ConfigurationError> {
        install::postconfiguration(parser);
        balancers::postconfiguration(parser);
        lua_directives::postconfiguration(parser);
        tls_directives::postconfiguration(parser);
        let main_conf = MainConf::of_parser(parser).ok_or(ConfigurationError::NoMainConf)?;
        lua_code::postconfiguration(parser, main_conf);
        ssl_directives::postconfiguration(parser);
        alpn::postconfiguration(parser, main_conf);
        resumption::postconfiguration(parser, main_conf)?;
        post_read::postconfiguration(parser, main_conf)?;
        main_conf.complete_session_cache(parser)?;
        main_conf.blocks.get_or_init(|| choice::postconfiguration(parser));
        Ok(())
    }

    fn merge_server(around: &ServerConf, server: &ServerConf) {
        server.inherit(around);
    }

    fn merge_location(
        parser: ConfParser<'_>,
        around: &LocationConf,
        location: &LocationConf,
    ) -> Result<(), Reported> {
        install::merge_loc_conf(parser, around, location).map_err(|invalid| {
            match invalid {
                InvalidLocation::Violation(Violation { message, place }) => {
                    parser.error_at(&place, format_args!("{message}"));
                }
                InvalidLocation::Error(error) => parser.error(format_args!("{error}")),
            }
            Reported
        })
    }

    fn start(cycle: Cycle<'_>) {
        if let Some(main_conf) = MainConf::of_cycle(cycle) {
            main_conf.asking.complete();
            if main_conf.tells_lua_code() {
                match at_init::complete(main_conf.lua_code.vm.get()) {
                    Ok(digest) => main_conf.lua_code.at_init.set(Some(digest)),
                    Err(untold) => cycle.log().info(format_args!(
                        "a reload will ask the first client of each name again: {untold}"
                    )),
                }
            }
            ticket_keys::start(main_conf);
        }
    }

    fn start_process(cycle: Cycle<'_>) {
        let main_conf = MainConf::of_cycle(cycle);
        if let Some(zone) = main_conf.and_then(|main_conf| main_conf.status.get()) {
            zone::count_in(zone);
        }
        stored_key::refuse_prompts();
    }

    fn end_process() {
        worker::clear_caches();
    }
}
