// SPDX-License-Identifier: Apache-2.0

//! Operations on SSL objects that nginx made, for which the `openssl` crate has no function, or one
//! that relies on data that only its own SSL objects have.

use std::ffi::{CStr, c_int, c_void};
use std::ptr::{self, NonNull};

use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::error::ErrorStack;
use openssl::pkey::{PKeyRef, Private};
use openssl::ssl::{
    NameType, Ssl, SslContext, SslContextRef, SslMethod, SslRef, SslSessionRef, SslVersion,
};
use openssl::stack::StackRef;
use openssl::x509::store::{X509Store, X509StoreRef};
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{X509, X509Ref, X509StoreContext, X509StoreContextRef, X509VerifyResult};
use openssl_sys::X509_STORE_CTX;

use crate::openssl::error::SslError;
use crate::openssl::revocation::{self, Found};
use crate::openssl::sys;
pub use crate::openssl::sys::{
    certificate_callback as CertificateCallback,
    client_certificate_callback as ClientCertificateCallback, info_callback as InfoCallback,
    verify_callback as VerifyCallback,
};

/// A reference to an SSL object, which keeps it from being freed. The object can't be used by it:
/// nginx's connection, which callbacks find by the object, may be gone before.
pub struct Reference(#[expect(dead_code, reason = "it is held, not used")] Ssl);

impl Reference {
    pub fn to(ssl: &SslRef) -> Result<Self, SslError> {
        SslError::check("SSL_up_ref", sys::SSL_up_ref(ssl))?;
        // SAFETY: the returned value owns the reference just taken.
        Ok(Self(unsafe { Ssl::from_ptr(ssl.as_ptr()) }))
    }
}

/// Removes the certificates and keys of the SSL object.
pub fn clear_certificates(ssl: &SslRef) {
    // SAFETY: no caller has borrowed a certificate or key of the SSL object (`ssl.certificate()`),
    // and its handshake has not reached them.
    unsafe { sys::SSL_certs_clear(ssl) }
}

/// Makes `callback` choose the certificate of the SSL object, instead of its context's callback.
pub fn set_certificate_callback(ssl: &SslRef, callback: Option<CertificateCallback>) {
    sys::SSL_set_cert_cb(ssl, callback, ptr::null_mut());
}

/// `SSL_set_verify_depth(3)`
pub fn set_verify_depth(ssl: &SslRef, depth: u32) {
    sys::SSL_set_verify_depth(ssl, c_int::try_from(depth).unwrap_or(c_int::MAX));
}

/// `SSL_CTX_get_verify_depth(3)`
pub fn context_verify_depth(ssl: &SslRef) -> u32 {
    // -1 means no limit except OpenSSL's own.
    u32::try_from(sys::SSL_CTX_get_verify_depth(ssl.ssl_context())).unwrap_or(DEFAULT_DEPTH)
}

/// Makes `ssl` present a certificate with its key and intermediates. OpenSSL rejects those that are
/// too weak for its security level.
pub fn use_certificate(
    ssl: &SslRef,
    leaf: &X509Ref,
    key: &PKeyRef<Private>,
    intermediates: &StackRef<X509>,
) -> Result<(), SslError> {
    // SAFETY: no caller has borrowed the certificate that this one replaces (`ssl.certificate()`).
    let is_used = unsafe { sys::SSL_use_certificate(ssl, leaf) };
    SslError::check("SSL_use_certificate", is_used)?;
    // SAFETY: no caller has borrowed the key that this one replaces (`ssl.private_key()`).
    let is_used = unsafe { sys::SSL_use_PrivateKey(ssl, key) };
    SslError::check("SSL_use_PrivateKey", is_used)?;
    SslError::check("SSL_set1_chain", sys::SSL_set1_chain(ssl, intermediates))
}

/// Estimates how many bytes of memory a session of this connection takes. Most of them are for
/// OpenSSL's representation of the peer's chain.
pub fn size_of_session(ssl: &SslRef) -> usize {
    // As measured by scripts/bench, and with a chain of 90 KB.
    const WITHOUT_CHAIN: usize = 8 * 1024;
    const OF_TWO_BYTES: usize = 5;

    let chain = ssl.peer_cert_chain().into_iter().flatten().map(|certificate| {
        // SAFETY: with NULL, the function writes nothing, and returns the length.
        let length = unsafe { sys::i2d_X509(certificate, ptr::null_mut()) };
        usize::try_from(length).unwrap_or_default()
    });
    WITHOUT_CHAIN + OF_TWO_BYTES * chain.sum::<usize>() / 2
}

/// The most intermediates allowed if nothing else is configured: OpenSSL's default.
pub const DEFAULT_DEPTH: u32 = 100;

/// Makes the SSL object trust `store`, of which it takes a reference; with `None`, the store of its
/// context.
pub fn set_verify_store(ssl: &SslRef, store: Option<&X509StoreRef>) -> Result<(), SslError> {
    SslError::check("SSL_set1_verify_cert_store", sys::SSL_set1_verify_cert_store(ssl, store))
}

/// Adds verification flags.
pub fn add_verify_flags(ssl: &SslRef, flags: X509VerifyFlags) -> Result<(), SslError> {
    let added = sys::X509_VERIFY_PARAM_set_flags(sys::SSL_get0_param(ssl), flags.bits());
    SslError::check("X509_VERIFY_PARAM_set_flags", added)
}

/// Replaces the result of the peer's verification.
pub fn set_verify_result(ssl: &SslRef, result: X509VerifyResult) {
    sys::SSL_set_verify_result(ssl, result.as_raw().into());
}

/// Removes the session to resume, so that the next handshake is a full one.
pub fn forget_session(ssl: &SslRef) -> Result<(), SslError> {
    offer(ssl, None)
}

/// Makes the next handshake offer `session`, of which the SSL object takes a reference.
pub fn set_session(ssl: &SslRef, session: &SslSessionRef) -> Result<(), SslError> {
    offer(ssl, Some(session))
}

fn offer(ssl: &SslRef, session: Option<&SslSessionRef>) -> Result<(), SslError> {
    // SAFETY: no caller has borrowed the session that this one replaces (`ssl.session()`).
    SslError::check("SSL_set_session", unsafe { sys::SSL_set_session(ssl, session) })
}

/// `SSL_SESSION_is_resumable(3)`
pub fn is_resumable(session: &SslSessionRef) -> bool {
    sys::SSL_SESSION_is_resumable(session) == 1
}

/// Returns the server name (SNI) of the SSL object.
pub fn server_name(ssl: &SslRef) -> Option<&[u8]> {
    ssl.servername_raw(NameType::HOST_NAME)
}

/// Makes the next handshake send this server name (SNI); with `None`, none.
pub fn set_server_name(ssl: &SslRef, name: Option<&CStr>) -> Result<(), SslError> {
    let control = openssl_sys::SSL_CTRL_SET_TLSEXT_HOSTNAME;
    let host_name = openssl_sys::TLSEXT_NAMETYPE_host_name.into();
    let name = name.map_or(ptr::null(), CStr::as_ptr).cast_mut().cast();
    // SAFETY: the SSL object copies the name, which ends with a NUL byte. No caller has borrowed
    // the name that this one replaces (`server_name`).
    let set = unsafe { openssl_sys::SSL_ctrl(ssl.as_ptr(), control, host_name, name) };
    SslError::check("SSL_set_tlsext_host_name", c_int::from(set == 1))
}

/// Returns whether the SSL object holds received data that has not been read.
pub fn has_pending(ssl: &SslRef) -> bool {
    sys::SSL_has_pending(ssl) == 1
}

/// Returns the name of the negotiated version of TLS.
pub fn version_name(ssl: &SslRef) -> &'static CStr {
    // SAFETY: the names of versions are static.
    unsafe { CStr::from_ptr(sys::SSL_get_version(ssl)) }
}

