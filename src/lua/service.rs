// SPDX-License-Identifier: Apache-2.0

//! Lua functions for the service's side.

use std::fmt::Display;
use std::rc::Rc;

use openssl::nid::Nid;
use openssl::x509::store::X509StoreRef;

use crate::conf;
use crate::lua::ffi::{Answer, ChainOrKey, NameList};
use crate::nginx::lua::current_phase;
use crate::nginx::peer_choice::PeerChooser;
use crate::nginx::phases::Phases;
use crate::nginx::pool::OutOfMemory;
use crate::nginx::request::Request;
use crate::openssl::certificate::subject_attribute;
use crate::openssl::client_certificate::{ClientCertificate, InvalidCertificate};
use crate::openssl::error::SslError;
use crate::openssl::pins::{InvalidPins, Pins};
use crate::openssl::san::{AcceptedNames, AcceptedUri};
use crate::openssl::spiffe::{InvalidIds, Trusted};
use crate::openssl::store::TrustedStore;
use crate::openssl::tls_options::{self, InvalidOptions};
use crate::upstream::handshake::verify::VerificationEnforced;
use crate::upstream::peer::choice::{self, PeerChoice};
use crate::upstream::settings::forwarding::{
    Forwarding, InvalidArgument, RequestedScheme, Target, is_block_name, timeouts, tries,
};
use crate::upstream::settings::request_state::{NotSet, RequestState};
use crate::upstream::settings::tls::{
    InvalidDepth, InvalidNames, InvalidServerName, UpstreamTls, accepted_names, depth_from_number,
    list_of_names, server_name,
};

/// Changes the timeouts of the request, or its number of tries.
fn change_forwarding(
    request: Request<'_>,
    change: impl FnOnce(&mut Forwarding) -> Result<(), InvalidArgument>,
) -> Result<(), NotSet> {
    let state = RequestState::find_or_make(request)?;
    let mut forwarding = state.forwarding.get();
    change(&mut forwarding)?;
    state.forwarding.set(forwarding);
    Ok(())
}

/// Changes the TLS settings of the connection to the service.
fn change_tls<E: Display>(
    request: Request<'_>,
    change: impl FnOnce(&mut UpstreamTls) -> Result<(), E>,
) -> Result<(), String> {
    let state = RequestState::find_or_make(request).map_err(|error| error.to_string())?;
    change(&mut state.upstream_tls.borrow_mut()).map_err(|error| error.to_string())
}

/// Sends the request to the `upstream {}` block of this name. Returns no result if there is none.
pub fn set_upstream(request: Request<'_>, host: &[u8]) -> Result<Answer, NotSet> {
    Ok(if RequestState::set_upstream(request, host)? {
        Answer::Done
    } else {
        let host = String::from_utf8_lossy(host);
        Answer::Missing(format!("could not find an Upstream named '{host}'"))
    })
}

/// Sends the request to an address, or to a name that nginx's `resolver` looks up. In the balancer
/// phase, only to an address, which Lua code then makes the peer.
pub fn set_target(request: Request<'_>, host: &[u8], port: f64) -> Result<Answer, NotSet> {
    let target = Target::new(host, port)?;
    if current_phase(Some(request)) == Phases::BALANCER {
        let (host, port) =
            target.address().ok_or_else(|| InvalidArgument::NotAddress(host.to_vec()))?;
        if let Some(choice) = choice_of(request) {
            choice.keep_peer(&host, port);
        }
        return Ok(Answer::Peer(host, port));
    }
    RequestState::set_target(request, target.to_string().as_bytes())?;
    Ok(Answer::Done)
}

fn choice_of(request: Request<'_>) -> Option<&PeerChoice> {
    request.upstream().and_then(PeerChoice::of)
}

/// Returns a number by which Lua code keeps the function that gives the targets of retries.
pub fn set_target_retry_callback(request: Request<'_>) -> Result<Answer, OutOfMemory> {
    Ok(Answer::Number(RequestState::find_or_make(request)?.make_retry_callback()))
}

