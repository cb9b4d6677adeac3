//! The variables of the module.

use std::fmt::Write;
use std::ptr::{self, NonNull};

use ngx::ffi::{
    NGX_ERROR, NGX_HTTP_VAR_NOCACHEABLE, NGX_OK, ngx_http_add_variable,
    ngx_http_get_indexed_variable, ngx_http_get_variable_index, ngx_http_request_t,
    ngx_http_variable_t, ngx_http_variable_value_t, ngx_int_t, ngx_uint_t,
};

use crate::client::objection;
use crate::nginx::bitfields;
use crate::nginx::conf_parser::ConfParser;
use crate::nginx::configuration::string;
use crate::nginx::connection::process_log;
use crate::nginx::panic::guard;
use crate::nginx::pool::OutOfMemory;
use crate::nginx::request::Request;
use crate::openssl::ssl;
use crate::upstream::location::content::{self, MissingTarget};
use crate::upstream::peer::choice::{self, PeerChoice};
use crate::upstream::peer::outcome::{Negotiated, Outcome, Verified};
use crate::upstream::settings::request_state::RequestState;

/// nginx could not register a variable; it has logged why.
#[derive(Debug, thiserror::Error)]
#[error("could not register a variable")]
pub struct RegistrationFailed;

/// The variables about the connection to the service.
const UPSTREAM: &[(&str, UpstreamVariable)] = &[
    ("kong_upstream_ssl_protocol", protocol),
    ("kong_upstream_ssl_cipher", cipher),
    ("kong_upstream_ssl_session_reused", session_reused),
    ("kong_upstream_ssl_verify", verify),
    ("kong_upstream_ssl_server_raw_cert", server_raw_cert),
    ("kong_upstream_ssl_identity", identity),
];

/// Registers the variables. To be called in *preconfiguration*.
pub fn preconfiguration(parser: ConfParser<'_>) -> Result<(), RegistrationFailed> {
    // SAFETY: what is added is a variable of the configuration.
    unsafe {
        let mut original = string("ssl_client_verify");
        let index = ngx_http_get_variable_index(parser.as_ptr(), &raw mut original);
        let index = usize::try_from(index).map_err(|_| RegistrationFailed)?;

        let variable = add(parser, "kong_client_verify")?.as_mut();
        variable.get_handler = Some(client_verify);
        variable.data = index;

        add(parser, "kong_upstream_target")?.as_mut().get_handler = Some(upstream_target);

        for (index, (name, _)) in UPSTREAM.iter().enumerate() {
            let variable = add(parser, name)?.as_mut();
            variable.get_handler = Some(upstream_variable);
            variable.data = index;
        }
    }
    Ok(())
}

fn add(
    parser: ConfParser<'_>,
    name: &'static str,
) -> Result<NonNull<ngx_http_variable_t>, RegistrationFailed> {
    let mut name = string(name);
    // What a variable has to say changes in the course of a request.
    // SAFETY: nginx copies the name.
    let variable = unsafe {
        ngx_http_add_variable(
            parser.as_ptr(),
            &raw mut name,
            NGX_HTTP_VAR_NOCACHEABLE as ngx_uint_t,
        )
    };
    NonNull::new(variable).ok_or(RegistrationFailed)
}

/// # Safety
/// `place` must be valid, and `value` live as long as the request.
unsafe fn set(place: *mut ngx_http_variable_value_t, value: NonNull<[u8]>) {
    // SAFETY: by contract.
    unsafe {
        bitfields::set_variable_len(place, value.len() as u32);
        bitfields::set_variable_valid(place, 1);
        bitfields::set_variable_no_cacheable(place, 0);
        bitfields::set_variable_not_found(place, 0);
        (*place).data = value.as_ptr().cast();
    }
}

/// `$kong_client_verify`: what `set_client_verify` was given, unless it hides what nginx has found
/// of revocation; else `$ssl_client_verify`, whose index is `data`.
unsafe extern "C" fn client_verify(
    r: *mut ngx_http_request_t,
    value: *mut ngx_http_variable_value_t,
    data: usize,
) -> ngx_int_t {
    guard("$kong_client_verify", process_log(), NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx calls with a valid request and a place for the value.
        unsafe {
            let request = Request::from_ptr(NonNull::new_unchecked(r));
            // What nginx holds against a certificate is not to be hidden.
            let overridden = RequestState::client_verify_of(request).filter(|overridden| {
                crate::client::client_verify::is_failure(overridden.as_ref())
                    || objection::of(request.connection()).is_none()
            });
            match overridden {
                Some(overridden) => set(value, overridden),
                None => {
                    let original = ngx_http_get_indexed_variable(r, data as ngx_uint_t);
                    if original.is_null() {
                        return NGX_ERROR as ngx_int_t;
                    }
                    ptr::copy_nonoverlapping(original, value, 1);
                    bitfields::set_variable_no_cacheable(value, 0);
                }
            }
        }
        NGX_OK as ngx_int_t
    })
}

