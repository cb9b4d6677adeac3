//! What stands for the content of an object of OpenSSL.

use openssl::sha::Sha256;

/// The SHA-256 digest of an object's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of something that consists of `parts`, in this order.
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut encoding = Encoding::new();
        for part in parts {
            encoding.bytes(part);
        }
        Self::from(encoding)
    }
}

impl From<Encoding> for Fingerprint {
    fn from(encoding: Encoding) -> Self {
        Self(encoding.digest())
    }
}

/// What a store of trusted certificates is, what it holds, and how it verifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreFingerprint {
    /// Which store it is, unlike any other in the life of the process. OpenSSL does not tell all that
    /// a store has: a purpose, folders to look in. So two that look the same may not be.
    pub store: u64,
    /// Of its certificates and revocation lists.
    pub content: Fingerprint,
    /// How many there are: a store can grow.
    pub objects: u64,
    /// `X509_VERIFY_PARAM_get_flags(3)`
    pub flags: u64,
    /// `X509_VERIFY_PARAM_get_depth(3)`
    pub depth: u64,
}

/// An encoding in which no two different sequences of values are the same.
pub struct Encoding(Sha256);

impl Encoding {
    pub fn new() -> Self {
        Self(Sha256::new())
    }

    pub fn number(&mut self, number: u64) {
        self.0.update(&number.to_le_bytes());
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    pub fn optional<T>(&mut self, value: Option<T>, encode: impl FnOnce(&mut Self, T)) {
        self.number(value.is_some().into());
        if let Some(value) = value {
            encode(self, value);
        }
    }

    pub fn fingerprint(&mut self, Fingerprint(digest): Fingerprint) {
        self.0.update(&digest);
    }

    pub fn digest(self) -> [u8; 32] {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(Fingerprint::of([&b"ab"[..], b"c"]), Fingerprint::of([&b"a"[..], b"bc"]));
        assert_ne!(Fingerprint::of([&b"ab"[..]]), Fingerprint::of([&b"ab"[..], b""]));
    }
}