/// Returns the name of the negotiated cipher.
pub fn cipher_name(ssl: &SslRef) -> &'static CStr {
    // SAFETY: the names of ciphers are static.
    unsafe { CStr::from_ptr(sys::SSL_CIPHER_get_name(sys::SSL_get_current_cipher(ssl))) }
}

/// Verifies the peer with `callback`, which decides whether an error ends the handshake. A server
/// asks the client for a certificate.
///
/// # Safety
/// `callback` must be sound as the verify callback of this peer. It replaces that of the context,
/// and must call it, or decide on every error itself.
pub unsafe fn verify_peer(ssl: &SslRef, callback: VerifyCallback) {
    // SAFETY: the caller ensures that the callback can take the place of the context's.
    unsafe { sys::SSL_set_verify(ssl, openssl_sys::SSL_VERIFY_PEER, Some(callback)) }
}

/// `SSL_get_verify_callback(3)`
pub fn verify_callback(ssl: &SslRef) -> Option<VerifyCallback> {
    sys::SSL_get_verify_callback(ssl)
}

/// A running verification of a peer.
pub struct Verification<'a> {
    context: &'a X509StoreContextRef,
    /// The SSL object whose peer is verified.
    pub ssl: &'a SslRef,
}

impl<'a> Verification<'a> {
    /// # Safety
    /// `context` must be the argument of a verify callback, and valid for `'a`.
    pub unsafe fn from_ptr(context: *mut X509_STORE_CTX) -> Option<Self> {
        // SAFETY: the caller ensures that OpenSSL has passed `context` to a verify callback, and
        // that it is valid for `'a`.
        let context = unsafe { X509StoreContextRef::from_ptr(context) };
        let ssl = context.ex_data(X509StoreContext::ssl_idx().ok()?)?;
        Some(Self { context, ssl })
    }

