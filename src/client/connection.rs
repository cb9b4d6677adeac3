// SPDX-License-Identifier: Apache-2.0

//! What we keep for a client's connection.

#![allow(unsafe_code, reason = "it is in the pool of the connection")]

use std::cell::{Cell, OnceCell, RefCell};

use openssl::ssl::SslRef;

use crate::client::first_handshake::FirstHandshake;
use crate::client::names::KnownNames;
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
    #[error("the client connection does not use TLS")]
    NotTls,
    /// OpenSSL refused.
    #[error(transparent)]
    Ssl(#[from] SslError),
    /// No memory.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// Why a client's handshake can't go on.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// What was asked for under one name would hold for another.
    #[error("the client asks for another server name than before the HelloRetryRequest")]
    AnotherName,
    /// The connection is not that of a client.
    #[error("it belongs to no server")]
    NoServer,
    /// OpenSSL refused.
    #[error(transparent)]
    Ssl(#[from] SslError),
}

impl HandshakeError {
    /// Whether a client can bring it about, as often as it likes.
    pub fn is_fault_of_client(&self) -> bool {
        match self {
            Self::AnotherName => true,
            Self::NoServer | Self::Ssl(_) => false,
        }
    }
}

/// The state of a connection on which one of our functions was called during the handshake. Lives
/// in the pool of the connection; its SSL points at it.
#[derive(Default)]
pub struct ClientState {
    /// What the client is told that its certificate may come from.
    pub authorities: Cell<Option<AnnouncedAuthorities>>,
    /// With what its certificate is verified, where it is not what the server trusts.
    pub verification: RefCell<Option<ClientVerification>>,
    /// Whether the client is asked for a certificate.
    pub certificate_requested: Cell<bool>,
    /// The other names that the result of its verification counts for.
    pub names: RefCell<Option<KnownNames>>,
    /// Whether the headers that name a consumer are for the gateway alone to set.
    pub guards_headers: Cell<bool>,
    /// The name that the client had asked for when we were called first.
    pub server_name: OnceCell<Option<Box<[u8]>>>,
    /// Whether the client has said which certificate it has, or that it has none.
    pub has_answered: Cell<bool>,
    /// Whether the connection has what a session was bound to that the client offers.
    pub has_binding: Cell<bool>,
    /// Of a session that the client offers: the one that is resumed, if any is.
    pub first_handshake: RefCell<Option<FirstHandshake>>,
    /// What stands for the chain that the client has presented; `None` if it is too long to be
    /// looked at.
    pub chain_digest: OnceCell<Option<ChainDigest>>,
    /// Whether HTTP/2 is withheld.
    pub http2_disabled: Cell<bool>,
}

/// The SHA-256 digest of a chain.
pub type ChainDigest = [u8; 32];

static SLOT: PointerSlot<SslRef, ClientState> = PointerSlot::new();

impl ClientState {
    /// The state of the connection of `ssl`, if it has any.
    pub fn find(ssl: &SslRef) -> Option<&Self> {
        SLOT.get(ssl)
    }

    /// The state of the connection of `ssl`, made where there is none.
    pub fn find_or_make(ssl: &SslRef) -> Result<&Self, ClientError> {
        if let Some(state) = Self::find(ssl) {
            return Ok(state);
        }
        // Not the connection of the request: during the handshake that is one of the Lua module's,
        // which ends with the phase.
        let pool =
            Connection::from_ssl(ssl).and_then(Connection::pool).ok_or(ClientError::NotTls)?;
        let state = pool.keep(Self::default())?;
        // SAFETY: it is in the pool of the connection, which outlives nginx's use of the SSL.
        unsafe { SLOT.set(ssl, state)? };
        Ok(state)
    }
}

/// The TLS of the client's connection.
pub fn client_ssl(request: Request<'_>) -> Result<&SslRef, ClientError> {
    request.connection().tls().map(|tls| tls.ssl()).ok_or(ClientError::NotTls)
}
