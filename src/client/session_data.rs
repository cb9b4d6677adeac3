// SPDX-License-Identifier: Apache-2.0

//! What a session remembers of its first handshake. It is stored as the session's application data,
//! so it goes wherever the session is kept.

use openssl::ssl::SslSessionRef;

use crate::client::binding::ConfigurationId;
use crate::client::terms::{Terms, Told};
use crate::client::{intermediates, names};
use crate::openssl::error::SslError;
use crate::openssl::server_context::Origin;
use crate::openssl::session;

/// The data of a session. A session with nothing to remember has no data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionData {
    /// The client's answer, if Lua code has asked it for its certificate.
    pub asked: Option<Asked>,
    /// Whether only the gateway may set the headers that name a consumer.
    pub guards_headers: bool,
    /// Where its ticket counts, if Lua code has not asked the client.
    pub origin: Option<Origin>,
}

/// The answer of a client that was asked for its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What the client presented.
    pub presented: Presented,
    /// The digest of the other names that the verification result counts for.
    pub names: Option<names::Digest>,
    /// The configuration in which it was asked.
    pub configuration: ConfigurationId,
    /// When it was asked: the date of its full handshake, in seconds.
    pub since: i64,
    /// What it was asked with; `None` if that can't be told.
    pub terms: Option<Terms>,
    /// What has decided how it was asked; `None` if that can't be told.
    pub told: Option<Told>,
}

/// The certificates that a client presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presented {
    /// No certificate, or one without intermediates.
    LeafAtMost,
    /// A certificate with intermediates, by their digest.
    Chain(intermediates::Digest),
    /// A chain that is too long to be cached.
    TooLong,
}

const ASKED: u8 = 1;
const GUARDS_HEADERS: u8 = 2;
const NAMES: u8 = 4;
const TERMS: u8 = 8;
const TOLD: u8 = 16;
const ORIGIN: u8 = 32;

const LEAF_AT_MOST: u8 = 1;
const CHAIN: u8 = 2;
const TOO_LONG: u8 = 3;

impl SessionData {
    /// Reads the data of `session`; `None` if this module has not written it.
    pub fn of(session: &SslSessionRef) -> Option<Self> {
        Self::from_bytes(session::application_data(session))
    }

    /// Writes the data to `session`, which must not be in use elsewhere yet.
    pub fn write(self, session: &SslSessionRef) -> Result<(), SslError> {
        session::set_application_data(session, &self.to_bytes())
    }

    fn to_bytes(self) -> Vec<u8> {
        let Self { asked, guards_headers, origin } = self;
        let mut bytes = vec![0];
        let mut flags = 0;
        if guards_headers {
            flags |= GUARDS_HEADERS;
        }
        if let Some(Asked { presented, names, configuration, since, terms, told }) = asked {
            flags |= ASKED;
            match presented {
                Presented::LeafAtMost => bytes.push(LEAF_AT_MOST),
                Presented::Chain(digest) => {
                    bytes.push(CHAIN);
                    bytes.extend(digest);
                }
                Presented::TooLong => bytes.push(TOO_LONG),
            }
            if let Some(digest) = names {
                flags |= NAMES;
                bytes.extend(digest);
            }
            bytes.extend(configuration);
            bytes.extend(since.to_le_bytes());
            for (digest, flag) in [(terms, TERMS), (told, TOLD)] {
                if let Some(digest) = digest {
                    flags |= flag;
                    bytes.extend(digest);
                }
            }
        }
        if let Some(origin) = origin {
            flags |= ORIGIN;
            bytes.extend(origin);
        }
        bytes[0] = flags;
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let Some((flags, mut rest)) = bytes.split_first() else {
            return Some(Self::default());
        };
        let has = |flag| flags & flag != 0;
        if flags & !(ASKED | GUARDS_HEADERS | NAMES | TERMS | TOLD | ORIGIN) != 0 {
            return None;
        }
        // What belongs to the answer is not there without it.
        if *flags == 0 || (!has(ASKED) && (has(NAMES) || has(TERMS) || has(TOLD))) {
            return None;
        }
        let rest = &mut rest;
        let asked = if has(ASKED) {
            Some(Asked {
                presented: match array(rest)? {
                    [LEAF_AT_MOST] => Presented::LeafAtMost,
                    [CHAIN] => Presented::Chain(array(rest)?),
                    [TOO_LONG] => Presented::TooLong,
                    _ => return None,
                },
                names: if has(NAMES) { Some(array(rest)?) } else { None },
                configuration: array(rest)?,
                since: i64::from_le_bytes(array(rest)?),
                terms: if has(TERMS) { Some(array(rest)?) } else { None },
                told: if has(TOLD) { Some(array(rest)?) } else { None },
            })
        } else {
            None
        };
        let origin = if has(ORIGIN) { Some(array(rest)?) } else { None };
        rest.is_empty().then_some(Self { asked, guards_headers: has(GUARDS_HEADERS), origin })
    }
}

/// Splits off the next bytes.
fn array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (array, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*array)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_read_as_it_was_written() {
        let presented = [Presented::LeafAtMost, Presented::Chain([7; 32]), Presented::TooLong];
        for guards_headers in [false, true] {
            for presented in presented {
                for names in [None, Some([8; 32])] {
                    for (terms, told, since) in [
                        (None, None, 0),
                        (Some([9; 32]), None, 1),
                        (None, Some([9; 32]), i64::MAX),
                        (Some([9; 32]), Some([10; 32]), -1),
                    ] {
                        let configuration = [6; 32];
                        let asked =
                            Some(Asked { presented, names, configuration, since, terms, told });
                        let data = SessionData { asked, guards_headers, origin: None };
                        assert_eq!(SessionData::from_bytes(&data.to_bytes()), Some(data));
                    }
                }
            }
        }
        for (guards_headers, origin) in
            [(true, None), (false, Some([7; 32])), (true, Some([7; 32]))]
        {
            let marked = SessionData { asked: None, guards_headers, origin };
            assert_eq!(SessionData::from_bytes(&marked.to_bytes()), Some(marked));
        }
        assert_eq!(SessionData::from_bytes(b""), Some(SessionData::default()));
    }

    #[test]
    fn what_we_have_not_written_is_not_read() {
        let too_long = [&[ASKED | NAMES, LEAF_AT_MOST][..], &[8; 73]].concat();
        let bad: &[&[u8]] = &[
            b"\0",
            b"\x02\0",
            b"\x01",
            b"\x01\0",
            b"\x01\x01",
            b"\x01\x01\x01",
            b"\x01\x04",
            b"\x04",
            b"\x05\x01",
            b"\x08",
            b"\x0a",
            b"\x10",
            b"\x20",
            b"\x40",
            &[&[ORIGIN][..], &[8; 31]].concat(),
            &[&[ORIGIN][..], &[8; 33]].concat(),
            &[&[ORIGIN | NAMES][..], &[8; 64]].concat(),
            &[ASKED, CHAIN, 7, 7],
            &too_long,
            &too_long[..73],
            &[&[ASKED | TERMS, LEAF_AT_MOST][..], &[8; 40]].concat(),
            &[&[ASKED | TOLD, LEAF_AT_MOST][..], &[8; 40]].concat(),
            &[&[ASKED | 64, LEAF_AT_MOST][..], &[8; 40]].concat(),
        ];
        assert!(SessionData::from_bytes(&too_long[..74]).is_some());
        for bytes in bad {
            assert_eq!(SessionData::from_bytes(bytes), None, "{}", bytes.escape_ascii());
        }
    }
}
