// SPDX-License-Identifier: Apache-2.0

//! Stores whose files are read again when they have changed.
//!
//! A store is never changed while connections and verdicts are known by it: what was read anew is a
//! new store, with another fingerprint. So nothing that was found out with the old one counts for
//! the new one.
//!
//! There is no timer. Who uses a store, looks at its files first, at most once in a period: a store
//! that nobody uses costs nothing, and none is used that was looked at longer ago.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{self, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{io, mem, process};

use openssl::x509::store::{X509Store, X509StoreRef};
use openssl::x509::{X509CrlRef, X509NameRef};

use crate::openssl::error::SslError;
use crate::openssl::revocation_list::{Issue, Scope, is_signed_by};
use crate::openssl::store::{self, InvalidStore, Revocation, Sources};
use crate::openssl::{certificate, folder};

/// How long a file must have been left alone before it is read, in milliseconds: it may be in the
/// middle of being written.
const SETTLED: u64 = 1000;

/// How long the same files are not parsed again after they were refused, in milliseconds.
const REFUSED_FOR: u64 = 60_000;

/// The time of both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// The monotonic clock, in milliseconds.
    pub monotonic: u64,
    /// The date, in seconds since the epoch.
    pub date: i64,
}

/// A store whose files are read again.
pub struct RefreshedStore {
    sources: OwnedSources,
    /// In milliseconds.
    period: u64,
    state: RefCell<State>,
}

struct State {
    store: X509Store,
    /// The number of `store`, unique in the life of the process.
    version: u64,
    /// The files that `store` was read from.
    files: Files,
    /// The process that has looked last: workers inherit stores that were made before they started.
    process: u32,
    /// When to look again, by the monotonic clock.
    next: u64,
    /// Whether the last look has found files that had just been changed.
    is_settling: bool,
    /// The files that were refused last, and why.
    refused: Option<Refused>,
    /// What was reported last, unless all is well again.
    reported: Option<String>,
}

struct Refused {
    /// `None` if they can't even be looked at.
    files: Option<Files>,
    words: String,
    /// When the same files may be accepted, by the monotonic clock.
    again: u64,
}

/// What was found by a look.
#[derive(Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing to report.
    Same,
    /// The store was replaced.
    Replaced,
    /// The store could not be read again; with the words if they are others than the last time.
    Failed(Option<String>),
}

/// Why files were not taken.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("{setting} \"{}\": {error}{}", path.display(), remedy(error))]
    File { setting: &'static str, path: PathBuf, error: io::Error },
    #[error("{setting} \"{}\": it is no file", path.display())]
    NoFile { setting: &'static str, path: PathBuf },
    #[error(transparent)]
    Store(#[from] InvalidStore),
    #[error("the files have changed while they were read")]
    Unsteady,
    #[error("the revocation list of \"{0}\" is not signed by the certificate of this name")]
    Signature(String),
    #[error("the revocation list of \"{0}\" is older than the one in use")]
    Older(String),
    #[error("the revocation list of \"{0}\", which is in use, is missing")]
    Missing(String),
    #[error("the revocation list of \"{0}\" is not yet valid")]
    NotYetValid(String),
    #[error(transparent)]
    Ssl(#[from] SslError),
}

/// What to do about a file that can't be read.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; the user of the workers must be able to read it (chown, chmod), and to search its \
             folders"
        }
        _ => "",
    }
}

/// Returns the name of an authority, for errors.
fn named(name: &X509NameRef) -> String {
    certificate::name(name).unwrap_or_default()
}

impl RefreshedStore {
    /// Builds the store. Its files are looked at again if the last look is longer ago than
    /// `period`, in milliseconds.
    pub fn new(sources: &Sources<'_>, period: u64, clocks: Clocks) -> Result<Self, NotRefreshed> {
        let sources = OwnedSources::of(sources)?;
        let files = Files::of(&sources).map_err(NotRefreshed::because)?;
        let store = store::build(&sources.borrow())?;
        check_signatures(&store).map_err(NotRefreshed::because)?;
        let state = State {
            store,
            version: next_version(),
            files,
            process: process::id(),
            next: clocks.monotonic.saturating_add(period),
            is_settling: false,
            refused: None,
            reported: None,
        };
        Ok(Self { sources, period, state: RefCell::new(state) })
    }

