// SPDX-License-Identifier: Apache-2.0

//! The functions of `resty.kong.plugins.revocation`.

use std::convert::Infallible;

use mlua::UserDataRef;
use mlua::prelude::LuaString;
use mlua::{Lua, Value};
use openssl::x509::X509;

use crate::lua::objects::{Natives, Text};
use crate::nginx::time;
use crate::openssl::crl::{self, InvalidList};
use crate::openssl::error::SslError;
use crate::openssl::fingerprint::Encoding;
use crate::openssl::issuer::Period;
use crate::openssl::ocsp::{self, InvalidAnswer};
use crate::status::counters::{self, Counter};

type Certificate = UserDataRef<X509>;

/// The natives of `resty.kong.plugins.revocation`.
pub fn natives(lua: &Lua) -> mlua::Result<Value> {
    let natives = Natives::new(lua)?;
    natives.add("id", |(certificate, issuer): (Certificate, Certificate)| {
        id(&certificate, &issuer).map(Text)
    })?;
    natives.add("ocsp_urls", |certificate: Certificate| ocsp::urls(&certificate))?;
    natives.add("ocsp_request", |(certificate, issuer): (Certificate, Certificate)| {
        ocsp::request(&certificate, &issuer).map(Text)
    })?;
    natives.add("ocsp_check", ocsp_check)?;
    natives.add("crl_urls", |certificate: Certificate| crl::urls(&certificate))?;
    natives.add("crl_scope", |(certificate, issuer): (Certificate, Certificate)| {
        crl::scope(&certificate, &issuer).map(|scope| Text(scope.digest().to_vec()))
    })?;
    natives.add("crl_check", crl_check)?;
    natives.add("crl_status", |(digest, certificate): (LuaString, Certificate)| {
        Ok::<_, Infallible>(crl::status(&digest.as_bytes(), &certificate).name())
    })?;
    natives.add("count", |(kind, is_failure): (LuaString, bool)| {
        counters::count(match (&*kind.as_bytes(), is_failure) {
            (b"ocsp", false) => Counter::RevocationFetchedOcsp,
            (b"ocsp", true) => Counter::RevocationFailedOcsp,
            (_, false) => Counter::RevocationFetchedCrl,
            (_, true) => Counter::RevocationFailedCrl,
        });
        Ok::<_, Infallible>(())
    })?;
    Ok(natives.finish())
}

/// Returns what identifies a certificate and its issuer.
fn id(certificate: &X509, issuer: &X509) -> Result<Vec<u8>, SslError> {
    let mut encoding = Encoding::new();
    for one in [certificate, issuer] {
        let der = one.to_der().map_err(|errors| SslError::new("i2d_X509", errors))?;
        encoding.bytes(&der);
    }
    Ok(encoding.digest().to_vec())
}

/// The certificate, its issuer, the request, and the answer to it.
type Answered = (Certificate, Certificate, LuaString, LuaString);

/// Returns what an answer says, and for how long that counts.
fn ocsp_check(
    (certificate, issuer, request, answer): Answered,
) -> Result<(&'static str, f64, f64), InvalidAnswer> {
    let now = time::now().date;
    let answer = ocsp::check(&request.as_bytes(), &answer.as_bytes(), &certificate, &issuer, now)?;
    let Period { since, until } = answer.period;
    Ok((answer.status.name(), since as f64, until as f64))
}

/// The certificate, its issuer, and the list.
type Listed = (Certificate, Certificate, LuaString);

/// Checks a list. Returns its digest, and for how long it counts.
fn crl_check((certificate, issuer, bytes): Listed) -> Result<(Text, f64, f64), InvalidList> {
    let list = crl::parse(&bytes.as_bytes())?;
    let Period { since, until } = crl::check(&list, &certificate, &issuer, time::now().date)?;
    Ok((Text(crl::digest(&list)), since as f64, until as f64))
}
