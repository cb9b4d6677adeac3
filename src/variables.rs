// SPDX-License-Identifier: Apache-2.0

//! The variables of the module.

use std::fmt::Write;

use crate::client::{client_verify as overrides, objection};
use crate::conf::MainConf;
use crate::nginx::conf_parser::ConfParser;
use crate::nginx::own_conf::OwnConf;
use crate::nginx::pool::OutOfMemory;
use crate::nginx::request::Request;
use crate::nginx::variable::{RegistrationFailed, Value, VariableFailed, VariableIndex, Variables};
use crate::openssl::{certificate, ssl};
use crate::upstream::location::content::{self, MissingTarget};
use crate::upstream::peer::choice;
use crate::upstream::peer::outcome::{Negotiated, Outcome, Verified};
use crate::upstream::settings::forwarding::RequestedScheme;
use crate::upstream::settings::request_state::RequestState;

struct OurVariables;

impl Variables for OurVariables {
    const ALL: &'static [(&'static str, crate::nginx::variable::Evaluate)] = &[
        ("kong_client_verify", client_verify),
        ("kong_upstream_target", upstream_target),
        ("kong_upstream_scheme", upstream_scheme),
        ("kong_upstream_ssl_protocol", |request, value| of_service(request, value, protocol)),
        ("kong_upstream_ssl_cipher", |request, value| of_service(request, value, cipher)),
        ("kong_upstream_ssl_session_reused", |request, value| {
            of_service(request, value, session_reused)
        }),
        ("kong_upstream_ssl_verify", |request, value| of_service(request, value, verify)),
        ("kong_upstream_ssl_server_raw_cert", |request, value| {
            of_service(request, value, server_raw_cert)
        }),
        ("kong_upstream_ssl_client_s_dn", |request, value| of_service(request, value, client_s_dn)),
        ("kong_upstream_ssl_client_serial", |request, value| {
            of_service(request, value, client_serial)
        }),
        ("kong_upstream_ssl_client_fingerprint", |request, value| {
            of_service(request, value, client_fingerprint)
        }),
        ("kong_upstream_ssl_client_v_end", |request, value| {
            of_service(request, value, client_v_end)
        }),
        ("kong_upstream_ssl_identity", |request, value| of_service(request, value, identity)),
    ];
}

/// Registers the variables. To be called in *preconfiguration*.
pub fn preconfiguration(parser: ConfParser<'_>) -> Result<(), RegistrationFailed> {
    let original = VariableIndex::of(parser, "ssl_client_verify")?;
    if let Some(main_conf) = MainConf::of_parser(parser) {
        main_conf.ssl_client_verify.get_or_init(|| original);
    }
    OurVariables::register(parser)
}

/// `$kong_client_verify`: the value given to `set_client_verify`, unless it would hide what nginx
/// has found about revocation; otherwise `$ssl_client_verify`.
fn client_verify<'a>(request: Request<'a>, value: Value<'a>) -> Result<(), VariableFailed> {
    // An objection of nginx to the certificate must not be hidden by a success.
    let overridden = RequestState::client_verify_of(request).filter(|overridden| {
        overrides::is_failure(overridden) || objection::of(request.connection()).is_none()
    });
    match overridden {
        Some(overridden) => {
            value.set(overridden);
            Ok(())
        }
        None => {
            let original = MainConf::of_request(request)
                .and_then(|main_conf| main_conf.ssl_client_verify.get())
                .ok_or(VariableFailed)?;
            value.set_other(request, *original)
        }
    }
}

/// Returns the target that was set for the request.
fn target(request: Request<'_>) -> Result<&[u8], MissingTarget> {
    let state =
        RequestState::find_or_inherit(request).map_err(|OutOfMemory| MissingTarget::OutOfMemory)?;
    let target = state.and_then(RequestState::target);
    if let Some(state) = state.filter(|_| content::is_looked_at(request)) {
        state.target_is_used.set(true);
    }
    target.ok_or(MissingTarget::NotSet)
}

/// `$kong_upstream_target`: the target set by `set_upstream` or `set_target`.
fn upstream_target<'a>(request: Request<'a>, value: Value<'a>) -> Result<(), VariableFailed> {
    let target = match target(request) {
        Ok(target) => target,
        Err(missing) if content::is_choosing_upstream(request) => {
            content::refuse_missing_target(request, missing)
        }
        Err(_) => {
            value.set_not_found();
            return Ok(());
        }
    };
    value.set(target);
    Ok(())
}

