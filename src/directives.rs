// SPDX-License-Identifier: Apache-2.0

//! The directives of the module.

use std::ffi::CStr;
use std::num::NonZeroUsize;
use std::rc::Rc;

use ngx::ffi::{
    NGX_CONF_1MORE, NGX_CONF_NOARGS, NGX_CONF_TAKE1, NGX_CONF_TAKE12, NGX_HTTP_LOC_CONF,
    NGX_HTTP_MAIN_CONF, NGX_HTTP_SRV_CONF, NGX_HTTP_UPS_CONF, ngx_command_t,
};

use crate::client::header_names::Stripping;
use crate::conf::{LocationConf, MainConf, ServerConf, SessionCacheConf};
use crate::nginx::conf_parser::ConfParser;
use crate::nginx::configuration::{milliseconds, size_in_bytes};
use crate::nginx::directive::{Directive, command};
use crate::nginx::locked_zone::LockedZone;
use crate::nginx::shared_zone::{Zone, ZoneError};
use crate::nginx::{request_handler, server};
use crate::session_zone::zone::SessionZone;
use crate::status::location::StatusPage;
use crate::upstream::handshake::session_cache::SessionCacheSettings;
use crate::upstream::location::enforcement::Enforcement;
use crate::upstream::location::inherited::{Duplicate, Inherited};
use crate::upstream::peer::keepalive::{Keepalive, KeepaliveSettings};

/// The module's table of directives, as nginx reads it.
pub static mut NGX_HTTP_KONG_TLS_COMMANDS: [ngx_command_t; 9] = [
    command::<CertificateVerify>(),
    command::<Required>(),
    command::<AllowPlaintext>(),
    command::<SessionCache>(),
    command::<KeepaliveDirective>(),
    command::<KeepaliveOfLocation>(),
    command::<Status>(),
    command::<StripHeaders>(),
    ngx_command_t::empty(),
];

/// The contexts `http`, `server` and `location`.
const EVERYWHERE: u32 = NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF;

/// What is wrong with a directive.
#[derive(Debug, thiserror::Error)]
enum InvalidDirective {
    #[error("is duplicate")]
    Duplicate,
    #[error("has invalid {name} \"{}\": {expected} is expected", given.escape_ascii())]
    Value { name: &'static str, given: Vec<u8>, expected: &'static str },
    #[error("has invalid parameter \"{}\"", given.escape_ascii())]
    Parameter { given: Vec<u8> },
    #[error("could not make its shared memory zone: {0}")]
    Zone(#[from] ZoneError),
}

impl InvalidDirective {
    /// `value` is neither `on` nor `off`.
    fn on_or_off(value: &[u8]) -> Self {
        Self::Value { name: "value", given: value.to_vec(), expected: "\"on\" or \"off\"" }
    }
}

const POSITIVE: &str = "a number greater than 0";
const NUMBER: &str = "a number";
const TIME: &str = "a time";

/// `kong_tls_certificate_verify`
struct CertificateVerify;

impl Directive for CertificateVerify {
    const NAME: &'static CStr = c"kong_tls_certificate_verify";
    const TYPE: u32 = EVERYWHERE | NGX_CONF_TAKE12;
    type Conf = LocationConf;
    type Error = InvalidDirective;

    fn read(
        parser: ConfParser<'_>,
        conf: &LocationConf,
        value: &[u8],
        parameters: &[&[u8]],
    ) -> Result<(), InvalidDirective> {
        let written = (parse_certificate_verify(value, parameters)?, parser.place());
        conf.enforcement.directive.set(written).map_err(|_| InvalidDirective::Duplicate)
    }
}

fn parse_certificate_verify(
    value: &[u8],
    parameters: &[&[u8]],
) -> Result<Enforcement, InvalidDirective> {
    match (value, parameters) {
        (b"on", []) => Ok(Enforcement::On),
        (b"on", [b"always"]) => Ok(Enforcement::Always),
        (b"off", []) => Ok(Enforcement::Off),
        (b"on" | b"off", [given, ..]) => Err(InvalidDirective::Parameter { given: given.to_vec() }),
        _ => Err(InvalidDirective::on_or_off(value)),
    }
}

/// `kong_tls_required`
struct Required;

impl Directive for Required {
    const NAME: &'static CStr = c"kong_tls_required";
    const TYPE: u32 = EVERYWHERE | NGX_CONF_TAKE1;
    type Conf = LocationConf;
    type Error = InvalidDirective;

    fn read(
        _parser: ConfParser<'_>,
        conf: &LocationConf,
        value: &[u8],
        _parameters: &[&[u8]],
    ) -> Result<(), InvalidDirective> {
        set_flag(&conf.required, value)
    }
}

/// `kong_tls_allow_plaintext`
struct AllowPlaintext;

impl Directive for AllowPlaintext {
    const NAME: &'static CStr = c"kong_tls_allow_plaintext";
    const TYPE: u32 = EVERYWHERE | NGX_CONF_TAKE1;
    type Conf = LocationConf;
    type Error = InvalidDirective;

