// SPDX-License-Identifier: Apache-2.0

//! What error lines say of the connection to the service: which client certificate it was shown,
//! and its TLS identity.

use std::fmt::Write;

use crate::nginx::log_context::LogContext;
use crate::nginx::request::Request;
use crate::openssl::certificate;
use crate::upstream::handshake::connection::UpstreamConnection;

/// Adds to the error lines of requests with settings of their own.
pub struct OfConnection;

impl LogContext for OfConnection {
    fn describe(request: Request<'_>) -> String {
        let mut text = String::new();
        let tls = request
            .upstream()
            .and_then(|upstream| upstream.peer().connection())
            .and_then(|connection| connection.tls());
        let Some(ssl) = tls.map(|tls| tls.ssl()) else {
            return text;
        };
        let Some(known) = UpstreamConnection::of(ssl) else {
            return text;
        };
        // Writing to a string does not fail.
        if let Some(presented) = known.presented(ssl) {
            let presented = presented.certificate();
            let subject = certificate::subject(presented).unwrap_or_default();
            let subject = subject.escape_default();
            let serial = certificate::serial(presented).unwrap_or_default();
            let _ = write!(text, ", client certificate: \"{subject}\", serial: {serial}");
        }
        if let Some(identity) = known.identity() {
            let _ = write!(text, ", TLS identity: {identity}");
        }
        text
    }
}
