// SPDX-License-Identifier: Apache-2.0

//! The formats of the status, and their negotiation.

use std::fmt::{self, Write};

use serde_json::{Map, Value};

use crate::status::about::{BUILD_INFO, START_TIME, build, fmt_head};
use crate::status::counters::{FAMILIES, Totals};
use crate::status::session_zone::{LABEL, SIZE, ZONE_FAMILIES};
use crate::status::{Status, page};

/// A format of the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    /// The text format of Prometheus.
    Prometheus,
    Html,
}

/// The format does not exist.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownFormat;

impl Format {
    /// Chooses the format by the argument `format` in the URL, or else by the header `Accept` (RFC
    /// 9110, section 12.5.1). Returns the first format with the highest quality, and JSON if the
    /// header is missing or accepts none.
    pub fn negotiate(argument: Option<&[u8]>, accept: Option<&str>) -> Result<Self, UnknownFormat> {
        match argument {
            Some(b"json") => return Ok(Self::Json),
            Some(b"prometheus") => return Ok(Self::Prometheus),
            Some(b"html") => return Ok(Self::Html),
            Some(_) => return Err(UnknownFormat),
            None => {}
        }
        let accept = accept.unwrap_or("*/*");
        let mut best = (0.0, Self::Json);
        for format in [Self::Json, Self::Prometheus, Self::Html] {
            let quality = quality(accept, format.media_type());
            if quality > best.0 {
                best = (quality, format);
            }
        }
        Ok(best.1)
    }

    fn media_type(self) -> &'static str {
        let content_type = self.content_type();
        content_type.split_once(';').map_or(content_type, |(media_type, _)| media_type)
    }

    /// Returns the value of the header `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::Html => "text/html; charset=utf-8",
        }
    }

    /// Renders the status.
    pub fn render(self, status: &Status<'_>) -> String {
        match self {
            Self::Json => format!("{:#}\n", json(status)),
            Self::Prometheus => Prometheus(status).to_string(),
            Self::Html => page::render(status),
        }
    }
}

/// Returns the quality that `accept` gives a media type, by the most specific range that matches.
fn quality(accept: &str, media_type: &str) -> f32 {
    let (kind, _) = media_type.split_once('/').unwrap_or((media_type, ""));
    let mut best = (0, 0.0);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let specificity = if name.eq_ignore_ascii_case(media_type) {
            3
        } else if name.strip_suffix("/*").is_some_and(|name| name.eq_ignore_ascii_case(kind)) {
            2
        } else if name == "*/*" {
            1
        } else {
            continue;
        };
        let quality = parts
            .find_map(|parameter| {
                let (name, value) = parameter.split_once('=')?;
                name.trim_end().eq_ignore_ascii_case("q").then(|| value.trim_start())
            })
            .map_or(1.0, |quality| weight(quality).unwrap_or(0.0));
        if specificity > best.0 {
            best = (specificity, quality);
        }
    }
    best.1
}

/// Parses a `qvalue`: 0 to 1, with at most three decimals. Rust's parser would also accept a sign,
/// and `inf`.
fn weight(text: &str) -> Option<f32> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let is_number = decimals.len() <= 3 && decimals.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || !["0", "1"].contains(&whole) {
        return None;
    }
    text.parse().ok().filter(|weight| *weight <= 1.0)
}

