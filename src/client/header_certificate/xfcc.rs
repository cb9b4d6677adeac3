// SPDX-License-Identifier: Apache-2.0

//! Envoy's `x-forwarded-client-cert` (XFCC; "HTTP header manipulation" in the documentation of
//! Envoy 1.33, `mutateXfccRequestHeader`): an element for each proxy that the request has passed,
//! separated by commas. An element is pairs of a key and a value, separated by semicolons.
//!
//! Envoy writes `By`, `URI` and `DNS` without quotes, whatever is in them. So a client whose
//! certificate has a name with a `;` or a `,` can write pairs and elements of its own behind such a
//! name. What counts here must not be one of these:
//!
//! * `Hash`, which Envoy always writes, and before all that comes from a certificate, must be there
//!   once, and must be that of the certificate.
//! * Only one element is accepted, unless an option says which one counts. The last one counts only
//!   if those before it have no names: otherwise one of these may have been divided.

use openssl::sha::sha256;

use crate::client::header_certificate::encodings::unescaped;
use crate::client::header_certificate::{Certificates, InvalidText, from_url, pem};

/// Which element is the client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The only one: with `SANITIZE_SET`, Envoy removes those that were there before.
    Only,
    /// That of the outermost proxy, which the others must be trusted not to have changed.
    First,
    /// That of the proxy that is connected to this one, which it adds with `APPEND_FORWARD`.
    Last,
}

