// SPDX-License-Identifier: Apache-2.0

//! `kong_tls_certificate_verify`: enforces the verification of services.

use std::cell::OnceCell;

use crate::nginx::configuration::Place;
use crate::upstream::location::pass::Pass;
use crate::upstream::location::pass_url::Scheme;

/// The value of the directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforcement {
    Off,
    On,
    /// `on always`: no nested block may say `off`.
    Always,
}

/// The enforcement for a location.
#[derive(Default)]
pub struct LocationEnforcement {
    /// The directive as written in this block, and where.
    pub directive: OnceCell<(Enforcement, Place)>,
    /// The value after merging with the enclosing blocks.
    merged: OnceCell<Enforcement>,
}

/// What is wrong with a configuration, and where.
#[derive(Debug)]
pub struct Violation {
    pub message: String,
    pub place: Place,
}

impl LocationEnforcement {
    pub fn get(&self) -> Enforcement {
        let written = self.directive.get().map(|(enforcement, _)| *enforcement);
        self.merged.get().copied().or(written).unwrap_or(Enforcement::Off)
    }

    /// Returns whether services are verified, whatever a request asks for.
    pub fn is_enforced(&self) -> bool {
        self.get() != Enforcement::Off
    }

    /// Merges the value of the enclosing block.
    pub fn merge(&self, around: &Self) -> Result<(), Violation> {
        let merged = match (around.get(), self.directive.get()) {
            (Enforcement::Always, Some((Enforcement::Off, place))) => {
                return Err(Violation {
                    message: "\"kong_tls_certificate_verify off\" is not allowed here: a block \
                              around it has \"kong_tls_certificate_verify on always\""
                        .to_owned(),
                    place: place.clone(),
                });
            }
            (Enforcement::Always, _) => Enforcement::Always,
            (around, None) => around,
            (_, Some((written, _))) => *written,
        };
        self.merged.get_or_init(|| merged);
        Ok(())
    }

    /// Checks that the location verifies its service: `pass` is its pass directive, and `verifies`
    /// its `proxy_ssl_verify`.
    ///
    /// Where the scheme depends on the request, `RequestState::with_upstream_tls` makes the check
    /// for each request.
    pub fn check(&self, location: &str, pass: &Pass, verifies: bool) -> Result<(), Violation> {
        if !self.is_enforced() || verifies || pass.scheme != Scheme::Tls {
            return Ok(());
        }
        let Pass { directive, url, place, .. } = pass;
        let verify = directive.verify.unwrap_or_default();
        Err(Violation {
            message: format!(
                "\"kong_tls_certificate_verify\" is on, but \"{verify}\" is off for \
                 \"{} {url}\" in location \"{location}\"",
                directive.name
            ),
            place: place.clone(),
        })
    }
}
