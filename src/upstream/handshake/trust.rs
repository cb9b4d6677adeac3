// SPDX-License-Identifier: Apache-2.0

//! The certificates and revocation lists that locations trust.

use std::path::PathBuf;
use std::rc::Rc;

use openssl::x509::store::{X509Store, X509StoreRef};

use crate::openssl::fingerprint::{Encoding, Fingerprint};
use crate::openssl::store::{self, InvalidFile};

/// What a location trusts. nginx sets it on the TLS context only if the location verifies; a
/// request that turns verification on needs it too.
#[derive(Default)]
pub struct LocationTrust {
    /// `proxy_ssl_trusted_certificate` and `proxy_ssl_crl`
    pub files: ReadFiles,
    /// `proxy_ssl_verify_depth`
    pub verify_depth: Option<u32>,
}

/// The result of reading a location's files.
#[derive(Default)]
pub enum ReadFiles {
    /// The location names no files.
    #[default]
    None,
    Store(Rc<FileStore>),
    /// The files can't be read. nginx does not read them either if the location does not verify;
    /// only requests that turn verification on are refused.
    Unreadable(UnreadableFiles),
}

/// A store that was read from files.
pub struct FileStore {
    store: X509Store,
    /// Digest of what is in it, and of how it verifies; `None` if it can't be read back. The files
    /// may have been replaced since.
    content: Option<Fingerprint>,
}

/// Files that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct UnreadableFiles {
    pub error: String,
    /// Whether revocation lists are among them: they would apply with any store.
    pub has_lists: bool,
}

impl LocationTrust {
    /// Returns the location's store, `None` if it has none, or why it can't be read.
    /// `has_own_store` says whether the request has a store of its own: then unreadable
    /// certificates do not matter.
    pub fn store(&self, has_own_store: bool) -> Result<Option<&X509StoreRef>, &UnreadableFiles> {
        match &self.files {
            ReadFiles::None => Ok(None),
            ReadFiles::Store(files) => Ok(Some(&files.store)),
            ReadFiles::Unreadable(UnreadableFiles { has_lists: false, .. }) if has_own_store => {
                Ok(None)
            }
            ReadFiles::Unreadable(unreadable) => Err(unreadable),
        }
    }
}

impl LocationTrust {
    /// Encodes what is trusted. Returns `None` if it can't be told.
    pub fn encode(&self, encoding: &mut Encoding) -> Option<()> {
        let Self { files, verify_depth } = self;
        match files {
            ReadFiles::None => encoding.number(0),
            ReadFiles::Store(files) => {
                encoding.number(1);
                encoding.fingerprint(files.content?);
            }
            // No connection is verified by these: a request that wants it verified is refused, or
            // has its own store.
            ReadFiles::Unreadable(UnreadableFiles { error: _, has_lists }) => {
                encoding.number(2);
                encoding.flag(*has_lists);
            }
        }
        encoding.optional(*verify_depth, |encoding, depth| encoding.number(depth.into()));
        Some(())
    }
}

/// The files that a store is read from.
#[derive(Clone, PartialEq)]
pub struct Files {
    pub trusted: Option<PathBuf>,
    pub revoked: Option<PathBuf>,
}

/// The stores read for this configuration, shared between locations that name the same files.
#[derive(Default)]
pub struct TrustedFiles(Vec<(Files, Rc<FileStore>)>);

impl TrustedFiles {
    /// Returns the store read from `files`, or `None` if no files are named.
    pub fn store(&mut self, files: Files) -> Result<Option<Rc<FileStore>>, InvalidFile> {
        let Files { trusted, revoked } = &files;
        // Revocation lists alone make a store too: their flags apply to a store set by a request.
        if trusted.is_none() && revoked.is_none() {
            return Ok(None);
        }
        if let Some((_, store)) = self.0.iter().find(|(known, _)| *known == files) {
            return Ok(Some(Rc::clone(store)));
        }
        let store = store::from_files(trusted.as_deref(), revoked.as_deref())?;
        let mut encoding = Encoding::new();
        let content = store::encode(&mut encoding, &store).ok().map(|()| encoding.into());
        let store = Rc::new(FileStore { store, content });
        self.0.push((files, Rc::clone(&store)));
        Ok(Some(store))
    }
}
