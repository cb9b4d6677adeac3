// SPDX-License-Identifier: Apache-2.0

//! nginx (1.13.5 and later): `$ssl_client_escaped_cert`, which is URL-encoded PEM. Also
//! `$ssl_client_cert`, PEM in a header that is folded, if a proxy between has put spaces in place
//! of the line breaks: nginx itself refuses folded headers. It has no variable with the chain.

use crate::client::header_certificate::{Certificates, InvalidText, from_url, pem};

pub fn read(text: &[u8]) -> Result<Certificates, InvalidText> {
    // PEM has no "%", and its first line has a space that would be encoded.
    let leaf = if text.contains(&b'%') { from_url(text) } else { pem::one(text, pem::FOLDED) }?;
    Ok(Certificates::new(leaf, Vec::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_variables() {
        let url = "-----BEGIN%20CERTIFICATE-----%0ATWFu%0A-----END%20CERTIFICATE-----%0A";
        let folded = "-----BEGIN CERTIFICATE-----\n\tTWFu\n\t-----END CERTIFICATE-----";
        for text in [url.to_owned(), folded.to_owned(), folded.replace('\n', "")] {
            assert_eq!(read(text.as_bytes()).unwrap().leaf, b"Man", "{text}");
        }
        for text in ["TWFu".to_owned(), format!("{url}{url}"), format!("{folded}%0A")] {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
    }
}
