// SPDX-License-Identifier: Apache-2.0

//! `Client-Cert` and `Client-Cert-Chain` (RFC 9440, sections 2.2 and 2.3): a byte sequence, and a
//! list of byte sequences (RFC 8941, sections 3.3.5 and 3.1). The list may be in several lines.

use crate::client::header_certificate::{Certificates, InvalidText, base64};

pub fn read(text: &[u8], chain: Option<&[u8]>) -> Result<Certificates, InvalidText> {
    let leaf = byte_sequence(text)?;
    let others = match chain {
        Some(list) if !list.is_empty() => {
            // Optional white space (RFC 9110, section 5.6.3) surrounds the commas.
            let is_space = |byte: &u8| b" \t".contains(byte);
            list.split(|byte| *byte == b',')
                .map(|one| {
                    let start = one.iter().position(|byte| !is_space(byte)).unwrap_or(one.len());
                    let end =
                        one.iter().rposition(|byte| !is_space(byte)).map_or(start, |at| at + 1);
                    byte_sequence(&one[start..end])
                })
                .collect::<Result<_, _>>()?
        }
        _ => Vec::new(),
    };
    Ok(Certificates::new(leaf, others))
}

/// Without parameters: RFC 9440 has none.
fn byte_sequence(text: &[u8]) -> Result<Vec<u8>, InvalidText> {
    match text {
        [b':', inner @ .., b':'] => base64(inner),
        _ => Err(InvalidText::NotSequence),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_sequences() {
        let all = read(b":TWFu:", Some(b":TQ==:, :TWE=:,:TWFu:\t,\t :TQ==:")).unwrap();
        assert_eq!(all.leaf, b"Man");
        assert_eq!(all.intermediates, [&b"M"[..], b"Ma", b"M"]);
        assert!(read(b":TWFu:", None).unwrap().intermediates.is_empty());
        assert!(read(b":TWFu:", Some(b"")).unwrap().intermediates.is_empty());
        for text in
            [&b"TWFu"[..], b":TWFu", b"TWFu:", b":", b":TWFu:;a=1", b" :TWFu:", b"?1", b"\"TWFu\""]
        {
            assert_eq!(read(text, None), Err(InvalidText::NotSequence), "{}", text.escape_ascii());
        }
        for text in [&b"::"[..], b":TWFu:, :TWFu:", b":TWF:", b":TWF=:", b":TW Fu:"] {
            assert_eq!(read(text, None), Err(InvalidText::Base64), "{}", text.escape_ascii());
        }
        for list in [
            &b","[..],
            b":TWFu:,",
            b",:TWFu:",
            b":TWFu:,,:TWFu:",
            b":TWFu:;a, :TWFu:",
            b":TWFu: :TWFu:x",
            b"(:TWFu:)",
            b" ",
            b":TW, Fu:",
        ] {
            assert!(read(b":TWFu:", Some(list)).is_err(), "{}", list.escape_ascii());
        }
    }
}
