// SPDX-License-Identifier: Apache-2.0

//! What is done with an `SSL` that nginx made, where the `openssl` crate has no function for it, or
//! one that relies on data that only its own `SSL`s carry.

use std::ffi::{CStr, c_int, c_void};
use std::ptr::{self, NonNull};

use foreign_types::ForeignTypeRef;
use openssl::error::ErrorStack;
use openssl::pkey::{PKeyRef, Private};
use openssl::ssl::{
    NameType, SslCipherRef, SslContext, SslContextRef, SslMethod, SslRef, SslSessionRef, SslVersion,
};
use openssl::stack::StackRef;
use openssl::x509::store::{X509Store, X509StoreRef};
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{X509, X509Ref, X509StoreContextRef, X509VerifyResult};
use openssl_sys::{SSL, X509_STORE_CTX};

use crate::openssl::error::SslError;
use crate::openssl::revocation::{self, Found};
use crate::openssl::sys;
pub use crate::openssl::sys::{
    certificate_callback as CertificateCallback,
    client_certificate_callback as ClientCertificateCallback, info_callback as InfoCallback,
    verify_callback as VerifyCallback,
};

/// Forgets the certificates and keys that the SSL would present.
pub fn clear_certificates(ssl: &SslRef) {
    // SAFETY: the SSL is valid, and about to be told what to present.
    unsafe { sys::SSL_certs_clear(ssl.as_ptr()) }
}

/// Makes `callback` choose what the SSL presents, in place of the one of its context.
pub fn set_certificate_callback(ssl: &SslRef, callback: Option<CertificateCallback>) {
    // SAFETY: the SSL is valid, the callback lives as long as the program.
    unsafe { sys::SSL_set_cert_cb(ssl.as_ptr(), callback, ptr::null_mut()) }
}

/// `SSL_set_verify_depth(3)`
pub fn set_verify_depth(ssl: &SslRef, depth: u32) {
    // SAFETY: the SSL is valid. Our depths are far below the type's limit.
    unsafe { sys::SSL_set_verify_depth(ssl.as_ptr(), c_int::try_from(depth).unwrap_or(c_int::MAX)) }
}

/// `SSL_CTX_get_verify_depth(3)`
pub fn context_verify_depth(ssl: &SslRef) -> u32 {
    // SAFETY: the context is valid.
    let depth = unsafe { sys::SSL_CTX_get_verify_depth(ssl.ssl_context().as_ptr()) };
    // -1 is for no limit but OpenSSL's own.
    u32::try_from(depth).unwrap_or(DEFAULT_DEPTH)
}

/// Makes `ssl` present a certificate with its key and its intermediates. OpenSSL refuses what is
/// too weak for its security level.
pub fn use_certificate(
    ssl: &SslRef,
    leaf: &X509Ref,
    key: &PKeyRef<Private>,
    intermediates: &StackRef<X509>,
) -> Result<(), SslError> {
    // SAFETY: all of the objects are valid, and the SSL takes references of its own.
    unsafe {
        SslError::check(
            "SSL_use_certificate",
            openssl_sys::SSL_use_certificate(ssl.as_ptr(), leaf.as_ptr()),
        )?;
        SslError::check(
            "SSL_use_PrivateKey",
            openssl_sys::SSL_use_PrivateKey(ssl.as_ptr(), key.as_ptr()),
        )?;
        SslError::check("SSL_set1_chain", sys::SSL_set1_chain(ssl.as_ptr(), intermediates.as_ptr()))
    }
}

/// How many bytes of memory a session takes that is made on this connection, about: most of it is
/// what OpenSSL makes of the chain of the peer.
pub fn size_of_session(ssl: &SslRef) -> usize {
    // As scripts/bench measures it, and with a chain of 90 KB.
    const WITHOUT_CHAIN: usize = 8 * 1024;
    const OF_TWO_BYTES: usize = 5;

    let chain = ssl.peer_cert_chain().into_iter().flatten().map(|certificate| {
        // SAFETY: the certificate is valid; nothing is written.
        let length = unsafe { openssl_sys::i2d_X509(certificate.as_ptr(), ptr::null_mut()) };
        usize::try_from(length).unwrap_or_default()
    });
    WITHOUT_CHAIN + OF_TWO_BYTES * chain.sum::<usize>() / 2
}

