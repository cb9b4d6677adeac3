// SPDX-License-Identifier: Apache-2.0

//! What nginx has found out of a client's certificate by OCSP (`ssl_ocsp`).
//!
//! An nginx may be without these symbols, and the module must load all the same: they are looked
//! for when they are needed first.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::transmute;
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

use ngx::ffi::{NGX_OK, ngx_connection_t, ngx_int_t};

use crate::nginx::connection::Connection;

/// `ngx_ssl_ocsp_get_status()`
type GetStatus = unsafe extern "C" fn(*mut ngx_connection_t, *mut *const c_char) -> ngx_int_t;

fn symbol(name: &CStr) -> Option<NonNull<c_void>> {
    // SAFETY: the name is a C string.
    NonNull::new(unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) })
}

fn get_status() -> Option<GetStatus> {
    static FUNCTION: OnceLock<Option<GetStatus>> = OnceLock::new();
    *FUNCTION.get_or_init(|| {
        let found = symbol(c"ngx_ssl_ocsp_get_status")?;
        // SAFETY: the function of this name has had this type since nginx 1.19.0.
        Some(unsafe { transmute::<*mut c_void, GetStatus>(found.as_ptr()) })
    })
}

/// Why the client's certificate is refused, in nginx's words: it was revoked, or that can't be
/// found out. `None` for one that is good, and where nobody has asked.
pub fn refusal(connection: Connection<'_>) -> Option<&'static str> {
    // nginx looks at the TLS of the connection.
    connection.tls()?;
    let mut words = ptr::null();
    // SAFETY: the connection is valid, and has TLS. nginx's words are constants.
    unsafe {
        if get_status()?(connection.as_ptr(), &raw mut words) == NGX_OK as ngx_int_t {
            return None;
        }
        let words = (!words.is_null()).then(|| CStr::from_ptr::<'static>(words));
        Some(words.and_then(|words| words.to_str().ok()).unwrap_or("certificate status unknown"))
    }
}

/// Where a context of nginx's has its settings for OCSP; `None` if this nginx has none.
pub fn context_index() -> Option<c_int> {
    static INDEX: OnceLock<Option<c_int>> = OnceLock::new();
    *INDEX.get_or_init(|| {
        let index = symbol(c"ngx_ssl_ocsp_index")?.cast::<c_int>();
        // SAFETY: nginx sets the number when it starts, before it loads a module.
        Some(unsafe { *index.as_ref() })
    })
}
