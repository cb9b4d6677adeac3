// SPDX-License-Identifier: Apache-2.0

//! Properties of code that reads untrusted bytes, which must hold for any input.
//!
//! Each function is a target in `fuzz/`. `cargo test` also runs the inputs in `fuzz/seeds`, which
//! include former failures.

#![allow(unsafe_code, reason = "what is compared with is C")]

use std::ffi::c_uint;
use std::net::SocketAddrV6;
use std::ptr;

use foreign_types::ForeignType;
use openssl::error::ErrorStack;
use openssl::x509::X509;
use openssl_sys::X509_check_host;

use crate::address_ranges::AddressRanges;
use crate::client::header_certificate::Certificates;
use crate::client::header_certificate::xfcc::Which;
use crate::client::{client_verify, header_certificate};
use crate::openssl::san::{AcceptedHost, AcceptedNames, AcceptedUri};
use crate::openssl::ssl::select_alpn;
use crate::openssl::store::{self, Sources};
use crate::openssl::verification::{self, Purpose, Terms};
use crate::openssl::{certificate, crl, issuer, ocsp, pem, session};
use crate::status::format::Format;
use crate::upstream::settings::forwarding::{Target, UpstreamNames};
use crate::upstream::settings::tls;

/// The name of a target, and its function.
pub type Fuzz = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Fuzz] = &[
    ("certificate", certificate),
    ("pem", pem),
    ("target", target),
    ("status_format", status_format),
    ("client_hello", client_hello),
    ("arguments", arguments),
    ("header_certificate", header_certificates),
    ("revocation", revocation),
];

/// Reads a DER certificate of a peer.
pub fn certificate(input: &[u8]) {
    if let Ok(certificate) = X509::from_der(input) {
        // Fields that can't be read are errors or empty.
        let _ = certificate::subject(&certificate);
        let _ = certificate::issuer(&certificate);
        let _ = certificate::serial(&certificate);
        let _ = certificate::not_before(&certificate);
        let _ = certificate::not_after(&certificate);
        let _ = certificate::common_name(&certificate);
        let fingerprint = certificate::fingerprint(&certificate, "sha256");
        assert_eq!(fingerprint.map(|text| text.len()).ok(), Some(64));
        names_are_matched_as_openssl_does(&certificate);
    }
    drop(ErrorStack::get());
}

fn names_are_matched_as_openssl_does(certificate: &X509) {
    /// `X509_CHECK_FLAG_NEVER_CHECK_SUBJECT`, `X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS`
    const FLAGS: c_uint = 0x20 | 0x4;

    let names = certificate::alternative_names(certificate).unwrap_or_default();
    for name in names.iter().filter(|name| name.kind == "dns") {
        let host = match name.text.strip_prefix(b"*") {
            Some(rest) => [b"a", rest].concat(),
            None => name.text.clone(),
        };
        let is_host_name = !host.starts_with(b".")
            && host.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(byte));
        if is_host_name && !host.is_empty() {
            let dns = vec![host.clone().into()];
            let ours = carries(certificate, AcceptedNames { dns, ..AcceptedNames::default() });
            // SAFETY: the certificate and the name are valid; the function gets the name's length,
            // and keeps no pointer.
            let theirs = unsafe {
                let (certificate, name) = (certificate.as_ptr(), host.as_ptr().cast());
                X509_check_host(certificate, name, host.len(), FLAGS, ptr::null_mut()) == 1
            };
            assert_eq!(ours, theirs, "{} for {}", host.escape_ascii(), name.text.escape_ascii());
        }
    }
    for name in names.iter().filter(|name| name.kind == "uri" && !name.text.is_empty()) {
        let uris = vec![AcceptedUri::Exactly(name.text.clone().into())];
        let is_carried = carries(certificate, AcceptedNames { uris, ..AcceptedNames::default() });
        assert!(is_carried, "{}", name.text.escape_ascii());
    }
}

fn carries(certificate: &X509, names: AcceptedNames) -> bool {
    AcceptedNames { host: AcceptedHost::None, ..names }.accept(certificate, b"")
}

