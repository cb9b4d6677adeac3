// SPDX-License-Identifier: Apache-2.0

//! Finds the files that packages of Lua were loaded from, as Lua's own searchers do
//! (`package.loaders`), and what tells one content of them from another.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::openssl::fingerprint::Encoding;

/// Where packages are looked for: `package.path` and `package.cpath`.
pub struct Paths<'a> {
    pub of_lua: &'a [u8],
    pub of_c: &'a [u8],
}

impl Paths<'_> {
    /// Encodes the file of a package; returns whether it was found and read.
    pub fn encode(&self, encoding: &mut Encoding, package: &[u8]) -> bool {
        if let Some(path) = find(self.of_lua, package) {
            let Ok(text) = fs::read(path) else {
                return false;
            };
            encoding.number(1);
            encoding.bytes(&text);
            return true;
        }
        // A library may have several packages, whose names begin with its own.
        let library = package.split(|byte| *byte == b'.').next().unwrap_or(package);
        let path = find(self.of_c, package).or_else(|| find(self.of_c, library));
        let Some((path, about)) = path.and_then(|path| {
            let about = fs::metadata(&path).ok()?;
            Some((path, about))
        }) else {
            return false;
        };
        encoding.number(2);
        encoding.bytes(path.as_os_str().as_bytes());
        for number in [about.size(), about.mtime() as u64, about.mtime_nsec() as u64, about.ino()] {
            encoding.number(number);
        }
        true
    }
}

/// Returns the first file of a package that can be opened, as `package.searchpath` does.
fn find(templates: &[u8], package: &[u8]) -> Option<PathBuf> {
    let name = package.iter().map(|byte| if *byte == b'.' { b'/' } else { *byte });
    let name: Vec<u8> = name.collect();
    let templates = templates.split(|byte| *byte == b';').filter(|template| !template.is_empty());
    templates
        .map(|template| {
            let parts: Vec<_> = template.split(|byte| *byte == b'?').collect();
            PathBuf::from(OsStr::from_bytes(&parts.join(&name[..])))
        })
        .find(|path| File::open(path).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of files, which is removed at the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.0.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        /// Returns templates in the folder.
        fn templates(&self, names: &[&str]) -> Vec<u8> {
            let of = |name: &&str| self.0.join(name).into_os_string().into_encoded_bytes();
            names.iter().map(of).collect::<Vec<_>>().join(&b";"[..])
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_package_is_found_where_lua_finds_it() {
        let folder = Folder::new("lua-files");
        for name in ["one.lua", "two/init.lua", "two/three.lua", "both/one.lua", "both/both.so"] {
            folder.write(name, name);
        }
        let templates = folder.templates(&["?.lua", "?/init.lua", "both/?.lua", "?/?.so"]);
        for (package, expected) in [
            ("one", Some("one.lua")),
            ("two", Some("two/init.lua")),
            ("two.three", Some("two/three.lua")),
            ("both.one", Some("both/one.lua")),
            ("both", Some("both/both.so")),
            ("two.one", None),
            ("", None),
        ] {
            let found = find(&templates, package.as_bytes());
            assert_eq!(found, expected.map(|name| folder.0.join(name)), "{package}");
        }
        assert_eq!(find(b"", b"one"), None);
        assert_eq!(find(b";;", b"one"), None);
    }

    #[test]
    fn what_is_in_a_file_makes_a_difference() {
        let folder = Folder::new("lua-files-content");
        let lua = folder.templates(&["?.lua"]);
        let c = folder.templates(&["?.so"]);
        let paths = Paths { of_lua: &lua, of_c: &c };
        let told = |package: &str| {
            let mut encoding = Encoding::new();
            paths.encode(&mut encoding, package.as_bytes()).then(|| encoding.digest())
        };
        assert_eq!(told("one"), None);
        folder.write("one.lua", "1");
        folder.write("lib.so", "1");
        let (one, library) = (told("one"), told("lib"));
        assert!(one.is_some() && library.is_some());
        assert_eq!(told("one"), one);
        assert_eq!(told("lib.part"), library);
        assert_eq!(told("other.part"), None);
        folder.write("one.lua", "2");
        folder.write("lib.so", "12");
        assert_ne!(told("one"), one);
        assert_ne!(told("lib"), library);
        // Nothing can be read from a folder.
        folder.write("folder.lua/file", "");
        assert_eq!(told("folder"), None);
    }
}