    /// Looks at the files if this is due, and replaces the store if they have changed, and are
    /// good.
    pub fn look(&self, clocks: Clocks) -> Look {
        let state = &mut *self.state.borrow_mut();
        let process = process::id();
        if state.process == process && clocks.monotonic < state.next {
            return Look::Same;
        }
        state.process = process;
        state.next = clocks.monotonic.saturating_add(self.period);
        match self.refresh(state, clocks) {
            Ok(is_replaced) => {
                state.refused = None;
                // Files that have just been changed say nothing about what was reported.
                if !state.is_settling {
                    state.reported = None;
                }
                if is_replaced { Look::Replaced } else { Look::Same }
            }
            Err(refused) => {
                let is_known = state.reported.as_ref() == Some(&refused.words);
                let words = (!is_known).then(|| refused.words.clone());
                state.reported = Some(refused.words.clone());
                state.refused = Some(refused);
                Look::Failed(words)
            }
        }
    }

    /// Returns whether it has replaced the store.
    fn refresh(&self, state: &mut State, clocks: Clocks) -> Result<bool, Refused> {
        let was_settling = mem::take(&mut state.is_settling);
        let files = Files::of(&self.sources).map_err(|problem| Refused {
            files: None,
            words: problem.to_string(),
            again: 0,
        })?;
        if files == state.files {
            return Ok(false);
        }
        if !was_settling && files.are_recent(clocks.date) {
            state.is_settling = true;
            state.next = clocks.monotonic.saturating_add(SETTLED.min(self.period));
            return Ok(false);
        }
        let refused = state.refused.take_if(|refused| refused.files.as_ref() == Some(&files));
        if let Some(refused) = refused.filter(|refused| clocks.monotonic < refused.again) {
            return Err(refused);
        }
        match self.read(&state.store, &files, clocks.date) {
            Ok(store) => {
                state.store = store;
                state.version = next_version();
                state.files = files;
                Ok(true)
            }
            Err(problem) => {
                let wait = match problem {
                    Problem::NotYetValid(_) | Problem::Unsteady => 0,
                    _ => REFUSED_FOR,
                };
                let again = clocks.monotonic.saturating_add(wait);
                Err(Refused { files: Some(files), words: problem.to_string(), again })
            }
        }
    }

    /// Returns the store as the files say now, if it may follow `old`.
    fn read(&self, old: &X509StoreRef, files: &Files, date: i64) -> Result<X509Store, Problem> {
        let new = store::build(&self.sources.borrow())?;
        if Files::of(&self.sources)? != *files {
            return Err(Problem::Unsteady);
        }
        check_signatures(&new)?;
        check_succession(old, &new, date)?;
        Ok(new)
    }

    /// Returns the number of the current store, and the store itself unless its number is `known`.
    pub fn current(&self, known: Option<u64>) -> Result<(u64, Option<X509Store>), SslError> {
        let state = self.state.borrow();
        let is_known = known == Some(state.version);
        let store = if is_known { None } else { Some(store::reference(&state.store)?) };
        Ok((state.version, store))
    }

    /// Returns the names of the files.
    pub fn names(&self) -> String {
        let named = |(setting, path): (_, &Path)| format!("{setting} \"{}\"", path.display());
        self.sources.watched().map(named).collect::<Vec<_>>().join(", ")
    }
}

fn next_version() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(1);

    COUNT.fetch_add(1, Ordering::Relaxed)
}