/// `$kong_upstream_scheme`: the scheme set by `set_scheme`, by default `https`.
fn upstream_scheme<'a>(request: Request<'a>, value: Value<'a>) -> Result<(), VariableFailed> {
    let state = RequestState::find_or_inherit(request).map_err(|OutOfMemory| VariableFailed)?;
    let scheme = state.and_then(|state| state.scheme.get()).unwrap_or(RequestedScheme::Https);
    value.set(scheme.name().as_bytes());
    Ok(())
}

/// Sets a variable about the current connection to the service, or about the last one after nginx
/// has released it. `write` writes the value, and returns `None` if there is none.
fn of_service<'a>(
    request: Request<'a>,
    value: Value<'a>,
    write: fn(&Outcome, &mut String) -> Option<()>,
) -> Result<(), VariableFailed> {
    let mut text = String::new();
    match choice::with_outcome(request, |outcome| write(outcome, &mut text)) {
        Some(()) => value.set_text(request, &text),
        None => {
            value.set_not_found();
            Ok(())
        }
    }
}

/// `$kong_upstream_ssl_protocol`, in the format of `$ssl_protocol`.
fn protocol(outcome: &Outcome, text: &mut String) -> Option<()> {
    let Negotiated { protocol, .. } = outcome.negotiated?;
    text.push_str(protocol.to_str().ok()?);
    Some(())
}

/// `$kong_upstream_ssl_cipher`, in the format of `$ssl_cipher`.
fn cipher(outcome: &Outcome, text: &mut String) -> Option<()> {
    let Negotiated { cipher, .. } = outcome.negotiated?;
    text.push_str(cipher.to_str().ok()?);
    Some(())
}

/// `$kong_upstream_ssl_session_reused`, in the format of `$ssl_session_reused`: `r` or `.`.
fn session_reused(outcome: &Outcome, text: &mut String) -> Option<()> {
    let Negotiated { session_reused, .. } = outcome.negotiated?;
    text.push(if session_reused { 'r' } else { '.' });
    Some(())
}

/// `$kong_upstream_ssl_verify`: `SUCCESS`, `FAILED:reason`, or `NONE` if verification was not asked
/// for or is not done yet.
fn verify(outcome: &Outcome, text: &mut String) -> Option<()> {
    match outcome.verified {
        Verified::None => text.push_str("NONE"),
        Verified::Success => text.push_str("SUCCESS"),
        Verified::Failed(reason) => write!(text, "FAILED:{}", ssl::reason(reason)).ok()?,
    }
    Some(())
}

/// `$kong_upstream_ssl_server_raw_cert`: the service's certificate, in PEM.
fn server_raw_cert(outcome: &Outcome, text: &mut String) -> Option<()> {
    let pem = outcome.certificate.as_ref()?.to_pem().ok()?;
    text.push_str(std::str::from_utf8(&pem).ok()?);
    Some(())
}

/// `$kong_upstream_ssl_client_s_dn`: the subject of the certificate that the service was shown, in
/// the format of `$ssl_client_s_dn`.
fn client_s_dn(outcome: &Outcome, text: &mut String) -> Option<()> {
    let subject = certificate::subject(outcome.client_certificate.as_ref()?.certificate());
    text.push_str(&subject.ok()?);
    Some(())
}

/// `$kong_upstream_ssl_client_serial`: its serial number, in the format of `$ssl_client_serial`.
fn client_serial(outcome: &Outcome, text: &mut String) -> Option<()> {
    text.push_str(&certificate::serial(outcome.client_certificate.as_ref()?.certificate()).ok()?);
    Some(())
}

/// `$kong_upstream_ssl_client_fingerprint`: its SHA-1 digest, in the format of
/// `$ssl_client_fingerprint`.
fn client_fingerprint(outcome: &Outcome, text: &mut String) -> Option<()> {
    let presented = outcome.client_certificate.as_ref()?.certificate();
    text.push_str(&certificate::fingerprint(presented, "SHA1").ok()?);
    Some(())
}

/// `$kong_upstream_ssl_client_v_end`: its end, in the format of `$ssl_client_v_end`.
fn client_v_end(outcome: &Outcome, text: &mut String) -> Option<()> {
    write!(text, "{}", outcome.client_certificate.as_ref()?.certificate().not_after()).ok()
}

/// `$kong_upstream_ssl_identity`: the identity of a request with settings of its own, otherwise
/// `-`.
fn identity(outcome: &Outcome, text: &mut String) -> Option<()> {
    match outcome.identity {
        Some(digest) => write!(text, "{digest}").ok(),
        None => {
            text.push('-');
            Some(())
        }
    }
}
