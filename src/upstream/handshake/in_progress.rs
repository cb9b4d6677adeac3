// SPDX-License-Identifier: Apache-2.0

//! A handshake with a service.

use openssl::ssl::SslRef;

use crate::nginx::connection::{Connection, Tls};
use crate::nginx::request::Request;
use crate::nginx::upstream::Upstream;

/// A handshake, and what it is for.
#[derive(Clone, Copy)]
pub struct Handshake<'a> {
    pub ssl: &'a SslRef,
    pub tls: Tls<'a>,
    pub connection: Connection<'a>,
    pub request: Request<'a>,
    pub upstream: Upstream<'a>,
}

impl<'a> Handshake<'a> {
    /// `None` for a handshake that is not for a request: the connection may be idle, and the peer
    /// ask for another handshake (TLS 1.2).
    pub fn of(ssl: &'a SslRef) -> Option<Self> {
        let connection = Connection::from_ssl(ssl)?;
        let tls = connection.tls()?;
        let request = Request::from_upstream_connection(connection)?;
        let upstream = request.upstream()?;
        Some(Self { ssl, tls, connection, request, upstream })
    }
}
