// SPDX-License-Identifier: Apache-2.0

//! The state that the module keeps for a request, and how it is found again.

#![allow(unsafe_code, reason = "it is in the pool of its request")]

use std::cell::{Cell, RefCell};
use std::ptr::{self, NonNull};
use std::rc::Rc;

use crate::conf::{self, LocationConf};
use crate::nginx::log::{Log, LogLevel};
use crate::nginx::pool::OutOfMemory;
use crate::nginx::request::Request;
use crate::nginx::request_context::RequestContext;
use crate::openssl::san::address_of;
use crate::upstream::location::conf_copy::{self, ConfCopy};
use crate::upstream::settings::forwarding::{Forwarding, InvalidArgument, RequestedScheme};
use crate::upstream::settings::retry_callback::RetryCallback;
use crate::upstream::settings::tls::{UpstreamTls, without_port};

/// The state of a request that used one of the module's functions. It lives in the request's pool;
/// the references it holds are released with that pool.
///
/// It is shared and mutated through cells: evaluating a variable in one function may call another
/// function of the module.
pub struct RequestState {
    /// The location of the URI ([`Request::uri_location`]) for which a setting was last made.
    uri: Cell<(*const u8, usize)>,
    /// The value given to `set_client_verify`: an evaluated variable keeps pointing at it.
    client_verify: Cell<Option<Text>>,
    /// The TLS settings for the upstream connection.
    pub upstream_tls: RefCell<UpstreamTls>,
    /// `$kong_upstream_target`
    target: Cell<Option<Text>>,
    /// The retries and timeouts.
    pub forwarding: Cell<Forwarding>,
    /// The scheme given to `set_scheme`.
    pub scheme: Cell<Option<RequestedScheme>>,
    /// The function given to `set_target_retry_callback`.
    retry_callback: RefCell<Option<Rc<RetryCallback>>>,
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
    /// Texts kept by the module's plugins, with their names.
    texts: RefCell<Vec<(Text, Text)>>,
}

/// A text in the pool of a request, or in its configuration. Only the state of that request, or of
/// a clone of it, holds one.
#[derive(Clone, Copy)]
struct Text(NonNull<[u8]>);

impl Text {
    fn copy(request: Request<'_>, text: &[u8]) -> Result<Self, OutOfMemory> {
        request.pool().copy_bytes(text).map(|text| Self(text.into()))
    }
}

/// What a cloned subrequest takes over.
#[derive(Default)]
struct Settings {
    upstream_tls: UpstreamTls,
    target: Option<Text>,
    forwarding: Forwarding,
    scheme: Option<RequestedScheme>,
    retry_callback: Option<Rc<RetryCallback>>,
}

// SAFETY: no other type implements the trait.
unsafe impl RequestContext for RequestState {}

impl RequestState {
    /// Returns the state of `request`, if it has any.
    pub fn find(request: Request<'_>) -> Option<&Self> {
        Self::of(request)
    }

    /// Returns the state of `request`, and makes one if there is none.
    pub fn find_or_make(request: Request<'_>) -> Result<&Self, OutOfMemory> {
        let state = match Self::find(request) {
            Some(state) => state,
            None => Self::begin(request)?,
        };
        state.uri.set(request.uri_location());
        Ok(state)
    }

    /// Returns the state of `request`, if it has any. A cloned subrequest starts with the settings
    /// of the request that it is a clone of.
    pub fn find_or_inherit(request: Request<'_>) -> Result<Option<&Self>, OutOfMemory> {
        match Self::find(request) {
            Some(state) => Ok(Some(state)),
            None => {
                Self::inherited(request).map(|settings| Self::make(request, settings)).transpose()
            }
        }
    }

    /// Returns the state as [`RequestState::find_or_inherit`] does, but only if it has TLS settings
    /// for the upstream connection.
    ///
    /// Enforced verification counts as a setting of the request where the location itself doesn't
    /// verify, because its configuration could not tell that it would use TLS. So does a target that
    /// is an address, if it is verified.
    pub fn with_upstream_tls(request: Request<'_>) -> Result<Option<&Self>, OutOfMemory> {
        match Self::find_or_inherit(request)? {
            Some(state) if state.upstream_tls.borrow().is_empty() => {
                let counts = state.verifies_address(request)
                    || lacks_enforced_verification(request, Some(state));
                Ok(counts.then_some(state))
            }
            Some(state) => Ok(Some(state)),
            None if lacks_enforced_verification(request, None) => {
                Self::make(request, Settings::default()).map(Some)
            }
            None => Ok(None),
        }
    }

