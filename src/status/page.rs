// SPDX-License-Identifier: Apache-2.0

//! The status as an HTML page that loads nothing from elsewhere and has no script.

use std::fmt::{self, Write};

use openssl::asn1::Asn1Time;

use crate::session_zone::records::Kind;
use crate::status::Status;
use crate::status::about::build;
use crate::status::counters::{FAMILIES, Family, Totals};
use crate::status::session_zone::ZoneTotals;

const HEAD: &str = include_str!("page_head.html");

/// Precedes what failed: colour alone would not be seen by everybody.
const SIGN: &str = "<b class=\"sign\">!</b> ";

/// Renders the page.
pub fn render(status: &Status<'_>) -> String {
    // Room for the page as it is without traffic, and for some more reasons.
    let mut page = String::with_capacity(HEAD.len() + 16 * 1024);
    page.push_str(HEAD);
    // Writing to a string does not fail.
    let _ = write!(page, "{}", Header(status));
    page.push_str("<main>\n");
    for family in FAMILIES {
        let _ = write!(page, "{}", Section(family, status));
    }
    if let Some(zone) = &status.session_zone {
        let _ = write!(page, "{}", ZoneSection(zone));
    }
    page.push_str("</main>\n</html>\n");
    page
}

/// What the page is about, and whether anything failed.
struct Header<'a>(&'a Status<'a>);

impl fmt::Display for Header<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Status { counters, now, recent, session_zone: _ } = self.0;
        writeln!(f, "<header>\n<h1>TLS of this gateway</h1>")?;

        let mut has_failures = false;
        for family in FAMILIES.iter().filter(|family| family.is_failure) {
            let failures = family.totals(counters).sum();
            if failures > 0 {
                has_failures = true;
                let (failures, title) = (Number(failures), Title(family));
                writeln!(f, "<p class=\"failed\">{SIGN}{title}: {failures}</p>")?;
            }
        }
        if !has_failures {
            writeln!(f, "<p>No failures.</p>")?;
        }

        let [(_, module), (_, nginx), (_, openssl)] = build();
        let (module, nginx, openssl) = (Escaped(module), Escaped(nginx), Escaped(openssl));
        writeln!(f, "<p>Module {module}, nginx {nginx}, OpenSSL {openssl}</p>")?;
        let start = counters.start_time;
        let (time, duration) = (Date(start), Duration(now.saturating_sub(start)));
        writeln!(f, "<p>Counted over all workers since {time} ({duration}).</p>")?;
        match recent {
            Some(window) => {
                let seconds = window.milliseconds / 1000;
                write!(f, "<p>Rates are over the last {seconds} s. ")?;
            }
            None => f.write_str("<p>Rates appear when the page is renewed. ")?,
        }
        writeln!(f, "The page renews itself every 5 s.</p>\n</header>")
    }
}

/// The zone of `kong_tls_session_cache` as a table.
struct ZoneSection<'a>(&'a ZoneTotals);

impl fmt::Display for ZoneSection<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(zone) = self;
        let used = zone.kinds.iter().map(|totals| totals.bytes).sum();
        writeln!(f, "<section>\n<h2>session cache</h2>")?;
        writeln!(
            f,
            "<p>Records in the zone of kong_tls_session_cache. They take {} of {} bytes.</p>",
            Number(used),
            Number(zone.size)
        )?;
        writeln!(
            f,
            "<table>\n<thead><tr><th scope=\"col\">kind</th><th scope=\"col\">count</th>\
             <th scope=\"col\">evicted</th></tr></thead>"
        )?;
        for ((name, _), totals) in Kind::ALL.iter().zip(&zone.kinds) {
            let class = if totals.records == 0 { "none" } else { "some" };
            // The width in percent: the whole zone fills the bar.
            let share = u128::from(totals.bytes) * 100 / u128::from(zone.size.max(1));
            writeln!(
                f,
                "<tr class=\"{class}\" style=\"--share: {share}%\"><th scope=\"row\">{name}</th>\
                 <td>{}</td><td>{}</td></tr>",
                Number(totals.records),
                Number(totals.evictions)
            )?;
        }
        writeln!(f, "</table>\n</section>")
    }
}

/// A family as a table, with a bar for each counter.
struct Section<'a>(&'a Family, &'a Status<'a>);

