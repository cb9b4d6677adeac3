// SPDX-License-Identifier: Apache-2.0

//! Digests that represent the content of OpenSSL objects.

use openssl::sha::Sha256;

/// The SHA-256 digest of an object's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Returns the digest of `parts`, in this order.
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut encoding = Encoding::new();
        for part in parts {
            encoding.bytes(part);
        }
        Self::from(encoding)
    }

    pub fn digest(self) -> [u8; 32] {
        self.0
    }

    /// Returns the first eight bytes, which are as good as random.
    pub fn prefix(self) -> u64 {
        let Self([a, b, c, d, e, f, g, h, ..]) = self;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

impl From<Encoding> for Fingerprint {
    fn from(encoding: Encoding) -> Self {
        Self(encoding.digest())
    }
}

/// The identity, content and parameters of a store of trusted certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreFingerprint {
    /// The store's number, unique in the life of the process. OpenSSL does not expose everything
    /// that a store has, such as a purpose or folders; so two stores that look equal may differ.
    /// `None` for a store that this module has made without folders: what follows says it all.
    pub store: Option<u64>,
    /// Whether its revocation lists count after their `nextUpdate`, too.
    pub accepts_expired: bool,
    /// Digest of the certificates and revocation lists.
    pub content: Fingerprint,
    /// Number of objects: a store can grow.
    pub objects: u64,
    /// `X509_VERIFY_PARAM_get_flags(3)`
    pub flags: u64,
    /// `X509_VERIFY_PARAM_get_depth(3)`
    pub depth: u64,
    /// `X509_VERIFY_PARAM_get_time(3)`: the time to verify for instead of now.
    pub time: i64,
    /// `X509_VERIFY_PARAM_get_auth_level(3)`
    pub level: u64,
    /// `X509_VERIFY_PARAM_get_hostflags(3)`
    pub host_flags: u64,
}

/// A digest of a sequence of values, encoded so that different sequences have different encodings.
pub struct Encoding {
    hash: Sha256,
    /// Bytes that have not been hashed yet: a call of the hash for each value would cost more than
    /// the hashing.
    pending: [u8; 256],
    length: usize,
}

impl Encoding {
    pub fn new() -> Self {
        Self { hash: Sha256::new(), pending: [0; 256], length: 0 }
    }

    pub fn flag(&mut self, flag: bool) {
        self.write(&[flag.into()]);
    }

    pub fn number(&mut self, number: u64) {
        self.write(&number.to_le_bytes());
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.write(bytes);
    }

    pub fn optional<T>(&mut self, value: Option<T>, encode: impl FnOnce(&mut Self, T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            encode(self, value);
        }
    }

    pub fn fingerprint(&mut self, Fingerprint(digest): Fingerprint) {
        self.write(&digest);
    }

    pub fn store(&mut self, fingerprint: StoreFingerprint) {
        let StoreFingerprint {
            store,
            accepts_expired,
            content,
            objects,
            flags,
            depth,
            time,
            level,
            host_flags,
        } = fingerprint;
        self.optional(store, Self::number);
        self.flag(accepts_expired);
        self.fingerprint(content);
        self.number(objects);
        self.number(flags);
        self.number(depth);
        self.number(time as u64);
        self.number(level);
        self.number(host_flags);
    }

    pub fn digest(mut self) -> [u8; 32] {
        self.flush();
        self.hash.finish()
    }

    fn write(&mut self, bytes: &[u8]) {
        if bytes.len() > self.pending.len() - self.length {
            self.flush();
        }
        match self.pending.get_mut(self.length..self.length + bytes.len()) {
            Some(place) => {
                place.copy_from_slice(bytes);
                self.length += bytes.len();
            }
            None => self.hash.update(bytes),
        }
    }

    fn flush(&mut self) {
        self.hash.update(&self.pending[..self.length]);
        self.length = 0;
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

    #[test]
    fn all_of_it_is_hashed_whatever_its_length() {
        let text: Vec<_> = (0..1000_u32).map(|number| number as u8).collect();
        for parts in [[10, 10, 10], [200, 100, 10], [255, 1, 256], [257, 3, 600], [256, 0, 256]] {
            let mut encoding = Encoding::new();
            let mut all = Vec::new();
            for length in parts {
                encoding.bytes(&text[..length]);
                all.extend((length as u64).to_le_bytes());
                all.extend(&text[..length]);
            }
            assert_eq!(encoding.digest(), openssl::sha::sha256(&all), "{parts:?}");
        }
    }
}
