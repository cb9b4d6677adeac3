// SPDX-License-Identifier: Apache-2.0

//! The table of all functions for requests: in which phases each may be called, its arguments, and
//! its implementation.

use std::fmt::Write;

use mlua::{LightUserData, Lua, Value};
use openssl::x509::store::X509StoreRef;

use crate::lua::ffi::{CType, ChainOrKey, Frame, Function, NameList, SocketState, functions};
use crate::lua::{client, objects, service, verdicts};
use crate::nginx::lua::current_phase;
use crate::nginx::phases::Phases;
use crate::nginx::request::Request;

/// For the module's own Lua code, which calls these functions only in suitable phases.
const OURS: Option<Phases> = None;

// Each name lists its phases, or says what has to be there for the call.
const CLIENT_HELLO: Option<Phases> = Some(Phases::CLIENT_HELLO);
const CERTIFICATE: Option<Phases> = Some(Phases::CERTIFICATE);
const ACCESS: Option<Phases> = Some(Phases::ACCESS);
const BALANCER: Option<Phases> = Some(Phases::BALANCER);
const REWRITE_ACCESS: Option<Phases> = Some(Phases::REWRITE.or(Phases::ACCESS));
const REWRITE_ACCESS_BALANCER: Option<Phases> = Some(UNTIL_BALANCER);
const REWRITE_ACCESS_BALANCER_CONTENT: Option<Phases> = Some(UNTIL_BALANCER.or(Phases::CONTENT));
/// All phases of a request: `rewrite` to `log`.
const ANY_WITH_REQUEST: Option<Phases> = Some(OF_REQUEST);
/// All phases of a request, and those of the handshake with the client.
const ANY_WITH_CONNECTION: Option<Phases> =
    Some(OF_REQUEST.or(Phases::CERTIFICATE).or(Phases::CLIENT_HELLO));
/// The same, and timers.
const ANY_WITH_SOCKETS: Option<Phases> =
    Some(OF_REQUEST.or(Phases::CERTIFICATE).or(Phases::CLIENT_HELLO).or(Phases::TIMER));

const UNTIL_BALANCER: Phases = Phases::REWRITE.or(Phases::ACCESS).or(Phases::BALANCER);
const OF_REQUEST: Phases = UNTIL_BALANCER
    .or(Phases::CONTENT)
    .or(Phases::HEADER_FILTER)
    .or(Phases::BODY_FILTER)
    .or(Phases::LOG);