/// Names are those of Prometheus, without what all have in common.
fn json(status: &Status<'_>) -> Value {
    let build = build().into_iter().map(|(name, version)| (name.to_owned(), version.into()));
    let about = [
        (BUILD_INFO.name, Value::Object(build.collect())),
        (START_TIME.name, status.counters.start_time.into()),
    ];
    let about = about.into_iter().map(|(name, value)| (name.to_owned(), value));
    let families = FAMILIES.iter().map(|family| {
        let value = match family.totals(status.counters) {
            Totals::One(total) => total.into(),
            Totals::Labelled(_, totals) => {
                let totals =
                    totals.into_iter().map(|(value, total)| (value.to_owned(), total.into()));
                Value::Object(totals.collect::<Map<_, _>>())
            }
        };
        (family.name.to_owned(), value)
    });
    let zone = status.session_zone.iter().flat_map(|zone| {
        let families = ZONE_FAMILIES.iter().map(|family| {
            let values = family.values(zone).map(|(kind, value)| (kind.to_owned(), value.into()));
            (family.name.to_owned(), Value::Object(values.collect()))
        });
        families.chain([(SIZE.name.to_owned(), zone.size.into())])
    });
    Value::Object(about.chain(families).chain(zone).collect())
}

/// The Prometheus text format: <https://prometheus.io/docs/instrumenting/exposition_formats/>
struct Prometheus<'a>(&'a Status<'a>);

impl fmt::Display for Prometheus<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels = build().map(|(name, version)| format!("{name}=\"{}\"", LabelValue(version)));
        BUILD_INFO.fmt_head(f)?;
        writeln!(f, "kong_tls_{}{{{}}} 1", BUILD_INFO.name, labels.join(","))?;
        START_TIME.fmt_head(f)?;
        writeln!(f, "kong_tls_{} {}", START_TIME.name, self.0.counters.start_time)?;

        for family in FAMILIES {
            let name = format_args!("kong_tls_{}_total", family.name).to_string();
            fmt_head(f, &name, family.help, "counter")?;
            match family.totals(self.0.counters) {
                Totals::One(total) => writeln!(f, "{name} {total}")?,
                Totals::Labelled(label, totals) => {
                    for (value, total) in totals {
                        writeln!(f, "{name}{{{label}=\"{}\"}} {total}", LabelValue(value))?;
                    }
                }
            }
        }
        let Some(zone) = &self.0.session_zone else {
            return Ok(());
        };
        for family in ZONE_FAMILIES {
            let (suffix, kind) =
                if family.is_counter { ("_total", "counter") } else { ("", "gauge") };
            let name = format!("kong_tls_{}{suffix}", family.name);
            fmt_head(f, &name, family.help, kind)?;
            for (value, number) in family.values(zone) {
                writeln!(f, "{name}{{{LABEL}=\"{value}\"}} {number}")?;
            }
        }
        SIZE.fmt_head(f)?;
        writeln!(f, "kong_tls_{} {}", SIZE.name, zone.size)
    }
}

struct LabelValue<'a>(&'a str);

impl fmt::Display for LabelValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| match character {
            '\\' => f.write_str("\\\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str("\\n"),
            other => f.write_char(other),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session_zone::records::{Kind, KindTotals};
    use crate::status::counters::tests::{EXAMPLE_START, example};
    use crate::status::session_zone::ZoneTotals;

    #[test]
    fn the_argument_decides_and_then_the_header() {
        let accepted = |accept: &str| Format::negotiate(None, Some(accept)).unwrap();
        assert_eq!(Format::negotiate(None, None), Ok(Format::Json));
        for (accept, format) in [
            ("*/*", Format::Json),
            ("", Format::Json),
            ("image/png", Format::Json),
            ("application/json", Format::Json),
            ("text/plain", Format::Prometheus),
            ("TEXT/PLAIN;version=0.0.4", Format::Prometheus),
            ("text/*", Format::Prometheus),
            ("text/*;q=0.5, text/plain;q=0", Format::Html),
            ("text/html", Format::Html),
            // A browser.
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
                Format::Html,
            ),
            // Prometheus.
            (
                "application/openmetrics-text;version=1.0.0;q=0.6,\
                 text/plain;version=0.0.4;q=0.4,*/*;q=0.1",
                Format::Prometheus,
            ),
            ("application/json;q=x, text/html;q=0.1", Format::Html),
            ("application/json ; Q = 0.1, text/html;q=0.2", Format::Html),
            ("application/json;q=0.2, text/html;q=inf, text/plain;q=1e3", Format::Json),
            ("application/json;q=0.2, text/html;q=+1, text/plain;q=1.001", Format::Json),
        ] {
            assert_eq!(accepted(accept), format, "{accept}");
        }
        assert_eq!(Format::negotiate(Some(b"html"), Some("text/plain")), Ok(Format::Html));
        assert_eq!(Format::negotiate(Some(b"prometheus"), None), Ok(Format::Prometheus));
        assert_eq!(Format::negotiate(Some(b"json"), Some("text/html")), Ok(Format::Json));
        assert_eq!(Format::negotiate(Some(b"xml"), None), Err(UnknownFormat));
    }

