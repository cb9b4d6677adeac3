// SPDX-License-Identifier: Apache-2.0

//! Azure: App Service's `X-ARR-ClientCert`, which is DER in base64 ("Configure TLS mutual
//! authentication for Azure App Service"); and Application Gateway's server variable
//! `client_certificate`, which a rewrite rule puts into a header, and which is URL-encoded PEM.

use crate::client::header_certificate::{Certificates, InvalidText, base64, from_url};

pub fn read(text: &[u8]) -> Result<Certificates, InvalidText> {
    // Base64 has no "-".
    let leaf = if text.starts_with(b"-") { from_url(text) } else { base64(text) }?;
    Ok(Certificates::new(leaf, Vec::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_services() {
        let url = b"-----BEGIN%20CERTIFICATE-----%0ATWFu%0A-----END%20CERTIFICATE-----%0A";
        for text in [&b"TWFu"[..], url] {
            assert_eq!(read(text).unwrap().leaf, b"Man");
        }
        assert_eq!(read(b":TWFu:"), Err(InvalidText::Base64));
        assert_eq!(read(b"TWFu,TWFu"), Err(InvalidText::Base64));
        assert_eq!(read(&[&url[..], url].concat()), Err(InvalidText::NotOneBlock));
        assert_eq!(read(b"-"), Err(InvalidText::NotOneBlock));
    }
}
