// SPDX-License-Identifier: Apache-2.0

//! Checks values that override the result of verifying a client.

/// A value that was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidClientVerify {
    /// None of the three forms.
    #[error(
        "unknown client verify value: {0} accepted values are: \"SUCCESS\", \"NONE\" or \
         \"FAILED:<reason>\""
    )]
    Unknown(String),
    /// The value goes into headers and logs, where a line break would start a new line.
    #[error("the reason of client verify value \"{0}\" must not hold control characters")]
    ControlCharacter(String),
    /// Longer than [`MAX_LENGTH`].
    #[error("client verify value must not be longer than {MAX_LENGTH} bytes: given {0}")]
    TooLong(usize),
}

/// The maximum length of a value, which goes into headers and logs. nginx stores the length of a
/// variable in 28 bits, and would truncate anything longer.
const MAX_LENGTH: usize = 4096;

/// Checks a value for `set_client_verify`: it must be one that `$ssl_client_verify` could have.
pub fn check(value: &[u8]) -> Result<(), InvalidClientVerify> {
    if value.len() > MAX_LENGTH {
        return Err(InvalidClientVerify::TooLong(value.len()));
    }
    let printed = || value.escape_ascii().to_string();
    match value {
        b"SUCCESS" | b"NONE" => Ok(()),
        [b'F', b'A', b'I', b'L', b'E', b'D', b':', reason @ ..] if !reason.is_empty() => {
            if reason.iter().any(u8::is_ascii_control) {
                return Err(InvalidClientVerify::ControlCharacter(printed()));
            }
            Ok(())
        }
        _ => Err(InvalidClientVerify::Unknown(printed())),
    }
}

/// Returns whether a checked value says that verification failed.
pub fn is_failure(value: &[u8]) -> bool {
    value.starts_with(b"FAILED:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        for value in ["SUCCESS", "NONE", "FAILED:expired", "FAILED: ä \u{20ac}", "FAILED:FAILED:"]
        {
            assert_eq!(check(value.as_bytes()), Ok(()), "{value}");
        }
        for value in ["", "success", "SUCCESS ", "NONE\0", "FAILED", "FAILED:", "failed:x", "OK"] {
            assert!(
                matches!(check(value.as_bytes()), Err(InvalidClientVerify::Unknown(_))),
                "{value}"
            );
        }
        for value in ["FAILED:a\r\nX-Admin: 1", "FAILED:\0", "FAILED:\u{7f}"] {
            assert!(
                matches!(check(value.as_bytes()), Err(InvalidClientVerify::ControlCharacter(_))),
                "{value:?}"
            );
        }
    }
}
