// SPDX-License-Identifier: Apache-2.0

//! A request's way to an upstream.

use std::marker::PhantomData;
use std::mem::offset_of;
use std::ptr::NonNull;

use foreign_types::ForeignTypeRef;
use ngx::ffi::{
    NGX_HTTP_UPSTREAM_FT_ERROR, ngx_connection_t, ngx_http_upstream_conf_t,
    ngx_http_upstream_state_t, ngx_http_upstream_t, ngx_peer_connection_t, ngx_str_t,
};
use openssl::ssl::SslContextRef;

use crate::nginx::bitfields;
use crate::nginx::complex_value::{ComplexValue, EvaluationFailed};
use crate::nginx::configuration::bytes;
use crate::nginx::peer::Peer;
use crate::nginx::request::Request;

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
        unsafe { tls_context(self.configuration().as_ref()) }
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

    /// Whether nginx is to try no other peer after a failure.
    pub fn has_no_other_peer(self) -> bool {
        // SAFETY: the upstream is valid.
        unsafe { self.0.as_ref().peer.tries == 0 }
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

    /// Makes nginx take the request for one that has been sent whole.
    pub fn set_request_body_sent(self) {
        // SAFETY: the upstream is valid.
        unsafe { bitfields::set_upstream_request_body_sent(self.as_ptr(), 1) }
    }

    /// Lets nginx reuse the connection for another request.
    pub fn keep_alive(self) {
        // SAFETY: the upstream is valid.
        unsafe { bitfields::set_upstream_keepalive(self.as_ptr(), 1) }
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

    /// Whether the location's own certificate depends on the request: `proxy_ssl_certificate`, or
    /// its key, has variables.
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

    /// The protocols that the request offers, as ALPN has them (RFC 7301, section 3.1), in place of
    /// those of the context: HTTP/2, for `proxy_http_version 2`.
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
        // SAFETY: the configuration is valid, and so is the value it points at.
        let name = unsafe {
            ComplexValue::from_ptr(NonNull::new(self.configuration().as_ref().ssl_name)?)
        };
        Some(name.evaluate(request))
    }

    /// Whether the status line of the response has come.
    pub fn has_status(self) -> bool {
        // SAFETY: the upstream is valid.
        unsafe { self.0.as_ref().headers_in.status_n != 0 }
    }

    /// Whether the current peer has sent a byte of what is to be the response.
    pub fn has_received(self) -> bool {
        // SAFETY: while there is an attempt, it has a state.
        unsafe { self.0.as_ref().state.as_ref() }.is_some_and(|state| state.bytes_received != 0)
    }

    /// Whether nginx is to try another peer after an error (`proxy_next_upstream error`).
    pub fn goes_on_after_error(self) -> bool {
        // SAFETY: the configuration is valid.
        let allowed = unsafe { self.configuration().as_ref().next_upstream };
        allowed & NGX_HTTP_UPSTREAM_FT_ERROR as usize != 0
    }

    /// Makes nginx follow another configuration, in which it tries again after an error, however
    /// long it took.
    ///
    /// # Safety
    /// `configuration` must live as long as the request, and be its own.
    pub unsafe fn follow_with_another_attempt(
        self,
        configuration: NonNull<ngx_http_upstream_conf_t>,
    ) {
        // SAFETY: the configuration is the request's own by contract: nobody else reads it.
        unsafe {
            (*configuration.as_ptr()).next_upstream |= NGX_HTTP_UPSTREAM_FT_ERROR as usize;
            (*configuration.as_ptr()).next_upstream_timeout = 0;
            self.set_configuration(configuration);
        }
    }

    /// Makes the attempt that has just begun take the place of the one before it, in what variables
    /// such as `$upstream_status` list.
    pub fn forget_former_attempt(self, request: Request<'_>) {
        // SAFETY: both are valid. nginx keeps the states of all attempts in an array, of which the
        // last is the current one.
        unsafe {
            let Some(states) = (*request.as_ptr()).upstream_states.as_mut() else {
                return;
            };
            if states.nelts < 2 {
                return;
            }
            let last = states.elts.cast::<ngx_http_upstream_state_t>().add(states.nelts - 1);
            let former = last.sub(1);
            former.copy_from(last, 1);
            states.nelts -= 1;
            (*self.as_ptr()).state = former;
        }
    }
}

/// The TLS context of a location, if it has one.
pub fn tls_context(configuration: &ngx_http_upstream_conf_t) -> Option<&SslContextRef> {
    // SAFETY: a valid configuration has a valid context, or none.
    unsafe {
        let ssl = NonNull::new(configuration.ssl)?;
        let context = NonNull::new(ssl.as_ref().ctx)?;
        Some(SslContextRef::from_ptr(context.as_ptr().cast()))
    }
}