/// Reads certificates, keys and revocation lists in PEM, as headers, files and plugins supply them.
pub fn pem(input: &[u8]) {
    let lines = input.split(|byte| *byte == b'\n').count();
    if let Ok(certificates) = pem::certificates(input) {
        assert!(!certificates.is_empty() && certificates.len() <= lines);
        let sources = Sources { pem: Some(input), ..Sources::default() };
        // Duplicates are no error; some certificates OpenSSL refuses to store.
        if let (Ok(store), Ok(chain)) = (store::build(&sources), pem::chain(input)) {
            assert_eq!(chain.len(), certificates.len());
            let terms = Terms { purpose: Some(Purpose::ClientAuth), ..Terms::default() };
            for leaf in &certificates {
                let _ = verification::verify(&store, leaf, &chain, terms, 0);
            }
        }
    }
    let _ = pem::revocation_lists(input);
    let _ = pem::key(input, None);
    let _ = pem::key(input, Some(b"password"));
    drop(ErrorStack::get());
}

/// Sets the target of a request: the first bytes are the port, the others the host.
pub fn target(input: &[u8]) {
    let Some((port, host)) = input.split_first_chunk() else {
        return;
    };
    let port = f64::from_be_bytes(*port);
    if let Ok(target) = Target::new(host, port) {
        let url = target.to_string();
        let (name, number) = url.rsplit_once(':').unwrap_or_default();
        assert_eq!(number.parse::<u16>().map(f64::from), Ok(port + 0.0), "{url}");
        if name.starts_with('[') {
            assert!(url.parse::<SocketAddrV6>().is_ok(), "{url}");
        } else {
            assert_eq!(name.as_bytes(), host);
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            assert!(!name.is_empty() && name.bytes().all(is_plain), "{url}");
            assert!(!name.eq_ignore_ascii_case("unix"), "{url}");
        }
    }
    let names = UpstreamNames::new(host.split(|byte| *byte == b','));
    for name in host.split(|byte| *byte == b',') {
        if let Ok(Some(found)) = names.find(name) {
            assert!(found.eq_ignore_ascii_case(name));
        }
    }
}

/// Negotiates the format of the status by the header `Accept` and the argument `format`, which are
/// separated by a NUL.
pub fn status_format(input: &[u8]) {
    let mut parts = input.splitn(2, |byte| *byte == 0);
    let accept = parts.next().and_then(|accept| std::str::from_utf8(accept).ok());
    let argument = parts.next();
    match Format::negotiate(argument, accept) {
        Ok(format) => {
            if let Some(argument) = argument {
                let of_argument = [
                    (&b"json"[..], Format::Json),
                    (b"prometheus", Format::Prometheus),
                    (b"html", Format::Html),
                ];
                assert!(of_argument.contains(&(argument, format)));
            }
        }
        Err(_) => assert!(argument.is_some()),
    }
}

/// Reads an extension of a `ClientHello`: `server_name`, or the list of ALPN protocols.
pub fn client_hello(input: &[u8]) {
    if let Ok(name) = session::host_name(input) {
        // The length of the list, the type of the name, and the length of the name take five bytes.
        assert_eq!(name.len() + 5, input.len());
        assert!(input.ends_with(name));
    }
    for supported in [&b"\x02h2\x08http/1.1"[..], b"\x08http/1.1", b""] {
        if let Some(chosen) = select_alpn(supported, input) {
            assert!(!chosen.is_empty() && chosen.len() < 256);
            assert!(input.as_ptr_range().contains(&chosen.as_ptr()));
            assert!(supported.windows(chosen.len()).any(|window| window == chosen));
        }
    }
}

