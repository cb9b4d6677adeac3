// SPDX-License-Identifier: Apache-2.0

//! Sessions of clients, on the server's side, where the `openssl` crate has no function.

use std::ffi::{c_int, c_long, c_uint, c_void};
use std::mem::transmute;
use std::ptr;
use std::sync::OnceLock;

use foreign_types::ForeignTypeRef;
use openssl::ssl::{SslContextRef, SslRef, SslSession, SslSessionRef};
use openssl_sys::SSL_SESSION;

use crate::openssl::error::SslError;
use crate::openssl::memory::{bytes, owned};
use crate::openssl::sys;
pub use crate::openssl::sys::{
    decrypt_ticket_callback as DecryptTicketCallback,
    generate_ticket_callback as GenerateTicketCallback, get_session_callback as GetSessionCallback,
};
use crate::openssl::version::symbol;

/// The maximum length of a session ID context (`SSL_MAX_SID_CTX_LENGTH`).
pub const ID_CONTEXT: usize = 32;

/// Returns the session ID context. A session is only resumed on a connection with the same one.
pub fn id_context(session: &SslSessionRef) -> &[u8] {
    let mut length = 0;
    let data = sys::SSL_SESSION_get0_id_context(session, &mut length);
    // SAFETY: the session, which is borrowed, has `length` bytes at `data`.
    unsafe { bytes(data, length as usize) }
}

/// `SSL_SESSION_set1_id_context(3)`, for a session that is not shared yet.
pub fn set_id_context(session: &SslSessionRef, context: &[u8; ID_CONTEXT]) -> Result<(), SslError> {
    let (data, length) = (context.as_ptr(), ID_CONTEXT as c_uint);
    // SAFETY: there are `length` bytes, which the session copies.
    let set = unsafe { sys::SSL_SESSION_set1_id_context(session, data, length) };
    SslError::check("SSL_SESSION_set1_id_context", set)
}

/// `SSL_set_session_id_context(3)`
pub fn set_id_context_of_connection(
    ssl: &SslRef,
    context: &[u8; ID_CONTEXT],
) -> Result<(), SslError> {
    let (data, length) = (context.as_ptr(), ID_CONTEXT as c_uint);
    // SAFETY: there are `length` bytes, which the SSL object copies.
    let set = unsafe { sys::SSL_set_session_id_context(ssl, data, length) };
    SslError::check("SSL_set_session_id_context", set)
}

/// The size of the keys of a context: a name of 16 bytes, and two keys of 32 bytes.
pub const TICKET_KEYS: usize = 80;

/// `SSL_CTX_set_tlsext_ticket_keys(3)`: the keys that tickets are encrypted with, unless the
/// context has a callback for that.
pub fn set_ticket_keys(context: &SslContextRef, keys: &[u8; TICKET_KEYS]) -> Result<(), SslError> {
    let control = sys::SSL_CTRL_SET_TLSEXT_TICKET_KEYS;
    let keys = keys.as_ptr().cast_mut().cast();
    // SAFETY: the context is valid, and this control copies as many bytes, or refuses them.
    let set = unsafe {
        openssl_sys::SSL_CTX_ctrl(context.as_ptr(), control, TICKET_KEYS as c_long, keys)
    };
    SslError::check("SSL_CTX_set_tlsext_ticket_keys", c_int::from(set == 1))
}

/// Returns the application data of the session, which is stored with it in caches and tickets:
/// `SSL_SESSION_get0_ticket_appdata(3)`.
pub fn application_data(session: &SslSessionRef) -> &[u8] {
    let (mut data, mut length) = (ptr::null_mut(), 0);
    sys::SSL_SESSION_get0_ticket_appdata(session, &mut data, &mut length);
    // SAFETY: the session, which is borrowed, has `length` bytes at `data`.
    unsafe { bytes(data.cast(), length) }
}

/// Sets the application data of a session that is not shared yet.
pub fn set_application_data(session: &SslSessionRef, data: &[u8]) -> Result<(), SslError> {
    let (data, length) = (data.as_ptr().cast(), data.len());
    // SAFETY: there are `length` bytes, which the session copies. No caller has borrowed its former
    // data: `SessionData` copies what it reads.
    let set = unsafe { sys::SSL_SESSION_set1_ticket_appdata(session, data, length) };
    SslError::check("SSL_SESSION_set1_ticket_appdata", set)
}

/// Returns the server name (SNI) that the client sent in the first handshake.
pub fn server_name(session: &SslSessionRef) -> Option<&[u8]> {
    sys::SSL_SESSION_get0_hostname(session).bytes()
}

/// Returns whether the client presented a certificate in the first handshake.
pub fn has_peer_certificate(session: &SslSessionRef) -> bool {
    sys::SSL_SESSION_get0_peer(session).is_some()
}

