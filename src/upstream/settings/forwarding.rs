// SPDX-License-Identifier: Apache-2.0

//! The target that a request may ask for, and its retries and timeouts.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Settings that override those of the location. `None` keeps the location's.
#[derive(Clone, Copy, Default)]
pub struct Forwarding {
    /// `proxy_next_upstream_tries`
    pub tries: Option<usize>,
    /// `proxy_connect_timeout`, `proxy_send_timeout` and `proxy_read_timeout`
    pub timeouts: Option<Timeouts>,
}

impl Forwarding {
    /// Returns whether the location's retries or timeouts are overridden.
    pub fn overrides_location(&self) -> bool {
        let Self { tries, timeouts } = self;
        tries.is_some() || timeouts.is_some()
    }
}

/// Timeouts, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    pub connect: usize,
    /// nginx calls it `send`, Kong `write`.
    pub send: usize,
    pub read: usize,
}

/// The scheme that a request asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestedScheme {
    Http,
    Https,
}

impl RequestedScheme {
    pub fn new(name: &[u8]) -> Result<Self, InvalidArgument> {
        match name {
            b"http" => Ok(Self::Http),
            b"https" => Ok(Self::Https),
            _ => Err(InvalidArgument::Scheme(name.to_vec())),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    pub fn is_tls(self) -> bool {
        self == Self::Https
    }
}

/// An argument that was refused.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum InvalidArgument {
    /// A number outside of the allowed range.
    #[error("{name} must be an integer between {least} and {greatest}: given {given}")]
    OutOfRange { name: &'static str, least: u32, greatest: u32, given: f64 },
    #[error("{name} must be an integer: given {given}")]
    NotInteger { name: &'static str, given: f64 },
    /// Contains a byte that ends the host in a URL, or is not a host name or an address.
    #[error("host must be a host name or an IP address: given \"{}\"", .0.escape_ascii())]
    Host(Vec<u8>),
    #[error("host must be an IPv4 address of four decimal numbers: given \"{}\"", .0.escape_ascii())]
    Numeric(Vec<u8>),
    #[error("host must not be longer than {MAX_HOST_LENGTH} bytes: given {length}")]
    HostTooLong { length: usize },
    /// A name, where only an address can be used.
    #[error(
        "host must be an IP address in the balancer phase: given \"{}\" (nothing can be resolved there)",
        .0.escape_ascii()
    )]
    NotAddress(Vec<u8>),
    #[error("invalid scheme: {}", .0.escape_ascii())]
    Scheme(Vec<u8>),
}

/// The maximum length of a host name in TLS (`TLSEXT_MAXLEN_host_name`) and in DNS (RFC 1035,
/// section 2.3.4).
const MAX_HOST_LENGTH: usize = 255;

/// Converts a Lua number to an integer between `least` and `greatest`.
fn integer(
    name: &'static str,
    given: f64,
    least: u32,
    greatest: u32,
) -> Result<u32, InvalidArgument> {
    if given.is_nan() || given.is_finite() && given.fract() != 0.0 {
        return Err(InvalidArgument::NotInteger { name, given });
    }
    if (f64::from(least)..=f64::from(greatest)).contains(&given) {
        // The value is whole and in range: the conversion is exact.
        Ok(given as u32)
    } else {
        Err(InvalidArgument::OutOfRange { name, least, greatest, given })
    }
}

/// Returns `proxy_next_upstream_tries` for this number of retries: nginx counts the first attempt
/// too.
pub fn tries(retries: f64) -> Result<usize, InvalidArgument> {
    // Kong's limit for the `retries` of a service.
    const GREATEST: u32 = 32767;
    integer("retries", retries, 0, GREATEST).map(|retries| retries as usize + 1)
}

/// Converts timeouts given by Lua, in Kong's order.
pub fn timeouts(connect: f64, write: f64, read: f64) -> Result<Timeouts, InvalidArgument> {
    let milliseconds = |name, given| {
        integer(name, given, 1, i32::MAX as u32 - 1).map(|milliseconds| milliseconds as usize)
    };
    Ok(Timeouts {
        connect: milliseconds("connect_timeout", connect)?,
        send: milliseconds("write_timeout", write)?,
        read: milliseconds("read_timeout", read)?,
    })
}

/// A host and a port.
#[derive(Debug, PartialEq, Eq)]
pub struct Target<'a> {
    host: &'a str,
    is_ipv6: bool,
    port: u32,
}