/// Why an XFCC header can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidXfcc {
    #[error("there is no key at {at}")]
    NoKey { at: usize },
    #[error("the key at {at} is none of By, Hash, Cert, Chain, Subject, URI, DNS")]
    UnknownKey { at: usize },
    #[error("an element has {0} twice")]
    Twice(&'static str),
    #[error("the value at {at} has unbalanced quotes")]
    Quotes { at: usize },
    #[error("it has {0} elements, and the option element does not say which counts")]
    Several(usize),
    #[error("an element before the last has URI or DNS, which could hide the end of the element")]
    Names,
    #[error("the element has no {0}")]
    Missing(&'static str),
    #[error("Hash is not that of the certificate")]
    Hash,
}

/// An element, as far as it matters.
#[derive(Default)]
struct Element {
    hash: Option<Vec<u8>>,
    cert: Option<Vec<u8>>,
    chain: Option<Vec<u8>>,
    subject: Option<Vec<u8>>,
    has_names: bool,
}

pub fn read(text: &[u8], which: Which) -> Result<Certificates, InvalidText> {
    let mut elements = elements(text)?;
    let count = elements.len();
    let element = match which {
        Which::Only | Which::First if count == 1 => elements.pop(),
        Which::Only => return Err(InvalidXfcc::Several(count).into()),
        Which::First => elements.into_iter().next(),
        Which::Last => {
            let last = elements.pop();
            if elements.iter().any(|element| element.has_names) {
                return Err(InvalidXfcc::Names.into());
            }
            last
        }
    };
    let Element { hash, cert, chain, .. } = element.ok_or(InvalidXfcc::NoKey { at: 1 })?;
    let hash = hash.ok_or(InvalidXfcc::Missing("Hash"))?;
    let chain = match chain {
        Some(chain) => pem::all(&unescaped(&chain)?, pem::LINE_BREAKS)?,
        None => Vec::new(),
    };
    // The chain begins with the client's certificate.
    let certificates = match cert {
        Some(cert) => Certificates::new(from_url(&cert)?, chain),
        None => Certificates::leaf_first(chain).ok_or(InvalidXfcc::Missing("Cert"))?,
    };
    let digits: String =
        sha256(&certificates.leaf).iter().map(|byte| format!("{byte:02x}")).collect();
    if !digits.as_bytes().eq_ignore_ascii_case(&hash) {
        return Err(InvalidXfcc::Hash.into());
    }
    Ok(certificates)
}

fn elements(text: &[u8]) -> Result<Vec<Element>, InvalidXfcc> {
    let mut elements = vec![Element::default()];
    let mut rest = text;
    loop {
        let at = text.len() - rest.len() + 1;
        let end = rest.iter().position(|byte| *byte == b'=').ok_or(InvalidXfcc::NoKey { at })?;
        let (key, behind) = rest.split_at(end);
        if key.is_empty() {
            return Err(InvalidXfcc::NoKey { at });
        }
        let value;
        (value, rest) = take_value(&behind[1..])
            .ok_or(InvalidXfcc::Quotes { at: text.len() - behind.len() + 2 })?;
        if let Some(element) = elements.last_mut() {
            element.add(key, value, at)?;
        }
        match rest {
            [] => return Ok(elements),
            [b';', behind @ ..] => rest = behind,
            // The only other separator: `take_value` goes to the next one.
            [_, behind @ ..] => {
                // A proxy that joins header lines adds a space.
                rest = behind.trim_ascii_start();
                elements.push(Element::default());
            }
        }
    }
}

/// Takes a value from the beginning of `text`, up to the next separator or the end.
fn take_value(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let Some(mut rest) = text.strip_prefix(b"\"") else {
        let end = text.iter().position(|byte| b",;".contains(byte)).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (!value.contains(&b'"')).then(|| (value.to_vec(), rest));
    };
    let mut value = Vec::new();
    loop {
        match rest {
            // As in a name in the form of RFC 2253, which Envoy puts between quotes as it is: what
            // follows a backslash is no end, even if it is another backslash.
            [b'\\', byte, behind @ ..] => {
                value.push(*byte);
                rest = behind;
            }
            [b'"', behind @ ..] => {
                let ends = behind.first().is_none_or(|byte| b",;".contains(byte));
                return ends.then_some((value, behind));
            }
            [byte, behind @ ..] => {
                value.push(*byte);
                rest = behind;
            }
            [] => return None,
        }
    }
}

impl Element {
    fn add(&mut self, key: &[u8], value: Vec<u8>, at: usize) -> Result<(), InvalidXfcc> {
        let is = |name: &str| key.eq_ignore_ascii_case(name.as_bytes());
        let (place, name) = if is("Hash") {
            (&mut self.hash, "Hash")
        } else if is("Cert") {
            (&mut self.cert, "Cert")
        } else if is("Chain") {
            (&mut self.chain, "Chain")
        } else if is("Subject") {
            (&mut self.subject, "Subject")
        } else if is("URI") || is("DNS") {
            self.has_names = true;
            return Ok(());
        } else if is("By") {
            // A certificate of the proxy may have several names.
            return Ok(());
        } else {
            return Err(InvalidXfcc::UnknownKey { at });
        };
        if place.replace(value).is_some() {
            return Err(InvalidXfcc::Twice(name));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAN: &str = "-----BEGIN%20CERTIFICATE-----%0ATWFu%0A-----END%20CERTIFICATE-----%0A";
    const M: &str = "-----BEGIN%20CERTIFICATE-----%0ATQ%3D%3D%0A-----END%20CERTIFICATE-----%0A";

    fn hash(der: &[u8]) -> String {
        sha256(der).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn leaf(text: &str, which: Which) -> Result<Vec<u8>, InvalidText> {
        read(text.as_bytes(), which).map(|certificates| certificates.leaf)
    }

    fn xfcc(error: InvalidXfcc) -> Result<Vec<u8>, InvalidText> {
        Err(InvalidText::Xfcc(error))
    }

    #[test]
    fn an_element_as_envoy_writes_it() {
        let (man, upper) = (hash(b"Man"), hash(b"Man").to_uppercase());
        for text in [
            format!("Hash={man};Cert=\"{MAN}\""),
            format!("By=spiffe://a/b;By=spiffe://c;Hash={man};Cert=\"{MAN}\";Chain=\"{MAN}{M}\""),
            format!("Hash={man};Chain=\"{MAN}{M}\";Subject=\"\";URI=;DNS=a.test;DNS=b.test"),
            format!("hash={upper};CERT=\"{MAN}\";subject=\"CN=a\\\\\";uri=a=b"),
            format!("Hash={man};Subject=\"CN=a\\\"\\,;Cert=\\\"x,\";Cert=\"{MAN}\";URI=urn:a\\b"),
            format!("Hash=\"{man}\";Cert={MAN}"),
        ] {
            for which in [Which::Only, Which::First, Which::Last] {
                assert_eq!(leaf(&text, which).as_deref(), Ok(&b"Man"[..]), "{text}");
            }
        }
        let text = format!("Hash={man};Cert=\"{MAN}\";Chain=\"{MAN}{M}\"");
        assert_eq!(read(text.as_bytes(), Which::Only).unwrap().intermediates, [b"M"]);
    }

    #[test]
    fn the_element_that_counts() {
        let first = format!("Hash={};Cert=\"{MAN}\"", hash(b"Man"));
        let last = format!("Hash={};Cert=\"{M}\";URI=spiffe://m;DNS=m", hash(b"M"));
        for text in [format!("{first},{last}"), format!("{first}, \t{last}")] {
            assert_eq!(leaf(&text, Which::First).unwrap(), b"Man");
            assert_eq!(leaf(&text, Which::Last).unwrap(), b"M");
            assert_eq!(leaf(&text, Which::Only), xfcc(InvalidXfcc::Several(2)));
        }
        // What the client writes behind a name of its own does not count.
        let forged = format!("{last},{first}");
        assert_eq!(leaf(&forged, Which::First).unwrap(), b"M");
        assert_eq!(leaf(&forged, Which::Last), xfcc(InvalidXfcc::Names));
        assert_eq!(leaf(&forged, Which::Only), xfcc(InvalidXfcc::Several(2)));
        let forged = format!("{last};Cert=\"{MAN}\"");
        assert_eq!(leaf(&forged, Which::Only), xfcc(InvalidXfcc::Twice("Cert")));
        // Envoy that sends no Cert.
        let forged = format!("Hash={};URI=a;Cert=\"{MAN}\"", hash(b"M"));
        assert_eq!(leaf(&forged, Which::Only), xfcc(InvalidXfcc::Hash));
        let forged = format!("Hash={};URI=a;{first}", hash(b"M"));
        assert_eq!(leaf(&forged, Which::Only), xfcc(InvalidXfcc::Twice("Hash")));
    }

    #[test]
    fn a_client_can_not_hide_the_elements_that_follow_its_own() {
        let own = format!("Hash={};Cert=\"{MAN}\"", hash(b"Man"));
        let theirs = format!("Hash={};Cert=\"{M}\";Subject=\"\"", hash(b"M"));
        for end in [";Subject=\"", ";Subject=\"\\", "\"", "\\", ";", ";By=\"", ";By=a\"", ",", "="]
        {
            let text = format!("{own}{end},{theirs}");
            assert_ne!(leaf(&text, Which::Last).as_deref(), Ok(&b"Man"[..]), "{text}");
            assert!(leaf(&text, Which::Only).is_err(), "{text}");
        }
    }

    #[test]
    fn what_can_not_be_read_whole() {
        let man = hash(b"Man");
        let ok = format!("Hash={man};Cert=\"{MAN}\"");
        for (text, error) in [
            (String::new(), InvalidXfcc::NoKey { at: 1 }),
            (",".to_owned(), InvalidXfcc::NoKey { at: 1 }),
            ("=a".to_owned(), InvalidXfcc::NoKey { at: 1 }),
            ("Hash".to_owned(), InvalidXfcc::NoKey { at: 1 }),
            (format!("{ok};"), InvalidXfcc::NoKey { at: ok.len() + 2 }),
            (format!("{ok},"), InvalidXfcc::NoKey { at: ok.len() + 2 }),
            (format!("{ok};;By=a"), InvalidXfcc::UnknownKey { at: ok.len() + 2 }),
            (format!("{ok}; By=a"), InvalidXfcc::UnknownKey { at: ok.len() + 2 }),
            (format!("{ok};Email=a"), InvalidXfcc::UnknownKey { at: ok.len() + 2 }),
            (format!("{ok};Subject=\"a"), InvalidXfcc::Quotes { at: ok.len() + 10 }),
            (format!("{ok};Subject=\"a\\\""), InvalidXfcc::Quotes { at: ok.len() + 10 }),
            (format!("{ok};Subject=\"a\"b"), InvalidXfcc::Quotes { at: ok.len() + 10 }),
            (format!("{ok};Subject=\"a\" ;By=b"), InvalidXfcc::Quotes { at: ok.len() + 10 }),
            (format!("{ok};By=a\"b"), InvalidXfcc::Quotes { at: ok.len() + 5 }),
            (format!("{ok};{ok}"), InvalidXfcc::Twice("Hash")),
            (format!("{ok};cert=\"\""), InvalidXfcc::Twice("Cert")),
            (format!("{ok};Chain=\"{MAN}\";chain="), InvalidXfcc::Twice("Chain")),
            (format!("{ok};Subject=\"\";SUBJECT=\"\""), InvalidXfcc::Twice("Subject")),
            (format!("Cert=\"{MAN}\""), InvalidXfcc::Missing("Hash")),
            (format!("Hash={man}"), InvalidXfcc::Missing("Cert")),
            (format!("Hash={man};Chain=\"\""), InvalidXfcc::Missing("Cert")),
            (format!("Hash={man};Cert=\"{M}\""), InvalidXfcc::Hash),
            (format!("Hash={man}0;Cert=\"{MAN}\""), InvalidXfcc::Hash),
            (format!("Hash=;Cert=\"{MAN}\""), InvalidXfcc::Hash),
            (format!("Hash={man};Chain=\"{M}{MAN}\""), InvalidXfcc::Hash),
        ] {
            assert_eq!(leaf(&text, Which::Only), xfcc(error), "{text}");
        }
        for cert in ["", "TWFu", "-----BEGIN", &format!("{MAN}{M}"), &MAN.replace("%20", " ")] {
            let text = format!("Hash={man};Cert=\"{cert}\"");
            assert!(
                !matches!(leaf(&text, Which::Only), Ok(_) | Err(InvalidText::Xfcc(_))),
                "{text}"
            );
        }
        let text = format!("{ok};Chain=\"junk\"");
        assert_eq!(leaf(&text, Which::Only), Err(InvalidText::NotBlocks));
    }
}