/// How many intermediates there may be where nothing else is said: what OpenSSL has.
pub const DEFAULT_DEPTH: u32 = 100;

/// Makes the SSL trust what is in `store`, of which it takes a reference; without one, what its
/// context trusts.
pub fn set_verify_store(ssl: &SslRef, store: Option<&X509StoreRef>) -> Result<(), SslError> {
    let store = store.map_or(ptr::null_mut(), ForeignTypeRef::as_ptr);
    // SAFETY: the SSL and the store are valid.
    SslError::check("SSL_set1_verify_cert_store", unsafe {
        sys::SSL_set1_verify_cert_store(ssl.as_ptr(), store)
    })
}

/// Adds to how the SSL verifies its peer.
pub fn add_verify_flags(ssl: &SslRef, flags: X509VerifyFlags) -> Result<(), SslError> {
    // SAFETY: the SSL is valid; its parameters belong to it.
    SslError::check("X509_VERIFY_PARAM_set_flags", unsafe {
        sys::X509_VERIFY_PARAM_set_flags(sys::SSL_get0_param(ssl.as_ptr()), flags.bits())
    })
}

/// Replaces the result of the verification of the peer.
pub fn set_verify_result(ssl: &SslRef, result: X509VerifyResult) {
    // SAFETY: the SSL is valid.
    unsafe { sys::SSL_set_verify_result(ssl.as_ptr(), result.as_raw().into()) }
}

/// Makes the next handshake a full one.
pub fn forget_session(ssl: &SslRef) -> Result<(), SslError> {
    // SAFETY: the SSL is valid; NULL is how a session is unset.
    SslError::check("SSL_set_session", unsafe {
        sys::SSL_set_session(ssl.as_ptr(), ptr::null_mut())
    })
}

/// Makes the next handshake offer to resume `session`, of which the SSL takes a reference.
pub fn set_session(ssl: &SslRef, session: &SslSessionRef) -> Result<(), SslError> {
    // SAFETY: both are valid.
    SslError::check("SSL_set_session", unsafe {
        sys::SSL_set_session(ssl.as_ptr(), session.as_ptr())
    })
}

/// `SSL_SESSION_is_resumable(3)`
pub fn is_resumable(session: &SslSessionRef) -> bool {
    // SAFETY: the session is valid.
    unsafe { sys::SSL_SESSION_is_resumable(session.as_ptr()) == 1 }
}

/// The name that the SSL sends to its peer.
pub fn server_name(ssl: &SslRef) -> Option<&[u8]> {
    ssl.servername_raw(NameType::HOST_NAME)
}

/// Whether the SSL holds something of its peer's that nobody has read yet.
pub fn has_pending(ssl: &SslRef) -> bool {
    // SAFETY: the SSL is valid.
    unsafe { sys::SSL_has_pending(ssl.as_ptr()) == 1 }
}

/// The name of the cipher that was agreed upon.
pub fn cipher_name(ssl: &SslRef) -> &'static str {
    ssl.current_cipher().map_or("(none)", SslCipherRef::name)
}

/// Makes a failed verification of the peer end the handshake, with `callback` to decide.
///
/// # Safety
/// `callback` must call the one of the context.
pub unsafe fn verify_peer(ssl: &SslRef, callback: VerifyCallback) {
    // SAFETY: the SSL is valid.
    unsafe {
        openssl_sys::SSL_set_verify(ssl.as_ptr(), openssl_sys::SSL_VERIFY_PEER, Some(callback));
    }
}

/// The callback that the context of `ssl` has for the verification of the peer.
pub fn context_verify_callback(ssl: &SslRef) -> Option<VerifyCallback> {
    // SAFETY: the context is valid.
    unsafe { sys::SSL_CTX_get_verify_callback(ssl.ssl_context().as_ptr()) }
}

/// A verification of a peer that is under way.
pub struct Verification<'a> {
    context: &'a X509StoreContextRef,
    /// Whose peer is verified.
    pub ssl: &'a SslRef,
}

