// SPDX-License-Identifier: Apache-2.0

//! The hook into the handshakes of clients for which one of the module's functions was called, or
//! which offer a session of such a handshake.

use openssl::ssl::{SslRef, SslVersion};

use crate::client::connection::{ClientError, ClientState, HandshakeError};
use crate::client::{binding, certificate_answer, ocsp, session_binding, session_terms};
use crate::nginx::connection::{Connection, process_log};
use crate::nginx::tls_callbacks::{FollowHandshake, Step};
use crate::openssl::ssl::{self, HandshakeEvent};

/// Installs the hook on `ssl`, whose client asks for `name` (SNI).
pub fn watch<'a>(ssl: &'a SslRef, name: Option<&[u8]>) -> Result<&'a ClientState, ClientError> {
    let state = ClientState::find_or_make(ssl)?;
    state.server_name.get_or_init(|| name.map(Box::from));
    Hook::follow(ssl);
    Ok(state)
}

/// Returns whether nginx has not yet completed a handshake of `ssl`.
fn is_first(ssl: &SslRef) -> bool {
    Connection::from_ssl(ssl).and_then(Connection::tls).is_some_and(|tls| !tls.handshaked())
}

struct Hook;

impl FollowHandshake for Hook {
    const NAME: &'static str = "client handshake";

    fn step(step: Step<'_>) {
        let ssl = step.ssl;
        let Some(state) = ClientState::find(ssl).filter(|_| is_first(ssl)) else {
            return;
        };
        if let Err(error) = go_on(ssl, state) {
            refuse(ssl, &error);
        }
        if step.event() == Some(HandshakeEvent::Done) {
            certificate_answer::count_answer(ssl, state);
            session_terms::note(ssl, state);
            if let Err(error) = ocsp::trust(ssl, state) {
                refuse(ssl, &error.into());
            }
        }
    }
}

fn go_on(ssl: &SslRef, state: &ClientState) -> Result<(), HandshakeError> {
    check_name(ssl, state)?;
    session_binding::take_binding(ssl, state)?;
    certificate_answer::ask_again(ssl, state);
    session_binding::bind(ssl, state)
}

/// Checks that a second `ClientHello` asks for the server name of the first (RFC 8446, section
/// 4.1.2). OpenSSL does not check this, and the Lua module runs no code for the second: what was
/// decided for the first would apply to it.
fn check_name(ssl: &SslRef, state: &ClientState) -> Result<(), HandshakeError> {
    match state.server_name.get() {
        Some(name)
            if ssl.version2() == Some(SslVersion::TLS1_3)
                && !binding::is_same_name(name.as_deref(), ssl::server_name(ssl)) =>
        {
            Err(HandshakeError::AnotherName)
        }
        _ => Ok(()),
    }
}

/// Ends the handshake of `ssl`, with one line in the log.
fn refuse(ssl: &SslRef, error: &HandshakeError) {
    if !ssl::is_refused(ssl) {
        let log = match Connection::from_ssl(ssl) {
            Some(connection) => connection.log(),
            None => process_log(),
        };
        if error.is_fault_of_client() {
            log.info(format_args!("the handshake is refused: {error}"));
        } else {
            log.error(format_args!("the handshake is refused: {error}"));
        }
        ssl::refuse_handshake(ssl);
    }
}
