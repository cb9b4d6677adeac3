// SPDX-License-Identifier: Apache-2.0

//! The names of headers that only the gateway may set, and what a service may take for them.

/// What the plugins tell services.
pub const NAMES: [&str; 3] = ["X-Consumer-Username", "X-Anonymous-Consumer", "X-Client-Cert-DN"];

/// `kong_tls_strip_headers`
#[derive(Debug, PartialEq, Eq)]
pub enum Stripping {
    /// [`NAMES`], and others.
    On(Vec<Box<[u8]>>),
    /// None, whatever plugins there are.
    Off,
}

/// Whether a service may take one name of a header for the other: many read every byte that is no
/// letter or digit alike, as in the variables of CGI (RFC 3875, section 4.1.18).
fn is_same_header(one: &[u8], other: &[u8]) -> bool {
    let is_same = |(one, other): (&u8, &u8)| {
        one.eq_ignore_ascii_case(other)
            || !one.is_ascii_alphanumeric() && !other.is_ascii_alphanumeric()
    };
    one.len() == other.len() && one.iter().zip(other).all(is_same)
}

/// Whether a header is one of [`NAMES`] or of `others`, for some service.
pub fn is_guarded(name: &[u8], others: &[Box<[u8]>]) -> bool {
    NAMES.iter().any(|known| is_same_header(known.as_bytes(), name))
        || others.iter().any(|known| is_same_header(known, name))
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
            "x-forwarded_user",
        ] {
            assert!(is_guarded(name.as_bytes(), &[(*b"X-Forwarded-User").into()]), "{name}");
        }
        for name in
            ["", "x-consumer-username-", "xaconsumer-username", "consumer-username", "x-forwarded"]
        {
            assert!(!is_guarded(name.as_bytes(), &[]), "{name}");
        }
    }
}