functions! {
    request_client_certificate: CERTIFICATE,
        client::request_client_certificate,
        (Request<'_>, ChainOrKey<'_>, bool, NameList<'_>, bool);
    disable_session_reuse: CERTIFICATE, client::disable_session_reuse, (Request<'_>);
    disable_http2_alpn: CLIENT_HELLO, client::disable_http2_alpn, (Request<'_>);
    get_full_client_certificate_chain: ANY_WITH_REQUEST,
        client::get_full_client_certificate_chain, (Request<'_>);
    set_client_verify: REWRITE_ACCESS_BALANCER_CONTENT,
        client::set_client_verify, (Request<'_>, &[u8]);
    get_request_ssl_pointer: ANY_WITH_CONNECTION, client::get_request_ssl_pointer, (Request<'_>);
    get_ssl_pointer: ANY_WITH_SOCKETS, client::get_ssl_pointer, (Request<'_>, SocketState<'_>);

    set_upstream: ACCESS, service::set_upstream, (Request<'_>, &[u8]);
    set_target: REWRITE_ACCESS_BALANCER, service::set_target, (Request<'_>, &[u8], f64);
    set_target_retry_callback: REWRITE_ACCESS, service::set_target_retry_callback, (Request<'_>);
    choose_target: BALANCER, service::choose_target, (Request<'_>);
    enable_recording_upstream_ssl: REWRITE_ACCESS_BALANCER,
        service::enable_recording_upstream_ssl, (Request<'_>);
    set_scheme: REWRITE_ACCESS_BALANCER, service::set_scheme, (Request<'_>, &[u8]);
    set_retries: REWRITE_ACCESS, service::set_retries, (Request<'_>, f64);
    set_timeouts: REWRITE_ACCESS, service::set_timeouts, (Request<'_>, f64, f64, f64);
    set_tls_cert_key: REWRITE_ACCESS_BALANCER,
        service::set_tls_cert_key, (Request<'_>, ChainOrKey<'_>, ChainOrKey<'_>);
    set_tls_verify: REWRITE_ACCESS_BALANCER, service::set_tls_verify, (Request<'_>, bool);
    set_tls_verify_depth: REWRITE_ACCESS_BALANCER,
        service::set_tls_verify_depth, (Request<'_>, f64);
    set_tls_verify_store: REWRITE_ACCESS_BALANCER,
        service::set_tls_verify_store, (Request<'_>, &X509StoreRef);
    set_tls_server_name: REWRITE_ACCESS_BALANCER,
        service::set_tls_server_name, (Request<'_>, &[u8]);
    set_tls_verify_names: REWRITE_ACCESS_BALANCER,
        service::set_tls_verify_names, (Request<'_>, NameList<'_>);
    set_tls_pins: REWRITE_ACCESS_BALANCER, service::set_tls_pins, (Request<'_>, NameList<'_>);
    set_tls_verify_spiffe: REWRITE_ACCESS_BALANCER,
        service::set_tls_verify_spiffe, (Request<'_>, NameList<'_>, Vec<&X509StoreRef>);
    set_tls_options: REWRITE_ACCESS_BALANCER,
        service::set_tls_options, (Request<'_>, NameList<'_>);
    set_sans_dnsnames: REWRITE_ACCESS_BALANCER,
        service::set_sans_dnsnames, (Request<'_>, NameList<'_>);
    set_sans_uris: REWRITE_ACCESS_BALANCER, service::set_sans_uris, (Request<'_>, NameList<'_>);

    refusal: OURS, refusal, (Option<Request<'_>>, &[u8], &[u8]);
    pass_chain: OURS, objects::pass_chain, (ChainOrKey<'_>);
    library_is_loaded: OURS, client::library_is_loaded, ();
    guard_headers: OURS, client::guard_headers, (Request<'_>);
    strip_headers: OURS, client::strip_headers, (Request<'_>, NameList<'_>);
    remove_headers: OURS, client::remove_headers, (Request<'_>, NameList<'_>);
    verify_client_with: OURS, client::verify_client_with, (Request<'_>, &X509StoreRef, f64, bool);
    client_chain_digest: OURS, client::client_chain_digest, (Request<'_>);
    client_objection: OURS, client::client_objection, (Request<'_>);
    keep_text: OURS, client::keep_text, (Request<'_>, &[u8], &[u8]);
    kept_text: OURS, client::kept_text, (Request<'_>, &[u8]);
    has_error_page: OURS, client::has_error_page, (Request<'_>, f64);
    clocks: OURS, client::clocks, ();
    still_holds: OURS, client::still_holds, (f64, f64, f64);
    policy_digest: OURS, verdicts::policy_digest, (&[u8]);
    shared_verdict: OURS, verdicts::shared, (Request<'_>, &X509StoreRef, &[u8]);
    share_verdict: OURS,
        verdicts::share, (Request<'_>, &X509StoreRef, &[u8], &[u8], bool);
    count_cache: OURS, client::count_cache, (&[u8], f64);
    decode_url: OURS, client::decode_url, (&[u8]);
    decode_base64: OURS, client::decode_base64, (&[u8]);
    forget_service: OURS, service::forget_service, (Request<'_>);
    upstream_tls_version: OURS, service::upstream_tls_version, (Request<'_>);
    upstream_ssl_subject: OURS, service::upstream_ssl_subject, (Request<'_>, &[u8]);
    choose_peer: OURS, service::choose_peer, (Request<'_>);
    note_peer_set: OURS, service::note_peer_set, (Request<'_>);
    may_try_again: OURS, service::may_try_again, (Request<'_>);
    check_upstream: OURS, service::check_upstream, (&[u8]);
    check_target: OURS, service::check_target, (&[u8], f64);
    check_verify_names: OURS, service::check_verify_names, (NameList<'_>);
    check_pins: OURS, service::check_pins, (NameList<'_>);
    check_verify_spiffe: OURS, service::check_verify_spiffe, (NameList<'_>);
    check_options: OURS, service::check_options, (NameList<'_>);
    check_server_name: OURS, service::check_server_name, (&[u8]);
}

/// Returns the error for a call of the function `name`, which users know as `label`, in the current
/// phase of `request`; `None` if the phase allows it.
fn refusal(request: Option<Request<'_>>, name: &[u8], label: &[u8]) -> Option<Vec<u8>> {
    let function = FUNCTIONS.iter().find(|function| function.name.as_bytes() == name)?;
    let (allowed, current) = (function.phases?, current_phase(request));
    let refused = !allowed.contains(current);
    refused.then(|| allowed.refusal(current, &String::from_utf8_lossy(label)).into())
}

/// The functions, in the order of [`describe`].
static POINTERS: [Function; FUNCTIONS.len()] = {
    let mut pointers = [FUNCTIONS[0].function; FUNCTIONS.len()];
    let mut number = 0;
    while number < FUNCTIONS.len() {
        pointers[number] = FUNCTIONS[number].function;
        number += 1;
    }
    pointers
};

/// Returns what `resty.kong.tls.functions` gets: a pointer to the array of the functions, and their
/// description.
pub fn for_lua(lua: &Lua) -> mlua::Result<Value> {
    let table = lua.create_table()?;
    table.raw_set("pointers", LightUserData((&raw const POINTERS).cast_mut().cast()))?;
    table.raw_set("description", describe())?;
    Ok(Value::Table(table))
}

/// Returns the description of the functions: the declaration of a frame, then a line per function
/// with its name and the kinds of its arguments.
fn describe() -> String {
    let mut text = Frame::declare("");
    for function in FUNCTIONS {
        let kinds = (function.arguments)();
        // Writing to a string does not fail.
        let _ = write!(text, "\n{}", function.name);
        for kind in kinds.iter().filter(|kind| !kind.is_empty()) {
            let _ = write!(text, " {kind}");
        }
    }
    text
}
