// SPDX-License-Identifier: Apache-2.0

//! The names of headers that only the gateway may set, and names that a service may take for them.

/// The headers in which the plugins tell services who the client is.
pub const NAMES: [&str; 8] = [
    "X-Consumer-Username",
    "X-Consumer-ID",
    "X-Consumer-Custom-ID",
    "X-Credential-Identifier",
    "X-Authenticated-Groups",
    "X-Anonymous-Consumer",
    "X-Client-Cert-DN",
    "X-Client-Cert-San",
];

/// The headers in which services may look for the client's certificate, if the gateway forwards it.
pub const CERTIFICATE_NAMES: [&str; 4] =
    ["Client-Cert", "Client-Cert-Chain", "X-Forwarded-Client-Cert", "X-Client-Cert"];

/// `kong_tls_strip_headers`
#[derive(Debug, PartialEq, Eq)]
pub enum Stripping {
    /// Strip [`NAMES`] and these others.
    On(Vec<Box<[u8]>>),
    /// Strip none, even if plugins are in use.
    Off,
}

/// Returns whether a service may take one header name for the other: many services treat all bytes
/// that are neither letters nor digits alike, as in CGI's meta-variables (RFC 3875, section
/// 4.1.18).
fn is_same_header(one: &[u8], other: &[u8]) -> bool {
    let is_same = |(one, other): (&u8, &u8)| {
        one.eq_ignore_ascii_case(other)
            || !one.is_ascii_alphanumeric() && !other.is_ascii_alphanumeric()
    };
    one.len() == other.len() && one.iter().zip(other).all(is_same)
}

/// Returns whether some service may take `name` for one of [`NAMES`] or of `others`.
pub fn is_guarded<'a>(name: &[u8], others: impl IntoIterator<Item = &'a [u8]>) -> bool {
    NAMES.iter().any(|known| is_same_header(known.as_bytes(), name)) || is_one_of(name, others)
}

/// Returns whether some service may take `name` for one of `names`.
pub fn is_one_of<'a>(name: &[u8], names: impl IntoIterator<Item = &'a [u8]>) -> bool {
    names.into_iter().any(|known| is_same_header(known, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_service_may_take_for_ours() {
        for name in [
            "x-consumer-username",
            "X_Consumer_Username",
            "X-CONSUMER.USERNAME",
            "x-anonymous_consumer",
            "X\u{1}Client+Cert!DN",
            "x_client_cert_san",
            "X-Consumer_Id",
            "x.consumer.custom.id",
            "X-CREDENTIAL-IDENTIFIER",
            "X-Authenticated_Groups",
            "x-forwarded_user",
        ] {
            assert!(is_guarded(name.as_bytes(), [&b"X-Forwarded-User"[..]]), "{name}");
        }
        for name in
            ["", "x-consumer-username-", "xaconsumer-username", "consumer-username", "x-forwarded"]
        {
            assert!(!is_guarded(name.as_bytes(), []), "{name}");
        }
    }
}
