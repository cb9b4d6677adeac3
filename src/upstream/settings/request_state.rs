// SPDX-License-Identifier: Apache-2.0

//! What we keep for a request, and how it is found again.

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
    /// The states of all requests that have one. To look for it in the pool of the request would be
    /// to look at what all of its subrequests have there.
    static KNOWN: RefCell<HashMap<*const ngx_http_request_t, NonNull<RequestState>>> =
        RefCell::default();
}

/// The state of a request that used one of our functions. Lives in the pool of the request, and
/// with it go the references it holds.
///
/// It is shared: to evaluate a variable for one of our functions may call another of them.
pub struct RequestState {
    /// The request: subrequests share the pool of their parent, but none of its state.
    request: NonNull<ngx_http_request_t>,
    /// The URI for which the last of the settings was made, as [`Request::uri_location`] has it.
    uri: Cell<(*const u8, usize)>,
    /// What `set_client_verify` was given, in the pool of the request: a variable that was
    /// evaluated keeps pointing at it.
    pub client_verify: Cell<Option<NonNull<[u8]>>>,
    /// What was asked for on the upstream connection.
    pub upstream_tls: RefCell<UpstreamTls>,
    /// What was asked for on where the request goes.
    pub forwarding: Cell<Forwarding>,
    /// The configuration that stands in for that of the location.
    pub conf_copy: Cell<Option<ConfCopy>>,
    /// Whether the verification of the peer has come to its own certificate, and accepted it.
    pub leaf_accepted: Cell<bool>,
    /// Whether the last handshake was refused by us: not the fault of the peer.
    pub handshake_refused: Cell<bool>,
    /// What the log of the request was told to write, while it is silent.
    silenced: Cell<Option<LogLevel>>,
    /// Whether what was asked for on where the request goes was looked at when it was sent there.
    pub target_is_used: Cell<bool>,
    /// The location whose pass directive has taken over what was asked for.
    passed_in: Cell<*const LocationConf>,
    /// What plugins of ours keep.
    texts: RefCell<Vec<KeptText>>,
}

/// A text that a plugin of ours keeps for a request, in the pool of that.
#[derive(Clone, Copy)]
struct KeptText {
    name: NonNull<[u8]>,
    text: NonNull<[u8]>,
}

impl KeptText {
    fn is_named(self, name: &[u8]) -> bool {
        // SAFETY: the name lives in the pool of the request, as does its state.
        unsafe { self.name.as_ref() == name }
    }
}

impl RequestState {
    /// The state of `request`, if it has any.
    ///
    /// An internal redirect zeroes the contexts of a request: then its state is found by the
    /// request.
    pub fn find(request: Request<'_>) -> Option<&Self> {
        // SAFETY: only `remember` sets our context, which lives as long as the request.
        let state =
            unsafe { request.module_context(this_module::index()).map(|state| state.as_ref()) };
        if state.is_some() || !request.may_have_lost_contexts() {
            return state;
        }
        let known =
            KNOWN.with_borrow(|known| known.get(&request.as_ptr().cast_const()).copied())?;
        // SAFETY: what is known lives in the pool of its request, and is forgotten with it.
        let state = unsafe { known.as_ref() };
        Self::remember(request, state);
        Some(state)
    }

    /// The state of `request`, made where there is none.
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

    /// The state of `request`, if it has any. A subrequest that is a clone of a request begins with
    /// the settings of that one.
    pub fn find_or_inherit(request: Request<'_>) -> Result<Option<&Self>, OutOfMemory> {
        match Self::find(request) {
            Some(state) => Ok(Some(state)),
            None => Self::inherited(request)
                .map(|(upstream_tls, forwarding)| Self::make(request, upstream_tls, forwarding))
                .transpose(),
        }
    }

    /// As [`RequestState::find_or_inherit`], if it has settings for its upstream connection.
    ///
    /// Where verification is enforced, and a location is without because nobody could tell
    /// beforehand that it would use TLS, that is as good as a setting of the request.
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

