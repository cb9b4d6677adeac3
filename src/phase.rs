//! Phases of a request, and which function may be called in which of them.
//!
//! This table is the only place that says so; both Lua interfaces ask it.

/// The phases as `ngx_http_lua_ffi_get_phase` numbers them (`NGX_HTTP_LUA_CONTEXT_*`), with the
/// names of Kong's phase checks for the two phases of the handshake.
const PHASES: &[(u32, &str)] = &[
    (Phases::SET.0, "set"),
    (Phases::REWRITE.0, "rewrite"),
    (Phases::ACCESS.0, "access"),
    (Phases::CONTENT.0, "content"),
    (Phases::LOG.0, "log"),
    (Phases::HEADER_FILTER.0, "header_filter"),
    (Phases::BODY_FILTER.0, "body_filter"),
    (Phases::TIMER.0, "timer"),
    (Phases::INIT_WORKER.0, "init_worker"),
    (Phases::BALANCER.0, "balancer"),
    (Phases::CERTIFICATE.0, "certificate"),
    (Phases::SSL_SESSION_STORE.0, "ssl_session_store"),
    (Phases::SSL_SESSION_FETCH.0, "ssl_session_fetch"),
    (Phases::EXIT_WORKER.0, "exit_worker"),
    (Phases::CLIENT_HELLO.0, "client_hello"),
    (Phases::SERVER_REWRITE.0, "server_rewrite"),
    (Phases::INIT.0, "init"),
];

/// The order in which the allowed phases are listed in an error: that of a request's life.
const ORDER: &[Phases] = &[
    Phases::CLIENT_HELLO,
    Phases::CERTIFICATE,
    Phases::REWRITE,
    Phases::ACCESS,
    Phases::CONTENT,
    Phases::BALANCER,
    Phases::HEADER_FILTER,
    Phases::BODY_FILTER,
    Phases::LOG,
];

/// A set of phases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phases(u32);

impl Phases {
    const SET: Self = Self(0x0001);
    const REWRITE: Self = Self(0x0002);
    const ACCESS: Self = Self(0x0004);
    const CONTENT: Self = Self(0x0008);
    const LOG: Self = Self(0x0010);
    const HEADER_FILTER: Self = Self(0x0020);
    const BODY_FILTER: Self = Self(0x0040);
    const TIMER: Self = Self(0x0080);
    const INIT_WORKER: Self = Self(0x0100);
    pub const BALANCER: Self = Self(0x0200);
    const CERTIFICATE: Self = Self(0x0400);
    const SSL_SESSION_STORE: Self = Self(0x0800);
    const SSL_SESSION_FETCH: Self = Self(0x1000);
    const EXIT_WORKER: Self = Self(0x2000);
    const CLIENT_HELLO: Self = Self(0x4000);
    const SERVER_REWRITE: Self = Self(0x8000);
    /// Not a phase of the Lua module: what we call it where there is no request.
    pub const INIT: Self = Self(0x1_0000);
    /// No phase: what a request without a Lua context is in.
    pub const NONE: Self = Self(0);

    /// The phase with the Lua module's number `context`.
    pub const fn from_lua_context(context: u32) -> Self {
        Self(context)
    }

    const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every phase of `other` is in this set, and `other` is not empty.
    pub const fn contains(self, other: Self) -> bool {
        other.0 != 0 && self.0 & other.0 == other.0
    }

    /// The name of a single phase.
    pub fn name(self) -> &'static str {
        PHASES.iter().find(|(phase, _)| *phase == self.0).map_or("unknown", |(_, name)| name)
    }

    /// The names of the phases of the set, in the order of a request's life.
    pub fn names(self) -> String {
        let names: Vec<_> =
            ORDER.iter().filter(|phase| self.contains(**phase)).map(|phase| phase.name()).collect();
        names.join(", ")
    }
}

/// The functions that Lua code calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// `request_client_certificate`
    RequestClientCertificate,
    /// `disable_session_reuse`
    DisableSessionReuse,
    /// `disable_http2_alpn`
    DisableHttp2Alpn,
    /// `get_full_client_certificate_chain`
    GetFullClientCertificateChain,
    /// `set_client_verify`
    SetClientVerify,
    /// `get_request_ssl_pointer`
    GetRequestSslPointer,
    /// `set_upstream`
    SetUpstream,
    /// `set_target`
    SetTarget,
    /// `set_retries`
    SetRetries,
    /// `set_timeouts`
    SetTimeouts,
    /// `set_tls_cert_key`, `set_upstream_cert_and_key`
    SetTlsCertKey,
    /// `set_tls_verify`, `set_upstream_ssl_verify`
    SetTlsVerify,
    /// `set_tls_verify_depth`, `set_upstream_ssl_verify_depth`
    SetTlsVerifyDepth,
    /// `set_tls_verify_store`, `set_upstream_ssl_trusted_store`
    SetTlsVerifyStore,
    /// `set_upstream_ssl_sans_dnsnames`
    SetSansDnsnames,
    /// `set_upstream_ssl_sans_uris`
    SetSansUris,
}

