// SPDX-License-Identifier: Apache-2.0

//! Certificates in PEM (RFC 7468), as headers have them: nothing but blocks.

use crate::client::header_certificate::{InvalidText, base64};

/// What separates the lines of PEM as it is.
pub const LINE_BREAKS: &[u8] = b"\r\n";
/// What separates them in a header that has PEM as it is: some proxies put a space in place of each
/// line break, others fold the header (RFC 9112, section 5.2).
pub const FOLDED: &[u8] = b" \t\r\n";

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
const END: &[u8] = b"-----END CERTIFICATE-----";

/// Returns the DER in a text that is exactly one certificate, surrounded only by white space.
/// `breaks` are the bytes that separate lines.
pub fn one(text: &[u8], breaks: &[u8]) -> Result<Vec<u8>, InvalidText> {
    let list = all(text, breaks).map_err(|_| InvalidText::NotOneBlock)?;
    let [one] = <[_; 1]>::try_from(list).map_err(|_| InvalidText::NotOneBlock)?;
    Ok(one)
}

/// Returns the DER of each certificate in a text that is nothing but certificates, with white space
/// around each.
pub fn all(text: &[u8], breaks: &[u8]) -> Result<Vec<Vec<u8>>, InvalidText> {
    let mut list = Vec::new();
    let mut rest = text.trim_ascii();
    while !rest.is_empty() {
        let behind = rest.strip_prefix(BEGIN).ok_or(InvalidText::NotBlocks)?;
        let end = behind.windows(END.len()).position(|window| window == END);
        let (lines, behind) = behind.split_at(end.ok_or(InvalidText::NotBlocks)?);
        let is_break = |byte: Option<&u8>| byte.is_some_and(|byte| breaks.contains(byte));
        if !is_break(lines.first()) || !is_break(lines.last()) {
            return Err(InvalidText::NotBlocks);
        }
        let digits: Vec<_> = lines.iter().copied().filter(|byte| !breaks.contains(byte)).collect();
        list.push(base64(&digits).map_err(|_| InvalidText::NotBlocks)?);
        rest = &behind[END.len()..];
        if rest.first().is_some_and(|byte| !byte.is_ascii_whitespace()) {
            return Err(InvalidText::NotBlocks);
        }
        rest = rest.trim_ascii_start();
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_follow_each_other() {
        let man = "-----BEGIN CERTIFICATE-----\nTWFu\n-----END CERTIFICATE-----";
        let m = "-----BEGIN CERTIFICATE-----\r\nT\r\nQ==\r\n-----END CERTIFICATE-----";
        for text in [format!("{man}\n{m}"), format!("\n{man}\r\n \n{m}\n")] {
            let list = all(text.as_bytes(), LINE_BREAKS).unwrap();
            assert_eq!(list, [&b"Man"[..], b"M"], "{text}");
            assert_eq!(one(text.as_bytes(), LINE_BREAKS), Err(InvalidText::NotOneBlock));
        }
        assert!(all(b"\n", LINE_BREAKS).unwrap().is_empty());
        for text in [
            format!("{man}{m}"),
            format!("{man}\n{m}\njunk"),
            format!("{man}\njunk\n{m}"),
            format!("junk\n{man}"),
            format!("{man}\n-----BEGIN CERTIFICATE-----\nTWFu\n"),
            format!("{man}\n-----END CERTIFICATE-----"),
            man.replace("TWFu", &format!("TWFu\n{m}")),
            man.replace('\n', " "),
            man.replace("TWFu", "TW Fu"),
            man.replace("TWFu", ""),
            man.replace("TWFu\n", ""),
        ] {
            assert_eq!(all(text.as_bytes(), LINE_BREAKS), Err(InvalidText::NotBlocks), "{text}");
        }
    }

    #[test]
    fn a_header_may_be_folded() {
        let man = "-----BEGIN CERTIFICATE----- TW Fu -----END CERTIFICATE-----";
        for text in [man.to_owned(), format!(" {man} "), man.replace(' ', "\n\t")] {
            // The label has a space of its own.
            let text = text.replace("BEGIN\n\tC", "BEGIN C").replace("END\n\tC", "END C");
            assert_eq!(one(text.as_bytes(), FOLDED).unwrap(), b"Man", "{text}");
        }
        assert_eq!(all(format!("{man}  {man}").as_bytes(), FOLDED).unwrap().len(), 2);
        for text in [
            format!("{man},{man}"),
            man.replace(" TW", "TW"),
            man.replace("Fu ", "Fu"),
            man.replace("TW", "TW%0A"),
        ] {
            assert_eq!(one(text.as_bytes(), FOLDED), Err(InvalidText::NotOneBlock), "{text}");
        }
    }
}
