// SPDX-License-Identifier: Apache-2.0

//! What is written in the directives of a block that decide something for its handshakes: in a
//! location, those whose names begin with `proxy_ssl_`, `grpc_ssl_` or `uwsgi_ssl_`; in a server,
//! those that begin with `ssl_`, and those of Lua code that may ask clients.
//!
//! nginx keeps their values to itself, and OpenSSL does not tell all that is made of them. So the
//! text is kept as it was read, with what the enclosing blocks say. nginx's rule for all of these
//! directives is that a block which has one does not take over any of that name.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::openssl::fingerprint::{Encoding, Fingerprint};

/// The arguments of a directive.
type Arguments = Box<[Box<[u8]>]>;

/// Directives of one module: their names without what all of them begin with, and the arguments of
/// each occurrence.
type Directives = BTreeMap<Box<[u8]>, Vec<Arguments>>;

/// Such directives of one module in a block.
#[derive(Default)]
pub struct WrittenDirectives {
    written: RefCell<Directives>,
    in_effect: OnceCell<Rc<InEffect>>,
}

/// The directives that are in effect in a block.
pub struct InEffect {
    directives: Directives,
    /// Digest of their names and arguments.
    pub fingerprint: Fingerprint,
    /// Whether nothing decides the TLS context but these texts, and files whose content can be read
    /// back from the context. A directive or command that is not known may name another file. Only
    /// for TLS directives.
    pub tells_all: bool,
}

impl WrittenDirectives {
    /// Notes an occurrence of the directive `name`, without what the names begin with.
    pub fn note(&self, name: &[u8], arguments: &[&[u8]]) {
        let arguments = arguments.iter().map(|argument| Box::from(*argument)).collect();
        self.written.borrow_mut().entry(name.into()).or_default().push(arguments);
    }

    /// Takes over the directives of the enclosing block that this block does not have itself.
    pub fn merge(&self, around: &Self) {
        self.in_effect.get_or_init(|| {
            let written = self.written.borrow();
            if written.is_empty() {
                return Rc::clone(around.in_effect());
            }
            let mut directives = around.in_effect().directives.clone();
            directives.extend(written.clone());
            Rc::new(InEffect::new(directives))
        });
    }

    /// Returns the directives that are in effect. To be called when the block has been read.
    pub fn in_effect(&self) -> &Rc<InEffect> {
        // `http {}` itself is not merged with anything.
        self.in_effect.get_or_init(|| Rc::new(InEffect::new(self.written.borrow().clone())))
    }
}

impl InEffect {
    fn new(directives: Directives) -> Self {
        let mut encoding = Encoding::new();
        encoding.number(directives.len() as u64);
        for (name, occurrences) in &directives {
            encoding.bytes(name);
            encoding.number(occurrences.len() as u64);
            for arguments in occurrences {
                encoding.number(arguments.len() as u64);
                arguments.iter().for_each(|argument| encoding.bytes(argument));
            }
        }
        let tells_all = directives.iter().all(|(name, occurrences)| is_told(name, occurrences));
        Self { fingerprint: encoding.into(), tells_all, directives }
    }
}

/// The directives that are known to name nothing but files whose content is read back: that of
/// certificates and lists. A key must match its certificate, and a password only opens the key.
const KNOWN: [&[u8]; 14] = [
    b"certificate",
    b"certificate_cache",
    b"certificate_key",
    b"ciphers",
    b"crl",
    b"key_log",
    b"name",
    b"password_file",
    b"protocols",
    b"server_name",
    b"session_reuse",
    b"trusted_certificate",
    b"verify",
    b"verify_depth",
];

/// More such directives, which only servers have.
const KNOWN_OF_SERVERS: [&[u8]; 20] = [
    b"buffer_size",
    b"certificate_compression",
    b"client_certificate",
    b"dhparam",
    b"early_data",
    b"ecdh_curve",
    b"ocsp",
    b"ocsp_cache",
    b"ocsp_responder",
    b"prefer_server_ciphers",
    b"reject_handshake",
    b"session_cache",
    b"session_ticket_key",
    b"session_tickets",
    b"session_timeout",
    b"stapling",
    b"stapling_file",
    b"stapling_responder",
    b"stapling_verify",
    b"verify_client",
];

