// SPDX-License-Identifier: Apache-2.0

//! How the identity of an upstream connection is determined: the identity of a handshake that is
//! about to begin, and the one that a request would need, by which an idle connection is chosen.

use std::ffi::CStr;
use std::net::Ipv4Addr;
use std::rc::Rc;

use openssl::ssl::SslRef;

use crate::conf;
use crate::nginx::request::Request;
use crate::nginx::upstream::Upstream;
use crate::openssl::ssl;
use crate::upstream::handshake::lua_handshake::LuaHandshake;
use crate::upstream::handshake::verify;
use crate::upstream::identity::{Identity, IdentityDigest};
use crate::upstream::settings::request_state::RequestState;
use crate::upstream::settings::tls::{UpstreamTls, without_dot, without_port};

/// Returns the identity of the handshake of `ssl`, which has all of its settings and is about to
/// begin.
///
/// Returns `None` if the identity can't be known, see [`identity`].
pub fn of_handshake(
    ssl: &SslRef,
    request: Request<'_>,
    upstream: Upstream<'_>,
    state: Option<&RequestState>,
) -> Option<IdentityDigest> {
    let verify = upstream.verifies();
    let sets = Sets::of(state);
    let sends = sets.server_name.is_some() || upstream.sends_server_name();
    let names = Names {
        server_name: ssl::server_name(ssl).filter(|_| sends),
        verified_name: (verify || sets.names).then(|| upstream.ssl_name()),
    };
    identity(request, upstream, state, verify, names)
}

/// Returns the identity that a handshake for `request` would have.
///
/// Returns `None` if the identity can't be known, see [`identity`].
pub fn expected(
    request: Request<'_>,
    upstream: Upstream<'_>,
    state: Option<&RequestState>,
) -> Option<IdentityDigest> {
    let verify = verify::is_wanted(request, upstream, state).ok()?;

    let sets = Sets::of(state);
    let mut names = Names::default();
    if verify || sets.names || upstream.sends_server_name() {
        let name = match upstream.configured_ssl_name(request) {
            Some(name) => name.ok()?,
            None => upstream.ssl_name(),
        };
        // The names as nginx sends them (SNI) and as the certificate is verified for them.
        let sent = without_port(name);
        names.server_name = (upstream.sends_server_name() && is_server_name(sent)).then_some(sent);
        names.verified_name = (verify || sets.names).then(|| without_dot(sent));
    }
    if let Some(name) = &sets.server_name {
        names.server_name = Some(name.to_bytes()).filter(|name| !name.is_empty());
    }
    identity(request, upstream, state, verify, names)
}

/// What a request sets about names.
#[derive(Default)]
struct Sets {
    /// The name to send; empty for none.
    server_name: Option<Rc<CStr>>,
    /// Whether the service must have one of several names.
    names: bool,
}

impl Sets {
    fn of(state: Option<&RequestState>) -> Self {
        let Some(state) = state else {
            return Self::default();
        };
        let UpstreamTls { server_name, names, .. } = &*state.upstream_tls.borrow();
        Self { server_name: server_name.clone(), names: names.is_some() }
    }
}

/// The names that are part of an identity.
#[derive(Clone, Copy, Default)]
struct Names<'a> {
    server_name: Option<&'a [u8]>,
    verified_name: Option<&'a [u8]>,
}

/// Returns the digest of the identity, or `None` if the connection must serve no other request:
/// where the TLS context is not one that this module has hooked; where the location's certificate
/// depends on the request (`proxy_ssl_certificate` with variables, or
/// `proxy_ssl_certificate_by_lua*`); where Lua code verifies the service
/// (`proxy_ssl_verify_by_lua*`); where the trusted store can't be read.
fn identity(
    request: Request<'_>,
    upstream: Upstream<'_>,
    state: Option<&RequestState>,
    verify: bool,
    names: Names<'_>,
) -> Option<IdentityDigest> {
    let context = conf::context_id(request, upstream.tls_context()?)?;
    let none = UpstreamTls::default();
    let settings = state.map(|state| state.upstream_tls.borrow());
    let UpstreamTls {
        client_certificate,
        // Superseded by the argument `verify`, the effective value.
        verify: _,
        verify_depth,
        trusted_store,
        // Superseded by the argument `names`, which has what is sent.
        server_name: _,
        names: accepted_names,
        pins,
        spiffe,
        options,
    } = settings.as_deref().unwrap_or(&none);

    let lua = conf::lua_handshake(request);
    if lua.is_some_and(LuaHandshake::judges_service) {
        return None;
    }
    if client_certificate.is_none() && (upstream.has_variable_certificate() || lua.is_some()) {
        return None;
    }
    let trusted_store = match trusted_store {
        Some(store) => Some(store.fingerprint().ok()?),
        None => None,
    };
    let stores = match spiffe {
        Some(trusted) => {
            let stores = trusted.stores().iter().map(|store| store.fingerprint());
            stores.collect::<Result<Vec<_>, _>>().ok()?
        }
        None => Vec::new(),
    };
    let identity = Identity {
        context,
        overridden: state.is_some(),
        client_certificate: client_certificate.as_ref().map(|one| one.fingerprint()),
        verify,
        verify_depth: *verify_depth,
        trusted_store,
        names: accepted_names.as_deref(),
        pins: pins.as_deref(),
        spiffe: spiffe.as_ref().map(|trusted| (&trusted.accepted, &stores[..])),
        options: options.as_deref(),
        protocols: upstream.ssl_alpn_protocol(),
        server_name: names.server_name,
        verified_name: names.verified_name,
        source: upstream.peer().local(),
    };
    Some(identity.digest())
}

/// Returns whether nginx sends `name` as SNI: it does not if `name` is a literal address (RFC 6066,
/// section 3).
fn is_server_name(name: &[u8]) -> bool {
    let is_address = match name {
        [] | [b'[', ..] => true,
        [b'0'..=b'9', ..] => {
            std::str::from_utf8(name).is_ok_and(|name| name.parse::<Ipv4Addr>().is_ok())
        }
        _ => false,
    };
    !is_address
}