    /// Returns whether `request` has set an address as its target, for which its location verifies
    /// the service: nginx takes an address for a DNS name.
    fn verifies_address(&self, request: Request<'_>) -> bool {
        let is_address = |name: &[u8]| address_of(without_port(name)).is_some();
        if !self.target().is_some_and(is_address) {
            return false;
        }
        let Some(upstream) = request.upstream().filter(|upstream| upstream.uses_tls()) else {
            return false;
        };
        let name = match upstream.configured_ssl_name(request) {
            Some(Ok(name)) => name,
            // The handshake will fail.
            Some(Err(_)) => return false,
            None => upstream.ssl_name(),
        };
        conf_copy::configured_verify(upstream, Some(self)) && is_address(name)
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

    fn text(&self, Text(text): Text) -> &[u8] {
        // SAFETY: a text of this state is in the pool of its request, as is the state, or in the
        // configuration, which outlives the request.
        unsafe { text.as_ref() }
    }

    /// Returns the target that was set for the request.
    pub fn target(&self) -> Option<&[u8]> {
        self.target.get().map(|target| self.text(target))
    }

    /// Sets the target of `request`.
    pub fn set_target(request: Request<'_>, target: &[u8]) -> Result<(), OutOfMemory> {
        Self::find_or_make(request)?.target.set(Some(Text::copy(request, target)?));
        Ok(())
    }

    /// Makes the `upstream {}` block named `host` the target of the request. Returns whether there
    /// is one.
    pub fn set_upstream(request: Request<'_>, host: &[u8]) -> Result<bool, NotSet> {
        let state = Self::find_or_make(request)?;
        let Some(blocks) = conf::blocks(request) else {
            return Ok(false);
        };
        let found = blocks.names.find(host)?;
        if let Some(name) = found {
            state.target.set(Some(Text(NonNull::from(name))));
        }
        Ok(found.is_some())
    }

    /// Resets the target, timeouts and tries, and all TLS settings for the service.
    pub fn forget_service(&self) {
        self.upstream_tls.take();
        self.target.take();
        self.forwarding.take();
        self.scheme.take();
        self.retry_callback.take();
    }

    /// Returns the number of the function given to `set_target_retry_callback`.
    pub fn retry_callback(&self) -> Option<u32> {
        self.retry_callback.borrow().as_ref().map(|callback| callback.number())
    }

    /// Gives the request a number for its function, in place of the one that it had.
    pub fn make_retry_callback(&self) -> u32 {
        let callback = Rc::new(RetryCallback::new());
        let number = callback.number();
        self.retry_callback.replace(Some(callback));
        number
    }

    /// Sets the value of `set_client_verify` for `request`.
    pub fn set_client_verify(request: Request<'_>, value: &[u8]) -> Result<(), OutOfMemory> {
        Self::find_or_make(request)?.client_verify.set(Some(Text::copy(request, value)?));
        Ok(())
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

    /// Keeps `text` under `name` for the life of `request`, across internal redirects.
    pub fn keep_text(request: Request<'_>, name: &[u8], text: &[u8]) -> Result<(), OutOfMemory> {
        let state = Self::find_or_make(request)?;
        let kept = (Text::copy(request, name)?, Text::copy(request, text)?);
        let mut texts = state.texts.borrow_mut();
        texts.retain(|(other, _)| state.text(*other) != name);
        texts.push(kept);
        Ok(())
    }

    /// Returns the text that was last kept under `name`.
    pub fn kept_text(&self, name: &[u8]) -> Option<&[u8]> {
        let texts = self.texts.borrow();
        let (_, text) = texts.iter().find(|(other, _)| self.text(*other) == name)?;
        Some(self.text(*text))
    }

    /// Returns the value given to `set_client_verify` for `request` or the nearest of its parents:
    /// it concerns the client's connection, which they share.
    pub fn client_verify_of(request: Request<'_>) -> Option<&[u8]> {
        let mut request = Some(request);
        while let Some(current) = request {
            let state = Self::find(current);
            let value = state.and_then(|state| Some(state.text(state.client_verify.get()?)));
            if value.is_some() {
                return value;
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
    fn inherited(request: Request<'_>) -> Option<Settings> {
        let mut request = request;
        while let Some(parent) = request.parent() {
            let state = Self::find(parent);
            let uri = request.uri_location();
            if uri != parent.uri_location() && state.is_none_or(|state| state.uri.get() != uri) {
                return None;
            }
            if let Some(state) = state {
                return Some(Settings {
                    upstream_tls: state.upstream_tls.borrow().clone(),
                    target: state.target.get(),
                    forwarding: state.forwarding.get(),
                    scheme: state.scheme.get(),
                    retry_callback: state.retry_callback.borrow().clone(),
                });
            }
            request = parent;
        }
        None
    }

    #[cold]
    fn begin(request: Request<'_>) -> Result<&Self, OutOfMemory> {
        Self::make(request, Self::inherited(request).unwrap_or_default())
    }

    fn make(request: Request<'_>, settings: Settings) -> Result<&Self, OutOfMemory> {
        let Settings { upstream_tls, target, forwarding, scheme, retry_callback } = settings;
        let state = Self {
            uri: Cell::new(request.uri_location()),
            client_verify: Cell::new(None),
            upstream_tls: RefCell::new(upstream_tls),
            target: Cell::new(target),
            forwarding: Cell::new(forwarding),
            scheme: Cell::new(scheme),
            retry_callback: RefCell::new(retry_callback),
            conf_copy: Cell::new(None),
            leaf_accepted: Cell::new(false),
            handshake_refused: Cell::new(false),
            silenced: Cell::new(None),
            target_is_used: Cell::new(false),
            passed_in: Cell::new(ptr::null()),
            texts: RefCell::default(),
        };
        state.keep_for(request)
    }
}

/// Why a target could not be set.
#[derive(Debug, thiserror::Error)]
pub enum NotSet {
    #[error(transparent)]
    InvalidArgument(#[from] InvalidArgument),
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// Returns whether the location of `request` enforces verification and its upstream uses TLS, but
/// the location's own configuration does not verify.
fn lacks_enforced_verification(request: Request<'_>, state: Option<&RequestState>) -> bool {
    conf::enforces_verification(request)
        && request.upstream().is_some_and(|upstream| {
            upstream.uses_tls() && !conf_copy::configured_verify(upstream, state)
        })
}
