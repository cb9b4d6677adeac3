// SPDX-License-Identifier: Apache-2.0

//! What OpenSSL calls in the handshakes of nginx's connections. Each callback is over a trait that
//! safe code implements, and catches its panics.

use std::ffi::{c_int, c_uchar, c_uint, c_void};
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::slice;

use foreign_types::{ForeignType, ForeignTypeRef};
use ngx::ffi::ngx_connection_t;
use openssl::ssl::{SslContextRef, SslRef, SslSession, SslSessionRef};
use openssl_sys::{EVP_PKEY, SSL, SSL_SESSION, X509, X509_STORE_CTX};

use crate::nginx::connection::{Connection, Tls, process_log};
use crate::nginx::panic::guard;
use crate::openssl::error::SslError;
use crate::openssl::session::{self, GetSessionCallback, Offered};
use crate::openssl::slot::Slot;
use crate::openssl::ssl::{
    self, ClientCertificateCallback, HandshakeEvent, InfoCallback, Verification,
};

// ---- the course of a handshake ------------------------------------------------------------------

/// Follows handshakes.
pub trait FollowHandshake {
    /// What a panic is logged under.
    const NAME: &'static str;

    /// Runs at each step, after the callback that this one replaces. A panic ends the handshake.
    fn step(step: Step<'_>);

    /// Follows the handshakes of one connection.
    fn follow(ssl: &SslRef)
    where
        Self: Sized,
    {
        // SAFETY: `info` takes any SSL object, and calls the context's own callback.
        unsafe { ssl::set_connection_info_callback(ssl, info::<Self>) }
    }
}

/// A step of a handshake.
pub struct Step<'a> {
    pub ssl: &'a SslRef,
    r#where: c_int,
    value: c_int,
}

impl Step<'_> {
    /// Returns what has happened, if it is of any interest.
    pub fn event(&self) -> Option<HandshakeEvent> {
        HandshakeEvent::of(self.ssl, self.r#where, self.value)
    }
}

/// Supplies a client certificate that OpenSSL lacks.
pub trait LackOfCertificate {
    /// Runs when the peer asks for a certificate and the connection has none that can be used.
    /// Returns whether the handshake was ended; otherwise the callback that this one replaces is
    /// called.
    fn has_refused(ssl: &SslRef) -> bool;
}

/// The callbacks of a context that [`follow_context`] has replaced.
struct Replaced {
    info: Option<InfoCallback>,
    client_certificate: Option<ClientCertificateCallback>,
}

// SAFETY: functions are `Send` and `Sync`.
static REPLACED: Slot<SslContextRef, Replaced> = unsafe { Slot::new() };

/// Follows all handshakes with this context.
pub fn follow_context<T>(context: &SslContextRef) -> Result<(), SslError>
where
    T: FollowHandshake + LackOfCertificate,
{
    REPLACED.get_or_make::<SslError>(context, || {
        Ok(Replaced {
            info: ssl::info_callback(context),
            client_certificate: ssl::client_certificate_callback(context),
        })
    })?;
    // SAFETY: both take any SSL object, and call the callbacks that they replace.
    unsafe {
        ssl::set_info_callback(context, info::<T>);
        ssl::set_client_certificate_callback(context, client_certificate::<T>);
    }
    Ok(())
}