impl<'a> Verification<'a> {
    /// # Safety
    /// `context` must be what a verify callback was given, and valid for `'a`.
    pub unsafe fn from_ptr(context: *mut X509_STORE_CTX) -> Option<Self> {
        // SAFETY: by contract. OpenSSL keeps the SSL at this index.
        unsafe {
            let index = openssl_sys::SSL_get_ex_data_X509_STORE_CTX_idx();
            let ssl = openssl_sys::X509_STORE_CTX_get_ex_data(context, index).cast::<SSL>();
            let ssl = NonNull::new(ssl)?;
            Some(Self {
                context: X509StoreContextRef::from_ptr(context),
                ssl: SslRef::from_ptr(ssl.as_ptr()),
            })
        }
    }

    /// What it is called for: see [`revocation::found`]. To be called first, each time.
    pub fn found(&self, preverified: bool) -> Found {
        revocation::found(self.context, preverified)
    }

    /// The verification itself.
    pub fn context(&self) -> &X509StoreContextRef {
        self.context
    }

    /// The last error that was found.
    pub fn error(&self) -> X509VerifyResult {
        self.context.error()
    }

    /// Makes `error` the result.
    pub fn fail(&self, error: X509VerifyResult) {
        // SAFETY: the context is valid.
        unsafe {
            openssl_sys::X509_STORE_CTX_set_error(self.context.as_ptr(), error.as_raw());
        }
    }

    /// Whether what is looked at is the peer's own certificate.
    pub fn is_at_leaf(&self) -> bool {
        self.context.error_depth() == 0
    }

    /// The peer's own certificate.
    pub fn leaf(&self) -> Option<&X509Ref> {
        // SAFETY: the context is valid, and holds the certificate.
        unsafe {
            let leaf = sys::X509_STORE_CTX_get0_cert(self.context.as_ptr());
            (!leaf.is_null()).then(|| X509Ref::from_ptr(leaf))
        }
    }
}

/// The result for a certificate that is for another host. The `openssl` crate has no name for it.
pub fn hostname_mismatch() -> X509VerifyResult {
    // SAFETY: one of OpenSSL's numbers for results.
    unsafe { X509VerifyResult::from_raw(openssl_sys::X509_V_ERR_HOSTNAME_MISMATCH) }
}

/// OpenSSL's words for the result of a verification, but for the one that is ours: see
/// `set_upstream_ssl_sans_dnsnames`.
pub fn reason(result: X509VerifyResult) -> &'static str {
    match result {
        X509VerifyResult::APPLICATION_VERIFICATION => "none of the required names",
        _ => result.error_string(),
    }
}

/// Whether `certificate` is for the host `name`, by the rules that nginx has.
pub fn is_for_host(certificate: &X509Ref, name: &[u8]) -> bool {
    // OpenSSL would take the length 0 for that of a C string; nginx has no host match it.
    if name.is_empty() {
        return false;
    }
    // SAFETY: both are valid; the function takes the length, and keeps nothing.
    unsafe {
        let name_pointer = name.as_ptr().cast();
        let certificate = certificate.as_ptr();
        openssl_sys::X509_check_host(certificate, name_pointer, name.len(), 0, ptr::null_mut()) == 1
    }
}

/// Makes a handshake that has not begun fail before it sends a byte, because no version of the
/// protocol is left to offer, and one that is done useless.
pub fn refuse_handshake(ssl: &SslRef) {
    let versions = openssl_sys::SSL_OP_NO_SSLv3
        | openssl_sys::SSL_OP_NO_TLSv1
        | openssl_sys::SSL_OP_NO_TLSv1_1
        | openssl_sys::SSL_OP_NO_TLSv1_2
        | openssl_sys::SSL_OP_NO_TLSv1_3;
    // SAFETY: the SSL is valid.
    unsafe { sys::SSL_set_options(ssl.as_ptr(), versions) };
    shut_down(ssl);
}

/// Whether [`refuse_handshake`] or [`shut_down`] was called for the SSL.
pub fn is_refused(ssl: &SslRef) -> bool {
    let both = openssl_sys::SSL_SENT_SHUTDOWN | openssl_sys::SSL_RECEIVED_SHUTDOWN;
    // SAFETY: the SSL is valid.
    unsafe { openssl_sys::SSL_get_shutdown(ssl.as_ptr()) & both == both }
}

