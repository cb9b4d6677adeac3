// SPDX-License-Identifier: Apache-2.0

//! The upstream of a request.

use std::cell::Cell;
use std::mem::offset_of;
use std::ptr::NonNull;

use foreign_types::ForeignTypeRef;
use ngx::ffi::{
    NGX_HTTP_UPSTREAM_FT_ERROR, ngx_array_t, ngx_connection_t, ngx_http_upstream_conf_t,
    ngx_http_upstream_state_t, ngx_http_upstream_t, ngx_peer_connection_t, ngx_ssl_t, ngx_str_t,
};
use openssl::ssl::SslContextRef;

use crate::nginx::bitfields;
use crate::nginx::complex_value::{ComplexValue, EvaluationFailed};
use crate::nginx::configuration::{bytes, slice};
use crate::nginx::peer::Peer;
use crate::nginx::pool::OutOfMemory;
use crate::nginx::request::Request;

/// `ngx_http_upstream_t`, once it has a configuration.
#[derive(Clone, Copy)]
pub struct Upstream<'a>(&'a Cell<ngx_http_upstream_t>);

impl<'a> Upstream<'a> {
    /// Returns `None` if the upstream has no configuration yet.
    ///
    /// # Safety
    /// `upstream` must be valid for `'a`.
    pub unsafe fn new(upstream: NonNull<ngx_http_upstream_t>) -> Option<Self> {
        // SAFETY: the caller ensures that `upstream` is valid for `'a`.
        let upstream: &Cell<ngx_http_upstream_t> = unsafe { upstream.cast().as_ref() };
        (!upstream.get().conf.is_null()).then_some(Self(upstream))
    }

    /// Returns the upstream that contains `peer`.
    ///
    /// # Safety
    /// `peer` must be the `peer` field of an `ngx_http_upstream_t` that is valid for `'a`, and
    /// whose `conf` is not NULL. nginx sets `conf` before a peer is chosen.
    pub unsafe fn from_peer(peer: NonNull<ngx_peer_connection_t>) -> Self {
        // SAFETY: the caller ensures that `peer` is a field of such a structure, at this offset.
        unsafe { Self(peer.byte_sub(offset_of!(ngx_http_upstream_t, peer)).cast().as_ref()) }
    }

    pub fn as_ptr(self) -> *mut ngx_http_upstream_t {
        self.0.as_ptr()
    }