/// An extension of the `ClientHello` is malformed.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

/// Returns the server name in the `ClientHello` that OpenSSL is processing. Must be called while
/// OpenSSL looks for a session, when it has not parsed the name yet.
pub fn server_name_of_client_hello(ssl: &SslRef) -> Result<Option<&[u8]>, Malformed> {
    let (mut data, mut length) = (ptr::null(), 0);
    let server_name = sys::TLSEXT_TYPE_server_name;
    if sys::SSL_client_hello_get0_ext(ssl, server_name, &mut data, &mut length) != 1 {
        return Ok(None);
    }
    // SAFETY: there are `length` bytes at `data`: OpenSSL keeps the extensions of the `ClientHello`
    // while it looks for a session.
    let extension = unsafe { bytes(data, length) };
    host_name(extension).map(Some)
}

/// Returns the host name in a `server_name` extension (RFC 6066, section 3). Like OpenSSL, accepts
/// exactly one name.
pub fn host_name(extension: &[u8]) -> Result<&[u8], Malformed> {
    const HOST_NAME: u8 = openssl_sys::TLSEXT_NAMETYPE_host_name as u8;

    let (list, rest) = prefixed(extension)?;
    let [HOST_NAME, list @ ..] = list else {
        return Err(Malformed);
    };
    let (name, others) = prefixed(list)?;
    if rest.is_empty() && others.is_empty() { Ok(name) } else { Err(Malformed) }
}

/// Splits off bytes that are preceded by their length; returns them and the rest.
fn prefixed(bytes: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let (length, rest) = bytes.split_first_chunk().ok_or(Malformed)?;
    rest.split_at_checked(u16::from_be_bytes(*length).into()).ok_or(Malformed)
}

/// What to do with a session that a client offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// Allow its resumption.
    Resume,
    /// Make a full handshake.
    Ignore,
}

/// Returns the answer to OpenSSL for a ticket with this `status`. Calls `judge` for a valid
/// session. For other tickets, the answer is the same as without a callback.
pub fn judge_ticket(status: c_int, judge: impl FnOnce() -> Offered) -> c_int {
    let is_renewed = match status {
        sys::SSL_TICKET_SUCCESS => false,
        sys::SSL_TICKET_SUCCESS_RENEW => true,
        _ => return sys::SSL_TICKET_RETURN_IGNORE_RENEW,
    };
    match (judge(), is_renewed) {
        (Offered::Resume, false) => sys::SSL_TICKET_RETURN_USE,
        (Offered::Resume, true) => sys::SSL_TICKET_RETURN_USE_RENEW,
        (Offered::Ignore, _) => sys::SSL_TICKET_RETURN_IGNORE_RENEW,
    }
}

/// `SSL_CTX_set_session_ticket_cb(3)`
pub fn set_ticket_callbacks(
    context: &SslContextRef,
    generate: GenerateTicketCallback,
    decrypt: DecryptTicketCallback,
) -> Result<(), SslError> {
    let (generate, decrypt, argument) = (Some(generate), Some(decrypt), ptr::null_mut());
    // SAFETY: the callbacks are static. Neither nginx nor the Lua module sets any.
    let set = unsafe { sys::SSL_CTX_set_session_ticket_cb(context, generate, decrypt, argument) };
    SslError::check("SSL_CTX_set_session_ticket_cb", set)
}

/// Returns the context's callback that looks sessions up outside OpenSSL's own cache.
pub fn get_session_callback(context: &SslContextRef) -> Option<GetSessionCallback> {
    sys::SSL_CTX_sess_get_get_cb(context)
}

/// Makes OpenSSL keep storing sessions in the context's internal cache, but leave all lookups to
/// the callback. Returns whether there is such a cache.
pub fn take_over_internal_cache(context: &SslContextRef) -> bool {
    let control = |control, argument| {
        // SAFETY: the context is valid; these controls only read or set its mode.
        unsafe { openssl_sys::SSL_CTX_ctrl(context.as_ptr(), control, argument, ptr::null_mut()) }
    };
    let mode = control(sys::SSL_CTRL_GET_SESS_CACHE_MODE, 0);
    let is_kept =
        mode & sys::SSL_SESS_CACHE_SERVER != 0 && mode & sys::SSL_SESS_CACHE_NO_INTERNAL_STORE == 0;
    if is_kept {
        let mode = mode | sys::SSL_SESS_CACHE_NO_INTERNAL_LOOKUP;
        control(sys::SSL_CTRL_SET_SESS_CACHE_MODE, mode);
    }
    is_kept
}

