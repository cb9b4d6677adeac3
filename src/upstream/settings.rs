// SPDX-License-Identifier: Apache-2.0

//! The settings that a request asked for.

pub mod forwarding;
#[cfg(not(any(test, fuzzing)))]
pub mod request_state;
#[cfg(not(fuzzing))]
pub mod retry_callback;
pub mod tls;