/// Why a balancer can't make the target of a request its peer.
#[derive(Debug, thiserror::Error)]
pub enum NotChosen {
    #[error("no target is set: kong.service.set_target was not called for the request")]
    NoTarget,
    #[error(
        "the target of the request is \"{}\": in the balancer phase, it must be an IP address (nothing can be \
         resolved there)",
        .0.escape_ascii()
    )]
    NotAddress(Vec<u8>),
}

/// Returns the target of the current attempt, or the function that gives it.
pub fn choose_target(request: Request<'_>) -> Result<Answer, NotChosen> {
    let (choice, state) = (choice_of(request), RequestState::find(request));
    choice.inspect(|choice| choice.note_chooser());
    state.inspect(|state| state.target_is_used.set(true));
    match state.and_then(RequestState::retry_callback) {
        Some(number) if choice.is_some_and(PeerChoice::is_retry) => Ok(Answer::Callback(number)),
        _ => choose_peer(request),
    }
}

/// Returns the address that was last set in the balancer phase, or else before.
pub fn choose_peer(request: Request<'_>) -> Result<Answer, NotChosen> {
    if let Some((host, port)) = choice_of(request).and_then(PeerChoice::kept_peer) {
        return Ok(Answer::Peer(host, port));
    }
    let target = RequestState::find(request).and_then(RequestState::target);
    let target = target.ok_or(NotChosen::NoTarget)?;
    let address = Target::parse(target).and_then(|target| target.address());
    let (host, port) = address.ok_or_else(|| NotChosen::NotAddress(target.to_vec()))?;
    if let Some(choice) = choice_of(request) {
        choice.keep_peer(&host, port);
    }
    Ok(Answer::Peer(host, port))
}

/// Notes that Lua code has made the address the peer.
pub fn note_peer_set(request: Request<'_>) {
    if let Some(choice) = choice_of(request) {
        choice.note_peer_set();
    }
}

/// Returns whether an attempt may follow the current one at the targets of the request. Without a
/// limit of its own or of its location, there are as many as for a service in Kong.
pub fn may_try_again(request: Request<'_>) -> Option<()> {
    const RETRIES: usize = 5;
    let state = RequestState::find(request)?;
    let tries = state.forwarding.get().tries;
    if tries.is_none() && state.retry_callback().is_none() {
        return None;
    }
    let has_limit = request.upstream()?.has_limit_of_tries();
    (has_limit || choice_of(request)?.attempts() <= RETRIES).then_some(())
}

/// Sets the scheme that the service is spoken to with.
pub fn set_scheme(request: Request<'_>, scheme: &[u8]) -> Result<(), NotSet> {
    let scheme = RequestedScheme::new(scheme)?;
    RequestState::find_or_make(request)?.scheme.set(Some(scheme));
    Ok(())
}