    /// Classifies the call of the callback: see [`revocation::found`]. Must be called first in each
    /// call.
    pub fn found(&self, preverified: bool) -> Found {
        revocation::found(self.context, preverified)
    }

    /// Returns the verdict of the callback of the context of `ssl`, which a callback of the
    /// connection has replaced; `preverified` if there is none.
    pub fn verdict_of_context(&self, preverified: bool) -> bool {
        let callback = sys::SSL_CTX_get_verify_callback(self.ssl.ssl_context());
        callback.map_or(preverified, |callback| {
            // SAFETY: the callback is that of the connection's context, and gets the context of a
            // running verification, as OpenSSL would pass it.
            unsafe { callback(preverified.into(), self.context.as_ptr()) == 1 }
        })
    }

    /// Returns OpenSSL's context of the verification.
    pub fn context(&self) -> &X509StoreContextRef {
        self.context
    }

    /// Returns the last error found.
    pub fn error(&self) -> X509VerifyResult {
        self.context.error()
    }

    /// Sets the result to `error`.
    pub fn fail(&self, error: X509VerifyResult) {
        sys::X509_STORE_CTX_set_error(self.context, error.as_raw());
    }

    /// Returns whether the current certificate is the peer's own.
    pub fn is_at_leaf(&self) -> bool {
        self.context.error_depth() == 0
    }

    /// Returns the peer's own certificate.
    pub fn leaf(&self) -> Option<&X509Ref> {
        // SAFETY: `from_ptr` requires the context of a running verification: its leaf outlives it.
        unsafe { sys::X509_STORE_CTX_get0_cert(self.context) }
    }
}

/// Returns the verification result with this number.
pub fn verify_result(number: c_int) -> X509VerifyResult {
    // SAFETY: a result is nothing but its number, and OpenSSL has a text for any.
    unsafe { X509VerifyResult::from_raw(number) }
}

/// Returns the result for a certificate of another host, which the `openssl` crate does not define.
pub fn hostname_mismatch() -> X509VerifyResult {
    verify_result(openssl_sys::X509_V_ERR_HOSTNAME_MISMATCH)
}

/// Returns the result for a certificate whose key is not pinned: that for one which DANE does not
/// name (`X509_V_ERR_DANE_NO_MATCH`), which nginx does not use.
pub fn no_pinned_key() -> X509VerifyResult {
    verify_result(DANE_NO_MATCH)
}

/// Returns the result for a certificate without an accepted SPIFFE ID: that for one without the
/// expected e-mail address (`X509_V_ERR_EMAIL_MISMATCH`), which nginx does not use.
pub fn no_accepted_id() -> X509VerifyResult {
    verify_result(EMAIL_MISMATCH)
}

const EMAIL_MISMATCH: c_int = 63;
const DANE_NO_MATCH: c_int = 65;

