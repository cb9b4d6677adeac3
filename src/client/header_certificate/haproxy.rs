// SPDX-License-Identifier: Apache-2.0

//! HAProxy's `ssl_c_der,base64` and `ssl_c_chain_der,base64` (2.6 and later; sample fetches at
//! layer 5 in its configuration manual): DER in base64, and the other certificates of the chain,
//! DER after DER, in one base64. OpenShift's router puts them into double quotes (`%{+Q}`).

use crate::client::header_certificate::encodings::der_in_a_row;
use crate::client::header_certificate::{Certificates, InvalidText, base64};

pub fn read(text: &[u8], chain: Option<&[u8]>) -> Result<Certificates, InvalidText> {
    let list = der_in_a_row(&base64(without_quotes(text))?)?;
    let [leaf] = <[_; 1]>::try_from(list).map_err(|_| InvalidText::NotDer)?;
    let others = match chain.map(without_quotes) {
        Some(chain) if !chain.is_empty() => der_in_a_row(&base64(chain)?)?,
        _ => Vec::new(),
    };
    Ok(Certificates::new(leaf, others))
}

fn without_quotes(text: &[u8]) -> &[u8] {
    match text {
        [b'"', inner @ .., b'"'] => inner,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use openssl::base64::encode_block;

    use super::*;

    const ONE: &[u8] = &[0x30, 1, 1];
    const TWO: &[u8] = &[0x30, 2, 2, 2];

    #[test]
    fn der_in_base64() {
        let one = encode_block(ONE);
        let chain = encode_block(&[TWO, ONE, TWO].concat());
        for (text, chain) in
            [(one.clone(), chain.clone()), (format!("\"{one}\""), format!("\"{chain}\""))]
        {
            let all = read(text.as_bytes(), Some(chain.as_bytes())).unwrap();
            assert_eq!(all.leaf, ONE);
            assert_eq!(all.intermediates, [TWO, TWO]);
        }
        for none in [None, Some(&b""[..]), Some(b"\"\"")] {
            assert!(read(one.as_bytes(), none).unwrap().intermediates.is_empty());
        }
        let two = encode_block(&[ONE, TWO].concat());
        assert_eq!(read(two.as_bytes(), None), Err(InvalidText::NotDer));
        assert_eq!(read(b"\"\"", None), Err(InvalidText::Base64));
        assert_eq!(read(b"\"", None), Err(InvalidText::Base64));
        assert_eq!(read(b"\"MAEB", None), Err(InvalidText::Base64));
        assert_eq!(read(one.as_bytes(), Some(b"!")), Err(InvalidText::Base64));
        assert_eq!(read(one.as_bytes(), Some(b"MAEBMA==")), Err(InvalidText::NotDer));
        assert_eq!(read(format!("{one},{one}").as_bytes(), None), Err(InvalidText::Base64));
    }
}
