// SPDX-License-Identifier: Apache-2.0

//! What a location says of the service that its requests go to.

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