    /// Returns the TLS context of the location, if it has one.
    pub fn tls_context(self) -> Option<&'a SslContextRef> {
        // SAFETY: the field is NULL, or lives as long as the configuration, and so as the request.
        unsafe { context_of(self.conf().get().ssl) }
    }

    /// Returns whether nginx has sent the request, or a part of it, to the current peer.
    pub fn request_sent(self) -> bool {
        bitfields::upstream_request_sent(self.0)
    }

    /// Returns the connection to the chosen peer, or NULL.
    pub fn connection(self) -> *mut ngx_connection_t {
        self.0.get().peer.connection
    }

    /// Returns the peer.
    pub fn peer(self) -> Peer<'a> {
        // SAFETY: the field is part of the structure, which is valid for `'a`.
        unsafe { Peer::from_ptr(NonNull::new_unchecked(&raw mut (*self.as_ptr()).peer)) }
    }

    /// Returns whether the connection uses TLS.
    pub fn uses_tls(self) -> bool {
        bitfields::upstream_ssl(self.0)
    }

    fn conf(self) -> &'a Cell<ngx_http_upstream_conf_t> {
        // SAFETY: an `Upstream` has a configuration from the beginning, and nginx never resets it.
        // It lives as long as its request.
        unsafe { &*self.0.get().conf.cast() }
    }

    /// Returns the configuration that nginx follows for this request.
    pub fn configuration(self) -> NonNull<ngx_http_upstream_conf_t> {
        NonNull::from(self.conf()).cast()
    }

    /// Makes nginx follow another configuration for this request.
    ///
    /// # Safety
    /// `configuration` must be valid as long as the request.
    pub unsafe fn set_configuration(self, configuration: NonNull<ngx_http_upstream_conf_t>) {
        // SAFETY: the caller ensures that `configuration` lives as long as the request.
        unsafe { (*self.as_ptr()).conf = configuration.as_ptr() }
    }

    /// Keeps nginx from trying another peer after a failure.
    pub fn try_no_other_peer(self) {
        self.peer().set_tries(0);
    }

    /// Returns whether nginx will try no other peer after a failure.
    pub fn has_no_other_peer(self) -> bool {
        self.peer().tries() == 0
    }

    /// Returns whether the protocol allows another request on the connection.
    pub fn keepalive(self) -> bool {
        bitfields::upstream_keepalive(self.0)
    }

    /// Keeps nginx from reusing the connection for another request.
    pub fn do_not_keep_alive(self) {
        bitfields::set_upstream_keepalive(self.0, false);
    }

    /// Makes nginx consider the request as completely sent.
    pub fn set_request_body_sent(self) {
        bitfields::set_upstream_request_body_sent(self.0, true);
    }

    /// Lets nginx reuse the connection for another request.
    pub fn keep_alive(self) {
        bitfields::set_upstream_keepalive(self.0, true);
    }

    /// Returns whether the whole request body was sent.
    pub fn request_body_sent(self) -> bool {
        bitfields::upstream_request_body_sent(self.0)
    }

    /// Returns `proxy_ssl_verify`, of the location or of the copy that the request follows.
    pub fn verifies(self) -> bool {
        self.conf().get().ssl_verify != 0
    }

    /// Returns `proxy_ssl_server_name`.
    pub fn sends_server_name(self) -> bool {
        self.conf().get().ssl_server_name != 0
    }

    /// Returns `proxy_ssl_session_reuse`.
    pub fn reuses_sessions(self) -> bool {
        self.conf().get().ssl_session_reuse != 0
    }

    /// Returns whether the location's `proxy_ssl_certificate` or `proxy_ssl_certificate_key`
    /// contains variables, so that the certificate depends on the request.
    pub fn has_variable_certificate(self) -> bool {
        let ngx_http_upstream_conf_t { ssl_certificate, ssl_certificate_key, .. } =
            self.conf().get();
        [ssl_certificate, ssl_certificate_key]
            .into_iter()
            // SAFETY: the values of a configuration are NULL, or live as long as it.
            .any(|value| unsafe { value.as_ref() }.is_some_and(|value| !value.lengths.is_null()))
    }

    /// Returns the request's own ALPN protocols (RFC 7301, section 3.1), which replace those of the
    /// context: HTTP/2, for `proxy_http_version 2`.
    pub fn ssl_alpn_protocol(self) -> Option<&'a [u8]> {
        let protocols = bitfields::upstream_ssl_alpn_protocol(self.0);
        // SAFETY: the field is part of the upstream, if there is one, and nginx sets it to a
        // constant.
        let protocols = unsafe { protocols.as_ref().map(|protocols| bytes(*protocols)) };
        protocols.filter(|protocols| !protocols.is_empty())
    }

    /// Returns the name that nginx verifies the server's certificate for.
    pub fn ssl_name(self) -> &'a [u8] {
        // SAFETY: the name is in the request's pool or in the configuration.
        unsafe { bytes(self.0.get().ssl_name) }
    }

    /// Sets the name that nginx verifies the server's certificate for.
    pub fn set_ssl_name(self, name: &'a [u8]) {
        let name = ngx_str_t { len: name.len(), data: name.as_ptr().cast_mut() };
        // SAFETY: nginx only reads the name, which lives for `'a`, as the upstream.
        unsafe { (*self.as_ptr()).ssl_name = name }
    }

    /// Returns the value of `proxy_ssl_name` for this request; `None` if it is not set.
    pub fn configured_ssl_name(
        self,
        request: Request<'a>,
    ) -> Option<Result<&'a [u8], EvaluationFailed>> {
        let name = NonNull::new(self.conf().get().ssl_name)?;
        // SAFETY: the values of a configuration live as long as it.
        Some(unsafe { ComplexValue::from_ptr(name) }.evaluate(request))
    }

    /// Returns whether the status line of the response has been received.
    pub fn has_status(self) -> bool {
        self.0.get().headers_in.status_n != 0
    }

    /// Returns whether the current peer has sent any byte of a response.
    pub fn has_received(self) -> bool {
        // SAFETY: `state` is NULL, or the state of the current attempt, in the request's pool.
        unsafe { self.0.get().state.as_ref() }.is_some_and(|state| state.bytes_received != 0)
    }

    /// Returns whether `proxy_next_upstream_tries` is set.
    pub fn has_limit_of_tries(self) -> bool {
        self.conf().get().next_upstream_tries != 0
    }

    /// Returns whether nginx tries another peer after an error (`proxy_next_upstream error`).
    pub fn goes_on_after_error(self) -> bool {
        self.conf().get().next_upstream & NGX_HTTP_UPSTREAM_FT_ERROR as usize != 0
    }

    /// Makes nginx follow a copy of its configuration in the pool of `request`, changed so that
    /// nginx tries again after an error, regardless of the time passed.
    ///
    /// # Safety
    /// `request` must be that of the upstream.
    pub unsafe fn follow_with_another_attempt(
        self,
        request: Request<'_>,
    ) -> Result<(), OutOfMemory> {
        let own = request.pool().copy(&self.conf().get())?;
        own.next_upstream |= NGX_HTTP_UPSTREAM_FT_ERROR as usize;
        own.next_upstream_timeout = 0;
        // SAFETY: the caller ensures that the pool, and so the copy, is that of the upstream's
        // request.
        unsafe { self.set_configuration(NonNull::from(own)) };
        Ok(())
    }

    /// Makes the attempt that has just begun replace the previous one in variables such as
    /// `$upstream_status`.
    pub fn forget_former_attempt(self, request: Request<'_>) {
        let Some(array) = request.upstream_states() else {
            return;
        };
        let ngx_array_t { elts, nelts, .. } = array.get();
        // SAFETY: the array has a state for each attempt. The last is the current one.
        let states: &[Cell<ngx_http_upstream_state_t>] = unsafe { slice(elts.cast(), nelts) };
        let [.., former, last] = states else {
            return;
        };
        if last.as_ptr() != self.0.get().state {
            return;
        }
        former.set(last.get());
        // SAFETY: the array keeps one element at least. The upstream had its state in this array
        // before, so both are of one request.
        unsafe {
            (*array.as_ptr()).nelts -= 1;
            (*self.as_ptr()).state = former.as_ptr();
        }
    }
}

/// Returns the TLS context of a location, if it has one.
pub fn tls_context(configuration: &ngx_http_upstream_conf_t) -> Option<&SslContextRef> {
    // SAFETY: `ssl` is NULL, or lives as long as the configuration.
    unsafe { context_of(configuration.ssl) }
}

/// Returns the context of `ssl`, if there is one.
///
/// # Safety
/// `ssl` must be NULL or valid for `'a`, as its context.
pub(super) unsafe fn context_of<'a>(ssl: *const ngx_ssl_t) -> Option<&'a SslContextRef> {
    // SAFETY: the caller ensures that `ssl` is NULL or valid.
    let context = NonNull::new(unsafe { ssl.as_ref() }?.ctx)?;
    // SAFETY: the caller ensures that the context is valid for `'a`.
    Some(unsafe { SslContextRef::from_ptr(context.as_ptr().cast()) })
}
