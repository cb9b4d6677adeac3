// SPDX-License-Identifier: Apache-2.0

//! The process that we run in.

use ngx::ffi::{ngx_exiting, ngx_terminate};

/// Whether the process is about to end: at once, or when its requests are done.
pub fn is_ending() -> bool {
    // SAFETY: nginx changes both between callbacks only.
    unsafe { ngx_terminate != 0 || ngx_exiting != 0 }
}
