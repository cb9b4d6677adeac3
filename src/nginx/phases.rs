// SPDX-License-Identifier: Apache-2.0

//! The phases of a request.

/// The phases, numbered as by `ngx_http_lua_ffi_get_phase` (`NGX_HTTP_LUA_CONTEXT_*`). The two
/// phases of the handshake have the names of Kong's phase checks.
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

/// The order of the allowed phases in an error message: that of a request's life.
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
    Phases::TIMER,
];

/// The phases in which no request is there, or not yet.
const WITHOUT_REQUEST: Phases = Phases::INIT
    .or(Phases::INIT_WORKER)
    .or(Phases::EXIT_WORKER)
    .or(Phases::TIMER)
    .or(Phases::CLIENT_HELLO)
    .or(Phases::CERTIFICATE)
    .or(Phases::SSL_SESSION_FETCH)
    .or(Phases::SSL_SESSION_STORE);

/// A set of phases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phases(u32);

impl Phases {
    pub const SET: Self = Self(0x0001);
    pub const REWRITE: Self = Self(0x0002);
    pub const ACCESS: Self = Self(0x0004);
    pub const CONTENT: Self = Self(0x0008);
    pub const LOG: Self = Self(0x0010);
    pub const HEADER_FILTER: Self = Self(0x0020);
    pub const BODY_FILTER: Self = Self(0x0040);
    pub const TIMER: Self = Self(0x0080);
    pub const INIT_WORKER: Self = Self(0x0100);
    pub const BALANCER: Self = Self(0x0200);
    pub const CERTIFICATE: Self = Self(0x0400);
    pub const SSL_SESSION_STORE: Self = Self(0x0800);
    pub const SSL_SESSION_FETCH: Self = Self(0x1000);
    pub const EXIT_WORKER: Self = Self(0x2000);
    pub const CLIENT_HELLO: Self = Self(0x4000);
    pub const SERVER_REWRITE: Self = Self(0x8000);
    /// Not a phase of the Lua module: used where there is no request.
    pub const INIT: Self = Self(0x1_0000);
    /// No phase: used for a request without a Lua context.
    pub const NONE: Self = Self(0);

    /// Returns the phase with the Lua module's number `context`.
    pub const fn from_lua_context(context: u32) -> Self {
        Self(context)
    }

    /// Returns the union of both sets.
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns whether `other` is not empty and all its phases are in this set.
    pub const fn contains(self, other: Self) -> bool {
        other.0 != 0 && self.0 & other.0 == other.0
    }

    /// Returns the name of a single phase.
    pub fn name(self) -> &'static str {
        PHASES.iter().find(|(phase, _)| *phase == self.0).map_or("unknown", |(_, name)| name)
    }

    /// Returns the error for a call of `function`, which is for these phases, in the phase
    /// `current`.
    pub fn refusal(self, current: Self, function: &str) -> String {
        let (name, allowed) = (current.name(), self.names());
        let remedy = self.remedy(current);
        format!(
            "function cannot be called in {name} phase (only in: {allowed}): {function}{remedy}"
        )
    }

    /// Returns what to do about a call in the phase `current`, if the names of the phases don't
    /// say it.
    fn remedy(self, current: Self) -> &'static str {
        match self {
            Self::CERTIFICATE => " (call it in ssl_certificate_by_lua*)",
            Self::CLIENT_HELLO => " (call it in ssl_client_hello_by_lua*)",
            _ if WITHOUT_REQUEST.contains(current) => " (there is no request in this phase)",
            _ => "",
        }
    }

    /// Returns the names of the phases in the set, in the order of a request's life.
    pub fn names(self) -> String {
        let names: Vec<_> =
            ORDER.iter().filter(|phase| self.contains(**phase)).map(|phase| phase.name()).collect();
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_life_of_a_request() {
        let phases = Phases::BALANCER.or(Phases::REWRITE).or(Phases::ACCESS);
        assert_eq!(phases.names(), "rewrite, access, balancer");
        assert_eq!(Phases::CERTIFICATE.names(), "certificate");
        assert_eq!(Phases::LOG.name(), "log");
        assert_eq!(Phases::NONE.name(), "unknown");
        assert_eq!(Phases::from_lua_context(0x4).name(), "access");
    }

    #[test]
    fn a_wrong_phase_is_named() {
        let allowed = Phases::REWRITE.or(Phases::ACCESS).or(Phases::BALANCER);
        let refused = |current| allowed.refusal(current, "kong.service.set_tls_verify");
        let words = |phase| {
            format!(
                "function cannot be called in {phase} phase (only in: rewrite, access, balancer): \
                 kong.service.set_tls_verify"
            )
        };
        assert_eq!(refused(Phases::LOG), words("log"));
        assert_eq!(refused(Phases::NONE), words("unknown"));
        for phase in ["init", "init_worker", "exit_worker", "timer", "client_hello", "certificate"]
        {
            let (number, _) = PHASES.iter().find(|(_, name)| *name == phase).unwrap();
            let expected = words(phase) + " (there is no request in this phase)";
            assert_eq!(refused(Phases(*number)), expected);
        }
    }

    #[test]
    fn the_directive_of_a_phase_in_the_handshake_is_named() {
        assert_eq!(
            Phases::CERTIFICATE.refusal(Phases::TIMER, "f"),
            "function cannot be called in timer phase (only in: certificate): f \
             (call it in ssl_certificate_by_lua*)"
        );
        assert_eq!(
            Phases::CLIENT_HELLO.refusal(Phases::CERTIFICATE, "f"),
            "function cannot be called in certificate phase (only in: client_hello): f \
             (call it in ssl_client_hello_by_lua*)"
        );
    }

    #[test]
    fn a_set_contains_its_phases_and_no_others() {
        let phases = Phases::REWRITE.or(Phases::ACCESS);
        assert!(phases.contains(Phases::REWRITE) && phases.contains(Phases::ACCESS));
        for other in [Phases::LOG, Phases::INIT, Phases::NONE, Phases::REWRITE.or(Phases::LOG)] {
            assert!(!phases.contains(other), "{other:?}");
        }
    }
}
