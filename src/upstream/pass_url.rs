//! The URL of a pass directive (`proxy_pass` and its like), as it is written and as it is for a request.

/// What ends a scheme.
const SEPARATOR: &[u8] = b"://";

/// Whether a location speaks TLS to its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Tls,
    Plain,
    /// It depends on the request.
    Variable,
}

impl Scheme {
    /// The scheme of `url`, of which `tls` is the one with TLS. A variable may be all of it, or begin
    /// before it ends.
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

/// What the URL of a request says.
pub struct Destination {
    pub uses_tls: bool,
    /// The host, where no port is behind it: only so nginx takes it for the name of an `upstream {}` block.
    pub host_alone: Option<Vec<u8>>,
}

impl Destination {
    /// `tls` is the scheme with TLS.
    pub fn of(url: &[u8], tls: Option<&str>) -> Self {
        let uses_tls = Scheme::of(url, tls) == Scheme::Tls;
        let rest = match url.windows(SEPARATOR.len()).position(|bytes| bytes == SEPARATOR) {
            Some(end) => &url[end + SEPARATOR.len()..],
            None => url,
        };
        let end = rest.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(rest.len());
        let host = &rest[..end];
        Self { uses_tls, host_alone: (!host.contains(&b':')).then(|| host.to_vec()) }
    }
}

/// Whether `text`, of a configuration, has the variable `name` in it: nginx reads names whatever their case.
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
        let https = Some("https://");
        for (url, uses_tls, host) in [
            ("https://block", true, Some("block")),
            ("http://block/a:b", false, Some("block")),
            ("http://block?a:b", false, Some("block")),
            ("https://block:443", true, None),
            ("block", false, Some("block")),
            ("127.0.0.1:80", false, None),
            ("http://unix:/tmp/socket", false, None),
            ("http://[::1]", false, None),
            ("", false, Some("")),
        ] {
            let destination = Destination::of(url.as_bytes(), https);
            assert_eq!(destination.uses_tls, uses_tls, "{url}");
            assert_eq!(destination.host_alone.as_deref(), host.map(str::as_bytes), "{url}");
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
