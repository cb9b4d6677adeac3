//! The directives of the module.

use std::ffi::{CStr, c_char, c_void};
use std::num::NonZeroUsize;
use std::ptr;
use std::rc::Rc;

use ngx::ffi::{
    NGX_CONF_1MORE, NGX_CONF_NOARGS, NGX_CONF_TAKE1, NGX_CONF_TAKE12, NGX_HTTP_LOC_CONF,
    NGX_HTTP_LOC_CONF_OFFSET, NGX_HTTP_MAIN_CONF, NGX_HTTP_MAIN_CONF_OFFSET, NGX_HTTP_SRV_CONF,
    NGX_HTTP_SRV_CONF_OFFSET, NGX_HTTP_UPS_CONF, ngx_command_t, ngx_conf_t, ngx_str_t, ngx_uint_t,
};

use crate::client::header_names::Stripping;
use crate::conf::{LocationConf, MainConf, ServerConf};
use crate::nginx::conf_parser::{ConfParser, NGX_CONF_ERROR, NGX_CONF_OK};
use crate::nginx::configuration::milliseconds;
use crate::nginx::connection::process_log;
use crate::nginx::directive::SetDirective;
use crate::nginx::panic::guard;
use crate::nginx::server;
use crate::status::location;
use crate::status::zone::{Zone, ZoneError};
use crate::upstream::handshake::session_cache::SessionCacheSettings;
use crate::upstream::location::enforcement::Enforcement;
use crate::upstream::location::inherited::{Duplicate, Inherited};
use crate::upstream::peer::keepalive::{Keepalive, KeepaliveSettings};

/// The directives, as nginx looks for them.
pub static mut NGX_HTTP_KONG_TLS_COMMANDS: [ngx_command_t; 8] = [
    ngx_command_t {
        name: string(c"kong_tls_certificate_verify"),
        type_: (NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF | NGX_CONF_TAKE12)
            as ngx_uint_t,
        set: Some(certificate_verify),
        conf: NGX_HTTP_LOC_CONF_OFFSET,
        offset: 0,
        post: ptr::null_mut(),
    },
    location_flag(c"kong_tls_required", required),
    location_flag(c"kong_tls_allow_plaintext", allow_plaintext),
    ngx_command_t {
        name: string(c"kong_tls_session_cache"),
        type_: (NGX_HTTP_MAIN_CONF | NGX_CONF_1MORE) as ngx_uint_t,
        set: Some(session_cache),
        conf: NGX_HTTP_MAIN_CONF_OFFSET,
        offset: 0,
        post: ptr::null_mut(),
    },
    ngx_command_t {
        name: string(c"kong_tls_keepalive"),
        type_: (NGX_HTTP_UPS_CONF | NGX_CONF_1MORE) as ngx_uint_t,
        set: Some(keepalive),
        conf: NGX_HTTP_SRV_CONF_OFFSET,
        offset: 0,
        post: ptr::null_mut(),
    },
    ngx_command_t {
        name: string(c"kong_tls_status"),
        type_: (NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF | NGX_CONF_NOARGS) as ngx_uint_t,
        set: Some(status),
        conf: NGX_HTTP_MAIN_CONF_OFFSET,
        offset: 0,
        post: ptr::null_mut(),
    },
    ngx_command_t {
        name: string(c"kong_tls_strip_headers"),
        type_: (NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_CONF_1MORE) as ngx_uint_t,
        set: Some(strip_headers),
        conf: NGX_HTTP_SRV_CONF_OFFSET,
        offset: 0,
        post: ptr::null_mut(),
    },
    ngx_command_t::empty(),
];

/// A directive that is `on` or `off`, in `http`, `server` and `location`.
const fn location_flag(name: &'static CStr, set: SetDirective) -> ngx_command_t {
    ngx_command_t {
        name: string(name),
        type_: (NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF | NGX_CONF_TAKE1)
            as ngx_uint_t,
        set: Some(set),
        conf: NGX_HTTP_LOC_CONF_OFFSET,
        offset: 0,
        post: ptr::null_mut(),
    }
}

/// nginx compares the names of directives as C strings.
const fn string(name: &'static CStr) -> ngx_str_t {
    ngx_str_t { len: name.to_bytes().len(), data: name.as_ptr().cast_mut().cast() }
}

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

const ON_OR_OFF: &str = "\"on\" or \"off\"";
const POSITIVE: &str = "a number greater than 0";
const NUMBER: &str = "a number";
const TIME: &str = "a time";

unsafe extern "C" fn certificate_verify(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: nginx calls with a valid `cf`, and with our configuration of the location.
    unsafe {
        directive(cf, "kong_tls_certificate_verify", |parser, value, parameters| {
            let location_conf: &LocationConf = &*conf.cast();
            let parsed = parse_certificate_verify(value, parameters)?;
            let written = (parsed, parser.place());
            location_conf
                .enforcement
                .directive
                .set(written)
                .map_err(|_| InvalidDirective::Duplicate)
        })
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
        _ => Err(InvalidDirective::Value {
            name: "value",
            given: value.to_vec(),
            expected: ON_OR_OFF,
        }),
    }
}