    fn read(
        _parser: ConfParser<'_>,
        conf: &LocationConf,
        value: &[u8],
        _parameters: &[&[u8]],
    ) -> Result<(), InvalidDirective> {
        set_flag(&conf.allow_plaintext, value)
    }
}

/// Parses `on` or `off`, and sets `flag`.
fn set_flag(flag: &Inherited, value: &[u8]) -> Result<(), InvalidDirective> {
    let is_on = match value {
        b"on" => true,
        b"off" => false,
        _ => {
            return Err(InvalidDirective::on_or_off(value));
        }
    };
    flag.set(is_on).map_err(|Duplicate| InvalidDirective::Duplicate)
}

/// `kong_tls_session_cache`
struct SessionCache;

impl Directive for SessionCache {
    const NAME: &'static CStr = c"kong_tls_session_cache";
    const TYPE: u32 = NGX_HTTP_MAIN_CONF | NGX_CONF_1MORE;
    type Conf = MainConf;
    type Error = InvalidDirective;

    fn read(
        parser: ConfParser<'_>,
        conf: &MainConf,
        value: &[u8],
        parameters: &[&[u8]],
    ) -> Result<(), InvalidDirective> {
        if conf.session_cache.get().is_some() {
            return Err(InvalidDirective::Duplicate);
        }
        let conf_of = |cache| match cache {
            ParsedSessionCache::Off => Ok(SessionCacheConf::Off),
            ParsedSessionCache::OfWorkers(settings) => Ok(SessionCacheConf::OfWorkers(settings)),
            ParsedSessionCache::Shared { name, size, settings } => {
                let zone = SessionZone::add(parser, name, size)?;
                Ok(SessionCacheConf::Shared(zone, settings))
            }
        };
        let parsed = parse_session_cache(value, parameters).and_then(conf_of)?;
        conf.session_cache.set(parsed).map_err(|_| InvalidDirective::Duplicate)
    }
}

/// The value of `kong_tls_session_cache` as it is written.
enum ParsedSessionCache<'a> {
    Off,
    OfWorkers(SessionCacheSettings),
    Shared { name: &'a [u8], size: usize, settings: SessionCacheSettings },
}

fn parse_session_cache<'a>(
    value: &'a [u8],
    parameters: &[&[u8]],
) -> Result<ParsedSessionCache<'a>, InvalidDirective> {
    const VALUES: &str = "\"shared:name:size\", \"off\" or a number greater than 0";

    if value == b"off" && parameters.is_empty() {
        return Ok(ParsedSessionCache::Off);
    }
    let zone = value.strip_prefix(b"shared:").map(|zone| parse_zone(zone, value)).transpose()?;
    let mut settings = SessionCacheSettings::DEFAULT;
    if zone.is_none() {
        settings.entries = positive("value", value, VALUES)?;
    }
    for parameter in parameters {
        match split(parameter) {
            Some((b"timeout", value)) => settings.timeout = time("timeout", value)?,
            _ => return Err(InvalidDirective::Parameter { given: parameter.to_vec() }),
        }
    }
    Ok(match zone {
        Some((name, size)) => ParsedSessionCache::Shared { name, size, settings },
        None => ParsedSessionCache::OfWorkers(settings),
    })
}

/// Parses `name:size`, which `value` ends with.
fn parse_zone<'a>(zone: &'a [u8], value: &[u8]) -> Result<(&'a [u8], usize), InvalidDirective> {
    let invalid =
        |expected| InvalidDirective::Value { name: "value", given: value.to_vec(), expected };
    let colon = zone.iter().position(|byte| *byte == b':');
    let (name, size) = colon.map_or((zone, &[][..]), |at| (&zone[..at], &zone[at + 1..]));
    if name.is_empty() {
        return Err(invalid("\"shared:name:size\""));
    }
    let size = size_in_bytes(size).ok_or_else(|| invalid("a size, such as 8m, after the name"))?;
    if size < LockedZone::least_size() {
        return Err(invalid("a size of at least 8 pages of memory"));
    }
    Ok((name, size))
}

/// `kong_tls_keepalive`
struct KeepaliveDirective;

impl Directive for KeepaliveDirective {
    const NAME: &'static CStr = c"kong_tls_keepalive";
    const TYPE: u32 = NGX_HTTP_UPS_CONF | NGX_CONF_1MORE;
    type Conf = ServerConf;
    type Error = InvalidDirective;

    fn read(
        _parser: ConfParser<'_>,
        conf: &ServerConf,
        connections: &[u8],
        parameters: &[&[u8]],
    ) -> Result<(), InvalidDirective> {
        let keepalive = Keepalive::new(parse_keepalive(connections, parameters)?);
        conf.keepalive.set(keepalive).map_err(|_| InvalidDirective::Duplicate)
    }
}

/// `kong_tls_keepalive`, for peers that are in no `upstream {}` block
struct KeepaliveOfLocation;

impl Directive for KeepaliveOfLocation {
    const NAME: &'static CStr = KeepaliveDirective::NAME;
    const TYPE: u32 = EVERYWHERE | NGX_CONF_1MORE;
    type Conf = LocationConf;
    type Error = InvalidDirective;