    /// Makes `log`, that of the request, write nothing until its connection is released.
    pub fn silence(&self, log: Log<'_>) {
        if self.silenced.get().is_none() {
            self.silenced.set(Some(log.silence()));
        }
    }

    /// Gives `log`, that of the request, back what it was told to write.
    pub fn end_silence(&self, log: Log<'_>) {
        if let Some(level) = self.silenced.take() {
            log.set_level(level);
        }
    }

    /// Where the request was sent, by its own choice.
    pub fn target(&self) -> Option<&[u8]> {
        // SAFETY: it is in the pool of the request, as is this state, or in the configuration.
        self.forwarding.get().target.map(|target| unsafe { target.as_ref() })
    }

    /// Notes that a pass directive of `location` takes the request over.
    pub fn pass_in(&self, location: Option<&LocationConf>) {
        self.passed_in.set(location.map_or(ptr::null(), ptr::from_ref));
        self.target_is_used.set(false);
    }

    /// Whether a pass directive of `location` has taken the request over.
    pub fn is_passed_in(&self, location: Option<&LocationConf>) -> bool {
        location.is_some_and(|location| ptr::eq(self.passed_in.get(), location))
    }

    /// Keeps `text` as long as the request lives, whatever internal redirects it takes.
    pub fn keep_text(&self, pool: Pool<'_>, name: &[u8], text: &[u8]) -> Result<(), OutOfMemory> {
        let kept = KeptText { name: pool.copy_bytes(name)?, text: pool.copy_bytes(text)? };
        let mut texts = self.texts.borrow_mut();
        texts.retain(|other| !other.is_named(name));
        texts.push(kept);
        Ok(())
    }

    /// The text that was kept last under `name`.
    pub fn kept_text(&self, name: &[u8]) -> Option<&[u8]> {
        let kept = self.texts.borrow().iter().copied().find(|kept| kept.is_named(name))?;
        // SAFETY: the text lives in the pool of the request, as does this state.
        Some(unsafe { kept.text.as_ref() })
    }

    /// What `set_client_verify` was given for `request`, or for the one that it is a subrequest of:
    /// it is about the client's connection, which they share.
    pub fn client_verify_of(request: Request<'_>) -> Option<&[u8]> {
        let mut request = Some(request);
        while let Some(current) = request {
            let state = Self::find(current);
            if let Some(value) = state.and_then(|state| state.client_verify.get()) {
                // SAFETY: it is in the pool that the requests share.
                return Some(unsafe { value.as_ref() });
            }
            request = current.parent();
        }
        None
    }

    /// The settings of the request that this one continues, if it is a clone: a subrequest made
    /// with `NGX_HTTP_SUBREQUEST_CLONE`, for a slice or a background update of the cache. It begins
    /// where its parent is, so that no Lua code of the earlier phases runs for it.
    ///
    /// nginx marks a clone in no way of its own, but only a clone has the very URI of its parent:
    /// any other subrequest has one of its own making. The parent may have gone on to another URI
    /// since.
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
            // SAFETY: the pointer of a request is not NULL.
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
        // SAFETY: a `RequestState` is what we keep there; it lives in the pool of the request.
        unsafe { request.set_module_context(this_module::index(), NonNull::from(state)) }
    }
}

impl Drop for RequestState {
    fn drop(&mut self) {
        KNOWN.with_borrow_mut(|known| known.remove(&self.request.as_ptr().cast_const()));
    }
}

/// Whether the location of `request` enforces verification, its upstream uses TLS, and the location
/// itself does not have it verified.
fn lacks_enforced_verification(request: Request<'_>, state: Option<&RequestState>) -> bool {
    conf::enforces_verification(request)
        && request.upstream().is_some_and(|upstream| {
            upstream.uses_tls() && !conf_copy::configured_verify(upstream, state)
        })
}
