//! The files that a restore must bring about, by the manifest, and how far each is.

use super::extract::Target;
use super::place;
use super::space::Need;
use crate::backup::record::Hasher;
use crate::error::{Error, ErrorKind, Result};
use barman_cloud::manifest::{FileChecksum, Manifest};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};

/// Files take whole blocks of this size on usual file systems.
const BLOCK: u64 = 4096;

/// Not there yet.
const WANTED: u8 = 0;
/// On disk already, with the content that the manifest says.
const KEPT: u8 = 1;
/// Written, with the content that the manifest says.
const WRITTEN: u8 = 2;

/// What a file must be.
pub struct Expected {
    pub size: u64,
    pub checksum: Option<FileChecksum>,
    state: AtomicU8,
}

impl Expected {
    /// The file on disk is as it must be.
    pub fn keep(&self) {
        self.state.store(KEPT, Ordering::Relaxed);
    }

    fn is(&self, state: u8) -> bool {
        self.state.load(Ordering::Relaxed) == state
    }
}

/// Files in one part.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct InPart {
    pub files: usize,
    /// How many of them are wanted.
    pub wanted: usize,
    /// Bytes of those.
    pub bytes: u64,
}

struct Files {
    /// In the order of the manifest.
    list: Vec<Expected>,
    index: HashMap<PathBuf, usize>,
}

/// What the files must be; without a manifest everything is accepted.
pub struct Checker {
    files: Option<Files>,
}

impl Checker {
    /// A checker by the manifest, when there is one.
    pub fn new(manifest: Option<Manifest>) -> Self {
        let files = manifest.map(|manifest| {
            let mut files = Files { list: Vec::new(), index: HashMap::new() };
            for (index, file) in manifest.files.into_iter().enumerate() {
                let state = AtomicU8::new(WANTED);
                files.list.push(Expected { size: file.size, checksum: file.checksum, state });
                files.index.insert(file.path, index);
            }
            files
        });
        Self { files }
    }

    /// A checker of which only some files are wanted; nothing is done about the others.
    pub fn wanting(manifest: Manifest, wanted: &HashSet<PathBuf>) -> Self {
        let checker = Self::new(Some(manifest));
        for (_, file) in checker.files().filter(|(path, _)| !wanted.contains(*path)) {
            file.keep();
        }
        checker
    }

    /// Whether there is a manifest.
    pub fn is_verifying(&self) -> bool {
        self.files.is_some()
    }

    /// All files with their paths in the manifest, in no order.
    pub fn files(&self) -> impl Iterator<Item = (&Path, &Expected)> {
        self.files.iter().flat_map(|files| {
            files.index.iter().filter_map(|(path, index)| Some((path.as_path(), files.list.get(*index)?)))
        })
    }

    /// Whether the file is on disk as it must be.
    pub fn is_kept(&self, name: &Path) -> bool {
        self.expected(name).is_some_and(|file| file.is(KEPT))
    }

    /// Number and bytes of the files that stay.
    pub fn kept(&self) -> (u64, u64) {
        let kept = self.files.iter().flat_map(|files| &files.list).filter(|file| file.is(KEPT));
        kept.fold((0, 0), |(count, bytes), file| (count + 1, bytes + file.size))
    }

    /// Files in the manifest.
    pub fn count(&self) -> usize {
        self.files.as_ref().map_or(0, |files| files.list.len())
    }

    /// What is wanted of each part, given the part of each file in the order of the manifest.
    pub fn by_part<'a>(&self, parts: &[&'a str]) -> HashMap<&'a str, InPart> {
        let mut all: HashMap<&str, InPart> = HashMap::new();
        for (file, part) in self.files.iter().flat_map(|files| &files.list).zip(parts) {
            let in_part = all.entry(*part).or_default();
            in_part.files += 1;
            if file.is(WANTED) {
                in_part.wanted += 1;
                in_part.bytes += file.size;
            }
        }
        all
    }

    /// What a file must be.
    pub fn expected(&self, name: &Path) -> Option<&Expected> {
        let files = self.files.as_ref()?;
        files.list.get(*files.index.get(name)?)
    }

    /// Begins a file of `size` bytes that a part holds; `None` when it is on disk already.
    pub fn begin<'a>(&'a self, name: &'a Path, size: u64) -> Result<Option<FileCheck<'a>>> {
        if self.files.is_none() {
            return Ok(Some(FileCheck { name, expected: None, hasher: Hasher::None }));
        }
        let Some(expected) = self.expected(name) else {
            return Err(wrong(name, "is not in the backup manifest".to_owned()));
        };
        if expected.size != size {
            return Err(wrong(name, format!("has {size} bytes, the backup manifest says {}", expected.size)));
        }
        if expected.is(KEPT) {
            return Ok(None);
        }
        let hasher = expected.checksum.as_ref().and_then(Hasher::like).unwrap_or(Hasher::None);
        Ok(Some(FileCheck { name, expected: Some(expected), hasher }))
    }

    /// Bytes that each target must still take, when there is a manifest.
    pub fn needs(&self, targets: &[Target]) -> Option<Vec<Need>> {
        self.files.as_ref()?;
        let mut needs: Vec<Need> =
            targets.iter().map(|target| Need { dir: target.root.clone(), bytes: 0 }).collect();
        for (path, file) in self.files().filter(|(_, file)| !file.is(KEPT)) {
            if let Some(need) = place::of(targets, path).and_then(|place| needs.get_mut(place)) {
                need.bytes += file.size.next_multiple_of(BLOCK);
            }
        }
        Some(needs)
    }

    /// Fails unless every file of the manifest is there.
    pub fn finish(&self) -> Result<()> {
        let mut missing: Vec<&Path> =
            self.files().filter(|(_, file)| file.is(WANTED)).map(|(path, _)| path).collect();
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
}

/// One file being compared.
pub struct FileCheck<'a> {
    name: &'a Path,
    expected: Option<&'a Expected>,
    hasher: Hasher,
}

impl FileCheck<'_> {
    /// Takes content in.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// Fails when the content is not what was backed up.
    pub fn finish(self) -> Result<()> {
        let Some(expected) = self.expected else { return Ok(()) };
        let found = self.hasher.finish();
        if found.is_some() && found != expected.checksum {
            let hex = |checksum: Option<&FileChecksum>| checksum.map_or_else(String::new, FileChecksum::hex);
            let text = format!(
                "has the checksum {}, the backup manifest says {}",
                hex(found.as_ref()),
                hex(expected.checksum.as_ref())
            );
            return Err(wrong(self.name, text));
        }
        expected.state.store(WRITTEN, Ordering::Relaxed);
        Ok(())
    }
}

/// An error about a file in a backup.
pub fn wrong(name: &Path, what: String) -> Error {
    Error::new(ErrorKind::Corrupt, format!("file {} in the backup {what}", name.display()))
}
