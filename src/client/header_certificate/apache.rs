// SPDX-License-Identifier: Apache-2.0

//! Apache's `RequestHeader set ... "%{SSL_CLIENT_CERT}s"`: PEM, with a space in place of each line
//! break (`mod_headers` of httpd 2.4); and `SSL_CLIENT_CERT_CHAIN_n`, a header for each of the
//! other certificates (`mod_ssl`). Without a certificate, Apache sends `(null)`.

use crate::client::header_certificate::{Certificates, InvalidText, pem};

pub fn read(text: &[u8], chain: Option<&[u8]>) -> Result<Certificates, InvalidText> {
    let leaf = pem::one(text, pem::FOLDED)?;
    let others = pem::all(chain.unwrap_or_default(), pem::FOLDED)?;
    Ok(Certificates::new(leaf, others))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_in_one_line() {
        let block =
            |digits| format!("-----BEGIN CERTIFICATE----- {digits} -----END CERTIFICATE-----");
        let (one, two) = (block("TW Fu"), block("TQ=="));
        let chain = format!("{two} {one} {two}");
        let all = read(one.as_bytes(), Some(chain.as_bytes())).unwrap();
        assert_eq!((all.leaf, all.intermediates), (b"Man".to_vec(), vec![b"M".to_vec(); 2]));
        assert!(read(one.as_bytes(), Some(b"")).unwrap().intermediates.is_empty());
        assert_eq!(read(chain.as_bytes(), None), Err(InvalidText::NotOneBlock));
        assert_eq!(read(b"(null)", None), Err(InvalidText::NotOneBlock));
        assert_eq!(read(one.as_bytes(), Some(b"(null)")), Err(InvalidText::NotBlocks));
    }
}
