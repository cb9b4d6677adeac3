// SPDX-License-Identifier: Apache-2.0

//! What the configuration of a location says about the service that its requests are sent to.

#[cfg(not(any(test, fuzzing)))]
pub mod conf_copy;
#[cfg(not(any(test, fuzzing)))]
pub mod content;
#[cfg(not(any(test, fuzzing)))]
pub mod enforcement;
pub mod inherited;
#[cfg(not(any(test, fuzzing)))]
pub mod install;
#[cfg(not(any(test, fuzzing)))]
pub mod pass;
pub mod pass_url;
#[cfg(not(any(test, fuzzing)))]
pub mod tls_directives;
