// SPDX-License-Identifier: Apache-2.0

//! The encodings that proxies share: base64, percent-encoding, and DER certificates in a row.

use crate::client::header_certificate::InvalidText;

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

/// Decodes percent-encoding (RFC 3986, section 2.1). Some senders leave the `+`, `/` and `=` of
/// base64 unencoded: a `+` is a `+`, not a space.
pub fn unescaped(text: &[u8]) -> Result<Vec<u8>, InvalidText> {
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

/// Splits certificates in DER that follow each other. Only the outermost lengths are read here.
pub fn der_in_a_row(bytes: &[u8]) -> Result<Vec<Vec<u8>>, InvalidText> {
    /// The tag of a certificate: a SEQUENCE.
    const SEQUENCE: u8 = 0x30;
    /// A length in the next so many bytes.
    const IN_TWO_BYTES: u8 = 0x82;
    const IN_ONE_BYTE: u8 = 0x81;

    let mut certificates = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (header, length) = match *rest {
            [SEQUENCE, IN_TWO_BYTES, high, low, ..] => (4, u16::from_be_bytes([high, low])),
            [SEQUENCE, IN_ONE_BYTE, length, ..] => (3, length.into()),
            [SEQUENCE, length, ..] if length < 0x80 => (2, length.into()),
            _ => return Err(InvalidText::NotDer),
        };
        let (one, others) =
            rest.split_at_checked(header + usize::from(length)).ok_or(InvalidText::NotDer)?;
        certificates.push(one.to_vec());
        rest = others;
    }
    Ok(certificates)
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
    fn certificates_in_a_row_are_split_by_their_lengths() {
        let long = [&[0x30, 0x82, 1, 0][..], &[7; 256]].concat();
        let middle = [&[0x30, 0x81, 200][..], &[8; 200]].concat();
        let short = vec![0x30, 2, 1, 2];
        let all = [&long[..], &short, &middle].concat();
        assert_eq!(der_in_a_row(&all).unwrap(), [long.clone(), short, middle]);
        assert_eq!(der_in_a_row(&long).unwrap().concat(), long);
        assert!(der_in_a_row(b"").unwrap().is_empty());
        let bad: &[&[u8]] = &[
            &long[..long.len() - 1],
            &[0x30],
            &[0x30, 0x80],
            &[0x30, 0x83, 0, 0, 1, 7],
            &[0x30, 0x82, 0],
            &[0x30, 0x81],
            &[0x31, 1, 7],
            &[0x30, 1, 7, 0],
            b"junk",
        ];
        for bytes in bad {
            assert_eq!(der_in_a_row(bytes), Err(InvalidText::NotDer), "{bytes:?}");
        }
    }
}