    /// Returns a status with a zone that has a session.
    fn with_zone() -> Status<'static> {
        let mut kinds = [KindTotals::default(); Kind::ALL.len()];
        kinds[Kind::Session as usize] = KindTotals { records: 1, bytes: 2, evictions: 3 };
        let counters = Box::leak(Box::new(example()));
        Status { session_zone: Some(ZoneTotals { size: 7, kinds }), ..Status::of(counters, 0) }
    }

    #[test]
    fn json_has_each_family() {
        let text = Format::Json.render(&Status::of(&example(), 0));
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["upstream_handshakes"]["full"], 1);
        assert_eq!(value["upstream_session_cache_evictions"], 5);
        assert_eq!(
            value["upstream_verification_failures"]["unable to get local issuer certificate"],
            2
        );
        assert_eq!(value["start_time_seconds"], EXAMPLE_START);
        assert_eq!(value["build_info"]["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(value.as_object().unwrap().len(), FAMILIES.len() + 2);
        assert!(text.ends_with("}\n"));

        let value: Value = serde_json::from_str(&Format::Json.render(&with_zone())).unwrap();
        let families = FAMILIES.len() + ZONE_FAMILIES.len();
        assert_eq!(value.as_object().unwrap().len(), families + 3);
        assert_eq!(value["session_cache_entries"]["session"], 1);
        assert_eq!(value["session_cache_bytes"]["session"], 2);
        assert_eq!(value["session_cache_evictions"]["session"], 3);
        assert_eq!(value["session_cache_entries"]["verdict"], 0);
        assert_eq!(value["session_cache_size_bytes"], 7);
    }

    #[test]
    fn prometheus_has_each_family() {
        let text = Format::Prometheus.render(&Status::of(&example(), 0));
        assert!(text.contains(
            "# HELP kong_tls_upstream_handshakes_total TLS handshakes with services that were \
             completed.\n# TYPE kong_tls_upstream_handshakes_total counter\n\
             kong_tls_upstream_handshakes_total{type=\"full\"} 1\n"
        ));
        assert!(text.contains("\nkong_tls_upstream_session_cache_evictions_total 5\n"));
        assert!(text.contains("\nkong_tls_start_time_seconds 1772323259\n"));
        assert!(text.contains(concat!(
            "# TYPE kong_tls_build_info gauge\nkong_tls_build_info{version=\"",
            env!("CARGO_PKG_VERSION"),
            "\",nginx_version=\"1."
        )));
        assert_eq!(text.matches("# TYPE").count(), FAMILIES.len() + 2);

        let text = Format::Prometheus.render(&with_zone());
        for line in [
            "kong_tls_session_cache_entries{kind=\"session\"} 1",
            "kong_tls_session_cache_bytes{kind=\"session\"} 2",
            "kong_tls_session_cache_evictions_total{kind=\"session\"} 3",
            "# TYPE kong_tls_session_cache_size_bytes gauge\nkong_tls_session_cache_size_bytes 7",
        ] {
            assert!(text.contains(&format!("\n{line}\n")), "{line}");
        }
    }

    #[test]
    fn labels_are_escaped() {
        assert_eq!(LabelValue("a\\b\"c\nd").to_string(), "a\\\\b\\\"c\\nd");
    }
}
