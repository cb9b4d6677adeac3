//! A request's way to an upstream.

use std::marker::PhantomData;
use std::mem::offset_of;
use std::ptr::NonNull;

use foreign_types::ForeignTypeRef;
use ngx::ffi::{
    NGX_OK, ngx_connection_t, ngx_http_complex_value, ngx_http_upstream_conf_t,
    ngx_http_upstream_t, ngx_int_t, ngx_peer_connection_t, ngx_str_t,
};
use openssl::ssl::SslContextRef;

use super::bitfields;
use super::configuration::bytes;
use super::peer::Peer;
use super::request::Request;

/// `ngx_http_upstream_t`
#[derive(Clone, Copy)]
pub struct Upstream<'a>(NonNull<ngx_http_upstream_t>, PhantomData<&'a ngx_http_upstream_t>);

impl<'a> Upstream<'a> {
    /// # Safety
    /// `upstream` must be valid for `'a`, and have a configuration.
    pub unsafe fn from_ptr(upstream: NonNull<ngx_http_upstream_t>) -> Self {
        Self(upstream, PhantomData)
    }

    /// The upstream that `peer` is part of.
    ///
    /// # Safety
    /// `peer` must be the `peer` of an `ngx_http_upstream_t` that is valid for `'a`, and has a
    /// configuration, as it has when a peer is chosen.
    pub unsafe fn from_peer(peer: NonNull<ngx_peer_connection_t>) -> Self {
        // SAFETY: the field is inside the structure, at this offset.
        unsafe { Self::from_ptr(peer.byte_sub(offset_of!(ngx_http_upstream_t, peer)).cast()) }
    }

    pub fn as_ptr(self) -> *mut ngx_http_upstream_t {
        self.0.as_ptr()
    }

