// SPDX-License-Identifier: Apache-2.0

//! The certificate of the peer in a session.
//!
//! To decode a certificate takes OpenSSL 3.0 about as long as all else in a resumed handshake, and
//! sessions with one service have the same certificate. But OpenSSL has no function that gives a
//! session a certificate. So the field of `SSL_SESSION` is found by its value in a session that has
//! one, and tried on a session that has none. Where this does not show what it should, a session is
//! decoded together with its certificate.

use std::ffi::c_void;
use std::mem;
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

use foreign_types::ForeignTypeRef;
use openssl::ssl::{SslSession, SslSessionRef};
use openssl::x509::{X509, X509Ref};
use openssl_sys::X509 as RawX509;

use crate::openssl::memory::owned;
use crate::openssl::sys;

/// The number of pointers before the field; `None` if it was not found.
static PLACE: OnceLock<Option<usize>> = OnceLock::new();

/// Returns whether [`set`] can set the certificate of a session.
pub fn can_be_set() -> bool {
    matches!(PLACE.get(), Some(Some(_)))
}

/// Finds out how to set the certificate of a session, from a session that OpenSSL has given one.
pub fn learn(example: &SslSessionRef) {
    PLACE.get_or_init(|| find(example));
}

/// Gives a session without a certificate, which is not shared yet, that of its peer. Returns
/// whether that was possible.
pub fn set(session: &SslSessionRef, certificate: &X509Ref) -> bool {
    let Some(&Some(place)) = PLACE.get() else {
        return false;
    };
    // SAFETY: `find` has tried this place on a session of the same OpenSSL.
    unsafe { set_at(session, place, certificate.to_owned()) }
}

/// Calls `work` while a session has no certificate, if its certificate can be set.
pub fn set_aside<T>(session: &SslSessionRef, work: impl FnOnce(&SslSessionRef) -> T) -> T {
    struct Aside {
        field: *mut *mut RawX509,
        certificate: *mut RawX509,
    }
    impl Drop for Aside {
        fn drop(&mut self) {
            // SAFETY: the session is borrowed as long as this lives.
            unsafe { self.field.write(self.certificate) }
        }
    }

    let (Some(&Some(place)), Some(certificate)) = (PLACE.get(), get(session)) else {
        return work(session);
    };
    let certificate = certificate.as_ptr();
    // SAFETY: `find` has tried this place on a session of the same OpenSSL.
    let field = unsafe { field(session, place) };
    // SAFETY: this is the session's field. Only `work` uses the session before it is restored:
    // sessions stay in one thread. The certificate is not freed, because the session's reference
    // remains.
    unsafe { field.write(ptr::null_mut()) };
    let _aside = Aside { field, certificate };
    work(session)
}

/// Returns the certificate of the peer.
pub fn get(session: &SslSessionRef) -> Option<&X509Ref> {
    sys::SSL_SESSION_get0_peer(session)
}

fn find(example: &SslSessionRef) -> Option<usize> {
    let certificate = get(example)?;
    let fields = fields(example)?;
    // SAFETY: `usable` words are the session's own memory. OpenSSL allocates a session as zeros, so
    // all that comes before the field is initialised, and the iteration stops there.
    let is_field =
        |place: &usize| unsafe { fields.start.add(*place).read() == certificate.as_ptr() };
    let place = (0..fields.usable).find(is_field)?;

    // A session that OpenSSL has just made has no certificate.
    // SAFETY: the function returns a new session, or NULL.
    let trial: SslSession = unsafe { owned("SSL_SESSION_new", sys::SSL_SESSION_new()) }.ok()?;
    if get(&trial).is_some() || self::fields(&trial)?.usable <= place {
        return None;
    }
    // SAFETY: the place is within the session's own memory.
    unsafe { set_at(&trial, place, certificate.to_owned()) }.then_some(place)
}

/// Writes the certificate to this place, if there is nothing. Returns whether it is the session's
/// certificate then.
///
/// # Safety
/// The place must be in the memory of the session, which is used nowhere else.
unsafe fn set_at(session: &SslSessionRef, place: usize, certificate: X509) -> bool {
    // SAFETY: the caller ensures that the place is in the session's memory.
    let field = unsafe { field(session, place) };
    // SAFETY: the field is in the session's memory, which OpenSSL allocates as zeros.
    if !unsafe { field.read() }.is_null() {
        return false;
    }
    let pointer = certificate.as_ptr();
    // SAFETY: the field is in the session's memory, and the caller ensures that nothing else uses
    // the session.
    unsafe { field.write(pointer) };
    if get(session).is_some_and(|set| ptr::eq(set.as_ptr(), pointer)) {
        // The session has the reference, and frees it.
        mem::forget(certificate);
        return true;
    }
    // SAFETY: the field is in the session's memory, and was NULL before.
    unsafe { field.write(ptr::null_mut()) };
    false
}

