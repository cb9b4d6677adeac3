// SPDX-License-Identifier: Apache-2.0

//! Parses certificates in headers, as proxies write them.
//!
//! Whoever can make a text be read as another certificate than the one that was meant can
//! impersonate its owner. So each of these functions accepts the whole text, in exactly one form,
//! or nothing.

/// Why a text is not one certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidText {
    #[error("it is not base64")]
    Base64,
    #[error("it is not URL-encoded: \"%\" without two hexadecimal digits")]
    Escape,
    /// A byte that a sender would have encoded, such as the separator before a second value.
    #[error("it is not URL-encoded: \"{}\" at {at} should be", byte.escape_ascii())]
    NotEscaped { byte: u8, at: usize },
    #[error("it is not one certificate in PEM format, and nothing else")]
    NotOneBlock,
}

/// Decodes base64 (RFC 4648, section 4) that is padded, without white space, and canonical.
pub fn base64(text: &[u8]) -> Result<Vec<u8>, InvalidText> {
    const INVALID: InvalidText = InvalidText::Base64;

    if text.is_empty() || text.len() % 4 != 0 {
        return Err(INVALID);
    }
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    if padding > 2 {
        return Err(INVALID);
    }
    let digits = &text[..text.len() - padding];
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for group in digits.chunks(4) {
        let mut bits = 0_u32;
        for digit in group {
            bits = bits << 6 | sextet(*digit).ok_or(INVALID)?;
        }
        // A group of n digits encodes n - 1 whole bytes; the bits after them must be zero.
        bits <<= 6 * (4 - group.len());
        let [_, all @ ..] = bits.to_be_bytes();
        let (whole, rest) = all.split_at(group.len() - 1);
        if rest.iter().any(|byte| *byte != 0) {
            return Err(INVALID);
        }
        bytes.extend_from_slice(whole);
    }
    Ok(bytes)
}

fn sextet(digit: u8) -> Option<u32> {
    let value = match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(value.into())
}

/// Decodes [`base64`], with or without the colons around a byte sequence in a structured field (RFC
/// 8941, section 3.3.5).
pub fn from_base64(text: &[u8]) -> Result<Vec<u8>, InvalidText> {
    match text {
        [b':', inner @ .., b':'] => base64(inner),
        _ => base64(text),
    }
}

/// Returns the DER in URL-encoded PEM, such as nginx's `$ssl_client_escaped_cert`. Some senders
/// leave the `+`, `/` and `=` of base64 unencoded: a `+` is a `+`, not a space.
pub fn from_url(text: &[u8]) -> Result<Vec<u8>, InvalidText> {
    let pem = unescaped(text)?;
    only_block(&pem)
}

fn unescaped(text: &[u8]) -> Result<Vec<u8>, InvalidText> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, behind @ ..] = rest {
        rest = behind;
        match *first {
            b'%' => {
                let [high, low, behind @ ..] = rest else {
                    return Err(InvalidText::Escape);
                };
                let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(InvalidText::Escape);
                let byte = digit(*high)? << 4 | digit(*low)?;
                bytes.push(byte as u8);
                rest = behind;
            }
            // The unreserved characters of RFC 3986, section 2.3, and those of base64.
            byte if byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte) => bytes.push(byte),
            byte => {
                let at = text.len() - behind.len();
                return Err(InvalidText::NotEscaped { byte, at });
            }
        }
    }
    Ok(bytes)
}