/// Reads other texts that plugins pass, which may come from requests.
pub fn arguments(input: &[u8]) {
    let is_printable = |text: &[u8]| !text.iter().any(u8::is_ascii_control);
    match client_verify::check(input) {
        // The value is used in headers and logs.
        Ok(()) => assert!(is_printable(input)),
        Err(error) => assert!(is_printable(error.to_string().as_bytes())),
    }
    // A certificate in a header has exactly one encoding.
    if let Ok(bytes) = header_certificate::base64(input) {
        assert_eq!(openssl::base64::encode_block(&bytes).as_bytes(), input);
    }
    if let Err(error) = header_certificate::from_url(input) {
        assert!(is_printable(error.to_string().as_bytes()));
    }
    let list = || input.split(|byte| *byte == b',');
    match tls::list_of_names(list()) {
        Ok(names) => assert_eq!(names.len(), list().count()),
        Err(error) => assert!(is_printable(error.to_string().as_bytes())),
    }
    match AddressRanges::new(list()) {
        Ok(ranges) => {
            for text in list().filter(|text| !text.contains(&b'/')) {
                assert!(ranges.contain(text), "{}", text.escape_ascii());
            }
        }
        Err(error) => assert!(is_printable(error.to_string().as_bytes())),
    }
    assert!(input.starts_with(tls::without_port(input)));
    for bytes in input.windows(8) {
        let number = f64::from_be_bytes(bytes.try_into().unwrap_or_default());
        if let Ok(depth) = tls::depth_from_number(number) {
            assert_eq!(f64::from(depth), number + 0.0);
        }
    }
}

/// Reads what a proxy sends in headers: the name of the format, the certificate and its chain,
/// which are separated by NULs.
pub fn header_certificates(input: &[u8]) {
    let mut parts = input.splitn(3, |byte| *byte == 0);
    let (name, text, chain) = (parts.next(), parts.next(), parts.next());
    let (Some(name), Some(text)) = (name, text) else {
        return;
    };
    for which in [Which::Only, Which::First, Which::Last] {
        let Some(format) = header_certificate::Format::by_name(name, which) else {
            return;
        };
        match format.read(text, chain) {
            Ok(Certificates { leaf, intermediates }) => {
                assert!(!intermediates.contains(&leaf) && intermediates.len() < 10);
                let length: usize = intermediates.iter().map(Vec::len).sum();
                assert!(leaf.len() + length < header_certificate::MAX_LENGTH);
                // What has one element has the same certificate, whichever counts.
                if which == Which::Only {
                    for other in [Which::First, Which::Last] {
                        let same = header_certificate::Format::by_name(name, other)
                            .map(|other| other.read(text, chain));
                        assert_eq!(
                            same.map(|same| same.map(|all| all.leaf)),
                            Some(Ok(leaf.clone()))
                        );
                    }
                }
            }
            Err(error) => {
                assert!(!error.to_string().bytes().any(|byte| byte.is_ascii_control()));
            }
        }
    }
}

/// Reads an OCSP answer or a revocation list about a certificate, as anybody on the way can send it.
pub fn revocation(input: &[u8]) {
    thread_local! {
        static CHAIN: (X509, X509, Vec<u8>) = chain_and_request();
    }
    /// A date at which the certificates and the seeds are valid.
    const NOW: i64 = 1_800_000_000;

    CHAIN.with(|(certificate, issuer, request)| {
        // What nobody but the issuer can sign is not found by changing bytes.
        if let Ok(answer) = ocsp::check(request, input, certificate, issuer, NOW) {
            assert!(answer.period.since <= NOW + issuer::SKEW && NOW < answer.period.until);
        }
        if let Ok(list) = crl::parse(input) {
            if let Ok(period) = crl::check(&list, certificate, issuer, NOW) {
                assert!(period.since <= NOW + issuer::SKEW && NOW < period.until);
            }
            let _ = crl::status(&crl::digest(&list), certificate);
        }
    });
    if let Ok(certificate) = X509::from_der(input) {
        let _ = ocsp::urls(&certificate);
        let _ = crl::urls(&certificate);
        let _ = crl::scope(&certificate, &certificate);
    }
    drop(ErrorStack::get());
}

/// Returns a certificate, its issuer, and a request about it.
fn chain_and_request() -> (X509, X509, Vec<u8>) {
    let chain = pem::certificates(include_bytes!("../fuzz/revocation.pem"));
    let mut chain = chain.unwrap_or_default().into_iter();
    let (Some(certificate), Some(issuer)) = (chain.next(), chain.next()) else {
        unreachable!("there are two certificates");
    };
    let request = ocsp::request(&certificate, &issuer).unwrap_or_default();
    (certificate, issuer, request)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn seeds() {
        for (name, check) in TARGETS {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name);
            let mut count = 0;
            for file in fs::read_dir(&folder).unwrap() {
                check(&fs::read(file.unwrap().path()).unwrap());
                count += 1;
            }
            assert!(count > 0, "{}", folder.display());
        }
    }
}