const FUNCTIONS: &[(Function, &str)] = &[
    (Function::RequestClientCertificate, "request_client_certificate"),
    (Function::DisableSessionReuse, "disable_session_reuse"),
    (Function::DisableHttp2Alpn, "disable_http2_alpn"),
    (Function::GetFullClientCertificateChain, "get_full_client_certificate_chain"),
    (Function::SetClientVerify, "set_client_verify"),
    (Function::GetRequestSslPointer, "get_request_ssl_pointer"),
    (Function::SetUpstream, "set_upstream"),
    (Function::SetTarget, "set_target"),
    (Function::SetRetries, "set_retries"),
    (Function::SetTimeouts, "set_timeouts"),
    (Function::SetTlsCertKey, "set_tls_cert_key"),
    (Function::SetTlsVerify, "set_tls_verify"),
    (Function::SetTlsVerifyDepth, "set_tls_verify_depth"),
    (Function::SetTlsVerifyStore, "set_tls_verify_store"),
    (Function::SetSansDnsnames, "set_sans_dnsnames"),
    (Function::SetSansUris, "set_sans_uris"),
];

impl Function {
    /// The number by which our Lua code names the function `name`: a name of the PDK, or of our own
    /// where the PDK has none.
    pub fn index_of_name(name: &[u8]) -> Option<usize> {
        FUNCTIONS.iter().position(|(_, known)| known.as_bytes() == name)
    }

    /// The function with this number.
    pub fn from_index(index: usize) -> Option<Self> {
        FUNCTIONS.get(index).map(|(function, _)| *function)
    }

    /// The phases in which the function may be called.
    pub const fn phases(self) -> Phases {
        const HANDSHAKE: Phases = Phases::CERTIFICATE;
        const BEFORE_BALANCER: Phases = Phases::REWRITE.or(Phases::ACCESS);
        const BEFORE_UPSTREAM: Phases = BEFORE_BALANCER.or(Phases::BALANCER);
        const RESPONSE: Phases = Phases::HEADER_FILTER.or(Phases::BODY_FILTER).or(Phases::LOG);

        match self {
            Self::RequestClientCertificate | Self::DisableSessionReuse => HANDSHAKE,
            Self::DisableHttp2Alpn => Phases::CLIENT_HELLO,
            Self::GetFullClientCertificateChain => BEFORE_UPSTREAM.or(Phases::CONTENT).or(RESPONSE),
            Self::SetClientVerify => BEFORE_UPSTREAM.or(Phases::CONTENT),
            Self::GetRequestSslPointer => BEFORE_UPSTREAM
                .or(Phases::CONTENT)
                .or(RESPONSE)
                .or(HANDSHAKE)
                .or(Phases::CLIENT_HELLO),
            Self::SetUpstream => Phases::ACCESS,
            Self::SetTarget | Self::SetRetries | Self::SetTimeouts => BEFORE_BALANCER,
            Self::SetTlsCertKey
            | Self::SetTlsVerify
            | Self::SetTlsVerifyDepth
            | Self::SetTlsVerifyStore
            | Self::SetSansDnsnames
            | Self::SetSansUris => BEFORE_UPSTREAM,
        }
    }

    /// What a caller in another phase is told.
    pub fn phase_error(self, current: Phases) -> String {
        format!(
            "function cannot be called in {} phase (only in: {})",
            current.name(),
            self.phases().names()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_phases_follow_the_life_of_a_request() {
        let cases = [
            (Function::RequestClientCertificate, "certificate"),
            (Function::DisableHttp2Alpn, "client_hello"),
            (Function::SetTlsVerify, "rewrite, access, balancer"),
            (Function::SetUpstream, "access"),
            (Function::SetTarget, "rewrite, access"),
            (Function::SetClientVerify, "rewrite, access, content, balancer"),
            (
                Function::GetFullClientCertificateChain,
                "rewrite, access, content, balancer, header_filter, body_filter, log",
            ),
        ];
        for (function, names) in cases {
            assert_eq!(function.phases().names(), names, "{function:?}");
        }
    }

    #[test]
    fn a_wrong_phase_is_named() {
        assert_eq!(
            Function::SetTlsVerify.phase_error(Phases::LOG),
            "function cannot be called in log phase (only in: rewrite, access, balancer)"
        );
        assert_eq!(
            Function::DisableSessionReuse.phase_error(Phases::INIT),
            "function cannot be called in init phase (only in: certificate)"
        );
        assert_eq!(
            Function::DisableSessionReuse.phase_error(Phases::NONE),
            "function cannot be called in unknown phase (only in: certificate)"
        );
    }

    #[test]
    fn no_function_is_allowed_in_no_phase() {
        for (function, name) in FUNCTIONS {
            assert!(!function.phases().contains(Phases::NONE), "{name}");
            assert!(!function.phases().contains(Phases::INIT), "{name}");
            assert!(!function.phases().contains(Phases::TIMER), "{name}");
        }
    }

    #[test]
    fn every_function_is_found_by_its_name() {
        for (function, name) in FUNCTIONS {
            let index = Function::index_of_name(name.as_bytes()).unwrap();
            assert_eq!(Function::from_index(index), Some(*function));
        }
        assert_eq!(Function::index_of_name(b"set_tls"), None);
        assert_eq!(Function::index_of_name(b"set_tls_verify\0"), None);
        assert_eq!(Function::from_index(FUNCTIONS.len()), None);
    }
}