/// Makes every further use of an SSL whose handshake is done fail, as if it had been shut down.
pub fn shut_down(ssl: &SslRef) {
    let both = openssl_sys::SSL_SENT_SHUTDOWN | openssl_sys::SSL_RECEIVED_SHUTDOWN;
    // SAFETY: the SSL is valid.
    unsafe { openssl_sys::SSL_set_shutdown(ssl.as_ptr(), both) }
}

/// Asks the client for a certificate, which `callback` judges.
///
/// # Safety
/// `callback` must let the handshake go on, whatever the client presents, or end it for good.
pub unsafe fn ask_for_certificate(ssl: &SslRef, callback: VerifyCallback) {
    // SAFETY: the SSL is valid, the callback lives as long as the program.
    unsafe {
        openssl_sys::SSL_set_verify(ssl.as_ptr(), openssl_sys::SSL_VERIFY_PEER, Some(callback));
    }
}

/// Leaves the client nothing to resume: no session id and no ticket of TLS 1.2, no ticket of TLS
/// 1.3. To be called before the server's first flight.
pub fn disable_session_reuse(ssl: &SslRef) -> Result<(), SslError> {
    unsafe extern "C" fn not_resumable(ssl: *mut SSL, _is_forward_secure: c_int) -> c_int {
        // SAFETY: OpenSSL calls with a valid SSL, whose new session it has not shown to anyone. Of
        // its own accord it would not keep this session, but send the id all the same.
        unsafe {
            let session = openssl_sys::SSL_get_session(ssl);
            if !session.is_null() {
                sys::SSL_SESSION_set1_id(session, c"".as_ptr().cast(), 0);
            }
        }
        1
    }
    // With OpenSSL 3.0 the callback alone prevents tickets of TLS 1.3 too; that their number does,
    // is what the manual says.
    // SAFETY: the SSL is valid, the callback lives as long as the program.
    unsafe {
        sys::SSL_set_not_resumable_session_callback(ssl.as_ptr(), Some(not_resumable));
        SslError::check("SSL_set_num_tickets", openssl_sys::SSL_set_num_tickets(ssl.as_ptr(), 0))
    }
}

/// Gives an SSL whose handshake is done a context that has nothing but what it trusts, and `data`
/// at `index`.
///
/// # Safety
/// `data` must be what is kept at `index` of contexts, and live as long as the SSL.
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
    // SAFETY: the SSL and the context are valid; the SSL takes a reference. The data is right by
    // contract.
    unsafe {
        SslError::check(
            "SSL_CTX_set_ex_data",
            openssl_sys::SSL_CTX_set_ex_data(context.as_ptr(), index, data.as_ptr()),
        )?;
        if openssl_sys::SSL_set_SSL_CTX(ssl.as_ptr(), context.as_ptr()).is_null() {
            return Err(SslError::take("SSL_set_SSL_CTX"));
        }
    }
    Ok(())
}

/// `SSL_CTX_get_info_callback(3)`
pub fn info_callback(context: &SslContextRef) -> Option<InfoCallback> {
    // SAFETY: the context is valid.
    unsafe { sys::SSL_CTX_get_info_callback(context.as_ptr()) }
}

/// `SSL_CTX_set_info_callback(3)`
///
/// # Safety
/// `callback` must call the one that is there now.
pub unsafe fn set_info_callback(context: &SslContextRef, callback: InfoCallback) {
    // SAFETY: the context is valid.
    unsafe { sys::SSL_CTX_set_info_callback(context.as_ptr(), Some(callback)) }
}

/// `SSL_set_info_callback(3)`
///
/// # Safety
/// `callback` must call the one of the context.
pub unsafe fn set_connection_info_callback(ssl: &SslRef, callback: InfoCallback) {
    // SAFETY: the SSL is valid.
    unsafe { sys::SSL_set_info_callback(ssl.as_ptr(), Some(callback)) }
}