/// Why a store could not be made.
#[derive(Debug, thiserror::Error)]
pub enum NotRefreshed {
    #[error(transparent)]
    Invalid(#[from] InvalidStore),
    /// There is no file to read again.
    #[error("refresh is for files: one of file, dir and crl_file is needed")]
    NoFile,
    #[error("{0}")]
    Refused(String),
}

impl NotRefreshed {
    fn because(problem: Problem) -> Self {
        match problem {
            Problem::Store(error) => Self::Invalid(error),
            other => Self::Refused(other.to_string()),
        }
    }
}

/// [`Sources`] that own what they refer to, and with absolute paths.
struct OwnedSources {
    pem: Option<Vec<u8>>,
    file: Option<PathBuf>,
    folder: Option<PathBuf>,
    system: bool,
    revoked: Option<Vec<u8>>,
    revoked_file: Option<PathBuf>,
    revocation: Revocation,
    partial_chain: bool,
}

impl OwnedSources {
    fn of(sources: &Sources<'_>) -> Result<Self, NotRefreshed> {
        let Sources { pem, file, folder, whole_folder: _, system, .. } = *sources;
        let Sources { revoked, revoked_file, revocation, partial_chain, .. } = *sources;
        if file.is_none() && folder.is_none() && revoked_file.is_none() {
            return Err(NotRefreshed::NoFile);
        }
        // A worker may have another working directory.
        let full = |setting, path: Option<&Path>| {
            let full = path.map(path::absolute).transpose();
            full.map_err(|error| InvalidStore::File {
                setting,
                path: path.unwrap_or(Path::new("")).into(),
                error,
            })
        };
        Ok(Self {
            pem: pem.map(<[u8]>::to_vec),
            file: full("file", file)?,
            folder: full("dir", folder)?,
            system,
            revoked: revoked.map(<[u8]>::to_vec),
            revoked_file: full("crl_file", revoked_file)?,
            revocation,
            partial_chain,
        })
    }

    fn borrow(&self) -> Sources<'_> {
        Sources {
            pem: self.pem.as_deref(),
            file: self.file.as_deref(),
            folder: self.folder.as_deref(),
            whole_folder: true,
            system: self.system,
            revoked: self.revoked.as_deref(),
            revoked_file: self.revoked_file.as_deref(),
            revocation: self.revocation,
            partial_chain: self.partial_chain,
        }
    }

    /// Returns the files and the folder, with the names of their options.
    fn watched(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let Self { file, folder, revoked_file, .. } = self;
        let all = [("file", file), ("dir", folder), ("crl_file", revoked_file)];
        all.into_iter().filter_map(|(setting, path)| Some((setting, path.as_deref()?)))
    }
}

/// What tells whether a file is the one that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FileState {
    path: PathBuf,
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// This also changes if a file is renamed, and can't be set.
    changed: (i64, i64),
}

/// The files of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Files(Vec<FileState>);

impl Files {
    fn of(sources: &OwnedSources) -> Result<Self, Problem> {
        let mut files = Vec::new();
        for (setting, path) in sources.watched() {
            let failed = |path: &Path, error| Problem::File { setting, path: path.into(), error };
            if setting != "dir" {
                files.push(FileState::of(setting, path)?);
                continue;
            }
            let found = folder::files(path).map_err(|error| failed(path, error))?;
            let of_folder = fs::metadata(path).map_err(|error| failed(path, error))?;
            files.push(FileState::new(path, &of_folder));
            for (path, _) in found {
                files.push(FileState::of(setting, &path)?);
            }
        }
        Ok(Self(files))
    }

    /// Returns whether one of them was changed within the last second, or after `date`: the clock
    /// may have been set back.
    fn are_recent(&self, date: i64) -> bool {
        let settled = (SETTLED / 1000) as i64;
        self.0.iter().any(|file| file.changed.0 >= date.saturating_sub(settled))
    }
}

impl FileState {
    /// Opens the file: it must be possible to read it again when it changes, and it is better to
    /// know before that.
    fn of(setting: &'static str, path: &Path) -> Result<Self, Problem> {
        let failed = |error| Problem::File { setting, path: path.into(), error };
        // Whatever it is, this must not wait.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
        let metadata = file.and_then(|file| file.metadata()).map_err(failed)?;
        if !metadata.is_file() {
            return Err(Problem::NoFile { setting, path: path.into() });
        }
        Ok(Self::new(path, &metadata))
    }