/// Returns whether the result is one of what a request has required of the certificate, which
/// counts whether the service is verified or not.
pub fn is_own(result: X509VerifyResult) -> bool {
    let own = [X509VerifyResult::APPLICATION_VERIFICATION, no_pinned_key(), no_accepted_id()];
    own.contains(&result)
}

/// Returns OpenSSL's text for a verification result, or the module's own for what a request has
/// required of the certificate.
pub fn reason(result: X509VerifyResult) -> &'static str {
    match result {
        X509VerifyResult::APPLICATION_VERIFICATION => "none of the required names",
        result if result.as_raw() == DANE_NO_MATCH => "none of the pinned keys",
        result if result.as_raw() == EMAIL_MISMATCH => "no accepted SPIFFE ID",
        _ => result.error_string(),
    }
}

/// Returns whether `certificate` is valid for the host `name`, by nginx's rules.
pub fn is_for_host(certificate: &X509Ref, name: &[u8]) -> bool {
    // OpenSSL would treat length 0 as that of a C string; in nginx, no host matches an empty name.
    if name.is_empty() {
        return false;
    }
    // SAFETY: the name has this length, and the function keeps no pointer to it.
    unsafe { sys::X509_check_host(certificate, name.as_ptr(), name.len(), 0, None) == 1 }
}

/// Makes the SSL object unusable. A handshake that has not begun fails before it sends a byte,
/// because no protocol version is left to offer.
pub fn refuse_handshake(ssl: &SslRef) {
    let versions = openssl_sys::SSL_OP_NO_SSLv3
        | openssl_sys::SSL_OP_NO_TLSv1
        | openssl_sys::SSL_OP_NO_TLSv1_1
        | openssl_sys::SSL_OP_NO_TLSv1_2
        | openssl_sys::SSL_OP_NO_TLSv1_3;
    sys::SSL_set_options(ssl, versions);
    shut_down(ssl);
}

/// Returns whether [`refuse_handshake`] or [`shut_down`] was called for the SSL object.
pub fn is_refused(ssl: &SslRef) -> bool {
    let both = openssl_sys::SSL_SENT_SHUTDOWN | openssl_sys::SSL_RECEIVED_SHUTDOWN;
    sys::SSL_get_shutdown(ssl) & both == both
}

/// Makes every further use of an SSL object after its handshake fail, as after a shutdown.
pub fn shut_down(ssl: &SslRef) {
    let both = openssl_sys::SSL_SENT_SHUTDOWN | openssl_sys::SSL_RECEIVED_SHUTDOWN;
    sys::SSL_set_shutdown(ssl, both);
}

/// Keeps the client from resuming the session: sends no session ID and no ticket, in TLS 1.2 and
/// 1.3. Must be called before the server's first flight.
pub fn disable_session_reuse(ssl: &SslRef) -> Result<(), SslError> {
    extern "C" fn not_resumable(ssl: &SslRef, _is_forward_secure: c_int) -> c_int {
        // OpenSSL would not cache this session, but would still send its ID.
        if let Some(session) = ssl.session() {
            // SAFETY: an ID of no bytes is none, and this new session is not shared yet.
            unsafe { sys::SSL_SESSION_set1_id(session, c"".as_ptr().cast(), 0) };
        }
        1
    }
    // In OpenSSL 3.0, the callback alone also prevents TLS 1.3 tickets. The documented way is to
    // set the number of tickets.
    sys::SSL_set_not_resumable_session_callback(ssl, Some(not_resumable));
    SslError::check("SSL_set_num_tickets", sys::SSL_set_num_tickets(ssl, 0))
}

