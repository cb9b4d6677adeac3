// SPDX-License-Identifier: Apache-2.0

//! The state that the module keeps for a request, and how it is found again.

#![allow(unsafe_code, reason = "it is in the pool of its request")]

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ptr::{self, NonNull};

use ngx::ffi::ngx_http_request_t;

use crate::conf::{self, LocationConf};
use crate::nginx::log::{Log, LogLevel};
use crate::nginx::pool::{OutOfMemory, Pool};
use crate::nginx::request::Request;
use crate::nginx::this_module;
use crate::upstream::location::conf_copy::{self, ConfCopy};
use crate::upstream::settings::forwarding::Forwarding;
use crate::upstream::settings::tls::UpstreamTls;

thread_local! {
    /// The states of all requests that have one. Searching the cleanup handlers of the request's
    /// pool instead would also search those of all its subrequests, which share the pool.
    static KNOWN: RefCell<HashMap<*const ngx_http_request_t, NonNull<RequestState>>> =
        RefCell::default();
}

/// The state of a request that used one of the module's functions. It lives in the request's pool;
/// the references it holds are released with that pool.
///
/// It is shared and mutated through cells: evaluating a variable in one function may call another
/// function of the module.
pub struct RequestState {
    /// The request. Subrequests share the pool of their parent, but not its state.
    request: NonNull<ngx_http_request_t>,
    /// The location of the URI ([`Request::uri_location`]) for which a setting was last made.
    uri: Cell<(*const u8, usize)>,
    /// The value given to `set_client_verify`, in the request's pool: an evaluated variable keeps
    /// pointing at it.
    pub client_verify: Cell<Option<NonNull<[u8]>>>,
    /// The TLS settings for the upstream connection.
    pub upstream_tls: RefCell<UpstreamTls>,
    /// The target, retries and timeouts.
    pub forwarding: Cell<Forwarding>,
    /// The configuration that the upstream follows instead of the location's.
    pub conf_copy: Cell<Option<ConfCopy>>,
    /// Whether verification has reached the peer's own certificate, and accepted it.
    pub leaf_accepted: Cell<bool>,
    /// Whether the module itself refused the last handshake, which must not count as the peer's
    /// failure.
    pub handshake_refused: Cell<bool>,
    /// The original log level of the request's log while it is silenced.
    silenced: Cell<Option<LogLevel>>,
    /// Whether the target that was set was used when the request was sent upstream.
    pub target_is_used: Cell<bool>,
    /// The location in which this module's content handler last handled the request, or NULL.
    /// Retries and timeouts are applied there.
    passed_in: Cell<*const LocationConf>,
    /// Texts kept by the module's plugins.
    texts: RefCell<Vec<KeptText>>,
}

/// A text that one of the module's plugins keeps for a request, in the request's pool.
#[derive(Clone, Copy)]
struct KeptText {
    name: NonNull<[u8]>,
    text: NonNull<[u8]>,
}

impl KeptText {
    fn is_named(self, name: &[u8]) -> bool {
        // SAFETY: the name lives in the request's pool, as does the state that holds it.
        unsafe { self.name.as_ref() == name }
    }
}

impl RequestState {
    /// Returns the state of `request`, if it has any.
    ///
    /// An internal redirect zeroes the module contexts of a request: the state is then found in the
    /// map `KNOWN` by the address of the request.
    pub fn find(request: Request<'_>) -> Option<&Self> {
        // SAFETY: only `remember` sets this module's request context, to a `RequestState` in the
        // request's pool.
        let state =
            unsafe { request.module_context(this_module::index()).map(|state| state.as_ref()) };
        if state.is_some() || !request.may_have_lost_contexts() {
            return state;
        }
        let known =
            KNOWN.with_borrow(|known| known.get(&request.as_ptr().cast_const()).copied())?;
        // SAFETY: an entry points at a `RequestState` in the request's pool; dropping it with the
        // pool removes the entry.
        let state = unsafe { known.as_ref() };
        Self::remember(request, state);
        Some(state)
    }

    /// Returns the state of `request`, and makes one if there is none.
    pub fn find_or_make(request: Request<'_>) -> Result<&Self, OutOfMemory> {
        let state = match Self::find(request) {
            Some(state) => state,
            None => {
                let (upstream_tls, forwarding) = Self::inherited(request).unwrap_or_default();
                Self::make(request, upstream_tls, forwarding)?
            }
        };
        state.uri.set(request.uri_location());
        Ok(state)
    }

    /// Returns the state of `request`, if it has any. A cloned subrequest starts with the settings
    /// of the request that it is a clone of.
    pub fn find_or_inherit(request: Request<'_>) -> Result<Option<&Self>, OutOfMemory> {
        match Self::find(request) {
            Some(state) => Ok(Some(state)),
            None => Self::inherited(request)
                .map(|(upstream_tls, forwarding)| Self::make(request, upstream_tls, forwarding))
                .transpose(),
        }
    }

    /// Returns the state as [`RequestState::find_or_inherit`] does, but only if it has TLS settings
    /// for the upstream connection.
    ///
    /// Enforced verification counts as a setting of the request where the location itself doesn't
    /// verify, because its configuration could not tell that it would use TLS.
    pub fn with_upstream_tls(request: Request<'_>) -> Result<Option<&Self>, OutOfMemory> {
        match Self::find_or_inherit(request)? {
            Some(state) if state.upstream_tls.borrow().is_empty() => {
                Ok(lacks_enforced_verification(request, Some(state)).then_some(state))
            }
            Some(state) => Ok(Some(state)),
            None if lacks_enforced_verification(request, None) => {
                Self::make(request, UpstreamTls::default(), Forwarding::default()).map(Some)
            }
            None => Ok(None),
        }
    }

