// SPDX-License-Identifier: Apache-2.0

//! Sessions as texts (`i2d_SSL_SESSION(3)`), without the certificate of the peer: many sessions
//! have the same one.

use openssl::error::ErrorStack;
use openssl::ssl::{SslSession, SslSessionRef};
use openssl::x509::X509Ref;

use crate::openssl::session_peer;

/// A session as DER. OpenSSL's `SSL_SESSION` is a `SEQUENCE`, whose optional elements have explicit
/// tags.
pub struct SessionText {
    der: Vec<u8>,
    /// Where its elements begin, behind the header of the sequence.
    start: usize,
    /// Where the element of the peer's certificate is, or would be.
    peer: (usize, usize),
}

/// The tag of a `SEQUENCE`, and that of the element with the peer's certificate (`[3]`).
const SEQUENCE: u8 = 0x30;
const PEER: u8 = 0xa3;
/// The greatest tag of an element with an explicit tag.
const LAST: u8 = 0xbe;
/// The size of the tag and the length that this module writes.
const HEADER: usize = 6;

impl SessionText {
    /// Encodes a session; `None` if OpenSSL encodes it in a form that is not known.
    pub fn of(session: &SslSessionRef) -> Result<Option<Self>, ErrorStack> {
        // To encode the certificate each time would be for nothing: the caller has its text.
        session_peer::set_aside(session, SslSessionRef::to_der).map(Self::new)
    }

    fn new(der: Vec<u8>) -> Option<Self> {
        let (SEQUENCE, start, end) = element(&der, 0)? else {
            return None;
        };
        if end != der.len() {
            return None;
        }
        let mut peer = None;
        let mut at = start;
        while at < der.len() {
            let (tag, _, next) = element(&der, at)?;
            match tag {
                PEER if peer.replace((at, next)).is_some() => return None,
                // Elements are in the order of their tags.
                PEER..=LAST => {
                    peer.get_or_insert((at, at));
                }
                _ => {}
            }
            at = next;
        }
        let peer = peer.unwrap_or((der.len(), der.len()));
        Some(Self { der, start, peer })
    }

    /// Returns the elements before that of the peer's certificate, and those after it.
    pub fn others(&self) -> [&[u8]; 2] {
        let (before, after) = self.peer;
        [&self.der[self.start..before], &self.der[after..]]
    }
}

/// Encodes the certificate of a peer as the element of its session.
pub fn peer(certificate: &X509Ref) -> Result<Vec<u8>, ErrorStack> {
    let der = certificate.to_der()?;
    let mut element = Vec::with_capacity(HEADER + der.len());
    push_header(&mut element, PEER, der.len());
    element.extend(der);
    Ok(element)
}

fn push_header(to: &mut Vec<u8>, tag: u8, length: usize) {
    // Four bytes of length are more than needed for most, but OpenSSL takes them (BER).
    to.extend([tag, 0x84]);
    to.extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
}

/// Decodes a session from its elements; `peer` may be empty.
pub fn session(before: &[u8], peer: &[u8], after: &[u8]) -> Result<SslSession, ErrorStack> {
    let length = before.len() + peer.len() + after.len();
    let mut der = Vec::with_capacity(HEADER + length);
    push_header(&mut der, SEQUENCE, length);
    for part in [before, peer, after] {
        der.extend_from_slice(part);
    }
    SslSession::from_der(&der)
}

/// Returns the tag of the element at this place of `der`, where its content begins, and where it
/// ends.
fn element(der: &[u8], at: usize) -> Option<(u8, usize, usize)> {
    let rest = der.get(at..)?;
    let (&tag, rest) = rest.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, size) = match first {
        0..=0x7f => (usize::from(first), 0),
        0x81..=0x84 => {
            let size = usize::from(first - 0x80);
            let bytes = rest.get(..size)?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), size)
        }
        _ => return None,
    };
    let start = at + 2 + size;
    let end = start.checked_add(length)?;
    (end <= der.len()).then_some((tag, start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found() {
        let der = b"\x30\x0b\x02\x01\x01\xa3\x03\x04\x01\x07\xa4\x02\x09";
        assert!(SessionText::new(der.to_vec()).is_none(), "an element is cut off");
        let der = b"\x30\x0b\x02\x01\x01\xa3\x03\x04\x01\x07\xa4\x00";
        assert!(SessionText::new(der.to_vec()).is_none(), "the sequence is cut off");
        let der = b"\x30\x0a\x02\x01\x01\xa3\x03\x04\x01\x07\xa4\x00";
        let text = SessionText::new(der.to_vec()).unwrap();
        assert_eq!(text.others(), [&b"\x02\x01\x01"[..], b"\xa4\x00"]);
        let without = SessionText::new(b"\x30\x05\x02\x01\x01\xa4\x00".to_vec()).unwrap();
        assert_eq!(without.others(), text.others());
        let without = SessionText::new(b"\x30\x03\x02\x01\x01".to_vec()).unwrap();
        assert_eq!(without.others(), [&b"\x02\x01\x01"[..], b""]);
    }

    #[test]
    fn what_is_no_session_is_not_taken_for_one() {
        let long = [&b"\x30\x81\x82"[..], &[0xa3; 0x82]].concat();
        for der in [
            &b""[..],
            b"\x30",
            b"\x31\x00",
            b"\x30\x01",
            b"\x30\x80\x00\x00",
            b"\x30\x04\xa3\x00\xa3\x00",
            &long,
        ] {
            assert!(SessionText::new(der.to_vec()).is_none(), "{}", der.escape_ascii());
        }
        assert!(session(b"\x02\x01\x01", b"", b"").is_err());
    }
}
