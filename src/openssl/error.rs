// SPDX-License-Identifier: Apache-2.0

//! OpenSSL errors.

use std::borrow::Cow;
use std::ffi::c_ulong;
use std::{fmt, io, slice};

use openssl::error::{Error, ErrorStack};

/// A failed OpenSSL function, with OpenSSL's error queue.
#[derive(Debug)]
pub struct SslError {
    function: &'static str,
    errors: ErrorStack,
    shows_last: bool,
}

impl SslError {
    /// Takes the errors from OpenSSL's queue, which is empty afterwards.
    pub fn take(function: &'static str) -> Self {
        Self::new(function, ErrorStack::get())
    }

    /// Takes the errors from OpenSSL's queue, and shows the last: where OpenSSL tries one thing
    /// after another, those before are of what it has tried first.
    pub fn take_last(function: &'static str) -> Self {
        Self { shows_last: true, ..Self::take(function) }
    }

    /// Returns an error if `result`, returned by the OpenSSL function `function`, means failure.
    pub fn check(function: &'static str, result: impl Into<i64>) -> Result<(), Self> {
        if result.into() > 0 { Ok(()) } else { Err(Self::take(function)) }
    }

    /// Makes an error from a queue that the `openssl` crate has taken.
    pub fn new(function: &'static str, errors: ErrorStack) -> Self {
        Self { function, errors, shows_last: false }
    }

    /// Returns whether one of the reasons is such.
    pub fn has_reason(&self, is_such: impl Fn(&str) -> bool) -> bool {
        self.shown().iter().filter_map(reason).any(|reason| is_such(&reason))
    }

    fn shown(&self) -> &[Error] {
        match self.errors.errors() {
            [.., last] if self.shows_last => slice::from_ref(last),
            all => all,
        }
    }
}

impl std::error::Error for SslError {}

impl fmt::Display for SslError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}() failed", self.function)?;
        let reasons: Vec<_> = self.shown().iter().filter_map(reason).collect();
        if !reasons.is_empty() {
            write!(f, " ({})", reasons.join("; "))?;
        }
        Ok(())
    }
}

/// Returns the text of an error. OpenSSL has none for system errors.
fn reason(error: &Error) -> Option<Cow<'static, str>> {
    /// `ERR_SYSTEM_FLAG` of OpenSSL 3.0 and later: the other bits are an `errno`.
    const SYSTEM: c_ulong = 1 << 31;

    let code = error.code();
    if code & SYSTEM != 0 {
        let errno = i32::try_from(code & !SYSTEM).ok()?;
        return Some(io::Error::from_raw_os_error(errno).to_string().into());
    }
    error.reason().map(Cow::Borrowed)
}

#[cfg(test)]
mod tests {
    use openssl::x509::X509;

    use super::*;

    #[test]
    fn the_reason_is_given() {
        let errors = X509::from_der(b"").map(|_| ()).unwrap_err();
        let error = SslError::new("d2i_X509", errors).to_string();
        assert!(error.starts_with("d2i_X509() failed ("), "{error}");
    }

    #[test]
    fn a_success_takes_no_error() {
        assert!(SslError::check("f", 1).is_ok());
        assert_eq!(SslError::check("f", 0).unwrap_err().to_string(), "f() failed");
    }
}
