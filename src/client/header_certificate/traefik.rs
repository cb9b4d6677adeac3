// SPDX-License-Identifier: Apache-2.0

//! Traefik's middleware PassTLSClientCert with `pem`: `X-Forwarded-Tls-Client-Cert` has the base64
//! of PEM, without its first and last line and its line breaks, for each certificate that the
//! client presented, with commas between them. Traefik 2 URL-encodes each; Traefik 3 does not (3.3,
//! `pkg/middlewares/passtlsclientcert`).

use crate::client::header_certificate::encodings::unescaped;
use crate::client::header_certificate::{Certificates, InvalidText, base64};

pub fn read(text: &[u8]) -> Result<Certificates, InvalidText> {
    let decode = |one| base64(&unescaped(one)?);
    let list = text.split(|byte| *byte == b',').map(decode).collect::<Result<_, _>>()?;
    Certificates::leaf_first(list).ok_or(InvalidText::Base64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions() {
        for text in ["+/+/,TQ==,TWE=", "%2B%2F%2B%2F,TQ%3D%3D,TWE%3D"] {
            let all = read(text.as_bytes()).unwrap();
            assert_eq!(all.leaf, b"\xfb\xff\xbf", "{text}");
            assert_eq!(all.intermediates, [&b"M"[..], b"Ma"], "{text}");
        }
        for text in ["", ",", "TWFu,", ",TWFu", "TWFu,,TWFu", "TWFu%2CTWFu", "TWFu%0A", "TW-u"] {
            assert_eq!(read(text.as_bytes()), Err(InvalidText::Base64), "{text}");
        }
        for text in ["TWFu, TWFu", "TWFu TWFu", "\"TWFu\"", "TWFu%", "TWFu%2"] {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
    }
}