    fn read(
        _parser: ConfParser<'_>,
        conf: &LocationConf,
        connections: &[u8],
        parameters: &[&[u8]],
    ) -> Result<(), InvalidDirective> {
        let keepalive = match (connections, parameters) {
            (b"off", []) => None,
            (b"off", [given, ..]) => {
                return Err(InvalidDirective::Parameter { given: given.to_vec() });
            }
            _ => Some(Rc::new(Keepalive::new(parse_keepalive(connections, parameters)?))),
        };
        conf.keepalive.set(keepalive).map_err(|_| InvalidDirective::Duplicate)
    }
}

fn parse_keepalive(
    connections: &[u8],
    parameters: &[&[u8]],
) -> Result<KeepaliveSettings, InvalidDirective> {
    let mut settings = KeepaliveSettings {
        connections: positive("number of connections", connections, POSITIVE)?,
        timeout: 60 * 1000,
        requests: 1000,
        time: 60 * 60 * 1000,
    };
    for parameter in parameters {
        match split(parameter) {
            Some((b"timeout", value)) => settings.timeout = time("timeout", value)?,
            Some((b"time", value)) => settings.time = time("time", value)?,
            Some((b"requests", value)) => settings.requests = number("requests", value, NUMBER)?,
            _ => return Err(InvalidDirective::Parameter { given: parameter.to_vec() }),
        }
    }
    Ok(settings)
}

/// `kong_tls_strip_headers`
struct StripHeaders;

impl Directive for StripHeaders {
    const NAME: &'static CStr = c"kong_tls_strip_headers";
    const TYPE: u32 = NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_CONF_1MORE;
    type Conf = ServerConf;
    type Error = InvalidDirective;

    fn read(
        _parser: ConfParser<'_>,
        conf: &ServerConf,
        value: &[u8],
        names: &[&[u8]],
    ) -> Result<(), InvalidDirective> {
        let parsed = Rc::new(parse_strip_headers(value, names)?);
        conf.strip_headers.set(parsed).map_err(|_| InvalidDirective::Duplicate)
    }
}

fn parse_strip_headers(value: &[u8], names: &[&[u8]]) -> Result<Stripping, InvalidDirective> {
    match (value, names) {
        (b"on", names) => {
            for name in names {
                let expected = if !is_header_name(name) {
                    "the name of a header"
                } else if server::reads_header(name) {
                    "one that nginx itself does not read"
                } else {
                    continue;
                };
                return Err(InvalidDirective::Value {
                    name: "header",
                    given: name.to_vec(),
                    expected,
                });
            }
            Ok(Stripping::On(names.iter().map(|name| Box::from(*name)).collect()))
        }
        (b"off", []) => Ok(Stripping::Off),
        (b"off", [given, ..]) => Err(InvalidDirective::Parameter { given: given.to_vec() }),
        _ => Err(InvalidDirective::on_or_off(value)),
    }
}

/// Returns whether `name` can be the name of a header (RFC 9110, section 5.6.2).
fn is_header_name(name: &[u8]) -> bool {
    let is_good = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty() && name.iter().all(is_good)
}

/// `kong_tls_status`
struct Status;

impl Directive for Status {
    const NAME: &'static CStr = c"kong_tls_status";
    const TYPE: u32 = NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF | NGX_CONF_NOARGS;
    type Conf = MainConf;
    type Error = InvalidDirective;

    fn read(
        parser: ConfParser<'_>,
        conf: &MainConf,
        _value: &[u8],
        _parameters: &[&[u8]],
    ) -> Result<(), InvalidDirective> {
        let zone = Zone::add(parser)?;
        conf.status.get_or_init(|| zone);
        if let Some(location) = parser.location() {
            location.set_handler(Some(request_handler::handle::<StatusPage>));
        }
        Ok(())
    }
}

/// Splits `name=value`.
fn split(parameter: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = parameter.iter().position(|byte| *byte == b'=')?;
    Some((&parameter[..equals], &parameter[equals + 1..]))
}

fn number(
    name: &'static str,
    value: &[u8],
    expected: &'static str,
) -> Result<usize, InvalidDirective> {
    let invalid = || InvalidDirective::Value { name, given: value.to_vec(), expected };
    // Rust's parser would accept a sign.
    if !value.iter().all(u8::is_ascii_digit) {
        return Err(invalid());
    }
    std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok()).ok_or_else(invalid)
}

fn positive(
    name: &'static str,
    value: &[u8],
    expected: &'static str,
) -> Result<NonZeroUsize, InvalidDirective> {
    NonZeroUsize::new(number(name, value, expected)?).ok_or_else(|| InvalidDirective::Value {
        name,
        given: value.to_vec(),
        expected,
    })
}

fn time(name: &'static str, value: &[u8]) -> Result<usize, InvalidDirective> {
    milliseconds(value).ok_or_else(|| InvalidDirective::Value {
        name,
        given: value.to_vec(),
        expected: TIME,
    })
}