/// Where the request is to go.
fn target(request: Request<'_>) -> Result<NonNull<[u8]>, MissingTarget> {
    let state =
        RequestState::find_or_inherit(request).map_err(|OutOfMemory| MissingTarget::OutOfMemory)?;
    let target = state.and_then(|state| state.forwarding.get().target);
    if let Some(state) = state.filter(|_| content::is_looked_at(request)) {
        state.target_is_used.set(true);
    }
    target.ok_or(MissingTarget::NotSet)
}

/// `$kong_upstream_target`: what `set_upstream` or `set_target` chose.
unsafe extern "C" fn upstream_target(
    r: *mut ngx_http_request_t,
    value: *mut ngx_http_variable_value_t,
    _data: usize,
) -> ngx_int_t {
    guard("$kong_upstream_target", process_log(), NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx calls with a valid request and a place for the value. A target lives as
        // long as the request.
        unsafe {
            let request = Request::from_ptr(NonNull::new_unchecked(r));
            match target(request) {
                Ok(target) => set(value, target),
                Err(missing) if content::is_choosing_upstream(request) => {
                    set(value, NonNull::from(content::refuse_missing_target(request, missing)));
                }
                Err(_) => bitfields::set_variable_not_found(value, 1),
            }
        }
        NGX_OK as ngx_int_t
    })
}

/// Writes a value; `None` if there is none.
type UpstreamVariable = fn(&Outcome, &mut String) -> Option<()>;

/// A variable about the connection to the service, which is element `data` of [`UPSTREAM`]: as it
/// is now, or, when nginx has let go of it, as it was last.
unsafe extern "C" fn upstream_variable(
    r: *mut ngx_http_request_t,
    value: *mut ngx_http_variable_value_t,
    data: usize,
) -> ngx_int_t {
    guard("$kong_upstream_ssl_*", process_log(), NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx calls with a valid request and a place for the value.
        unsafe {
            let request = Request::from_ptr(NonNull::new_unchecked(r));
            match upstream_text(request, data)
                .map(|text| request.pool().copy_bytes(text.as_bytes()))
            {
                Some(Ok(text)) => set(value, text),
                Some(Err(_)) => return NGX_ERROR as ngx_int_t,
                None => bitfields::set_variable_not_found(value, 1),
            }
        }
        NGX_OK as ngx_int_t
    })
}

fn upstream_text(request: Request<'_>, index: usize) -> Option<String> {
    let (_, write) = UPSTREAM.get(index)?;
    let upstream = request.upstream()?;
    let mut text = String::new();

    let is_overridden = || !matches!(RequestState::with_upstream_tls(request), Ok(None));
    if let Some(outcome) = choice::outcome(upstream, is_overridden()) {
        write(&outcome, &mut text)?;
        return Some(text);
    }
    PeerChoice::of(upstream)?.with_outcome(|outcome| write(outcome?, &mut text))?;
    Some(text)
}

/// `$kong_upstream_ssl_protocol`, as `$ssl_protocol` has it.
fn protocol(outcome: &Outcome, text: &mut String) -> Option<()> {
    let Negotiated { protocol, .. } = outcome.negotiated?;
    text.push_str(protocol);
    Some(())
}

/// `$kong_upstream_ssl_cipher`, as `$ssl_cipher` has it.
fn cipher(outcome: &Outcome, text: &mut String) -> Option<()> {
    let Negotiated { cipher, .. } = outcome.negotiated?;
    text.push_str(cipher);
    Some(())
}

/// `$kong_upstream_ssl_session_reused`, as `$ssl_session_reused` has it: `r` or `.`.
fn session_reused(outcome: &Outcome, text: &mut String) -> Option<()> {
    let Negotiated { session_reused, .. } = outcome.negotiated?;
    text.push(if session_reused { 'r' } else { '.' });
    Some(())
}

/// `$kong_upstream_ssl_verify`: `SUCCESS`, `FAILED:reason`, or `NONE` if it was not asked for.
fn verify(outcome: &Outcome, text: &mut String) -> Option<()> {
    match outcome.verified {
        Verified::None => text.push_str("NONE"),
        Verified::Success => text.push_str("SUCCESS"),
        Verified::Failed(reason) => write!(text, "FAILED:{}", ssl::reason(reason)).ok()?,
    }
    Some(())
}

/// `$kong_upstream_ssl_server_raw_cert`: the certificate of the service, in PEM.
fn server_raw_cert(outcome: &Outcome, text: &mut String) -> Option<()> {
    let pem = outcome.certificate.as_ref()?.to_pem().ok()?;
    text.push_str(std::str::from_utf8(&pem).ok()?);
    Some(())
}

/// `$kong_upstream_ssl_identity`: the identity of a request with settings of its own, `-` for none.
fn identity(outcome: &Outcome, text: &mut String) -> Option<()> {
    match outcome.identity {
        Some(key) => write!(text, "{key}").ok(),
        None => {
            text.push('-');
            Some(())
        }
    }
}
