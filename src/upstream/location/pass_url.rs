// SPDX-License-Identifier: Apache-2.0

//! The URL of a pass directive (`proxy_pass` and similar), as written and as evaluated for a
//! request.

/// The end of a scheme.
const SEPARATOR: &[u8] = b"://";

/// Whether a location speaks TLS to its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Tls,
    Plain,
    /// Depends on the request.
    Variable,
}

impl Scheme {
    /// Returns the scheme of `url`, where `tls` is the directive's TLS scheme. A variable may be
    /// the whole URL, or part of the scheme.
    pub fn of(url: &[u8], tls: Option<&str>) -> Self {
        let Some(tls) = tls else {
            return Self::Plain;
        };
        if url.get(..tls.len()).is_some_and(|start| start.eq_ignore_ascii_case(tls.as_bytes())) {
            return Self::Tls;
        }
        let end = url.windows(SEPARATOR.len()).position(|bytes| bytes == SEPARATOR);
        if url[..end.unwrap_or(url.len())].contains(&b'$') { Self::Variable } else { Self::Plain }
    }
}

/// The evaluated URL of a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Destination<'a> {
    pub uses_tls: bool,
    /// The URL without its scheme.
    pub rest: &'a [u8],
}

impl<'a> Destination<'a> {
    /// Parses `url`, where `schemes` are those of the directive.
    pub fn of(url: &'a [u8], schemes: Schemes) -> Self {
        let behind = |scheme: Option<&str>| {
            let (start, rest) = url.split_at_checked(scheme?.len())?;
            start.eq_ignore_ascii_case(scheme?.as_bytes()).then_some(rest)
        };
        match (behind(schemes.tls), behind(schemes.plain)) {
            (Some(rest), _) => Self { uses_tls: true, rest },
            (None, rest) => Self { uses_tls: false, rest: rest.unwrap_or(url) },
        }
    }

    /// Returns whether the URL leads to `target`: a host, or a host and a port.
    pub fn is(&self, target: &[u8]) -> bool {
        self.rest.split_at_checked(target.len()).is_some_and(|(start, behind)| {
            let is_whole = behind.first().is_none_or(|byte| b"/?".contains(byte));
            start.eq_ignore_ascii_case(target) && is_whole
        })
    }
}

/// The schemes of a directive's URLs, if it has any.
#[derive(Clone, Copy, Debug, Default)]
pub struct Schemes {
    pub plain: Option<&'static str>,
    pub tls: Option<&'static str>,
}

/// Returns whether `text`, of a configuration, contains the variable `name`: nginx compares names
/// of variables case-insensitively.
pub fn has_variable(text: &[u8], name: &[u8]) -> bool {
    let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    text.split(|byte| *byte == b'$').skip(1).any(|rest| {
        let rest = rest.strip_prefix(b"{").unwrap_or(rest);
        let end = rest.iter().position(|byte| !is_of_name(byte)).unwrap_or(rest.len());
        rest[..end].eq_ignore_ascii_case(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes() {
        let https = Some("https://");
        for (url, expected) in [
            ("https://a", Scheme::Tls),
            ("HTTPS://$a", Scheme::Tls),
            ("http://a", Scheme::Plain),
            ("http://$a", Scheme::Plain),
            ("http://a/$b", Scheme::Plain),
            ("$a", Scheme::Variable),
            ("$a://b", Scheme::Variable),
            ("http$a://b", Scheme::Variable),
            ("unix:/a", Scheme::Plain),
        ] {
            assert_eq!(Scheme::of(url.as_bytes(), https), expected, "{url}");
        }
        assert_eq!(Scheme::of(b"$a", None), Scheme::Plain);
    }

    #[test]
    fn destinations() {
        let proxy = Schemes { plain: Some("http://"), tls: Some("https://") };
        let none = Schemes::default();
        for (url, schemes, uses_tls, rest) in [
            ("https://block/a", proxy, true, "block/a"),
            ("HTTP://block", proxy, false, "block"),
            ("block", proxy, false, "block"),
            ("unix:/a://plain", proxy, false, "unix:/a://plain"),
            ("unix:/a://plain", none, false, "unix:/a://plain"),
            ("https://block", none, false, "https://block"),
            ("", proxy, false, ""),
        ] {
            let destination = Destination::of(url.as_bytes(), schemes);
            assert_eq!(destination, Destination { uses_tls, rest: rest.as_bytes() }, "{url}");
        }
    }

    #[test]
    fn a_destination_is_a_target_as_a_whole() {
        let is = |rest: &str, target: &str| {
            Destination { uses_tls: true, rest: rest.as_bytes() }.is(target.as_bytes())
        };
        assert!(is("a.test:443", "a.test:443"));
        assert!(is("A.test:443/b", "a.test:443"));
        assert!(is("a.test:443?b", "a.test:443"));
        for rest in ["a.test:4430", "a.test", "b.a.test:443", "", "a.test:443#"] {
            assert!(!is(rest, "a.test:443"), "{rest}");
        }
    }

    #[test]
    fn variables_are_found_by_their_whole_name() {
        for (text, expected) in [
            ("https://$name", true),
            ("https://${name}", true),
            ("https://${name}.test", true),
            ("https://$name.test", true),
            ("https://$NAME/", true),
            ("$a$name", true),
            ("https://name", false),
            ("https://$names", false),
            ("https://$name_2", false),
            ("https://$a_name", false),
            ("$", false),
            ("", false),
        ] {
            assert_eq!(has_variable(text.as_bytes(), b"name"), expected, "{text}");
        }
    }
}
