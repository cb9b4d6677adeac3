// SPDX-License-Identifier: Apache-2.0

//! What locations trust.

use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;

use openssl::x509::store::{X509Store, X509StoreRef};

use crate::openssl::store::{self, InvalidFile};

/// What a location trusts. nginx gives it to the TLS context only where verification is on; a
/// request that turns it on needs it too.
#[derive(Default)]
pub struct LocationTrust {
    /// `proxy_ssl_trusted_certificate` and `proxy_ssl_crl`
    pub files: ReadFiles,
    /// `proxy_ssl_verify_depth`
    pub verify_depth: Option<u32>,
}

/// What was read of the files of a location.
#[derive(Default)]
pub enum ReadFiles {
    /// There are none.
    #[default]
    None,
    Store(Rc<X509Store>),
    /// They can't be read. nginx does not read them either where nobody verifies, and a request
    /// that does is refused.
    Unreadable(Unreadable),
}

/// Files that could not be read.
#[derive(Debug)]
pub struct Unreadable {
    pub error: String,
    /// Whether lists of what is revoked are among them: they would count for any store.
    pub has_lists: bool,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)
    }
}

impl LocationTrust {
    /// The store of the location, for a request that has a store of its own, or none; or why it
    /// can't be had.
    pub fn store(&self, has_own_store: bool) -> Result<Option<&X509StoreRef>, &Unreadable> {
        match &self.files {
            ReadFiles::None => Ok(None),
            ReadFiles::Store(store) => Ok(Some(store)),
            ReadFiles::Unreadable(Unreadable { has_lists: false, .. }) if has_own_store => Ok(None),
            ReadFiles::Unreadable(unreadable) => Err(unreadable),
        }
    }
}

/// The files that a store is read from: of certificates, and of revocation lists.
#[derive(Clone, PartialEq)]
pub struct Files {
    pub trusted: Option<PathBuf>,
    pub revoked: Option<PathBuf>,
}

/// The stores that were read for this configuration: many locations name the same files.
#[derive(Default)]
pub struct TrustedFiles(Vec<(Files, Rc<X509Store>)>);

impl TrustedFiles {
    /// `None` where there are no files.
    pub fn store(&mut self, files: Files) -> Result<Option<Rc<X509Store>>, InvalidFile> {
        let Files { trusted, revoked } = &files;
        // Lists alone are for a store that a request sets.
        if trusted.is_none() && revoked.is_none() {
            return Ok(None);
        }
        if let Some((_, store)) = self.0.iter().find(|(known, _)| *known == files) {
            return Ok(Some(Rc::clone(store)));
        }
        let store = Rc::new(store::from_files(trusted.as_deref(), revoked.as_deref())?);
        self.0.push((files, Rc::clone(&store)));
        Ok(Some(store))
    }
}
