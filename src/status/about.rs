// SPDX-License-Identifier: Apache-2.0

//! What the status says beside the counters: the versions, and when the counters began.

use std::fmt;

use ngx::ffi::NGINX_VERSION;

/// A metric that is no counter.
pub struct Gauge {
    /// The key in JSON. Prometheus' metrics have the prefix `kong_tls_`.
    pub name: &'static str,
    /// The description.
    pub help: &'static str,
}

/// Is always 1, and has [`build`] as its labels.
pub const BUILD_INFO: Gauge = Gauge {
    name: "build_info",
    help: "The versions of the module, of nginx, and of the OpenSSL that nginx runs with.",
};

/// The value is that of `Counters::start_time`.
pub const START_TIME: Gauge = Gauge {
    name: "start_time_seconds",
    help: "When the counters began, in seconds since the Unix epoch.",
};

impl Gauge {
    /// Writes the lines that precede the value.
    pub fn fmt_head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_head(f, &format!("kong_tls_{}", self.name), self.help, "gauge")
    }
}

/// Writes the lines that precede the values of a metric.
pub fn fmt_head(f: &mut fmt::Formatter<'_>, name: &str, help: &str, kind: &str) -> fmt::Result {
    writeln!(f, "# HELP {name} {help}")?;
    writeln!(f, "# TYPE {name} {kind}")
}

/// Returns what this gateway is made of, and the version of each.
pub fn build() -> [(&'static str, &'static str); 3] {
    [
        ("version", env!("CARGO_PKG_VERSION")),
        // nginx loads only modules that were built for its version.
        ("nginx_version", NGINX_VERSION.to_str().unwrap_or_default()),
        ("openssl_version", openssl_version(openssl::version::version())),
    ]
}

/// Returns `3.0.19` of `OpenSSL 3.0.19 27 Jan 2026`, and other libraries' text as it is.
fn openssl_version(text: &'static str) -> &'static str {
    let version = text.strip_prefix("OpenSSL ").and_then(|rest| rest.split(' ').next());
    version.unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(openssl_version("OpenSSL 3.0.19 27 Jan 2026"), "3.0.19");
        assert_eq!(openssl_version("OpenSSL 3.5.0-dev"), "3.5.0-dev");
        assert_eq!(openssl_version("BoringSSL"), "BoringSSL");
        for (name, version) in build() {
            assert!(version.starts_with(|first: char| first.is_ascii_digit()), "{name} {version}");
        }
    }
}