    fn new(path: &Path, metadata: &fs::Metadata) -> Self {
        Self {
            path: path.into(),
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Checks that each list is signed by its issuer, if that is in the store.
fn check_signatures(store: &X509StoreRef) -> Result<(), Problem> {
    for list in store::revocation_lists(store) {
        let mut issuers = store::certificates(store)
            .filter(|one| is_same(one.subject_name(), list.issuer_name()))
            .peekable();
        if issuers.peek().is_some() && !issuers.any(|issuer| is_signed_by(list, issuer)) {
            return Err(Problem::Signature(named(list.issuer_name())));
        }
    }
    Ok(())
}

fn is_same(one: &X509NameRef, other: &X509NameRef) -> bool {
    one.try_cmp(other).is_ok_and(std::cmp::Ordering::is_eq)
}

/// Checks that no list of `new` is older than what `old` has, and that none is missing whose issuer
/// is trusted.
fn check_succession(old: &X509StoreRef, new: &X509StoreRef, date: i64) -> Result<(), Problem> {
    let (old, mut by_scope) = (latest(old)?, latest(new)?);
    for (scope, (list, before)) in old {
        let name = || named(list.issuer_name());
        match by_scope.remove(&scope) {
            Some((_, after)) if after.is_before(&before) => return Err(Problem::Older(name())),
            Some((_, after)) if after.date > date && before.date <= date => {
                return Err(Problem::NotYetValid(name()));
            }
            Some(_) => {}
            None => {
                let is_trusted = store::certificates(new)
                    .any(|one| is_same(one.subject_name(), list.issuer_name()));
                if is_trusted {
                    return Err(Problem::Missing(name()));
                }
            }
        }
    }
    Ok(())
}

/// Returns the latest list of each scope.
fn latest(store: &X509StoreRef) -> Result<BTreeMap<Scope, (&X509CrlRef, Issue)>, SslError> {
    let mut latest: BTreeMap<Scope, (&X509CrlRef, Issue)> = BTreeMap::new();
    for list in store::revocation_lists(store) {
        let (scope, issue) = (Scope::of(list)?, Issue::of(list)?);
        let is_later = latest.get(&scope).is_none_or(|(_, known)| issue.latest(known).is_gt());
        if is_later {
            latest.insert(scope, (list, issue));
        }
    }
    Ok(latest)
}

#[cfg(test)]
mod tests {
    use std::env;

    use super::*;
    use crate::openssl::test_certificate::Authority;

    const YEAR: i64 = 365 * 24 * 3600;
    const NOW: i64 = 50 * YEAR;

    /// A folder that is removed with the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = env::temp_dir().join(format!("refreshed-{name}-{}", process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        /// Replaces a file by renaming another.
        fn put(&self, name: &str, text: &[u8]) -> PathBuf {
            let (new, path) = (self.0.join("new"), self.0.join(name));
            fs::write(&new, text).unwrap();
            fs::rename(new, &path).unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// The dates are far from that of this machine, so no file is taken for a recent one.
    fn clocks(seconds: u64) -> Clocks {
        Clocks { monotonic: seconds * 1000, date: NOW + (1 << 33) }
    }

    fn store(pem: &[u8], lists: &Path) -> RefreshedStore {
        let sources = Sources { pem: Some(pem), revoked_file: Some(lists), ..Sources::default() };
        RefreshedStore::new(&sources, 10_000, clocks(0)).unwrap()
    }

    fn number(store: &RefreshedStore) -> u64 {
        store.current(None).unwrap().0
    }

    #[test]
    fn files_are_looked_at_once_in_a_period() {
        let (root, folder) = (Authority::root("root"), Folder::new("period"));
        let path = folder.put("crl", &root.list((NOW, NOW + YEAR), 1));
        let store = store(&root.pem(), &path);
        let first = number(&store);
        assert_eq!(store.look(clocks(10)), Look::Same);
        folder.put("crl", &root.list((NOW + 1, NOW + YEAR), 2));
        assert_eq!(store.look(clocks(19)), Look::Same);
        assert_eq!(number(&store), first);
        assert!(store.current(Some(first)).unwrap().1.is_none());
        assert_eq!(store.look(clocks(20)), Look::Replaced);
        assert!(store.current(Some(first)).unwrap().1.is_some());
        assert_eq!(store.look(clocks(30)), Look::Same);
        // Another process looks at once.
        store.state.borrow_mut().process += 1;
        folder.put("crl", &root.list((NOW + 2, NOW + YEAR), 3));
        assert_eq!(store.look(clocks(30)), Look::Replaced);
    }

    #[test]
    fn what_has_just_been_changed_is_left_alone_for_a_moment() {
        let (root, folder) = (Authority::root("root"), Folder::new("recent"));
        let path = folder.put("crl", &root.list((NOW, NOW + YEAR), 1));
        let store = store(&root.pem(), &path);
        folder.put("crl", &root.list((NOW + 1, NOW + YEAR), 2));
        let at = |monotonic| Clocks { monotonic, date: 1 << 30 };
        // The clock of this machine is ahead of these dates: it may have been set back.
        assert_eq!(store.look(at(10_000)), Look::Same);
        assert_eq!(store.look(at(10_999)), Look::Same);
        assert_eq!(store.look(at(11_000)), Look::Replaced);
    }

    #[test]
    fn a_problem_is_told_once_and_changes_nothing() {
        let (root, other) = (Authority::root("root"), Authority::root("root"));
        let folder = Folder::new("problems");
        let good = root.list((NOW, NOW + YEAR), 10);
        let path = folder.put("crl", &good);
        let store = store(&root.pem(), &path);
        let first = number(&store);
        let mut seconds = 0;
        let mut look = || {
            seconds += 10;
            store.look(clocks(seconds))
        };
        for (text, problem) in [
            (&good[..good.len() / 2], "is missing for what begins here"),
            (b"", "no revocation list"),
            (&root.list((NOW - 1, NOW + YEAR), 11), "is older than"),
            (&other.list((NOW + 1, NOW + YEAR), 11), "is not signed by"),
            (&root.list((NOW + 1, NOW + YEAR), 9), "is older than"),
            (&root.list((NOW + (1 << 34), NOW + (1 << 35)), 11), "is not yet valid"),
            (&Authority::root("else").list((NOW, NOW + YEAR), 11), "is missing"),
        ] {
            folder.put("crl", text);
            let Look::Failed(Some(words)) = look() else { panic!("{problem}") };
            assert!(words.contains(problem), "{words}");
            for _ in 0..20 {
                assert_eq!(look(), Look::Failed(None), "{problem}");
            }
            assert_eq!(number(&store), first, "{problem}");
        }
        fs::remove_file(&path).unwrap();
        assert!(matches!(look(), Look::Failed(Some(_))));
        assert_eq!(look(), Look::Failed(None));
        folder.put("crl", &good);
        assert_eq!(look(), Look::Replaced);
        fs::remove_file(&path).unwrap();
        assert!(matches!(look(), Look::Failed(Some(_))), "a problem that returns is told again");
    }

    #[test]
    fn many_refreshes_keep_no_memory_and_no_files() {
        let (root, folder) = (Authority::root("root"), Folder::new("many"));
        let lists = [1, 2].map(|number| root.list((NOW, NOW + YEAR), number));
        let path = folder.put("crl", &lists[0]);
        let store = store(&root.pem(), &path);
        let files = || fs::read_dir("/proc/self/fd").unwrap().count();
        let resident = || -> u64 {
            let status = fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        };
        let mut before = (0, 0);
        for round in 1..=10_000_u64 {
            folder.put("crl", &lists[usize::from(round > 1)]);
            assert_eq!(store.look(clocks(round * 10)), Look::Replaced);
            // As a request would use it.
            let (_, current) = store.current(None).unwrap();
            store::TrustedStore::of(&current.unwrap()).unwrap().fingerprint().unwrap();
            if round == 1000 {
                before = (files(), resident());
            }
        }
        // Other tests run at the same time.
        assert!(files() < before.0 + 100, "{} {}", files(), before.0);
        assert!(resident() < before.1 + 16 * 1024, "{} {}", resident(), before.1);
    }
}