impl<'a> Target<'a> {
    /// Checks and keeps a host, which is a name or an address (IPv6 with or without brackets), and
    /// a port.
    ///
    /// Accepts only what nginx parses as exactly this host and this port.
    pub fn new(host: &'a [u8], port: f64) -> Result<Self, InvalidArgument> {
        let invalid = || InvalidArgument::Host(host.to_vec());
        let text = std::str::from_utf8(host).map_err(|_| invalid())?;

        // Remove a trailing dot: it does not change the name (RFC 1034, section 3.1), and SNI does
        // not allow it (RFC 6066, section 3).
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.len() > MAX_HOST_LENGTH {
            return Err(InvalidArgument::HostTooLong { length: text.len() });
        }
        let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let address = bracketed.unwrap_or(text);
        let is_ipv6 = address.parse::<Ipv6Addr>().is_ok();
        if !is_ipv6 && !is_host_name(text) {
            return Err(invalid());
        }
        if !is_ipv6 && is_numeric(text) && text.parse::<Ipv4Addr>().is_err() {
            return Err(InvalidArgument::Numeric(host.to_vec()));
        }
        let port = integer("port", port, 0, u16::MAX.into())?;
        Ok(Self { host: if is_ipv6 { address } else { text }, is_ipv6, port })
    }
}

impl Target<'_> {
    /// Returns the host as in a URL, and the port, if the host is an address.
    pub fn address(&self) -> Option<(String, u32)> {
        let Self { host, is_ipv6, port } = *self;
        if is_ipv6 {
            return Some((format!("[{host}]"), port));
        }
        host.parse::<Ipv4Addr>().ok().map(|_| (host.to_owned(), port))
    }

    /// Takes apart what [`Target`] has formatted.
    pub fn parse(text: &'_ [u8]) -> Option<Target<'_>> {
        let (host, port) = std::str::from_utf8(text).ok()?.rsplit_once(':')?;
        Target::new(host.as_bytes(), port.parse().ok()?).ok()
    }
}