    /// Silences `log`, the request's log, until the connection to the peer is released.
    pub fn silence(&self, log: Log<'_>) {
        if self.silenced.get().is_none() {
            self.silenced.set(Some(log.silence()));
        }
    }

    /// Restores the level of `log`, the request's log, if it was silenced.
    pub fn end_silence(&self, log: Log<'_>) {
        if let Some(level) = self.silenced.take() {
            log.set_level(level);
        }
    }

    /// Returns the target that was set for the request.
    pub fn target(&self) -> Option<&[u8]> {
        // SAFETY: the target is in the request's pool, as is this state, or in the configuration,
        // which outlives the request.
        self.forwarding.get().target.map(|target| unsafe { target.as_ref() })
    }

    /// Notes that the content handler of a pass directive of `location` handles the request.
    pub fn pass_in(&self, location: Option<&LocationConf>) {
        self.passed_in.set(location.map_or(ptr::null(), ptr::from_ref));
        self.target_is_used.set(false);
    }

    /// Returns whether the content handler of a pass directive of `location` handles the request.
    pub fn is_passed_in(&self, location: Option<&LocationConf>) -> bool {
        location.is_some_and(|location| ptr::eq(self.passed_in.get(), location))
    }

    /// Keeps `text` under `name` for the life of the request, across internal redirects.
    pub fn keep_text(&self, pool: Pool<'_>, name: &[u8], text: &[u8]) -> Result<(), OutOfMemory> {
        let kept =
            KeptText { name: pool.copy_bytes(name)?.into(), text: pool.copy_bytes(text)?.into() };
        let mut texts = self.texts.borrow_mut();
        texts.retain(|other| !other.is_named(name));
        texts.push(kept);
        Ok(())
    }

    /// Returns the text that was last kept under `name`.
    pub fn kept_text(&self, name: &[u8]) -> Option<&[u8]> {
        let kept = self.texts.borrow().iter().copied().find(|kept| kept.is_named(name))?;
        // SAFETY: the text lives in the request's pool, as does this state.
        Some(unsafe { kept.text.as_ref() })
    }

    /// Returns the value given to `set_client_verify` for `request` or the nearest of its parents:
    /// it concerns the client's connection, which they share.
    pub fn client_verify_of(request: Request<'_>) -> Option<&[u8]> {
        let mut request = Some(request);
        while let Some(current) = request {
            let state = Self::find(current);
            if let Some(value) = state.and_then(|state| state.client_verify.get()) {
                // SAFETY: the value is in the pool of the main request, which its subrequests
                // share.
                return Some(unsafe { value.as_ref() });
            }
            request = current.parent();
        }
        None
    }

    /// Returns the settings of the request that this one is a clone of, if it is a clone: a
    /// subrequest made with `NGX_HTTP_SUBREQUEST_CLONE`, for a slice or for a background cache
    /// update. It starts in the phase of its parent, so no Lua code of the earlier phases runs for
    /// it.
    ///
    /// nginx does not mark clones, but only a clone shares the URI of its parent in memory: any
    /// other subrequest has a URI of its own. The parent may have moved on to another URI since.
    fn inherited(request: Request<'_>) -> Option<(UpstreamTls, Forwarding)> {
        let mut request = request;
        while let Some(parent) = request.parent() {
            let state = Self::find(parent);
            let uri = request.uri_location();
            if uri != parent.uri_location() && state.is_none_or(|state| state.uri.get() != uri) {
                return None;
            }
            if let Some(state) = state {
                return Some((state.upstream_tls.borrow().clone(), state.forwarding.get()));
            }
            request = parent;
        }
        None
    }

    fn make(
        request: Request<'_>,
        upstream_tls: UpstreamTls,
        forwarding: Forwarding,
    ) -> Result<&Self, OutOfMemory> {
        let state = request.pool().keep(Self {
            // SAFETY: a `Request` is made of a non-NULL pointer.
            request: unsafe { NonNull::new_unchecked(request.as_ptr()) },
            uri: Cell::new(request.uri_location()),
            client_verify: Cell::new(None),
            upstream_tls: RefCell::new(upstream_tls),
            forwarding: Cell::new(forwarding),
            conf_copy: Cell::new(None),
            leaf_accepted: Cell::new(false),
            handshake_refused: Cell::new(false),
            silenced: Cell::new(None),
            target_is_used: Cell::new(false),
            passed_in: Cell::new(ptr::null()),
            texts: RefCell::default(),
        })?;
        KNOWN.with_borrow_mut(|known| {
            known.insert(request.as_ptr().cast_const(), NonNull::from(state));
        });
        Self::remember(request, state);
        Ok(state)
    }

    fn remember(request: Request<'_>, state: &Self) {
        // SAFETY: this module's request context is always a `RequestState`; `state` lives in the
        // request's pool.
        unsafe { request.set_module_context(this_module::index(), NonNull::from(state)) }
    }
}

impl Drop for RequestState {
    fn drop(&mut self) {
        KNOWN.with_borrow_mut(|known| known.remove(&self.request.as_ptr().cast_const()));
    }
}

/// Returns whether the location of `request` enforces verification and its upstream uses TLS, but
/// the location's own configuration does not verify.
fn lacks_enforced_verification(request: Request<'_>, state: Option<&RequestState>) -> bool {
    conf::enforces_verification(request)
        && request.upstream().is_some_and(|upstream| {
            upstream.uses_tls() && !conf_copy::configured_verify(upstream, state)
        })
}