unsafe extern "C" fn info<T: FollowHandshake>(ssl: *const SSL, r#where: c_int, value: c_int) {
    // SAFETY: OpenSSL calls its info callback with a valid SSL object.
    let ssl = unsafe { SslRef::from_ptr(ssl.cast_mut()) };
    let context = ssl.ssl_context();
    let own: InfoCallback = info::<T>;
    let replaced = match REPLACED.get(context) {
        Some(replaced) => replaced.info,
        // This is the callback of a connection, which must not call itself.
        None => ssl::info_callback(context).filter(|other| *other as usize != own as usize),
    };
    if let Some(replaced) = replaced {
        // SAFETY: this is the callback of the context of `ssl`, and gets OpenSSL's arguments.
        unsafe { replaced(ssl.as_ptr(), r#where, value) }
    }
    let log = Connection::from_ssl(ssl).map_or_else(process_log, Connection::log);
    let handled = guard(T::NAME, log, false, || {
        T::step(Step { ssl, r#where, value });
        true
    });
    if !handled {
        ssl::refuse_handshake(ssl);
    }
}

unsafe extern "C" fn client_certificate<T: LackOfCertificate>(
    ssl: *mut SSL,
    certificate: *mut *mut X509,
    key: *mut *mut EVP_PKEY,
) -> c_int {
    /// No certificate is returned.
    const NONE: c_int = 0;

    // SAFETY: OpenSSL calls its client certificate callback with a valid SSL object.
    let ssl = unsafe { SslRef::from_ptr(ssl) };
    let refused =
        guard("upstream client certificate", process_log(), None, || Some(T::has_refused(ssl)));
    if refused.is_none() {
        // OpenSSL would continue the handshake without a certificate.
        ssl::break_off(ssl);
    }
    if refused.unwrap_or(true) {
        return NONE;
    }
    let replaced = REPLACED.get(ssl.ssl_context());
    replaced
        .and_then(|replaced| replaced.client_certificate)
        // SAFETY: this is the callback of the context of `ssl`, and gets OpenSSL's arguments.
        .map_or(NONE, |replaced| unsafe { replaced(ssl.as_ptr(), certificate, key) })
}

// ---- certificates -------------------------------------------------------------------------------

/// Chooses the certificate of a connection.
pub trait ChooseCertificate {
    /// Runs when the peer asks for a certificate. Returns whether the handshake may go on.
    fn choose(ssl: &SslRef) -> bool;

    /// Makes OpenSSL call this for `ssl`, instead of its context's callback.
    fn choose_for(ssl: &SslRef)
    where
        Self: Sized,
    {
        ssl::set_certificate_callback(ssl, Some(certificate::<Self>));
    }
}

extern "C" fn certificate<T: ChooseCertificate>(ssl: &SslRef, _argument: *mut c_void) -> c_int {
    guard("certificate", process_log(), 0, || T::choose(ssl).into())
}

/// Verifies peers.
pub trait VerifyPeer {
    /// What a panic is logged under.
    const NAME: &'static str;

    /// Runs for each error found in the peer's chain, and then for each certificate that is good,
    /// the peer's own last. `is_good` is OpenSSL's verdict. Returns whether the handshake may go
    /// on. There is no `verification` for the issuer of a revocation list, which OpenSSL verifies
    /// in a context of its own.
    fn judge(verification: Option<&Verification<'_>>, is_good: bool) -> bool;

    /// Asks the peer of `ssl` for a certificate, and makes OpenSSL call this for it instead of its
    /// context's callback.
    fn verify(ssl: &SslRef)
    where
        Self: Sized,
    {
        // SAFETY: `verify` is for any verification, and `judge` decides on every error.
        unsafe { ssl::verify_peer(ssl, verify::<Self>) }
    }

    /// Returns whether OpenSSL still calls this for the peer of `ssl`.
    fn verifies(ssl: &SslRef) -> bool
    where
        Self: Sized,
    {
        ssl::verify_callback(ssl).is_some_and(|callback| {
            ptr::fn_addr_eq(callback, verify::<Self> as ssl::VerifyCallback)
        })
    }
}

extern "C" fn verify<T: VerifyPeer>(preverified: c_int, context: *mut X509_STORE_CTX) -> c_int {
    guard(T::NAME, process_log(), 0, || {
        // SAFETY: OpenSSL calls its verify callback with the valid context of a verification.
        let verification = unsafe { Verification::from_ptr(context) };
        T::judge(verification.as_ref(), preverified == 1).into()
    })
}

// ---- the protocol -------------------------------------------------------------------------------

/// Selects the protocol of clients (ALPN, RFC 7301).
pub trait SelectProtocol {
    /// Returns the protocols that the server of `ssl` supports, in wire format. `None` ends the
    /// handshake.
    fn supported(ssl: &SslRef) -> Option<&'static [u8]>;

    /// Selects protocols for all connections of a context, instead of its own callback.
    fn select_for(context: &SslContextRef)
    where
        Self: Sized,
    {
        // SAFETY: the context is valid, and `select` takes any SSL object.
        unsafe {
            openssl_sys::SSL_CTX_set_alpn_select_cb__fixed_rust(
                context.as_ptr(),
                Some(select::<Self>),
                ptr::null_mut(),
            );
        }
    }
}

unsafe extern "C" fn select<T: SelectProtocol>(
    ssl: *mut SSL,
    out: *mut *const c_uchar,
    out_length: *mut c_uchar,
    offered: *const c_uchar,
    offered_length: c_uint,
    _argument: *mut c_void,
) -> c_int {
    guard("ALPN callback", process_log(), openssl_sys::SSL_TLSEXT_ERR_ALERT_FATAL, || {
        // SAFETY: OpenSSL calls its ALPN callback with a valid SSL object.
        let ssl = unsafe { SslRef::from_ptr(ssl) };
        // SAFETY: OpenSSL passes the client's list, of `offered_length` bytes, and keeps it until
        // the callback has returned.
        let offered = unsafe { slice::from_raw_parts(offered, offered_length as usize) };
        // RFC 7301, section 3.2: without a common protocol, the server sends a fatal
        // `no_application_protocol` alert.
        let chosen = T::supported(ssl).and_then(|supported| ssl::select_alpn(supported, offered));
        let Some(chosen) = chosen else {
            return openssl_sys::SSL_TLSEXT_ERR_ALERT_FATAL;
        };
        // SAFETY: OpenSSL passes valid output pointers. `chosen` is part of the client's list, from
        // which OpenSSL copies it, and is shorter than 256 bytes.
        unsafe {
            *out = chosen.as_ptr();
            *out_length = chosen.len() as c_uchar;
        }
        openssl_sys::SSL_TLSEXT_ERR_OK
    })
}

// ---- sessions of clients ------------------------------------------------------------------------

/// Where a session was found that a client offers.
pub enum Lookup {
    Nowhere,
    Found(SslSession),
    /// This callback is to be asked.
    Ask(GetSessionCallback),
}

/// Decides about the sessions that clients offer.
///
/// # Safety
/// `find` may only return the callback that `find_for` has replaced for the context with which the
/// handshake began.
pub unsafe trait OfferedSessions {
    /// Writes what is to be known of a session, before OpenSSL makes a ticket of it.
    fn mark(ssl: &SslRef) -> Result<(), SslError>;

    /// Decides whether a client may resume the session of the ticket that it offers, while OpenSSL
    /// reads the `ClientHello`.
    fn judge_ticket(ssl: &SslRef, session: &SslSessionRef) -> Offered;

    /// Decides whether a client may resume the session whose ID it offers.
    fn judge(ssl: &SslRef, session: &SslSessionRef) -> Offered;

    /// Looks for the session that the client of `ssl` offers by its ID.
    fn find(ssl: &SslRef, id: &[u8]) -> Lookup;

    /// Marks the tickets of the context, and judges those that clients offer.
    fn judge_tickets_of(context: &SslContextRef) -> Result<(), SslError>
    where
        Self: Sized,
    {
        session::set_ticket_callbacks(context, generate_ticket::<Self>, decrypt_ticket::<Self>)
    }

    /// Finds the sessions of clients of the context, instead of its own callback.
    fn find_for(context: &SslContextRef)
    where
        Self: Sized,
    {
        // SAFETY: `get_session` calls the callback that it replaces, which `find` returns.
        unsafe { session::set_get_session_callback(context, get_session::<Self>) }
    }
}

unsafe extern "C" fn generate_ticket<T: OfferedSessions>(
    ssl: *mut SSL,
    _argument: *mut c_void,
) -> c_int {
    guard("session ticket", process_log(), (), || {
        // SAFETY: OpenSSL calls its ticket callback with a valid SSL object.
        let ssl = unsafe { SslRef::from_ptr(ssl) };
        if let Err(error) = T::mark(ssl) {
            process_log().error(format_args!("session ticket: {error}"));
        }
    });
    // A ticket without a mark is as good as none, and no reason to end the handshake.
    1
}

unsafe extern "C" fn decrypt_ticket<T: OfferedSessions>(
    ssl: *mut SSL,
    session: *mut SSL_SESSION,
    _key_name: *const c_uchar,
    _key_name_length: usize,
    status: c_int,
    _argument: *mut c_void,
) -> c_int {
    session::judge_ticket(status, || {
        guard("session ticket", process_log(), Offered::Ignore, || {
            // SAFETY: OpenSSL calls its ticket callback with a valid SSL object and, if the ticket
            // was decrypted, with its session; `judge_ticket` calls this only then.
            let (ssl, session) =
                unsafe { (SslRef::from_ptr(ssl), SslSessionRef::from_ptr(session)) };
            T::judge_ticket(ssl, session)
        })
    })
}

unsafe extern "C" fn get_session<T: OfferedSessions>(
    ssl: *mut SSL,
    id: *const c_uchar,
    length: c_int,
    copy: *mut c_int,
) -> *mut SSL_SESSION {
    const NONE: *mut SSL_SESSION = ptr::null_mut();

    guard("session cache", process_log(), NONE, || {
        // SAFETY: OpenSSL calls this with a valid SSL object.
        let client = unsafe { SslRef::from_ptr(ssl) };
        // SAFETY: OpenSSL passes an ID of `length` bytes.
        let offered =
            unsafe { slice::from_raw_parts(id, usize::try_from(length).unwrap_or_default()) };
        match T::find(client, offered) {
            Lookup::Nowhere => NONE,
            Lookup::Found(session) => {
                if T::judge(client, &session) == Offered::Ignore {
                    return NONE;
                }
                // SAFETY: OpenSSL passes a valid place. With 0 there, it takes over the reference
                // that is returned.
                unsafe { *copy = 0 };
                ManuallyDrop::new(session).as_ptr()
            }
            Lookup::Ask(get) => {
                // SAFETY: `find` returns the callback that this one replaces, which gets OpenSSL's
                // arguments.
                let found = unsafe { get(ssl, id, length, copy) };
                // SAFETY: `found` is what that callback has returned; a session is valid at least
                // until it is freed below.
                let session = unsafe { session::found(found) };
                let judged = session.map(|session| T::judge(client, session));
                if judged != Some(Offered::Ignore) {
                    return found;
                }
                // SAFETY: with 0 in `copy`, the callback has passed on its reference.
                unsafe {
                    if *copy == 0 {
                        openssl_sys::SSL_SESSION_free(found);
                    }
                }
                NONE
            }
        }
    })
}

// ---- sessions of services -----------------------------------------------------------------------

/// Saves the sessions that services give.
pub trait SaveSession {
    /// Saves a session of the connection with this TLS.
    fn save(tls: Tls<'_>, session: &SslSessionRef);

    /// Makes nginx call this for each session that the peer gives, instead of its own function.
    fn save_for(tls: Tls<'_>)
    where
        Self: Sized,
    {
        // SAFETY: the function handles any connection with TLS.
        unsafe { tls.save_sessions_by(save_session::<Self>) };
    }
}

unsafe extern "C" fn save_session<T: SaveSession>(connection: *mut ngx_connection_t) {
    guard("upstream TLS session", process_log(), (), || {
        // SAFETY: nginx calls this with the valid connection that the function was set for.
        let connection = unsafe { Connection::from_ptr(NonNull::new_unchecked(connection)) };
        if let Some((tls, session)) = connection.tls().and_then(|tls| Some((tls, tls.session()?))) {
            T::save(tls, session);
        }
    });
}