/// Does nothing for the request itself: Lua code puts into `ngx.ctx` what the functions below find.
pub fn enable_recording_upstream_ssl(_: Request<'_>) {}

/// Returns the TLS version of the connection to the service, in the form of `$ssl_protocol`.
pub fn upstream_tls_version(request: Request<'_>) -> Option<Vec<u8>> {
    choice::with_outcome(request, |outcome| Some(outcome.negotiated?.protocol.to_bytes().to_vec()))
}

/// Returns an attribute of the subject of the service's certificate.
pub fn upstream_ssl_subject(request: Request<'_>, attribute: &[u8]) -> Option<Vec<u8>> {
    let attribute = match attribute {
        b"CN" => Nid::COMMONNAME,
        b"OU" => Nid::ORGANIZATIONALUNITNAME,
        b"ST" => Nid::STATEORPROVINCENAME,
        _ => return None,
    };
    choice::with_outcome(request, |outcome| {
        outcome.negotiated?;
        subject_attribute(outcome.certificate.as_ref()?, attribute).map(String::into_bytes)
    })
}

/// Sets how many attempts may follow the first, over `proxy_next_upstream_tries`.
pub fn set_retries(request: Request<'_>, retries: f64) -> Result<(), NotSet> {
    change_forwarding(request, |forwarding| {
        forwarding.tries = Some(tries(retries)?);
        Ok(())
    })
}

/// Sets the timeouts in milliseconds, over `proxy_connect_timeout`, `proxy_send_timeout` and
/// `proxy_read_timeout`.
pub fn set_timeouts(
    request: Request<'_>,
    connect: f64,
    write: f64,
    read: f64,
) -> Result<(), NotSet> {
    change_forwarding(request, |forwarding| {
        forwarding.timeouts = Some(timeouts(connect, write, read)?);
        Ok(())
    })
}

/// Resets the target of the request, its timeouts and tries, and all TLS settings for the service.
pub fn forget_service(request: Request<'_>) {
    if let Some(state) = RequestState::find(request) {
        state.forget_service();
    }
}

/// Checks whether `host` could be the name of an `upstream {}` block, for [`set_upstream`].
pub fn check_upstream(host: &[u8]) -> Result<(), String> {
    is_block_name(host).then_some(()).ok_or_else(|| {
        let given = host.escape_ascii();
        format!("upstream must be the name of an upstream {{}} block: given \"{given}\"")
    })
}

/// Checks whether [`set_target`] would accept the arguments.
pub fn check_target(host: &[u8], port: f64) -> Result<(), impl Display> {
    Target::new(host, port).map(drop)
}

/// Checks whether [`set_tls_verify_names`] would accept the names.
pub fn check_verify_names(names: NameList<'_>) -> Result<(), InvalidNames> {
    accepted_names(names.iter()).map(drop)
}

/// Checks whether [`set_tls_pins`] would accept the digests.
pub fn check_pins(digests: NameList<'_>) -> Result<(), InvalidPins> {
    Pins::new(digests.iter()).map(drop)
}

/// Checks whether [`set_tls_verify_spiffe`] would accept the trust domains and IDs.
pub fn check_verify_spiffe(names: NameList<'_>) -> Result<(), InvalidIds> {
    Trusted::check(names.iter())
}

/// Checks whether [`set_tls_options`] would accept the options.
pub fn check_options(options: NameList<'_>) -> Result<(), InvalidOptions> {
    tls_options::shared(options.iter()).map(drop)
}

/// Checks whether [`set_tls_server_name`] would accept the name.
pub fn check_server_name(name: &[u8]) -> Result<(), InvalidServerName> {
    server_name(name).map(drop)
}

/// Sets the client certificate and its key, over `proxy_ssl_certificate`.
pub fn set_tls_cert_key(
    request: Request<'_>,
    chain: ChainOrKey<'_>,
    key: ChainOrKey<'_>,
) -> Result<(), String> {
    change_tls(request, |settings| {
        settings.client_certificate = Some(ClientCertificate::of(chain.chain()?, key.key()?)?);
        Ok::<_, InvalidCertificate>(())
    })
}

/// Turns verification of the service on or off, over `proxy_ssl_verify`.
pub fn set_tls_verify(request: Request<'_>, on: bool) -> Result<(), String> {
    change_tls(request, |settings| {
        if !on && conf::enforces_verification(request) {
            return Err(NotChanged::Enforced(VerificationEnforced));
        }
        if !on && settings.spiffe.is_some() {
            return Err(NotChanged::NeedsVerification);
        }
        settings.verify = Some(on);
        Ok(())
    })
}

/// Why a setting about verification can't be changed.
#[derive(Debug, thiserror::Error)]
enum NotChanged {
    #[error(transparent)]
    Enforced(#[from] VerificationEnforced),
    /// The service has to have a SPIFFE ID, which says nothing unless it is verified.
    #[error("set_tls_verify_spiffe was called: a service is verified if it must have a SPIFFE ID")]
    NeedsVerification,
    /// No store but that of the trust domain counts.
    #[error("set_tls_verify_spiffe was called: each trust domain has its own store")]
    HasTrustDomains,
    #[error("set_tls_verify_store was called: each trust domain must have its own store")]
    HasStore,
    #[error("store was freed: {0}")]
    Store(SslError),
    #[error(transparent)]
    Ids(#[from] InvalidIds),
}

/// Sets the verification depth, over `proxy_ssl_verify_depth`.
pub fn set_tls_verify_depth(request: Request<'_>, depth: f64) -> Result<(), String> {
    change_tls(request, |settings| {
        settings.verify_depth = Some(depth_from_number(depth)?);
        Ok::<_, InvalidDepth>(())
    })
}

/// Sets the trusted certificates, over `proxy_ssl_trusted_certificate`.
pub fn set_tls_verify_store(request: Request<'_>, store: &X509StoreRef) -> Result<(), String> {
    change_tls(request, |settings| {
        if settings.spiffe.is_some() {
            return Err(NotChanged::HasTrustDomains);
        }
        // OpenSSL can't take a reference to a store whose reference count has reached 0.
        settings.trusted_store = Some(TrustedStore::of(store).map_err(NotChanged::Store)?);
        Ok(())
    })
}

/// Sets the name that is sent to the service (SNI), over `proxy_ssl_server_name` and
/// `proxy_ssl_name`; an empty one sends none.
pub fn set_tls_server_name(request: Request<'_>, name: &[u8]) -> Result<(), String> {
    change_tls(request, |settings| {
        settings.server_name = Some(server_name(name)?);
        Ok::<_, InvalidServerName>(())
    })
}

/// Sets the names of which the service's certificate must have one, over `proxy_ssl_name`.
pub fn set_tls_verify_names(request: Request<'_>, names: NameList<'_>) -> Result<(), String> {
    change_tls(request, |settings| {
        settings.names = Some(Rc::new(accepted_names(names.iter())?));
        Ok::<_, InvalidNames>(())
    })
}

/// Sets the keys of which the service's certificate must have one.
pub fn set_tls_pins(request: Request<'_>, digests: NameList<'_>) -> Result<(), String> {
    change_tls(request, |settings| {
        settings.pins = Some(Rc::new(Pins::new(digests.iter())?));
        Ok::<_, InvalidPins>(())
    })
}

/// Sets the SPIFFE IDs of which the service's certificate must carry one, and the store of each
/// trust domain. Such a service is verified.
pub fn set_tls_verify_spiffe(
    request: Request<'_>,
    names: NameList<'_>,
    stores: Vec<&X509StoreRef>,
) -> Result<(), String> {
    change_tls(request, |settings| {
        if settings.trusted_store.is_some() {
            return Err(NotChanged::HasStore);
        }
        settings.spiffe = Some(Rc::new(Trusted::new(names.iter(), &stores)?));
        Ok(())
    })
}

/// Sets versions, ciphers and the like, over `proxy_ssl_protocols` and `proxy_ssl_ciphers`.
pub fn set_tls_options(request: Request<'_>, options: NameList<'_>) -> Result<(), String> {
    change_tls(request, |settings| {
        settings.options = Some(tls_options::shared(options.iter())?);
        Ok::<_, InvalidOptions>(())
    })
}

/// Sets a list among the names that the service's certificate may have.
fn set_list(
    request: Request<'_>,
    names: NameList<'_>,
    set: impl FnOnce(&mut AcceptedNames, Vec<Box<[u8]>>),
) -> Result<(), String> {
    change_tls(request, |settings| {
        let list = list_of_names(names.iter())?;
        settings.change_names(|names| set(names, list));
        Ok::<_, InvalidNames>(())
    })
}

/// Sets DNS names that the service's certificate may have too.
pub fn set_sans_dnsnames(request: Request<'_>, names: NameList<'_>) -> Result<(), String> {
    set_list(request, names, |names, list| names.dns = AcceptedNames::dns(list))
}

/// Sets URIs that the service's certificate may have too.
pub fn set_sans_uris(request: Request<'_>, names: NameList<'_>) -> Result<(), String> {
    set_list(request, names, |names, list| {
        let exactly = |uri: Box<[u8]>| AcceptedUri::Exactly(uri);
        let uri = |uri: Box<[u8]>| AcceptedUri::new(&uri).unwrap_or_else(|| exactly(uri));
        names.uris = list.into_iter().map(uri).collect();
    })
}