/// Returns the field at this place of a session.
///
/// # Safety
/// The place must be in the memory of the session.
unsafe fn field(session: &SslSessionRef, place: usize) -> *mut *mut RawX509 {
    // SAFETY: the caller ensures that the place is in the session's memory.
    unsafe { session.as_ptr().cast::<*mut RawX509>().add(place) }
}

/// The memory of a session, as pointers.
struct Fields {
    start: *const *mut RawX509,
    usable: usize,
}

/// Returns the memory of a session; `None` if OpenSSL does not use `malloc(3)`.
fn fields(session: &SslSessionRef) -> Option<Fields> {
    let (mut allocate, mut resize, mut free) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
    // SAFETY: the function writes three pointers.
    unsafe { sys::CRYPTO_get_mem_functions(&raw mut allocate, &raw mut resize, &raw mut free) };
    if allocate != sys::CRYPTO_malloc as *mut c_void {
        return None;
    }
    let start = NonNull::new(session.as_ptr())?;
    // SAFETY: the session was allocated with `malloc(3)`, and is valid.
    let size = unsafe { libc::malloc_usable_size(start.as_ptr().cast::<c_void>()) };
    Some(Fields { start: start.as_ptr().cast(), usable: size / size_of::<*mut RawX509>() })
}

#[cfg(test)]
mod tests {
    use openssl::pkey::PKey;

    use super::*;
    use crate::openssl::session_text::{self, SessionText};
    use crate::openssl::test_certificate::self_signed;

    /// Returns a session with a certificate, as it comes from a handshake.
    fn example() -> SslSession {
        use std::io::{Read, Write};
        use std::os::unix::net::UnixStream;

        use openssl::ssl::{SslAcceptor, SslConnector, SslMethod, SslVerifyMode};

        let key = PKey::generate_ed25519().unwrap();
        let own = self_signed(&key, "service", 1 << 30);
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
        acceptor.set_private_key(&key).unwrap();
        acceptor.set_certificate(&own).unwrap();
        let acceptor = acceptor.build();
        let (here, there) = UnixStream::pair().unwrap();
        let service = std::thread::spawn(move || {
            let mut stream = acceptor.accept(there).unwrap();
            stream.write_all(b"1").unwrap();
            let _ = stream.shutdown();
        });
        let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
        connector.set_verify(SslVerifyMode::NONE);
        let configuration = connector.build().configure().unwrap().verify_hostname(false);
        let mut stream = configuration.connect("service", here).unwrap();
        stream.read_exact(&mut [0]).unwrap();
        service.join().unwrap();
        stream.ssl().session().unwrap().to_owned()
    }

    #[test]
    fn a_session_gets_the_certificate_and_frees_it() {
        let certificate = self_signed(&PKey::generate_ed25519().unwrap(), "one", 1 << 30);
        let example = example();
        learn(&example);
        assert!(can_be_set());
        for _ in 0..3 {
            // SAFETY: the function returns a new session, or NULL.
            let session: SslSession =
                unsafe { owned("SSL_SESSION_new", sys::SSL_SESSION_new()) }.unwrap();
            assert!(set(&session, &certificate));
            assert!(ptr::eq(get(&session).unwrap().as_ptr(), certificate.as_ptr()));
            // Only once.
            assert!(!set(&session, &certificate));
        }
        // A session that has one keeps it.
        assert!(!set(&example, &certificate));
        let own = get(&example).unwrap();
        assert!(set_aside(&example, |session| get(session).is_none()));
        assert!(ptr::eq(get(&example).unwrap().as_ptr(), own.as_ptr()));

        // What is encoded without its certificate is decoded with it.
        let text = SessionText::of(&example).unwrap().unwrap();
        let [before, after] = text.others();
        let decoded =
            session_text::session(before, &session_text::peer(own).unwrap(), after).unwrap();
        assert_eq!(decoded.to_der().unwrap(), example.to_der().unwrap());
        let decoded = session_text::session(before, b"", after).unwrap();
        assert!(set(&decoded, own));
        assert_eq!(decoded.to_der().unwrap(), example.to_der().unwrap());
    }
}
