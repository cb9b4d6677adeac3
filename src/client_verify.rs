//! The override of the result of a client's verification.

/// What `set_client_verify` was given: a value as `$ssl_client_verify` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientVerify(Box<[u8]>);

/// A value that was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidClientVerify {
    /// None of the three forms.
    #[error(
        "unknown client verify value: \"{0}\", accepted values are: \"SUCCESS\", \"NONE\" or \
         \"FAILED:<reason>\""
    )]
    Unknown(String),
    /// The value goes into headers and logs, where a line break would begin another line.
    #[error("the reason of client verify value \"{0}\" must not hold control characters")]
    ControlCharacter(String),
}

impl ClientVerify {
    /// Checks a value.
    pub fn new(value: &[u8]) -> Result<Self, InvalidClientVerify> {
        let printed = || value.escape_ascii().to_string();
        match value {
            b"SUCCESS" | b"NONE" => {}
            [b'F', b'A', b'I', b'L', b'E', b'D', b':', reason @ ..] if !reason.is_empty() => {
                if reason.iter().any(u8::is_ascii_control) {
                    return Err(InvalidClientVerify::ControlCharacter(printed()));
                }
            }
            _ => return Err(InvalidClientVerify::Unknown(printed())),
        }
        Ok(Self(value.into()))
    }

    /// The value.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        for value in ["SUCCESS", "NONE", "FAILED:expired", "FAILED: ä \u{20ac}", "FAILED:FAILED:"]
        {
            assert_eq!(ClientVerify::new(value.as_bytes()).unwrap().as_bytes(), value.as_bytes());
        }
        for value in ["", "success", "SUCCESS ", "NONE\0", "FAILED", "FAILED:", "failed:x", "OK"] {
            assert!(
                matches!(ClientVerify::new(value.as_bytes()), Err(InvalidClientVerify::Unknown(_))),
                "{value}"
            );
        }
        for value in ["FAILED:a\r\nX-Admin: 1", "FAILED:\0", "FAILED:\u{7f}"] {
            assert!(
                matches!(
                    ClientVerify::new(value.as_bytes()),
                    Err(InvalidClientVerify::ControlCharacter(_))
                ),
                "{value:?}"
            );
        }
    }
}
