// SPDX-License-Identifier: Apache-2.0

//! The status as an HTML page that loads nothing from elsewhere.

use std::fmt::{self, Write};

use crate::status::counters::{Counters, FAMILIES, Family, Totals};

const HEAD: &str = include_str!("page_head.html");

/// Renders the page.
pub fn render(counters: &Counters) -> String {
    let mut page = String::from(HEAD);
    for family in FAMILIES {
        // Writing to a string does not fail.
        let _ = write!(page, "{}", Section(family, counters));
    }
    page.push_str("</main>\n</html>\n");
    page
}

/// A family as a table, with a bar for each counter.
struct Section<'a>(&'a Family, &'a Counters);

impl fmt::Display for Section<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(family, counters) = self;
        let title = family.name.replace('_', " ").replacen("upstream ", "", 1);
        let side = if family.name.starts_with("client") { "client" } else { "service" };
        let rows = match family.totals(counters) {
            Totals::One(total) => vec![("", total)],
            Totals::Labelled(_, totals) => totals,
        };
        let greatest = rows.iter().map(|(_, total)| *total).max().unwrap_or_default().max(1);

        writeln!(f, "<section class=\"{side}\">\n<h2>{}</h2>", Escaped(&title))?;
        writeln!(f, "<p>{}</p>", Escaped(family.help))?;
        if rows.is_empty() {
            return writeln!(f, "<p class=\"none\">none</p>\n</section>");
        }
        writeln!(f, "<table>")?;
        for (value, total) in rows {
            let label = Escaped(if value.is_empty() { "total" } else { value });
            // The width in percent: the greatest counter fills the bar.
            let width = u128::from(total) * 100 / u128::from(greatest);
            writeln!(
                f,
                "<tr><th scope=\"row\">{label}</th><td>{total}</td>\
                 <td class=\"bar\"><meter max=\"100\" value=\"{width}\"></meter></td></tr>"
            )?;
        }
        writeln!(f, "</table>\n</section>")
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
    use crate::status::counters::tests::example;

    #[test]
    fn the_page_has_each_family_and_nothing_from_elsewhere() {
        let page = render(&example());
        assert_eq!(page.matches("<section").count(), FAMILIES.len());
        assert!(page.contains("unable to get local issuer certificate"));
        for elsewhere in ["http:", "https:", "src=", "href=", "url(", "@import", "<script"] {
            assert!(!page.contains(elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(Escaped("<a & \"b\">").to_string(), "&lt;a &amp; &quot;b&quot;&gt;");
    }
}