    /// The TLS context of the connection, if it has one.
    pub fn tls_context(self) -> Option<&'a SslContextRef> {
        // SAFETY: the configuration is valid.
        unsafe { tls_context(self.configuration()) }
    }

    /// Whether the request was sent, or begun to be sent, to the current peer.
    pub fn request_sent(self) -> bool {
        // SAFETY: the upstream is valid.
        unsafe { bitfields::upstream_request_sent(self.as_ptr()) != 0 }
    }

    /// The connection to the chosen peer, or NULL.
    pub fn connection(self) -> *mut ngx_connection_t {
        // SAFETY: the upstream is valid.
        unsafe { self.0.as_ref().peer.connection }
    }

    /// The choice of the peer.
    pub fn peer(self) -> Peer<'a> {
        // SAFETY: the field is inside the structure.
        unsafe { Peer::from_ptr(NonNull::new_unchecked(&raw mut (*self.0.as_ptr()).peer)) }
    }

    /// Whether the connection to the upstream uses TLS.
    pub fn uses_tls(self) -> bool {
        // SAFETY: the upstream is valid.
        unsafe { bitfields::upstream_ssl(self.as_ptr()) != 0 }
    }

    /// The configuration that nginx follows for this request.
    pub fn configuration(self) -> NonNull<ngx_http_upstream_conf_t> {
        // SAFETY: there is one, by the contract of `from_ptr`, and nginx never takes it away.
        unsafe { NonNull::new_unchecked(self.0.as_ref().conf) }
    }

    /// Makes nginx follow another configuration for this request.
    ///
    /// # Safety
    /// `configuration` must live as long as the request.
    pub unsafe fn set_configuration(self, configuration: NonNull<ngx_http_upstream_conf_t>) {
        // SAFETY: the upstream is valid.
        unsafe { (*self.0.as_ptr()).conf = configuration.as_ptr() }
    }

    /// Keeps nginx from trying another peer after a failure.
    pub fn try_no_other_peer(self) {
        // SAFETY: the upstream is valid.
        unsafe { (*self.0.as_ptr()).peer.tries = 0 }
    }

    /// Whether the connection can serve another request, as far as the protocol is concerned.
    pub fn keepalive(self) -> bool {
        // SAFETY: the upstream is valid.
        unsafe { bitfields::upstream_keepalive(self.as_ptr()) != 0 }
    }

    /// Keeps nginx from reusing the connection for another request.
    pub fn do_not_keep_alive(self) {
        // SAFETY: the upstream is valid.
        unsafe { bitfields::set_upstream_keepalive(self.as_ptr(), 0) }
    }

    /// Whether all of the request's body was sent.
    pub fn request_body_sent(self) -> bool {
        // SAFETY: the upstream is valid.
        unsafe { bitfields::upstream_request_body_sent(self.as_ptr()) != 0 }
    }

    /// `proxy_ssl_verify`, or what stands in for it.
    pub fn verifies(self) -> bool {
        // SAFETY: the configuration is valid.
        unsafe { self.configuration().as_ref().ssl_verify != 0 }
    }

    /// `proxy_ssl_server_name`
    pub fn sends_server_name(self) -> bool {
        // SAFETY: the configuration is valid.
        unsafe { self.configuration().as_ref().ssl_server_name != 0 }
    }

    /// `proxy_ssl_session_reuse`
    pub fn reuses_sessions(self) -> bool {
        // SAFETY: the configuration is valid.
        unsafe { self.configuration().as_ref().ssl_session_reuse != 0 }
    }

    /// Whether the location's own certificate depends on the request: `proxy_ssl_certificate`, or its
    /// key, has variables.
    pub fn has_variable_certificate(self) -> bool {
        // SAFETY: the configuration is valid, and so are the values that it has.
        unsafe {
            let configuration = self.configuration().as_ref();
            [configuration.ssl_certificate, configuration.ssl_certificate_key]
                .into_iter()
                .filter_map(NonNull::new)
                .any(|value| !value.as_ref().lengths.is_null())
        }
    }

    /// The protocols that the request offers, as ALPN has them (RFC 7301, section 3.1), in place of those of
    /// the context: HTTP/2, for `proxy_http_version 2`.
    pub fn ssl_alpn_protocol(self) -> Option<&'a [u8]> {
        // SAFETY: the upstream is valid, and its protocols are constants of nginx's.
        let protocols = unsafe {
            let protocols = bitfields::upstream_ssl_alpn_protocol(self.as_ptr());
            NonNull::new(protocols.cast_mut()).map(|protocols| bytes(*protocols.as_ptr()))
        };
        protocols.filter(|protocols| !protocols.is_empty())
    }

    /// The name that nginx checks the certificate of the upstream for.
    pub fn ssl_name(self) -> &'a [u8] {
        // SAFETY: the upstream is valid, and the name is in its pool or in the configuration.
        unsafe { bytes(self.0.as_ref().ssl_name) }
    }

    /// Sets the name that nginx checks the certificate of the upstream for.
    pub fn set_ssl_name(self, name: &'a [u8]) {
        // SAFETY: the upstream is valid, and nginx only reads the name.
        unsafe {
            (*self.0.as_ptr()).ssl_name =
                ngx_str_t { len: name.len(), data: name.as_ptr().cast_mut() };
        }
    }

    /// The value of `proxy_ssl_name` for this request; `None` where it is not set.
    pub fn configured_ssl_name(
        self,
        request: Request<'a>,
    ) -> Option<Result<&'a [u8], EvaluationFailed>> {
        // SAFETY: the configuration is valid, and so is the value it points at. A value that was
        // evaluated lives in the pool of the request.
        unsafe {
            let name = NonNull::new(self.configuration().as_ref().ssl_name)?;
            let mut value = ngx_str_t { len: 0, data: std::ptr::null_mut() };
            let status = ngx_http_complex_value(request.as_ptr(), name.as_ptr(), &raw mut value);
            if status != NGX_OK as ngx_int_t {
                return Some(Err(EvaluationFailed));
            }
            Some(Ok(bytes(value)))
        }
    }
}

/// The TLS context of a location, if it has one.
///
/// # Safety
/// `configuration` must be valid for `'a`.
pub unsafe fn tls_context<'a>(
    configuration: NonNull<ngx_http_upstream_conf_t>,
) -> Option<&'a SslContextRef> {
    // SAFETY: valid by contract, and so is the context that it may have.
    unsafe {
        let ssl = NonNull::new(configuration.as_ref().ssl)?;
        let context = NonNull::new(ssl.as_ref().ctx)?;
        Some(SslContextRef::from_ptr(context.as_ptr().cast()))
    }
}

/// A value with variables could not be evaluated; nginx has logged why.
#[derive(Debug, thiserror::Error)]
#[error("its value could not be evaluated")]
pub struct EvaluationFailed;
