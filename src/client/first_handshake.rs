// SPDX-License-Identifier: Apache-2.0

//! The first handshake of a session.

use crate::client::intermediates::Intermediates;
use crate::client::names::KnownNames;
use crate::client::session_data::Asked;

/// What is known about the first handshake of a bound session that a client offers to resume.
#[derive(Clone)]
pub struct FirstHandshake {
    /// What that session remembers, by which it is recognised: a client may offer several.
    pub asked: Asked,
    /// The certificates that the client presented, without its own.
    pub intermediates: Intermediates,
    /// The other names that the verification result counts for.
    pub names: Option<KnownNames>,
}
