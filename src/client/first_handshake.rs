// SPDX-License-Identifier: Apache-2.0

//! The first handshake of a session.

use crate::client::intermediates::Intermediates;
use crate::client::names::KnownNames;
use crate::client::session_data::Asked;

/// What is known of the first handshake on a connection that resumes a session bound to its name.
#[derive(Clone)]
pub struct FirstHandshake {
    /// Which session it is of: a client may offer several.
    pub asked: Asked,
    /// What the client had presented, but for its own certificate.
    pub intermediates: Intermediates,
    /// The other names that the result of its verification counts for.
    pub names: Option<KnownNames>,
}
