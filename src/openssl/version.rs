// SPDX-License-Identifier: Apache-2.0

//! Checks that the OpenSSL of this process is the one that the module was built for.

use std::ffi::{CStr, c_ulong, c_void};
use std::mem::transmute;

/// OpenSSL's version does not match.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrongOpenSsl {
    /// The library that the module is linked with at run time.
    #[error(
        "this module was built for OpenSSL {built}, and has got {found}: build it with the OpenSSL that \
         nginx has"
    )]
    Library {
        /// The major version of the headers.
        built: c_ulong,
        /// The version text of the library.
        found: String,
    },
    /// The library that nginx itself uses.
    #[error(
        "this module has OpenSSL {ours}, and nginx has another one, {found}: build it with the OpenSSL \
         that nginx has"
    )]
    OfNginx {
        /// The major version of the module's library.
        ours: c_ulong,
        /// The major version of nginx's library.
        found: c_ulong,
    },
}

/// The version number in the headers that the module was built with; set by `build.rs`.
const BUILT_FOR: &str = env!("KONG_TLS_OPENSSL_VERSION_NUMBER");

/// Returns the major version in a number like that of `OpenSSL_version_num(3)`.
const fn major(number: c_ulong) -> c_ulong {
    number >> 28
}

/// Compares the major versions of the headers, of the module's library, and of nginx's library.
pub fn check() -> Result<(), WrongOpenSsl> {
    let built = major(c_ulong::from_str_radix(BUILT_FOR, 16).unwrap_or_default());
    let ours = major(openssl::version::number() as c_ulong);
    compare(built, ours, of_nginx().map(major))
}

fn compare(built: c_ulong, ours: c_ulong, of_nginx: Option<c_ulong>) -> Result<(), WrongOpenSsl> {
    if built != ours {
        return Err(WrongOpenSsl::Library { built, found: openssl::version::version().to_owned() });
    }
    match of_nginx {
        Some(found) if found != ours => Err(WrongOpenSsl::OfNginx { ours, found }),
        _ => Ok(()),
    }
}

/// Returns the version of the library whose symbols come first in this process: nginx's, which is
/// loaded before the module. A module with another library would pass nginx's objects to functions
/// that expect a different layout.
fn of_nginx() -> Option<c_ulong> {
    type VersionNumber = unsafe extern "C" fn() -> c_ulong;

    let found = symbol(c"OpenSSL_version_num");
    // SAFETY: the function of this name has had this type since OpenSSL 1.1.0; NULL is `None`.
    let function = unsafe { transmute::<*mut c_void, Option<VersionNumber>>(found) };
    // SAFETY: the function has no arguments and no preconditions.
    function.map(|function| unsafe { function() })
}

/// Returns the address of the first symbol of this name in this process, or NULL.
pub fn symbol(name: &CStr) -> *mut c_void {
    // SAFETY: the name is a C string, and the function only searches what is loaded.
    unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) }
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
