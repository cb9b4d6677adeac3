// SPDX-License-Identifier: Apache-2.0

//! `kong_tls_certificate_verify`: that no service goes without verification.

use std::cell::OnceCell;

use crate::nginx::configuration::Place;
use crate::upstream::location::pass::Pass;
use crate::upstream::location::pass_url::Scheme;

/// What the directive says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforcement {
    Off,
    On,
    /// `on`, and no block inside of this one may say `off`.
    Always,
}

/// What a location has of it.
#[derive(Default)]
pub struct LocationEnforcement {
    /// As it is written, and where.
    pub directive: OnceCell<(Enforcement, Place)>,
    /// With that of the blocks around.
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

    /// Whether services are verified, whatever a request asks for.
    pub fn is_enforced(&self) -> bool {
        self.get() != Enforcement::Off
    }

    /// Takes over what the block around the location has.
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

    /// Checks that the service of a location is verified: `pass` is how the location names it, and
    /// `verifies` what the location has of `proxy_ssl_verify`.
    ///
    /// Where the scheme is known for each request only, so is this: see `RequestState`.
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