/// Gives an SSL object, after its handshake, a new context with nothing but `store`, and with
/// `data` at `index`.
///
/// # Safety
/// `data` must be of the type that is kept at `index` of contexts, and outlive the SSL object.
pub unsafe fn replace_context(
    ssl: &SslRef,
    store: X509Store,
    index: c_int,
    data: NonNull<c_void>,
) -> Result<(), SslError> {
    let mut builder = SslContext::builder(SslMethod::tls())
        .map_err(|errors| SslError::new("SSL_CTX_new", errors))?;
    builder.set_cert_store(store);
    let context = builder.build();
    // SAFETY: the caller ensures that `data` is of the type that is kept at `index`, and outlives
    // the SSL object, which is all that keeps the context.
    let is_set = unsafe { sys::SSL_CTX_set_ex_data(&context, index, data.as_ptr()) };
    SslError::check("SSL_CTX_set_ex_data", is_set)?;
    // SAFETY: the SSL object takes its own reference. nginx's configuration keeps the former
    // context, so it is not freed.
    if unsafe { sys::SSL_set_SSL_CTX(ssl, &context) }.is_null() {
        return Err(SslError::take("SSL_set_SSL_CTX"));
    }
    Ok(())
}

/// `SSL_CTX_get_info_callback(3)`
pub fn info_callback(context: &SslContextRef) -> Option<InfoCallback> {
    sys::SSL_CTX_get_info_callback(context)
}

/// `SSL_CTX_set_info_callback(3)`
///
/// # Safety
/// `callback` replaces the info callback of the context, and must call it.
pub unsafe fn set_info_callback(context: &SslContextRef, callback: InfoCallback) {
    // SAFETY: the caller ensures that the callback calls the one that it replaces.
    unsafe { sys::SSL_CTX_set_info_callback(context, Some(callback)) }
}

/// `SSL_set_info_callback(3)`
///
/// # Safety
/// `callback` is called instead of the context's info callback, and must call it.
pub unsafe fn set_connection_info_callback(ssl: &SslRef, callback: InfoCallback) {
    // SAFETY: the caller ensures that the callback calls the context's.
    unsafe { sys::SSL_set_info_callback(ssl, Some(callback)) }
}

/// An event that an info callback is called for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum HandshakeEvent {
    /// The handshake starts; nothing has been sent yet.
    Start,
    /// The handshake has succeeded.
    Done,
    /// A client has read the server's last message, and is about to send its own certificate.
    ServerDone,
    /// A client has sent its certificate.
    CertificateSent,
    /// A client has sent its signature for the certificate (`CertificateVerify`).
    CertificateSigned,
    /// A client has sent its `Finished`.
    FinishedSent,
    /// A client has received a session ticket. In TLS 1.3 this follows the server's check of the
    /// client's certificate.
    TicketReceived,
    /// The peer has sent a fatal alert (RFC 8446, section 6.2).
    FatalAlert,
    /// The handshake has stopped at an error of this side or of the peer.
    Broken,
}

impl HandshakeEvent {
    /// Returns the event for the second and third argument of an info callback.
    pub fn of(ssl: &SslRef, r#where: c_int, value: c_int) -> Option<Self> {
        if r#where & sys::SSL_CB_READ_ALERT == sys::SSL_CB_READ_ALERT {
            return is_fatal(value, ssl.version2()).then_some(Self::FatalAlert);
        }
        if r#where & sys::SSL_CB_HANDSHAKE_START != 0 {
            return Some(Self::Start);
        }
        if r#where & sys::SSL_CB_HANDSHAKE_DONE != 0 {
            return Some(Self::Done);
        }
        if r#where & sys::SSL_CB_EXIT != 0 {
            // Without an error in the queue, it waits for the peer.
            // SAFETY: the function only looks at the queue of this thread.
            let is_broken = value <= 0 && unsafe { openssl_sys::ERR_peek_last_error() } != 0;
            return is_broken.then_some(Self::Broken);
        }
        if r#where & sys::SSL_CB_LOOP == 0 {
            return None;
        }
        // OpenSSL 3.2 has changed the numbers of the states, but not their names.
        match sys::SSL_state_string(ssl).bytes()? {
            // OpenSSL 3.2 and later may compress it (RFC 8879).
            b"TWCC" | b"TWCCC" => Some(Self::CertificateSent),
            b"TWCV" => Some(Self::CertificateSigned),
            b"TWFIN" => Some(Self::FinishedSent),
            b"TRST" => Some(Self::TicketReceived),
            b"TRSD" => Some(Self::ServerDone),
            b"TRFIN" if ssl.version2() == Some(SslVersion::TLS1_3) => Some(Self::ServerDone),
            _ => None,
        }
    }
}

