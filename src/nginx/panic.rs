// SPDX-License-Identifier: Apache-2.0

//! The boundary that no panic crosses: nginx and OpenSSL are C, and can't be unwound.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::nginx::log::Log;

/// Runs `body`, the whole of a callback. Should it panic, a `[crit]` line names `callback`, and
/// `failed` is returned: the value by which that callback fails its request.
pub fn guard<T>(callback: &str, log: Log<'_>, failed: T, body: impl FnOnce() -> T) -> T {
    // Everything that a callback touches is either its request's own, and fails with it, or is a
    // cache behind a `RefCell`, which holds whole entries only.
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