/// What happened, of what an info callback is told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum HandshakeEvent {
    /// The handshake begins; nothing was sent yet.
    Start,
    /// The handshake has ended with success.
    Done,
    /// The server has said what it has to say: it is for the SSL, a client's, to present what it
    /// has.
    ServerDone,
    /// The SSL, a client's, has signed for the certificate that it presents.
    CertificateSigned,
    /// The SSL, a client's, has sent all that it had to send.
    FinishedSent,
    /// The server has given a session, in TLS 1.3 after it was content with the client.
    TicketReceived,
    /// The peer gives up, and says so (RFC 8446, section 6.2).
    FatalAlert,
}

impl HandshakeEvent {
    /// `where` and `value` are the second and the third argument of an info callback.
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
        if r#where & sys::SSL_CB_LOOP == 0 {
            return None;
        }
        // The numbers of states are others in OpenSSL 3.2, their names are not.
        // SAFETY: the SSL is valid; the name is a C string that lives for ever.
        let state = unsafe { CStr::from_ptr(sys::SSL_state_string(ssl.as_ptr())) };
        match state.to_bytes() {
            b"TWCV" => Some(Self::CertificateSigned),
            b"TWFIN" => Some(Self::FinishedSent),
            b"TRST" => Some(Self::TicketReceived),
            b"TRSD" => Some(Self::ServerDone),
            b"TRFIN" if ssl.version2() == Some(SslVersion::TLS1_3) => Some(Self::ServerDone),
            _ => None,
        }
    }
}

/// Whether an alert, its level before its description, ends the connection for a fault. In TLS 1.3
/// the level says nothing, and all are that but two (RFC 8446, section 6).
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

/// The callback that is asked for a certificate where the SSL has none that its peer takes.
pub fn client_certificate_callback(context: &SslContextRef) -> Option<ClientCertificateCallback> {
    // SAFETY: the context is valid.
    unsafe { sys::SSL_CTX_get_client_cert_cb(context.as_ptr()) }
}

/// `SSL_CTX_set_client_cert_cb(3)`
///
/// # Safety
/// `callback` must call the one that is there now.
pub unsafe fn set_client_certificate_callback(
    context: &SslContextRef,
    callback: ClientCertificateCallback,
) {
    // SAFETY: the context is valid.
    unsafe { sys::SSL_CTX_set_client_cert_cb(context.as_ptr(), Some(callback)) }
}

/// Tells the peer, a server, that it may ask for a certificate after the handshake too (RFC 8446,
/// section 4.2.6). To be called before the `ClientHello`.
pub fn allow_post_handshake_authentication(ssl: &SslRef) {
    // SAFETY: the SSL is valid.
    unsafe { sys::SSL_set_post_handshake_auth(ssl.as_ptr(), 1) }
}

/// Makes the SSL, whatever it is about to do, neither send nor take in anything more.
pub fn break_off(ssl: &SslRef) {
    shut_down(ssl);
    // Nothing can be written to a socket that is none, nor is that worth an error of OpenSSL's. To
    // nothing at all, where there is no memory, it is.
    // SAFETY: the SSL is valid, and takes the BIO; that of the connection is not what closes its
    // socket.
    unsafe {
        let nowhere = openssl_sys::BIO_new_socket(-1, sys::BIO_NOCLOSE);
        sys::SSL_set0_wbio(ssl.as_ptr(), nowhere);
    }
    drop(ErrorStack::get());
}

/// Takes in an alert that the peer has sent before the connection broke. Nothing else is read.
pub fn look_for_alert(ssl: &SslRef) {
    let mut byte = 0_u8;
    // SAFETY: the SSL is valid, and one byte fits.
    unsafe { openssl_sys::SSL_peek(ssl.as_ptr(), (&raw mut byte).cast(), 1) };
    drop(ErrorStack::get());
}

/// Chooses the first protocol of `supported` that the client offers (RFC 7301, section 3.2). Both
/// lists are in wire format.
pub fn select_alpn<'a>(supported: &[u8], offered: &'a [u8]) -> Option<&'a [u8]> {
    protocols(supported).find_map(|protocol| protocols(offered).find(|other| *other == protocol))
}

/// The names in an ALPN list in wire format, up to the first that is malformed.
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
