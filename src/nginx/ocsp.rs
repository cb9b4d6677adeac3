// SPDX-License-Identifier: Apache-2.0

//! The result of nginx's OCSP check of a client's certificate (`ssl_ocsp`).
//!
//! The module must also load into an nginx without these symbols, so they are looked up when they
//! are first needed.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::transmute;
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

use foreign_types::ForeignTypeRef;
use ngx::ffi::{NGX_OK, ngx_connection_t, ngx_int_t};
use openssl::ssl::{SslContextRef, SslRef};
use openssl::x509::store::X509Store;

use crate::nginx::connection::Connection;
use crate::openssl::error::SslError;
use crate::openssl::ssl;

/// `ngx_ssl_ocsp_get_status()`
type GetStatus = unsafe extern "C" fn(*mut ngx_connection_t, *mut *const c_char) -> ngx_int_t;

fn symbol(name: &CStr) -> Option<NonNull<c_void>> {
    // SAFETY: `name` is a C string.
    NonNull::new(unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) })
}

fn get_status() -> Option<GetStatus> {
    static FUNCTION: OnceLock<Option<GetStatus>> = OnceLock::new();
    *FUNCTION.get_or_init(|| {
        let found = symbol(c"ngx_ssl_ocsp_get_status")?;
        // SAFETY: `ngx_ssl_ocsp_get_status` has had this type since nginx 1.19.0.
        Some(unsafe { transmute::<*mut c_void, GetStatus>(found.as_ptr()) })
    })
}

/// Returns why OCSP rejects the client's certificate, in nginx's words: it is revoked, or its
/// status can't be determined. `None` if it is good, or was not checked.
pub fn refusal(connection: Connection<'_>) -> Option<&'static str> {
    // `ngx_ssl_ocsp_get_status` requires TLS.
    connection.tls()?;
    let mut words = ptr::null();
    let get_status = get_status()?;
    // SAFETY: the connection is valid and uses TLS.
    if unsafe { get_status(connection.as_ptr(), &raw mut words) } == NGX_OK as ngx_int_t {
        return None;
    }
    // SAFETY: nginx sets `words` to a static string.
    let words = (!words.is_null()).then(|| unsafe { CStr::from_ptr::<'static>(words) });
    Some(words.and_then(|words| words.to_str().ok()).unwrap_or("certificate status unknown"))
}

/// Returns the index at which nginx keeps its OCSP settings with a TLS context; `None` if this
/// nginx has none.
pub fn context_index() -> Option<c_int> {
    static INDEX: OnceLock<Option<c_int>> = OnceLock::new();
    *INDEX.get_or_init(|| {
        let index = symbol(c"ngx_ssl_ocsp_index")?.cast::<c_int>();
        // SAFETY: nginx sets the index at its start, before it loads a module.
        Some(unsafe { *index.as_ref() })
    })
}

/// Returns nginx's OCSP settings of a context.
fn settings(context: &SslContextRef) -> Option<NonNull<c_void>> {
    // SAFETY: the context is valid, and the index is that of nginx for contexts.
    NonNull::new(unsafe { openssl_sys::SSL_CTX_get_ex_data(context.as_ptr(), context_index()?) })
}

/// Returns whether a server has `ssl_ocsp on` or `ssl_ocsp leaf`.
pub fn is_on(context: &SslContextRef) -> bool {
    settings(context).is_some()
}

/// Makes nginx verify the OCSP response for the client of `ssl` with `store`, if it queries a
/// responder at all: gives `ssl` a context of its own, after its handshake.
pub fn trust(ssl: &SslRef, store: X509Store) -> Result<(), SslError> {
    let (Some(settings), Some(index)) = (settings(ssl.ssl_context()), context_index()) else {
        return Ok(());
    };
    // SAFETY: `settings` is what nginx keeps at `index` of contexts. It is in the configuration's
    // pool, and a configuration outlives its connections.
    unsafe { ssl::replace_context(ssl, store, index, settings) }
}