/// Returns whether an alert, with its level in the upper byte, reports an error that ends the
/// connection. TLS 1.3 ignores the level: all alerts do except two (RFC 8446, section 6).
fn is_fatal(alert: c_int, version: Option<SslVersion>) -> bool {
    const FATAL: c_int = 2;
    const CLOSE_NOTIFY: c_int = 0;
    const USER_CANCELED: c_int = 90;

    let (level, description) = (alert >> 8, alert & 0xff);
    level == FATAL
        || version == Some(SslVersion::TLS1_3)
            && description != CLOSE_NOTIFY
            && description != USER_CANCELED
}

/// Returns the context's callback that supplies a client certificate if the SSL object has no
/// suitable one (`SSL_CTX_get_client_cert_cb(3)`).
pub fn client_certificate_callback(context: &SslContextRef) -> Option<ClientCertificateCallback> {
    sys::SSL_CTX_get_client_cert_cb(context)
}

/// `SSL_CTX_set_client_cert_cb(3)`
///
/// # Safety
/// `callback` replaces the client certificate callback of the context, and must call it.
pub unsafe fn set_client_certificate_callback(
    context: &SslContextRef,
    callback: ClientCertificateCallback,
) {
    // SAFETY: the caller ensures that the callback calls the one that it replaces.
    unsafe { sys::SSL_CTX_set_client_cert_cb(context, Some(callback)) }
}

/// Allows the server to ask for a certificate after the handshake (RFC 8446, section 4.2.6). Must
/// be called before the `ClientHello`.
pub fn allow_post_handshake_authentication(ssl: &SslRef) {
    sys::SSL_set_post_handshake_auth(ssl, 1);
}

/// Makes the SSL object send and receive nothing more, even in the middle of a handshake.
pub fn break_off(ssl: &SslRef) {
    shut_down(ssl);
    // Writing to the invalid socket -1 fails without an entry in OpenSSL's error queue. Without
    // memory for the BIO, the write BIO is NULL, and the failure does leave one.
    // SAFETY: the SSL object takes ownership of the new BIO, or has none. nginx closes the socket
    // itself, not with the BIO that is replaced.
    unsafe { sys::SSL_set0_wbio(ssl, openssl_sys::BIO_new_socket(-1, sys::BIO_NOCLOSE)) }
    drop(ErrorStack::get());
}

/// Processes an alert that the peer sent before the connection broke. Consumes no data.
pub fn look_for_alert(ssl: &SslRef) {
    let mut byte = 0_u8;
    // SAFETY: the SSL object is valid, and `byte` has room for one byte.
    unsafe { openssl_sys::SSL_peek(ssl.as_ptr(), (&raw mut byte).cast(), 1) };
    drop(ErrorStack::get());
}

/// Returns the first protocol of `supported` that the client offers (RFC 7301, section 3.2). Both
/// lists are in wire format.
pub fn select_alpn<'a>(supported: &[u8], offered: &'a [u8]) -> Option<&'a [u8]> {
    protocols(supported).find_map(|protocol| protocols(offered).find(|other| *other == protocol))
}

/// Returns the names in an ALPN list in wire format, up to the first malformed one.
fn protocols(mut list: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = list.split_first()?;
        let (protocol, rest) = rest.split_at_checked(usize::from(*length))?;
        list = rest;
        (!protocol.is_empty()).then_some(protocol)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alpn_follows_the_preference_of_the_server() {
        type Case = (&'static [u8], &'static [u8], Option<&'static [u8]>);
        let cases: &[Case] = &[
            (b"\x02h2\x08http/1.1", b"\x08http/1.1\x02h2", Some(b"h2")),
            (b"\x08http/1.1", b"\x02h2\x08http/1.1", Some(b"http/1.1")),
            (b"\x08http/1.1", b"\x02h2", None),
            (b"\x02h2", b"", None),
            (b"\x02h2", b"\x00\x02h2", None),
            (b"\x02h2", b"\x05h2", None),
            (b"\x02h2", b"\x01h\x02h2", Some(b"h2")),
        ];
        for (supported, offered, expected) in cases {
            assert_eq!(select_alpn(supported, offered), *expected, "{}", offered.escape_ascii());
        }
    }
}