/// Returns the DER in a text that is exactly one certificate in PEM (RFC 7468), surrounded only by
/// white space.
fn only_block(pem: &[u8]) -> Result<Vec<u8>, InvalidText> {
    let lines = pem
        .trim_ascii()
        .strip_prefix(b"-----BEGIN CERTIFICATE-----")
        .and_then(|rest| rest.strip_suffix(b"-----END CERTIFICATE-----"))
        .filter(|lines| lines.starts_with(b"\n") || lines.starts_with(b"\r\n"))
        .filter(|lines| lines.ends_with(b"\n"))
        .ok_or(InvalidText::NotOneBlock)?;
    let digits: Vec<_> = lines.iter().copied().filter(|byte| !b"\r\n".contains(byte)).collect();
    base64(&digits).map_err(|_| InvalidText::NotOneBlock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_has_one_form() {
        let good: &[(&[u8], &[u8])] = &[
            (b"TQ==", b"M"),
            (b"TWE=", b"Ma"),
            (b"TWFu", b"Man"),
            (b"+/+/", b"\xfb\xff\xbf"),
            (b"AAAAAA==", b"\0\0\0\0"),
        ];
        for (text, bytes) in good {
            assert_eq!(base64(text).as_deref(), Ok(*bytes), "{}", text.escape_ascii());
            // As OpenSSL writes it.
            assert_eq!(openssl::base64::encode_block(bytes).as_bytes(), *text);
        }
        let bad: &[&[u8]] = &[
            b"",
            b"=",
            b"==",
            b"====",
            b"T",
            b"TQ",
            b"TQ=",
            b"TQ===",
            b"TWE",
            b"TWFuTQ",
            b"TR==",
            b"TWF=",
            b"T===",
            b"TQ==TQ==",
            b"TWE=TWFu",
            b"TWFu!!!junk",
            b"TWFu ",
            b" TWFu",
            b"TW\nFu",
            b"TW-_",
            b"TWFu,TWFu",
            b"TWFu, TWFu",
            b"T=Fu",
            b"TWFu\0",
            b"TW\xc3\xa4",
        ];
        for text in bad {
            assert_eq!(base64(text), Err(InvalidText::Base64), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn all_bytes_go_there_and_back() {
        for length in 1..70_u32 {
            let bytes: Vec<_> = (0..length).map(|at| (at * 37 + length) as u8).collect();
            let text = openssl::base64::encode_block(&bytes);
            assert_eq!(base64(text.as_bytes()).unwrap(), bytes);
        }
    }

    #[test]
    fn colons_come_in_pairs() {
        assert_eq!(from_base64(b":TWFu:").unwrap(), b"Man");
        assert_eq!(from_base64(b"TWFu").unwrap(), b"Man");
        for text in
            [&b":TWFu"[..], b"TWFu:", b"::TWFu::", b":", b"::", b":TWFu:, :TWFu:", b": TWFu:"]
        {
            assert_eq!(from_base64(text), Err(InvalidText::Base64), "{}", text.escape_ascii());
        }
    }

    const BEGIN: &str = "-----BEGIN%20CERTIFICATE-----%0A";
    const END: &str = "-----END%20CERTIFICATE-----";

    #[test]
    fn urls() {
        for text in [
            format!("{BEGIN}TWFu%0A{END}"),
            format!("{BEGIN}TWFu%0A{END}%0A"),
            format!("%0d%0a%20{BEGIN}TW%0D%0AFu%0D%0A{END}%20%0a%0A"),
            format!("%2D----BEGIN%20CERTIFICATE-----%0D%0A%54WFu%0A{END}"),
        ] {
            assert_eq!(from_url(text.as_bytes()).as_deref(), Ok(&b"Man"[..]), "{text}");
        }
        assert_eq!(from_url(format!("{BEGIN}+/+%2F%0A{END}").as_bytes()).unwrap(), b"\xfb\xff\xbf");
        assert_eq!(from_url(format!("{BEGIN}TQ=%3d%0A{END}").as_bytes()).unwrap(), b"M");
    }

    #[test]
    fn what_is_not_one_certificate_in_a_url() {
        let one = format!("{BEGIN}TWFu%0A{END}");
        let none = [
            String::new(),
            "%0A".to_owned(),
            "TWFu".to_owned(),
            format!("{one}{one}"),
            format!("{one}%0A{one}"),
            format!("{one}%2C{one}"),
            format!("{one}%0Ajunk"),
            format!("junk%0A{one}"),
            format!("{one}%00"),
            format!("{BEGIN}TWFu%0A"),
            format!("{BEGIN}TWFu{END}"),
            format!("{BEGIN}{END}"),
            format!("{BEGIN}%0A{END}"),
            format!("{BEGIN}TWFu%0ATQ==%0ATWFu%0A{END}"),
            format!("{BEGIN}TW%20Fu%0A{END}"),
            one.replace("%20", "+"),
            one.replace("CERTIFICATE", "TRUSTED%20CERTIFICATE"),
            "-----BEGIN%20CERTIFICATE-----TWFu%0A-----END%20CERTIFICATE-----".to_owned(),
        ];
        for text in none {
            assert_eq!(from_url(text.as_bytes()), Err(InvalidText::NotOneBlock), "{text}");
        }
        for text in ["%", "%0", "%0g", "%zz", "%%20", "%+1", "a%2"] {
            assert_eq!(from_url(text.as_bytes()), Err(InvalidText::Escape), "{text}");
        }
        for (text, byte, at) in [
            (format!("{one},{one}"), b',', one.len() + 1),
            (format!("{one};{one}"), b';', one.len() + 1),
            (format!("{one} {one}"), b' ', one.len() + 1),
            ("\"a\"".to_owned(), b'"', 1),
            ("a\n".to_owned(), b'\n', 2),
        ] {
            assert_eq!(from_url(text.as_bytes()), Err(InvalidText::NotEscaped { byte, at }));
        }
        assert_eq!(
            InvalidText::NotEscaped { byte: b',', at: 3 }.to_string(),
            "it is not URL-encoded: \",\" at 3 should be"
        );
    }
}
