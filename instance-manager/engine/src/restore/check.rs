//! Compares every file with the manifest while it is written.

use super::extract::Target;
use super::space::Need;
use crate::backup::record::Hasher;
use crate::error::{Error, ErrorKind, Result};
use barman_cloud::Archive;
use barman_cloud::manifest::{FileChecksum, Manifest};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Files take whole blocks of this size on usual file systems.
const BLOCK: u64 = 4096;

struct Expected {
    size: u64,
    checksum: Option<FileChecksum>,
    seen: bool,
}

/// What the files must be; without a manifest everything is accepted.
pub struct Checker {
    files: Option<Mutex<HashMap<PathBuf, Expected>>>,
}

impl Checker {
    /// A checker by the manifest, when there is one.
    pub fn new(manifest: Option<Manifest>) -> Self {
        let files = manifest.map(|manifest| {
            let files = manifest.files.into_iter();
            Mutex::new(
                files
                    .map(|file| {
                        (file.path, Expected { size: file.size, checksum: file.checksum, seen: false })
                    })
                    .collect(),
            )
        });
        Self { files }
    }

    /// Begins a file of `size` bytes.
    pub fn begin<'a>(&'a self, name: &'a Path, size: u64) -> Result<FileCheck<'a>> {
        let Some(files) = &self.files else {
            return Ok(FileCheck { name, expected: None, hasher: Hasher::None, checker: self });
        };
        let files = files.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(expected) = files.get(name) else {
            return Err(wrong(name, "is not in the backup manifest".to_owned()));
        };
        if expected.size != size {
            return Err(wrong(name, format!("has {size} bytes, the backup manifest says {}", expected.size)));
        }
        let checksum = expected.checksum.clone();
        let hasher = checksum.as_ref().and_then(Hasher::like).unwrap_or(Hasher::None);
        Ok(FileCheck { name, expected: checksum, hasher, checker: self })
    }

    /// Bytes that each target must take, when there is a manifest.
    pub fn needs(&self, targets: &[(Archive, Target)]) -> Option<Vec<Need>> {
        let files = self.files.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        let mut needs: Vec<Need> =
            targets.iter().map(|(_, target)| Need { dir: target.root.clone(), bytes: 0 }).collect();
        for (path, file) in files.iter() {
            // Tablespaces come after the data directory, whose prefix fits everything.
            let place = targets.iter().rposition(|(_, target)| path.starts_with(&target.manifest_prefix));
            if let Some(need) = place.and_then(|place| needs.get_mut(place)) {
                need.bytes += file.size.next_multiple_of(BLOCK);
            }
        }
        Some(needs)
    }

    /// Whether there is a manifest.
    pub fn is_verifying(&self) -> bool {
        self.files.is_some()
    }

    /// Fails unless every file of the manifest was there.
    pub fn finish(&self) -> Result<()> {
        let Some(files) = &self.files else { return Ok(()) };
        let files = files.lock().unwrap_or_else(PoisonError::into_inner);
        let mut missing: Vec<&PathBuf> =
            files.iter().filter(|(_, file)| !file.seen).map(|(path, _)| path).collect();
        missing.sort();
        match missing.first() {
            None => Ok(()),
            Some(first) => Err(Error::new(
                ErrorKind::Corrupt,
                format!(
                    "{} files of the backup manifest were in no part, {} among them",
                    missing.len(),
                    first.display()
                ),
            )),
        }
    }

    fn seen(&self, name: &Path) {
        let Some(files) = &self.files else { return };
        if let Some(file) = files.lock().unwrap_or_else(PoisonError::into_inner).get_mut(name) {
            file.seen = true;
        }
    }
}

/// One file being compared.
pub struct FileCheck<'a> {
    name: &'a Path,
    expected: Option<FileChecksum>,
    hasher: Hasher,
    checker: &'a Checker,
}

impl FileCheck<'_> {
    /// Takes content in.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// Fails when the content is not what was backed up.
    pub fn finish(self) -> Result<()> {
        let found = self.hasher.finish();
        if found != self.expected && found.is_some() {
            let hex =
                |checksum: Option<FileChecksum>| checksum.map_or_else(String::new, |checksum| checksum.hex());
            let text =
                format!("has the checksum {}, the backup manifest says {}", hex(found), hex(self.expected));
            return Err(wrong(self.name, text));
        }
        self.checker.seen(self.name);
        Ok(())
    }
}

fn wrong(name: &Path, what: String) -> Error {
    Error::new(ErrorKind::Corrupt, format!("file {} in the backup {what}", name.display()))
}
