// SPDX-License-Identifier: Apache-2.0

//! Whether the OpenSSL of this process is the one that the module was built for.

use std::ffi::{CStr, c_char, c_int, c_ulong, c_void};
use std::mem::transmute;

/// Another OpenSSL than the module can do with.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrongOpenSsl {
    /// The library that the module has got.
    #[error(
        "this module was built for OpenSSL {built}, and has got {found}: build it with the OpenSSL that \
         nginx has"
    )]
    Library {
        /// Its major version.
        built: c_ulong,
        /// What it says of itself.
        found: String,
    },
    /// The library that nginx itself has.
    #[error(
        "this module has OpenSSL {ours}, and nginx has another one, {found}: build it with the OpenSSL \
         that nginx has"
    )]
    OfNginx {
        /// The major version of ours.
        ours: c_ulong,
        /// The major version of nginx's.
        found: c_ulong,
    },
}

/// What the headers say that the module was built with; set by `build.rs`.
const BUILT_FOR: &str = env!("KONG_TLS_OPENSSL_VERSION_NUMBER");

/// The major version in a number as `OpenSSL_version_num(3)` has it.
const fn major(number: c_ulong) -> c_ulong {
    number >> 28
}

/// Compares the versions that matter: those of the headers, of our library, and of nginx's.
pub fn check() -> Result<(), WrongOpenSsl> {
    let built = major(c_ulong::from_str_radix(BUILT_FOR, 16).unwrap_or_default());
    // SAFETY: the function takes nothing, and says a number.
    let ours = major(unsafe { openssl_sys::OpenSSL_version_num() });
    compare(built, ours, of_nginx().map(major))
}

fn compare(built: c_ulong, ours: c_ulong, of_nginx: Option<c_ulong>) -> Result<(), WrongOpenSsl> {
    if built != ours {
        return Err(WrongOpenSsl::Library { built, found: text() });
    }
    match of_nginx {
        Some(found) if found != ours => Err(WrongOpenSsl::OfNginx { ours, found }),
        _ => Ok(()),
    }
}

/// What our library says of itself.
fn text() -> String {
    /// `OPENSSL_VERSION`
    const VERSION: c_int = 0;
    // SAFETY: the function says a text that lives as long as the program.
    let text: *const c_char = unsafe { openssl_sys::OpenSSL_version(VERSION) };
    // SAFETY: as above.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// The version of the library whose names come first in this process: nginx's, which is there
/// before ours. With another of its own, a module would give nginx's objects to functions that take
/// them for others.
fn of_nginx() -> Option<c_ulong> {
    type VersionNumber = unsafe extern "C" fn() -> c_ulong;

    // SAFETY: the function of this name has this type since OpenSSL 1.1.0.
    unsafe {
        let found = libc::dlsym(libc::RTLD_DEFAULT, c"OpenSSL_version_num".as_ptr());
        (!found.is_null()).then(|| transmute::<*mut c_void, VersionNumber>(found)())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn majors() {
        assert_eq!(major(0x3000_0160), 3);
        assert_eq!(major(0x1010_117f), 1);
    }

    #[test]
    fn all_must_be_the_same() {
        assert_eq!(compare(3, 3, Some(3)), Ok(()));
        assert_eq!(compare(3, 3, None), Ok(()));
        assert!(matches!(compare(1, 3, Some(3)), Err(WrongOpenSsl::Library { built: 1, .. })));
        assert_eq!(compare(3, 3, Some(1)), Err(WrongOpenSsl::OfNginx { ours: 3, found: 1 }));
        assert_eq!(check(), Ok(()));
    }
}
