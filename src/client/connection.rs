// SPDX-License-Identifier: Apache-2.0

//! The state kept for a client's connection.

use std::cell::{Cell, OnceCell, RefCell};

use openssl::ssl::SslRef;

use crate::client::first_handshake::FirstHandshake;
use crate::client::names::KnownNames;
use crate::client::terms::{Terms, Told};
use crate::client::verification::ClientVerification;
use crate::nginx::connection::Connection;
use crate::nginx::pool::OutOfMemory;
use crate::nginx::request::Request;
use crate::openssl::certificate_authorities::AnnouncedAuthorities;
use crate::openssl::error::SslError;
use crate::openssl::slot::PointerSlot;

/// Why a function for a client's connection failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The request came over plain TCP.
    #[error("connection is not TLS or TLS support for Nginx not enabled")]
    NotTls,
    /// An OpenSSL call failed.
    #[error(transparent)]
    Ssl(#[from] SslError),
    /// Out of memory.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// Why a client's handshake can't continue.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// What Lua code did for one name would apply to another.
    #[error("the client asks for another server name than before the HelloRetryRequest")]
    AnotherName,
    /// The connection belongs to no HTTP server.
    #[error("it belongs to no server")]
    NoServer,
    /// An OpenSSL call failed.
    #[error(transparent)]
    Ssl(#[from] SslError),
}

impl HandshakeError {
    /// Returns whether a client can cause the error, as often as it likes.
    pub fn is_fault_of_client(&self) -> bool {
        match self {
            Self::AnotherName => true,
            Self::NoServer | Self::Ssl(_) => false,
        }
    }
}

/// The state of a connection for which one of the module's functions was called, or which offers a
/// bound session. Lives in the connection's pool; the SSL points to it.
#[derive(Default)]
pub struct ClientState {
    /// The certificate authorities announced to the client.
    pub authorities: Cell<Option<AnnouncedAuthorities>>,
    /// What the client's certificate is verified with, if not with what the server trusts.
    pub verification: RefCell<Option<ClientVerification>>,
    /// Whether the client is asked for a certificate.
    pub certificate_requested: Cell<bool>,
    /// The other names that the verification result counts for.
    pub names: RefCell<Option<KnownNames>>,
    /// Whether only the gateway may set the headers that name a consumer.
    pub guards_headers: Cell<bool>,
    /// Whether the session can't be resumed.
    pub reuse_disabled: Cell<bool>,
    /// Whether the client is asked with nothing but what was there at the end of `init_by_lua*`.
    pub is_told: Cell<bool>,
    /// On which terms the client is asked, if that was found out since they changed.
    pub terms: Cell<Option<KnownTerms>>,
    /// The server name (SNI) that the client asked for when the state was first used.
    pub server_name: OnceCell<Option<Box<[u8]>>>,
    /// Whether the client has answered the certificate request, with a certificate or without one.
    pub has_answered: Cell<bool>,
    /// Whether the SSL currently has the session id context of a bound session that the client
    /// offers.
    pub has_binding: Cell<bool>,
    /// The first handshake of the bound session that the client offered last and may resume.
    pub first_handshake: RefCell<Option<FirstHandshake>>,
    /// The digest of the chain that the client presented; `None` if the chain is too long to be
    /// digested.
    pub chain_digest: OnceCell<Option<ChainDigest>>,
    /// Whether HTTP/2 is disabled.
    pub http2_disabled: Cell<bool>,
}

/// On which terms a client is asked, and what has decided about them; `None` if that can't be told.
#[derive(Clone, Copy, Default)]
pub struct KnownTerms {
    pub terms: Option<Terms>,
    pub told: Option<Told>,
}

/// The SHA-256 digest of a chain.
pub type ChainDigest = [u8; 32];

static SLOT: PointerSlot<SslRef, ClientState> = PointerSlot::new();

impl ClientState {
    /// Returns the state of the connection of `ssl`, if it has any.
    pub fn find(ssl: &SslRef) -> Option<&Self> {
        SLOT.get(ssl)
    }

    /// Returns the state of the connection of `ssl`, and makes one if there is none.
    pub fn find_or_make(ssl: &SslRef) -> Result<&Self, ClientError> {
        if let Some(state) = Self::find(ssl) {
            return Ok(state);
        }
        // Don't use the connection of the request: during the handshake that is a fake connection
        // of the Lua module, which is freed after the phase.
        let connection = Connection::from_ssl(ssl).ok_or(ClientError::NotTls)?;
        connection.keep_with_tls(&SLOT, Self::default())
    }
}

/// Returns the SSL of the client's connection.
pub fn client_ssl(request: Request<'_>) -> Result<&SslRef, ClientError> {
    request.connection().tls().map(|tls| tls.ssl()).ok_or(ClientError::NotTls)
}