/// Formats the target as in a URL.
impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, is_ipv6, port } = self;
        if *is_ipv6 { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Returns whether nginx can only parse `text` as a name to resolve or as an IPv4 address.
fn is_host_name(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    // `unix:` begins the path of a socket.
    !text.is_empty()
        && text.bytes().all(is_allowed)
        && !text.ends_with('.')
        && !text.eq_ignore_ascii_case("unix")
}

/// Returns whether some programs would parse `text` as an IPv4 address: its last label is a decimal
/// or hexadecimal number. Programs disagree about the address: `0177.0.0.1` is 177.0.0.1 for nginx,
/// and 127.0.0.1 for `inet_aton(3)`.
fn is_numeric(text: &str) -> bool {
    let last = text.rsplit('.').next().unwrap_or(text);
    let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    match hexadecimal {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// The names of the `upstream {}` blocks of a configuration.
#[derive(Default)]
pub struct UpstreamNames(Vec<Box<[u8]>>);

impl UpstreamNames {
    /// Keeps those of `names` by which nginx can find a block in a URL: it would parse `a:80` as a
    /// host and a port.
    pub fn new<'a>(names: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut names: Vec<Box<[u8]>> =
            names.filter(|name| is_block_name(name)).map(Box::from).collect();
        names.sort_unstable_by(|one, other| compare(one, other));
        Self(names)
    }

    /// Returns the name of the block that nginx would find for `name`, as written in the
    /// configuration; `None` if there is no such block.
    pub fn find(&self, name: &[u8]) -> Result<Option<&[u8]>, InvalidArgument> {
        if name.iter().any(|byte| ends_host(*byte) && *byte != b':') {
            return Err(InvalidArgument::Host(name.to_vec()));
        }
        let found = self.0.binary_search_by(|known| compare(known, name)).ok();
        Ok(found.and_then(|index| self.0.get(index)).map(|name| &**name))
    }
}

/// Returns whether [`UpstreamNames::find`] could find a block of this name.
pub fn is_block_name(name: &[u8]) -> bool {
    !name.is_empty() && !name.iter().any(|byte| ends_host(*byte))
}

/// Returns whether `byte` can't be part of a host name, and has another meaning in a URL.
fn ends_host(byte: u8) -> bool {
    byte.is_ascii_control() || b" /?#@:[]\\".contains(&byte)
}

/// Compares two names as nginx compares names of upstreams: case-insensitively.
fn compare(one: &[u8], other: &[u8]) -> std::cmp::Ordering {
    one.iter().map(u8::to_ascii_lowercase).cmp(other.iter().map(u8::to_ascii_lowercase))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(host: &str, port: f64) -> Result<String, InvalidArgument> {
        Target::new(host.as_bytes(), port).map(|target| target.to_string())
    }

    #[test]
    fn targets() {
        let cases = [
            ("service.test", "service.test:443"),
            ("Under_score-1.test.", "Under_score-1.test:443"),
            ("1.test", "1.test:443"),
            ("test.1a", "test.1a:443"),
            ("192.0.2.1.", "192.0.2.1:443"),
            ("192.0.2.1", "192.0.2.1:443"),
            ("2001:db8::1", "[2001:db8::1]:443"),
            ("[2001:db8::1]", "[2001:db8::1]:443"),
            ("::ffff:192.0.2.1", "[::ffff:192.0.2.1]:443"),
            ("unix.test", "unix.test:443"),
        ];
        for (host, expected) in cases {
            assert_eq!(target(host, 443.0).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        let hosts = [
            "",
            " ",
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "a@b",
            "a:b",
            "a:80",
            "a\0",
            "a\r\nb",
            "a\x7f",
            "ä",
            "a%2fb",
            "a\\b",
            "unix",
            "UNIX",
            "unix:/tmp/socket",
            "[",
            "]",
            "[]",
            "[a]",
            "[192.0.2.1]",
            "[::1",
            "::1]",
            "[[::1]]",
            "[::1]:80",
            "fe80::1%lo",
            "$host",
            "*",
        ];
        for host in hosts {
            assert!(matches!(target(host, 443.0), Err(InvalidArgument::Host(_))), "{host:?}");
        }
        assert!(Target::new(b"\xff", 443.0).is_err());
        for host in [".", "a..", "a.test..", ".."] {
            assert!(Target::new(host.as_bytes(), 443.0).is_err(), "{host}");
        }
        for host in [
            "0177.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0x7F.1",
            "1.2.3.256",
            "1.2.3.4.5",
            "a.1",
            "01",
        ] {
            assert!(matches!(target(host, 443.0), Err(InvalidArgument::Numeric(_))), "{host}");
        }
        assert!(target(&"a".repeat(255), 443.0).is_ok());
        assert!(target(&("a".repeat(255) + "."), 443.0).is_ok());
        for length in [256, 1 << 20] {
            let error = target(&"a".repeat(length), 443.0).unwrap_err().to_string();
            assert_eq!(error, format!("host must not be longer than 255 bytes: given {length}"));
        }
    }

    #[test]
    fn ports() {
        assert_eq!(target("a", 0.0).unwrap(), "a:0");
        assert_eq!(target("a", 65535.0).unwrap(), "a:65535");
        for (port, error) in [
            (65536.0, "port must be an integer between 0 and 65535: given 65536"),
            (-1.0, "port must be an integer between 0 and 65535: given -1"),
            (f64::INFINITY, "port must be an integer between 0 and 65535: given inf"),
            (0.5, "port must be an integer: given 0.5"),
            (f64::NAN, "port must be an integer: given NaN"),
        ] {
            assert_eq!(target("a", port).unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn an_address_is_taken_apart() {
        for (host, expected) in [
            ("192.0.2.1", Some("192.0.2.1")),
            ("192.0.2.1.", Some("192.0.2.1")),
            ("::1", Some("[::1]")),
            ("[::1]", Some("[::1]")),
            ("a.test", None),
        ] {
            let target = Target::new(host.as_bytes(), 443.0).unwrap();
            assert_eq!(target.address(), expected.map(|host| (host.to_owned(), 443)), "{host}");
            let text = target.to_string();
            assert_eq!(Target::parse(text.as_bytes()).unwrap().address(), target.address());
        }
        assert_eq!(Target::parse(b"block"), None);
        assert_eq!(Target::parse(b"block:a"), None);
    }

    #[test]
    fn retries_are_tries_but_the_first() {
        assert_eq!(tries(0.0), Ok(1));
        assert_eq!(tries(32767.0), Ok(32768));
        assert!(tries(32768.0).is_err());
        assert!(tries(-1.0).is_err());
        let error = tries(0.1).unwrap_err().to_string();
        assert_eq!(error, "retries must be an integer: given 0.1");
    }

    #[test]
    fn a_bad_timeout_is_named() {
        let greatest = 2_147_483_646.0;
        assert_eq!(
            timeouts(1.0, 2.0, greatest),
            Ok(Timeouts { connect: 1, send: 2, read: 2_147_483_646 })
        );
        for (given, error) in [
            (
                (0.0, 1.0, 1.0),
                "connect_timeout must be an integer between 1 and 2147483646: given 0",
            ),
            ((1.0, 1.5, 1.0), "write_timeout must be an integer: given 1.5"),
            (
                (1.0, 1.0, greatest + 1.0),
                "read_timeout must be an integer between 1 and 2147483646: given 2147483647",
            ),
        ] {
            let (connect, write, read) = given;
            assert_eq!(timeouts(connect, write, read).unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn upstreams_are_found_as_nginx_finds_them() {
        let names: [&[u8]; 7] =
            [b"Service", b"api_v1.test", b"a:80", b"a/b", b"b", b"192.0.2.1", b"b c"];
        let names = UpstreamNames::new(names.into_iter());
        for (name, expected) in [
            ("service", Some("Service")),
            ("SERVICE", Some("Service")),
            ("API_V1.test", Some("api_v1.test")),
            ("192.0.2.1", Some("192.0.2.1")),
            ("b", Some("b")),
            ("a", None),
            ("a:80", None),
            ("service.", None),
            ("", None),
        ] {
            let found = names.find(name.as_bytes()).unwrap();
            assert_eq!(found, expected.map(str::as_bytes), "{name}");
        }
        for name in ["a/b", "b c", "service\0", "service?", "x#", "u@service", "a\n", "\x7f"] {
            assert!(names.find(name.as_bytes()).is_err(), "{name:?}");
        }
    }
}
