// SPDX-License-Identifier: Apache-2.0

//! Stops panics at the boundary to C: they must not unwind through nginx or OpenSSL.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::nginx::log::Log;

/// Runs `body`, the whole of a callback. If it panics, logs a `[crit]` line that names `callback`
/// and returns `failed`, the value by which that callback fails its request.
pub fn guard<T>(callback: &str, log: Log<'_>, failed: T, body: impl FnOnce() -> T) -> T {
    // Unwind safety: a callback touches only the state of its request, which fails, and caches
    // behind a `RefCell`, which hold only complete entries.
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(value) => value,
        Err(cause) => {
            log.crit(format_args!("{callback}: internal error: {}", message(&*cause)));
            failed
        }
    }
}

fn message(cause: &(dyn Any + Send)) -> &str {
    cause
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| cause.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("panic")
}