unsafe extern "C" fn required(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: nginx calls with a valid `cf`, and with our configuration of the location.
    unsafe { flag(cf, "kong_tls_required", &(*conf.cast::<LocationConf>()).required) }
}

unsafe extern "C" fn allow_plaintext(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: nginx calls with a valid `cf`, and with our configuration of the location.
    unsafe { flag(cf, "kong_tls_allow_plaintext", &(*conf.cast::<LocationConf>()).allow_plaintext) }
}

/// Reads a directive that is `on` or `off`.
///
/// # Safety
/// `cf` must be valid, and at a directive.
unsafe fn flag(cf: *mut ngx_conf_t, name: &str, flag: &Inherited) -> *mut c_char {
    // SAFETY: `cf` is valid, and at a directive, by contract.
    unsafe {
        directive(cf, name, |_, value, _| {
            let is_on = match value {
                b"on" => true,
                b"off" => false,
                _ => {
                    return Err(InvalidDirective::Value {
                        name: "value",
                        given: value.to_vec(),
                        expected: ON_OR_OFF,
                    });
                }
            };
            flag.set(is_on).map_err(|Duplicate| InvalidDirective::Duplicate)
        })
    }
}

unsafe extern "C" fn session_cache(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: nginx calls with a valid `cf`, and with our configuration of `http {}`.
    unsafe {
        directive(cf, "kong_tls_session_cache", |_, entries, parameters| {
            let main_conf: &MainConf = &*conf.cast();
            let parsed = parse_session_cache(entries, parameters)?;
            main_conf.session_cache.set(parsed).map_err(|_| InvalidDirective::Duplicate)
        })
    }
}

fn parse_session_cache(
    entries: &[u8],
    parameters: &[&[u8]],
) -> Result<Option<SessionCacheSettings>, InvalidDirective> {
    if entries == b"off" && parameters.is_empty() {
        return Ok(None);
    }
    let mut settings = SessionCacheSettings {
        entries: positive("number of entries", entries, "\"off\" or a number greater than 0")?,
        ..SessionCacheSettings::DEFAULT
    };
    for parameter in parameters {
        match split(parameter) {
            Some((b"timeout", value)) => settings.timeout = time("timeout", value)?,
            _ => return Err(InvalidDirective::Parameter { given: parameter.to_vec() }),
        }
    }
    Ok(Some(settings))
}

unsafe extern "C" fn keepalive(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: nginx calls with a valid `cf`, and with our configuration of the `upstream {}` block.
    unsafe {
        directive(cf, "kong_tls_keepalive", |_, connections, parameters| {
            let block_conf: &ServerConf = &*conf.cast();
            let keepalive = Keepalive::new(parse_keepalive(connections, parameters)?);
            block_conf.keepalive.set(keepalive).map_err(|_| InvalidDirective::Duplicate)
        })
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

unsafe extern "C" fn strip_headers(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: nginx calls with a valid `cf`, and with our configuration of the server, or `http
    // {}`.
    unsafe {
        directive(cf, "kong_tls_strip_headers", |_, value, names| {
            let server_conf: &ServerConf = &*conf.cast();
            let parsed = Rc::new(parse_strip_headers(value, names)?);
            server_conf.strip_headers.set(parsed).map_err(|_| InvalidDirective::Duplicate)
        })
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
        _ => Err(InvalidDirective::Value {
            name: "value",
            given: value.to_vec(),
            expected: "\"on\" or \"off\"",
        }),
    }
}

/// Whether it may be the name of a header (RFC 9110, section 5.6.2).
fn is_header_name(name: &[u8]) -> bool {
    let is_good = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty() && name.iter().all(is_good)
}

unsafe extern "C" fn status(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: nginx calls with a valid `cf` in a location, and with our configuration of `http {}`.
    unsafe {
        directive(cf, "kong_tls_status", |parser, _, _| {
            let main_conf: &MainConf = &*conf.cast();
            let zone = Zone::add(parser)?;
            main_conf.status.get_or_init(|| zone);
            if let Some(location) = parser.location() {
                location.set_handler(Some(location::handle));
            }
            Ok(())
        })
    }
}

/// Gives `read` the arguments of the directive `name`, the first apart, and says what is wrong with
/// them.
///
/// # Safety
/// `cf` must be valid, inside of `http {}`, and at a directive.
unsafe fn directive(
    cf: *mut ngx_conf_t,
    name: &str,
    read: impl FnOnce(ConfParser<'_>, &[u8], &[&[u8]]) -> Result<(), InvalidDirective>,
) -> *mut c_char {
    guard(name, process_log(), NGX_CONF_ERROR, || {
        // SAFETY: the caller vouches for the parser.
        let parser = unsafe { ConfParser::from_ptr(cf) };
        let arguments = parser.arguments();
        let (first, others) =
            arguments.split_first().map_or((&[][..], &[][..]), |(first, others)| (*first, others));
        match read(parser, first, others) {
            Ok(()) => NGX_CONF_OK,
            Err(error) => {
                parser.error(format_args!("\"{name}\" directive {error}"));
                NGX_CONF_ERROR
            }
        }
    })
}

/// The parts of `name=value`.
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
    // Rust would take a sign.
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
