//! Errors of OpenSSL.

use std::fmt;

use openssl::error::ErrorStack;

/// A function of OpenSSL that failed, with the reason that it gave.
#[derive(Debug)]
pub struct SslError {
    function: &'static str,
    errors: ErrorStack,
}

impl SslError {
    /// Takes the reason from OpenSSL's error queue, which is empty afterwards.
    pub fn take(function: &'static str) -> Self {
        Self { function, errors: ErrorStack::get() }
    }

    /// `Ok` if `result`, of the OpenSSL function `function`, says success.
    pub fn check(function: &'static str, result: impl Into<i64>) -> Result<(), Self> {
        if result.into() > 0 { Ok(()) } else { Err(Self::take(function)) }
    }

    /// An error that the `openssl` crate has taken from the queue.
    pub fn new(function: &'static str, errors: ErrorStack) -> Self {
        Self { function, errors }
    }
}

impl std::error::Error for SslError {}

impl fmt::Display for SslError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}() failed", self.function)?;
        let reasons: Vec<_> =
            self.errors.errors().iter().filter_map(|error| error.reason()).collect();
        if !reasons.is_empty() {
            write!(f, " ({})", reasons.join("; "))?;
        }
        Ok(())
    }
}
