// SPDX-License-Identifier: Apache-2.0

//! The current nginx process.

use ngx::ffi::{ngx_exiting, ngx_terminate};

/// Returns whether the process is about to end, at once or after its last request.
pub fn is_ending() -> bool {
    // SAFETY: nginx changes both flags only between callbacks.
    unsafe { ngx_terminate != 0 || ngx_exiting != 0 }
}
