// SPDX-License-Identifier: Apache-2.0

//! A handshake with a service.

use openssl::ssl::SslRef;

use crate::nginx::connection::{Connection, Tls};
use crate::nginx::request::Request;
use crate::nginx::upstream::Upstream;

/// A handshake, and the connection, request and upstream it belongs to.
#[derive(Clone, Copy)]
pub struct Handshake<'a> {
    pub ssl: &'a SslRef,
    pub tls: Tls<'a>,
    pub connection: Connection<'a>,
    pub request: Request<'a>,
    pub upstream: Upstream<'a>,
}

impl<'a> Handshake<'a> {
    /// Returns the handshake of `ssl`, or `None` if it does not belong to a request: on an idle
    /// connection the peer may ask for a renegotiation (TLS 1.2).
    pub fn of(ssl: &'a SslRef) -> Option<Self> {
        let connection = Connection::from_ssl(ssl)?;
        let tls = connection.tls()?;
        let request = Request::from_upstream_connection(connection)?;
        let upstream = request.upstream()?;
        Some(Self { ssl, tls, connection, request, upstream })
    }
}
