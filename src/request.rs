//! What we keep for a request, and how it is found again.

use std::ptr::NonNull;

use ngx::ffi::{ngx_http_request_t, ngx_http_upstream_conf_t};

use crate::client_verify::ClientVerify;
use crate::module;
use crate::nginx::pool::OutOfMemory;
use crate::nginx::request::Request;
use crate::upstream::settings::UpstreamTls;

/// The state of a request that used one of our functions. Lives in the pool of the request, and
/// with it go the references it holds.
pub struct RequestState {
    /// The request: subrequests share the pool of their parent, but none of its state.
    request: NonNull<ngx_http_request_t>,
    /// What `set_client_verify` was given.
    pub client_verify: Option<ClientVerify>,
    /// What was asked for on the upstream connection.
    pub upstream_tls: UpstreamTls,
    /// The configuration that stands in for that of the location.
    pub configuration: Option<OwnConfiguration>,
    /// Whether the last handshake was refused by us: not the fault of the peer.
    pub handshake_refused: bool,
}

/// A copy of a location's configuration.
#[derive(Clone, Copy)]
pub struct OwnConfiguration {
    pub original: NonNull<ngx_http_upstream_conf_t>,
    pub copy: NonNull<ngx_http_upstream_conf_t>,
}

impl RequestState {
    /// The state of `request`, if it has any.
    ///
    /// An internal redirect zeroes the contexts of a request: then its state is found in its pool.
    pub fn find(request: Request<'_>) -> Option<NonNull<Self>> {
        // SAFETY: only `remember` sets our context.
        if let Some(state) = unsafe { request.module_context(module::index()) } {
            return Some(state);
        }
        // SAFETY: a state is only used on the worker's one thread, in a callback for its request.
        let state = request
            .pool()
            .kept::<Self>()
            .find(|state| unsafe { state.as_ref() }.request.as_ptr() == request.as_ptr())?;
        Self::remember(request, state);
        Some(state)
    }

    /// The state of `request`, with what its upstream connection is to have; made where there is
    /// none.
    pub fn find_or_make(request: Request<'_>) -> Result<NonNull<Self>, OutOfMemory> {
        if let Some(state) = Self::find(request) {
            return Ok(state);
        }
        let inherited = Self::inherited_upstream_tls(request);
        Self::make(request, inherited.unwrap_or_default())
    }

    /// As [`RequestState::find`], for the upstream connection: a subrequest that is a clone of a
    /// request begins with the settings of that one.
    pub fn find_for_upstream(request: Request<'_>) -> Result<Option<NonNull<Self>>, OutOfMemory> {
        if let Some(state) = Self::find(request) {
            return Ok(Some(state));
        }
        Self::inherited_upstream_tls(request)
            .filter(|settings| !settings.is_empty())
            .map(|settings| Self::make(request, settings))
            .transpose()
    }

    fn inherited_upstream_tls(request: Request<'_>) -> Option<UpstreamTls> {
        let mut request = request;
        while let Some(parent) = request.cloned_from() {
            if let Some(state) = Self::find(parent) {
                // SAFETY: as in `find`.
                return Some(unsafe { state.as_ref() }.upstream_tls.clone());
            }
            request = parent;
        }
        None
    }

    fn make(request: Request<'_>, upstream_tls: UpstreamTls) -> Result<NonNull<Self>, OutOfMemory> {
        // SAFETY: a request's pointer is not NULL.
        let pointer = unsafe { NonNull::new_unchecked(request.as_ptr()) };
        let state = request.pool().keep(Self {
            request: pointer,
            client_verify: None,
            upstream_tls,
            configuration: None,
            handshake_refused: false,
        })?;
        Self::remember(request, state);
        Ok(state)
    }

    fn remember(request: Request<'_>, state: NonNull<Self>) {
        // SAFETY: a `RequestState` is what we keep there; it lives in the pool of the request.
        unsafe { request.set_module_context(module::index(), state) }
    }
}
