// SPDX-License-Identifier: Apache-2.0

//! The upstream of a request.

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
    /// `upstream` must be valid for `'a`, and its `conf` must not be NULL.
    pub unsafe fn from_ptr(upstream: NonNull<ngx_http_upstream_t>) -> Self {
        Self(upstream, PhantomData)
    }

    /// Returns the upstream that contains `peer`.
    ///
    /// # Safety
    /// `peer` must be the `peer` field of an `ngx_http_upstream_t` that is valid for `'a`, and
    /// whose `conf` is not NULL. nginx sets `conf` before a peer is chosen.
    pub unsafe fn from_peer(peer: NonNull<ngx_peer_connection_t>) -> Self {
        // SAFETY: the caller ensures that `peer` is a field of such a structure, at this offset.
        unsafe { Self::from_ptr(peer.byte_sub(offset_of!(ngx_http_upstream_t, peer)).cast()) }
    }

    pub fn as_ptr(self) -> *mut ngx_http_upstream_t {
        self.0.as_ptr()
    }

    /// Returns the TLS context of the location, if it has one.
    pub fn tls_context(self) -> Option<&'a SslContextRef> {
        // SAFETY: the configuration of an upstream lives as long as its request.
        unsafe { tls_context(self.configuration().as_ref()) }
    }

    /// Returns whether nginx has sent the request, or a part of it, to the current peer.
    pub fn request_sent(self) -> bool {
        // SAFETY: the upstream is valid for `'a`: see `from_ptr`.
        unsafe { bitfields::upstream_request_sent(self.as_ptr()) != 0 }
    }

    /// Returns the connection to the chosen peer, or NULL.
    pub fn connection(self) -> *mut ngx_connection_t {
        // SAFETY: the upstream is valid for `'a`: see `from_ptr`.
        unsafe { self.0.as_ref().peer.connection }
    }

    /// Returns the peer.
    pub fn peer(self) -> Peer<'a> {
        // SAFETY: the field is part of the structure, which is valid.
        unsafe { Peer::from_ptr(NonNull::new_unchecked(&raw mut (*self.0.as_ptr()).peer)) }
    }

    /// Returns whether the connection uses TLS.
    pub fn uses_tls(self) -> bool {
        // SAFETY: the upstream is valid for `'a`: see `from_ptr`.
        unsafe { bitfields::upstream_ssl(self.as_ptr()) != 0 }
    }

    /// Returns the configuration that nginx follows for this request.
    pub fn configuration(self) -> NonNull<ngx_http_upstream_conf_t> {
        // SAFETY: `from_ptr` requires a `conf` that is not NULL, and nginx never resets it.
        unsafe { NonNull::new_unchecked(self.0.as_ref().conf) }
    }

    /// Makes nginx follow another configuration for this request.
    ///
    /// # Safety
    /// `configuration` must be valid as long as the request.
    pub unsafe fn set_configuration(self, configuration: NonNull<ngx_http_upstream_conf_t>) {
        // SAFETY: the upstream is valid for `'a`: see `from_ptr`.
        unsafe { (*self.0.as_ptr()).conf = configuration.as_ptr() }
    }

    /// Keeps nginx from trying another peer after a failure.
    pub fn try_no_other_peer(self) {
        // SAFETY: the upstream is valid for `'a`: see `from_ptr`.
        unsafe { (*self.0.as_ptr()).peer.tries = 0 }
    }

    /// Returns whether nginx will try no other peer after a failure.
    pub fn has_no_other_peer(self) -> bool {
        // SAFETY: the upstream is valid for `'a`: see `from_ptr`.
        unsafe { self.0.as_ref().peer.tries == 0 }
    }

    /// Returns whether the protocol allows another request on the connection.
    pub fn keepalive(self) -> bool {
        // SAFETY: the upstream is valid for `'a`: see `from_ptr`.
        unsafe { bitfields::upstream_keepalive(self.as_ptr()) != 0 }
    }

    /// Keeps nginx from reusing the connection for another request.
    pub fn do_not_keep_alive(self) {
        // SAFETY: the upstream is valid for `'a`: see `from_ptr`.
        unsafe { bitfields::set_upstream_keepalive(self.as_ptr(), 0) }
    }

    /// Makes nginx consider the request as completely sent.
    pub fn set_request_body_sent(self) {
        // SAFETY: the upstream is valid for `'a`: see `from_ptr`.
        unsafe { bitfields::set_upstream_request_body_sent(self.as_ptr(), 1) }
    }

    /// Lets nginx reuse the connection for another request.
    pub fn keep_alive(self) {
        // SAFETY: the upstream is valid for `'a`: see `from_ptr`.
        unsafe { bitfields::set_upstream_keepalive(self.as_ptr(), 1) }
    }

    /// Returns whether the whole request body was sent.
    pub fn request_body_sent(self) -> bool {
        // SAFETY: the upstream is valid for `'a`: see `from_ptr`.
        unsafe { bitfields::upstream_request_body_sent(self.as_ptr()) != 0 }
    }

    /// Returns `proxy_ssl_verify`, of the location or of the copy that the request follows.
    pub fn verifies(self) -> bool {
        // SAFETY: the configuration of an upstream lives as long as its request.
        unsafe { self.configuration().as_ref().ssl_verify != 0 }
    }

    /// Returns `proxy_ssl_server_name`.
    pub fn sends_server_name(self) -> bool {
        // SAFETY: the configuration of an upstream lives as long as its request.
        unsafe { self.configuration().as_ref().ssl_server_name != 0 }
    }

    /// Returns `proxy_ssl_session_reuse`.
    pub fn reuses_sessions(self) -> bool {
        // SAFETY: the configuration of an upstream lives as long as its request.
        unsafe { self.configuration().as_ref().ssl_session_reuse != 0 }
    }

    /// Returns whether the location's `proxy_ssl_certificate` or `proxy_ssl_certificate_key`
    /// contains variables, so that the certificate depends on the request.
    pub fn has_variable_certificate(self) -> bool {
        // SAFETY: the configuration of an upstream, with its values, lives as long as its request.
        unsafe {
            let configuration = self.configuration().as_ref();
            [configuration.ssl_certificate, configuration.ssl_certificate_key]
                .into_iter()
                .filter_map(NonNull::new)
                .any(|value| !value.as_ref().lengths.is_null())
        }
    }

    /// Returns the request's own ALPN protocols (RFC 7301, section 3.1), which replace those of the
    /// context: HTTP/2, for `proxy_http_version 2`.
    pub fn ssl_alpn_protocol(self) -> Option<&'a [u8]> {
        // SAFETY: the upstream is valid, and nginx sets the field to a constant.
        let protocols = unsafe {
            let protocols = bitfields::upstream_ssl_alpn_protocol(self.as_ptr());
            NonNull::new(protocols.cast_mut()).map(|protocols| bytes(*protocols.as_ptr()))
        };
        protocols.filter(|protocols| !protocols.is_empty())
    }

    /// Returns the name that nginx verifies the server's certificate for.
    pub fn ssl_name(self) -> &'a [u8] {
        // SAFETY: the upstream is valid; the name is in the request's pool or in the configuration.
        unsafe { bytes(self.0.as_ref().ssl_name) }
    }

    /// Sets the name that nginx verifies the server's certificate for.
    pub fn set_ssl_name(self, name: &'a [u8]) {
        // SAFETY: the upstream is valid; nginx only reads the name, which lives for `'a`.
        unsafe {
            (*self.0.as_ptr()).ssl_name =
                ngx_str_t { len: name.len(), data: name.as_ptr().cast_mut() };
        }
    }

    /// Returns the value of `proxy_ssl_name` for this request; `None` if it is not set.
    pub fn configured_ssl_name(
        self,
        request: Request<'a>,
    ) -> Option<Result<&'a [u8], EvaluationFailed>> {
        // SAFETY: the configuration of an upstream, with its values, lives as long as its request.
        let name = unsafe {
            ComplexValue::from_ptr(NonNull::new(self.configuration().as_ref().ssl_name)?)
        };
        Some(name.evaluate(request))
    }

    /// Returns whether the status line of the response has been received.
    pub fn has_status(self) -> bool {
        // SAFETY: the upstream is valid for `'a`: see `from_ptr`.
        unsafe { self.0.as_ref().headers_in.status_n != 0 }
    }

    /// Returns whether the current peer has sent any byte of a response.
    pub fn has_received(self) -> bool {
        // SAFETY: `state` is NULL, or the state of the current attempt, in the request's pool.
        unsafe { self.0.as_ref().state.as_ref() }.is_some_and(|state| state.bytes_received != 0)
    }

    /// Returns whether nginx tries another peer after an error (`proxy_next_upstream error`).
    pub fn goes_on_after_error(self) -> bool {
        // SAFETY: the configuration of an upstream lives as long as its request.
        let allowed = unsafe { self.configuration().as_ref().next_upstream };
        allowed & NGX_HTTP_UPSTREAM_FT_ERROR as usize != 0
    }

    /// Makes nginx follow `configuration`, changed so that nginx tries again after an error,
    /// regardless of the time passed.
    ///
    /// # Safety
    /// `configuration` must be valid as long as the request, and no other request may follow it.
    pub unsafe fn follow_with_another_attempt(
        self,
        configuration: NonNull<ngx_http_upstream_conf_t>,
    ) {
        // SAFETY: the caller ensures that `configuration` is valid and belongs to this request
        // alone.
        unsafe {
            (*configuration.as_ptr()).next_upstream |= NGX_HTTP_UPSTREAM_FT_ERROR as usize;
            (*configuration.as_ptr()).next_upstream_timeout = 0;
            self.set_configuration(configuration);
        }
    }

    /// Makes the attempt that has just begun replace the previous one in variables such as
    /// `$upstream_status`.
    pub fn forget_former_attempt(self, request: Request<'_>) {
        // SAFETY: the upstream and the request are valid. `upstream_states` has a state for each
        // attempt; the last is the current one.
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

/// Returns the TLS context of a location, if it has one.
pub fn tls_context(configuration: &ngx_http_upstream_conf_t) -> Option<&SslContextRef> {
    // SAFETY: `ssl` and its `ctx` are NULL, or live as long as the configuration.
    unsafe {
        let ssl = NonNull::new(configuration.ssl)?;
        let context = NonNull::new(ssl.as_ref().ctx)?;
        Some(SslContextRef::from_ptr(context.as_ptr().cast()))
    }
}