/// The commands of `SSL_CONF_cmd(3)` whose value is all that they go by. Others name files, or are
/// not known.
const PLAIN_COMMANDS: [&[u8]; 14] = [
    b"CipherString",
    b"Ciphersuites",
    b"ClientSignatureAlgorithms",
    b"Curves",
    b"ECDHParameters",
    b"Groups",
    b"MaxProtocol",
    b"MinProtocol",
    b"NumTickets",
    b"Options",
    b"Protocol",
    b"RecordPadding",
    b"SignatureAlgorithms",
    b"VerifyMode",
];

fn is_told(name: &[u8], occurrences: &[Arguments]) -> bool {
    match name {
        b"conf_command" => occurrences.iter().all(|arguments| {
            arguments.first().is_some_and(|command| {
                PLAIN_COMMANDS.iter().any(|plain| plain.eq_ignore_ascii_case(command))
            })
        }),
        name => KNOWN.contains(&name) || KNOWN_OF_SERVERS.contains(&name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a block with these directives, each with its arguments.
    fn block(directives: &[&str]) -> WrittenDirectives {
        let block = WrittenDirectives::default();
        for directive in directives {
            let words: Vec<_> = directive.split(' ').map(str::as_bytes).collect();
            block.note(words[0], &words[1..]);
        }
        block
    }

    fn fingerprint(directives: &[&str]) -> Fingerprint {
        block(directives).in_effect().fingerprint
    }

    #[test]
    fn all_that_is_written_makes_a_difference() {
        let all: [&[&str]; 12] = [
            &[],
            &["protocols TLSv1.2"],
            &["protocols TLSv1.2 TLSv1.3"],
            &["protocols TLSv1.2TLSv1.3"],
            &["protocols"],
            &["ciphers TLSv1.2"],
            &["ciphers TLSv1.2", "protocols TLSv1.2"],
            &["conf_command Groups a", "conf_command Groups b"],
            &["conf_command Groups b", "conf_command Groups a"],
            &["conf_command Groups a", "conf_command Groups a"],
            &["conf_command Groups a"],
            &["conf_command Groups a conf_command Groups a"],
        ];
        for (index, one) in all.iter().enumerate() {
            for (other_index, other) in all.iter().enumerate() {
                assert_eq!(
                    fingerprint(one) == fingerprint(other),
                    index == other_index,
                    "{one:?} {other:?}"
                );
            }
        }
        // The order of directives with different names means nothing.
        assert_eq!(fingerprint(&["verify on", "name a"]), fingerprint(&["name a", "verify on"]));
    }

    #[test]
    fn a_block_takes_over_the_directives_that_it_does_not_have() {
        for (around, inside, expected) in [
            (&[][..], &[][..], &[][..]),
            (&["verify on"], &[], &["verify on"]),
            (&[], &["verify on"], &["verify on"]),
            (&["verify on"], &["verify off"], &["verify off"]),
            (&["verify on"], &["name a"], &["name a", "verify on"]),
            // All occurrences are replaced.
            (
                &["conf_command Groups a", "conf_command Options b", "name c"],
                &["conf_command Curves d"],
                &["conf_command Curves d", "name c"],
            ),
        ] {
            let (http, server, location) = (block(around), block(&[]), block(inside));
            server.merge(&http);
            location.merge(&server);
            assert!(location.in_effect().fingerprint == fingerprint(expected), "{inside:?}");
            // An `if` block in the location.
            let innermost = block(&[]);
            innermost.merge(&location);
            assert!(Rc::ptr_eq(innermost.in_effect(), location.in_effect()));
        }
    }

    #[test]
    fn what_may_name_an_unknown_file_does_not_tell_all() {
        for (directives, expected) in [
            (&[][..], true),
            (&["verify on", "trusted_certificate ca.crt", "crl list.crl"], true),
            (&["certificate a.crt", "certificate_key a.key", "password_file words"], true),
            (&["conf_command Groups P-256"], true),
            (&["conf_command groups P-256"], true),
            (&["conf_command CIPHERSUITES a", "conf_command Options b"], true),
            (&["conf_command VerifyCAFile ca.crt"], false),
            (&["conf_command Groups P-256", "conf_command verifycafile ca.crt"], false),
            (&["conf_command PrivateKey a.key"], false),
            (&["conf_command Group P-256"], false),
            (&["conf_command"], false),
            (&["hello hello.der"], false),
            (&["verify on", "hello hello.der"], false),
        ] {
            assert_eq!(block(directives).in_effect().tells_all, expected, "{directives:?}");
        }
        let (around, inside) = (block(&["conf_command VerifyCAFile a"]), block(&["name a"]));
        inside.merge(&around);
        assert!(!inside.in_effect().tells_all);
    }
}