/// Looks a session ID up in the internal cache of `context`, for the TLS version of `ssl`, as
/// OpenSSL itself would.
pub fn find_in_internal_cache(
    context: &SslContextRef,
    ssl: &SslRef,
    id: &[u8],
) -> Result<Option<SslSession>, SslError> {
    // SAFETY: the function returns a new session, or NULL.
    let like: SslSession = unsafe { owned("SSL_SESSION_new", sys::SSL_SESSION_new()) }?;
    SslError::check(
        "SSL_SESSION_set_protocol_version",
        sys::SSL_SESSION_set_protocol_version(&like, sys::SSL_version(ssl)),
    )?;
    set_id(&like, id)?;
    let table = sys::SSL_CTX_sessions(context);
    // SAFETY: the table compares its sessions with this one by version and ID. nginx makes
    // handshakes in a single thread, so nothing changes the table before a reference is taken.
    let found = unsafe { sys::OPENSSL_LH_retrieve(table, &like) };
    Ok(found.map(ToOwned::to_owned))
}

/// Sets the ID of a session that is not shared yet.
pub fn set_id(session: &SslSessionRef, id: &[u8]) -> Result<(), SslError> {
    // SAFETY: the ID has this length, and the session copies it.
    let set = unsafe { sys::SSL_SESSION_set1_id(session, id.as_ptr(), id.len() as c_uint) };
    SslError::check("SSL_SESSION_set1_id", set)
}

/// Makes `callback` look sessions up for the context.
///
/// # Safety
/// `callback` replaces the current one of the context, and must call it.
pub unsafe fn set_get_session_callback(context: &SslContextRef, callback: GetSessionCallback) {
    // SAFETY: the caller ensures that the callback calls the one that it replaces.
    unsafe { sys::SSL_CTX_sess_set_get_cb(context, Some(callback)) }
}

/// Returns the session that a lookup callback has returned, if it is one.
///
/// With OpenResty's patch of OpenSSL, a magic pointer means that the lookup is still pending.
///
/// # Safety
/// `session` must be the result of such a callback, and valid for `'a` if it is a session.
pub unsafe fn found<'a>(session: *mut SSL_SESSION) -> Option<&'a SslSessionRef> {
    if session.is_null() || session == pending() {
        return None;
    }
    // SAFETY: the caller ensures that `session` is valid if it is neither NULL nor the magic
    // pointer.
    Some(unsafe { SslSessionRef::from_ptr(session) })
}

fn pending() -> *mut SSL_SESSION {
    type Pending = unsafe extern "C" fn() -> *mut SSL_SESSION;

    static FUNCTION: OnceLock<Option<Pending>> = OnceLock::new();
    let function = FUNCTION.get_or_init(|| {
        let name = c"SSL_magic_pending_session_ptr";
        // SAFETY: with the patch, the function of this name has this type; NULL is `None`.
        unsafe { transmute::<*mut c_void, Option<Pending>>(symbol(name)) }
    });
    // SAFETY: the function has no arguments, and returns a constant.
    function.map_or(ptr::null_mut(), |function| unsafe { function() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_names() {
        let good: &[(&[u8], &[u8])] =
            &[(b"\0\x09\0\0\x06a.test", b"a.test"), (b"\0\x03\0\0\0", b"")];
        for (extension, name) in good {
            assert_eq!(host_name(extension), Ok(*name), "{}", extension.escape_ascii());
        }
        let bad: &[&[u8]] = &[
            b"",
            b"\0",
            b"\0\0",
            b"\0\x09\x01\0\x06a.test",
            b"\0\x09\0\0\x07a.test",
            b"\0\x0a\0\0\x06a.test",
            b"\0\x09\0\0\x06a.test!",
            b"\0\x12\0\0\x06a.test\0\0\x06b.test",
            b"\0\x0a\0\0\x06a.test!",
        ];
        for extension in bad {
            assert_eq!(host_name(extension), Err(Malformed), "{}", extension.escape_ascii());
        }
    }

    #[test]
    fn only_good_tickets_are_judged() {
        let judged = |status, offered| judge_ticket(status, || offered);
        assert_eq!(judged(sys::SSL_TICKET_SUCCESS, Offered::Resume), sys::SSL_TICKET_RETURN_USE);
        assert_eq!(
            judged(sys::SSL_TICKET_SUCCESS_RENEW, Offered::Resume),
            sys::SSL_TICKET_RETURN_USE_RENEW
        );
        for status in [sys::SSL_TICKET_SUCCESS, sys::SSL_TICKET_SUCCESS_RENEW] {
            assert_eq!(judged(status, Offered::Ignore), sys::SSL_TICKET_RETURN_IGNORE_RENEW);
        }
        /// `SSL_TICKET_NONE`, `SSL_TICKET_EMPTY`, `SSL_TICKET_NO_DECRYPT`
        const OTHERS: [c_int; 3] = [2, 3, 4];
        for status in OTHERS {
            assert_eq!(judged(status, Offered::Resume), sys::SSL_TICKET_RETURN_IGNORE_RENEW);
        }
    }
}