impl fmt::Display for Section<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(family, status) = self;
        let (label, rows) = match family.totals(status.counters) {
            Totals::One(total) => ("", vec![("", total)]),
            Totals::Labelled(label, totals) => (label, totals),
        };
        let before = status.recent.as_ref().map(|window| (window, family.totals(window.before)));
        let greatest = rows.iter().map(|(_, total)| *total).max().unwrap_or_default().max(1);

        writeln!(f, "<section>\n<h2>{}</h2>", Title(family))?;
        writeln!(f, "<p>{}</p>", Escaped(family.help))?;
        if rows.is_empty() {
            return writeln!(f, "<p>none</p>\n</section>");
        }
        writeln!(
            f,
            "<table>\n<thead><tr><th scope=\"col\">{}</th><th scope=\"col\">count</th>\
             <th scope=\"col\">rate</th></tr></thead>",
            Escaped(label)
        )?;
        for (value, total) in rows {
            let (class, sign) = match total {
                0 => ("none", ""),
                _ if family.is_failure => ("failed", SIGN),
                _ => ("some", ""),
            };
            // The width in percent: the greatest counter fills the bar.
            let share = u128::from(total) * 100 / u128::from(greatest);
            write!(
                f,
                "<tr class=\"{class}\" style=\"--share: {share}%\"><th scope=\"row\">{sign}{}</th>\
                 <td>{}</td><td>",
                Escaped(if value.is_empty() { "total" } else { value }),
                Number(total)
            )?;
            let increase = before.as_ref().and_then(|(window, before)| {
                Some((total.checked_sub(before.of(value))?, window.milliseconds))
            });
            match increase {
                Some((events, milliseconds)) => write!(f, "{}", Rate { events, milliseconds })?,
                None => f.write_str("&ndash;")?,
            }
            writeln!(f, "</td></tr>")?;
        }
        writeln!(f, "</table>\n</section>")
    }
}

/// The name of a family as words.
struct Title<'a>(&'a Family);

impl fmt::Display for Title<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Escaped(&self.0.name.replace('_', " ")))
    }
}

/// Displays a number with a comma between thousands.
struct Number(u64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (place, digit) in digits.chars().enumerate() {
            if place > 0 && (digits.len() - place) % 3 == 0 {
                f.write_char(',')?;
            }
            f.write_char(digit)?;
        }
        Ok(())
    }
}

/// Displays how often something happened: in a second, or in a minute if that is rarer.
struct Rate {
    events: u64,
    milliseconds: u64,
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, milliseconds } = *self;
        if events == 0 {
            return f.write_str("0");
        }
        let (duration, unit) =
            if events.saturating_mul(1000) < milliseconds { (60_000, "min") } else { (1_000, "s") };
        let tenths = u128::from(events) * duration * 10 / u128::from(milliseconds.max(1));
        let whole = Number(u64::try_from(tenths / 10).unwrap_or(u64::MAX));
        if tenths < 1000 {
            write!(f, "{whole}.{}/{unit}", tenths % 10)
        } else {
            write!(f, "{whole}/{unit}")
        }
    }
}

/// Displays seconds since the Unix epoch as a date and time.
struct Date(u64);

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = i64::try_from(self.0).ok().and_then(|time| Asn1Time::from_unix(time).ok());
        match time {
            Some(time) => write!(f, "<time>{}</time>", &*time),
            None => write!(f, "<time>{} s after the Unix epoch</time>", self.0),
        }
    }
}

/// The seconds of a day.
const DAY: u64 = 24 * 60 * 60;

/// Displays seconds by the two greatest units.
struct Duration(u64);

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0;
        let (days, hours, minutes) = (seconds / DAY, seconds / 3600 % 24, seconds / 60 % 60);
        if days > 0 {
            write!(f, "{} d {hours} h", Number(days))
        } else if hours > 0 {
            write!(f, "{hours} h {minutes} min")
        } else if minutes > 0 {
            write!(f, "{minutes} min {} s", seconds % 60)
        } else {
            write!(f, "{seconds} s")
        }
    }
}

struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| match character {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            other => f.write_char(other),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session_zone::records::KindTotals;
    use crate::status::counters::tests::{EXAMPLE_START, example};
    use crate::status::counters::{Counter, Counters};
    use crate::status::history::Window;

    #[test]
    fn the_page_has_each_family_and_nothing_from_elsewhere() {
        let page = render(&Status::of(&example(), EXAMPLE_START + 3723));
        assert_eq!(page.matches("<section").count(), FAMILIES.len());
        assert!(page.contains("unable to get local issuer certificate"));
        assert!(page.contains("since <time>Mar  1 00:00:59 2026 GMT</time> (1 h 2 min)."));
        assert!(page.contains(concat!("<p>Module ", env!("CARGO_PKG_VERSION"), ", nginx 1.")));
        // Without an icon of its own, a browser would request one.
        let page = page.replacen("href=\"data:,\"", "", 1);
        for elsewhere in ["http:", "https:", "src=", "href=", "url(", "@import", "<script"] {
            assert!(!page.contains(elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn failures_are_marked_if_there_are_any() {
        let fresh = render(&Status::of(&Counters::new(0), 0));
        assert!(fresh.contains("<p>No failures.</p>"));
        assert!(!fresh.contains("class=\"failed\"") && !fresh.contains(SIGN));

        let page = render(&Status::of(&example(), 0));
        assert!(!page.contains("No failures"));
        let sign = SIGN;
        for failed in [
            format!("<p class=\"failed\">{sign}upstream verification failures: 7</p>"),
            format!("<p class=\"failed\">{sign}refusals: 187</p>"),
            format!("<th scope=\"row\">{sign}client_certificate</th><td>12</td>"),
            format!("<th scope=\"row\">{sign}hostname mismatch</th><td>1</td>"),
        ] {
            assert!(page.contains(&failed), "{failed}\n{page}");
        }
        // What is no failure has no sign, however often it happened.
        assert!(page.contains("<th scope=\"row\">other_identity</th><td>7</td>"));
    }

    #[test]
    fn rates_are_over_the_time_since_the_sample() {
        let (counters, before) = (example(), example().snapshot());
        for _ in 0..90 {
            counters.count(Counter::HandshakeFull);
        }
        counters.count(Counter::RefusedTarget);
        let page = |before: &Counters| {
            let recent = Some(Window { milliseconds: 45_678, before });
            render(&Status { recent, ..Status::of(&counters, 0) })
        };
        let shown = page(&before);
        assert!(shown.contains("Rates are over the last 45 s."));
        assert!(shown.contains("full</th><td>91</td><td>1.9/s</td>"));
        assert!(shown.contains("resumed</th><td>2</td><td>0</td>"));
        assert!(shown.contains("target</th><td>21</td><td>1.3/min</td>"));
        // A reason that had not occurred.
        let shown = page(&Counters::new(0));
        assert!(shown.contains("hostname mismatch</th><td>1</td><td>1.3/min</td>"));

        let shown = render(&Status::of(&counters, 0));
        assert!(shown.contains("Rates appear when the page is renewed."));
        assert!(shown.contains("full</th><td>91</td><td>&ndash;</td>"));
    }

    #[test]
    fn the_zone_has_a_section_if_there_is_one() {
        let mut kinds = [KindTotals::default(); Kind::ALL.len()];
        kinds[Kind::Session as usize] = KindTotals { records: 1_234, bytes: 40_000, evictions: 5 };
        let session_zone = Some(ZoneTotals { size: 80_000, kinds });
        let page = render(&Status { session_zone, ..Status::of(&Counters::new(0), 0) });
        assert!(page.contains("They take 40,000 of 80,000 bytes."));
        assert!(page.contains(
            "<tr class=\"some\" style=\"--share: 50%\"><th scope=\"row\">session</th><td>1,234</td>\
             <td>5</td></tr>"
        ));
    }

    #[test]
    fn numbers() {
        for (number, shown) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (12_345_678, "12,345,678"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ] {
            assert_eq!(Number(number).to_string(), shown);
        }
        for (events, milliseconds, shown) in [
            (0, 5_000, "0"),
            (1, 60_000, "1.0/min"),
            (1, 5_000, "12.0/min"),
            (5, 5_000, "1.0/s"),
            (499, 5_000, "99.8/s"),
            (12_345, 5_000, "2,469/s"),
            (u64::MAX, 1, "18,446,744,073,709,551,615/s"),
        ] {
            assert_eq!(Rate { events, milliseconds }.to_string(), shown);
        }
    }

    #[test]
    fn times() {
        for (time, shown) in [
            (951_782_400, "Feb 29 00:00:00 2000 GMT"),
            (EXAMPLE_START, "Mar  1 00:00:59 2026 GMT"),
            (u64::MAX, "18446744073709551615 s after the Unix epoch"),
        ] {
            assert_eq!(Date(time).to_string(), format!("<time>{shown}</time>"));
        }
        for (duration, shown) in [
            (59, "59 s"),
            (3_599, "59 min 59 s"),
            (3_600, "1 h 0 min"),
            (86_399, "23 h 59 min"),
            (86_400, "1 d 0 h"),
            (86_400 * 1_234 + 3_600 * 5, "1,234 d 5 h"),
        ] {
            assert_eq!(Duration(duration).to_string(), shown);
        }
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(Escaped("<a & \"b\">").to_string(), "&lt;a &amp; &quot;b&quot;&gt;");
    }
}
