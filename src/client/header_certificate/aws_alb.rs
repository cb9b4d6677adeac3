// SPDX-License-Identifier: Apache-2.0

//! AWS' Application Load Balancer: URL-encoded PEM with `+`, `/` and `=` as they are.
//! `X-Amzn-Mtls-Clientcert-Leaf`, in its mode "verify", has the client's certificate;
//! `X-Amzn-Mtls-Clientcert`, in its mode "passthrough", the chain as the client presented it.
//! Source: "Mutual authentication with TLS in Application Load Balancer", in its user guide of
//! 2025.

use crate::client::header_certificate::encodings::unescaped;
use crate::client::header_certificate::{Certificates, InvalidText, pem};

pub fn read(text: &[u8]) -> Result<Certificates, InvalidText> {
    let list = pem::all(&unescaped(text)?, pem::LINE_BREAKS)?;
    Certificates::leaf_first(list).ok_or(InvalidText::NotBlocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leaf_is_first() {
        let block = |digits: &str| {
            format!("-----BEGIN%20CERTIFICATE-----%0A{digits}%0A-----END%20CERTIFICATE-----%0A")
        };
        let all = read((block("+/+/") + &block("TQ%3D%3D")).as_bytes()).unwrap();
        assert_eq!((all.leaf, all.intermediates), (b"\xfb\xff\xbf".to_vec(), vec![b"M".to_vec()]));
        assert!(read(block("TQ==").as_bytes()).unwrap().intermediates.is_empty());
        for text in [String::new(), "%0A".to_owned(), block("TQ==") + "junk", block("!")] {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
        let two = block("TQ==") + "," + &block("TQ==");
        assert!(matches!(read(two.as_bytes()), Err(InvalidText::NotEscaped { byte: b',', .. })));
    }
}
