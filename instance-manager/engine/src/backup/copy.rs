//! Copies files into a part: tar entry, page checksums and manifest checksum in one pass.

use super::bad_pages::BadPage;
use super::pages::{self, PageState};
use super::part::OpenPart;
use super::record::{FileRecord, Hasher};
use super::request::ManifestChecksum;
use super::source::Source;
use super::throttle::Limits;
use super::walk::{DirItem, LinkItem, Stat};
use crate::error::{Error, Result};
use crate::identity::Identity;
use crate::progress::Progress;
use barman_cloud::manifest::ManifestFile;
use barman_cloud::tar::Entry;
use barman_cloud::{Lsn, PartName};
use chrono::DateTime;
use std::io;
use std::path::{Path, PathBuf};
use tokio_util::sync::CancellationToken;

/// Bytes read at a time: a multiple of every page size, and small enough that page check, manifest checksum and codec
/// find them in the processor's cache.
pub const READ_BUFFER: usize = 256 << 10;
/// Reads of a page that looks bad before it is called bad: the server may be writing it at this very moment.
const RECHECKS: usize = 5;

/// What page verification needs to know.
#[derive(Debug, Clone, Copy)]
pub struct PageCheck {
    /// Bytes in a page.
    pub page: usize,
    /// Pages in one file of a fork.
    pub segment_pages: u32,
    /// Start of the backup: recovery rewrites pages changed after it.
    pub start: Lsn,
}

/// One worker's state: a buffer, and what it has seen.
pub struct Copier<'a> {
    pub(super) buffer: Vec<u8>,
    pub(super) check: Option<PageCheck>,
    pub(super) checksum: ManifestChecksum,
    pub(super) progress: &'a Progress,
    pub(super) cancel: &'a CancellationToken,
    limits: &'a Limits,
    /// Files for the manifest.
    pub records: Vec<FileRecord>,
    /// Bytes of files.
    pub bytes: u64,
}

/// Names of one file: in the tar, in the manifest, and on disk.
#[derive(Debug, Clone, Copy)]
pub struct FileNames<'a> {
    /// Entry name.
    pub entry: &'a Path,
    /// Path in the restored data directory.
    pub manifest: &'a Path,
    /// Where it is read from.
    pub source: &'a Path,
}

/// Whether a file is read for the first time in this backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    First,
    Again,
}

/// A file that is being backed up.
pub(super) struct Opened {
    pub source: Source,
    pub size: u64,
    pub stat: Stat,
    identity: Identity,
}

impl Opened {
    /// Opens a file; `None` when it has vanished.
    pub fn open(names: FileNames<'_>) -> Result<Option<Self>> {
        let reading = |error| Error::io("cannot read", names.source, error);
        let Some(source) = Source::open(names.source).map_err(reading)? else { return Ok(None) };
        let meta = source.metadata().map_err(reading)?;
        let (stat, identity) = (Stat::from(&meta), Identity::from(&meta));
        Ok(Some(Self { source, size: meta.len(), stat, identity }))
    }
}

impl<'a> Copier<'a> {
    /// A copier; pages are verified when `check` is given.
    pub fn new(
        check: Option<PageCheck>,
        checksum: ManifestChecksum,
        progress: &'a Progress,
        cancel: &'a CancellationToken,
        limits: &'a Limits,
    ) -> Self {
        Self {
            buffer: vec![0; READ_BUFFER],
            check,
            checksum,
            progress,
            cancel,
            limits,
            records: Vec::new(),
            bytes: 0,
        }
    }

    /// Adds a directory.
    pub fn directory(&self, part: &mut OpenPart, dir: &DirItem) -> Result<()> {
        let mut entry = if dir.path.as_os_str().is_empty() {
            // Barman's readers take the mode of the data directory from here, and PostgreSQL refuses 0755.
            Entry::directory("./")
        } else {
            Entry::directory(&dir.path)
        };
        let is_root = dir.path.as_os_str().is_empty();
        set(&mut entry, &dir.stat);
        if is_root {
            entry.mode = 0o700;
        }
        part.tar().begin(&entry).map_err(|error| writing(&dir.path, error))
    }

    /// Adds a link.
    pub fn link(&self, part: &mut OpenPart, link: &LinkItem) -> Result<()> {
        let mut entry = Entry::symlink(entry_name(&link.path), &link.target);
        set(&mut entry, &link.stat);
        part.tar().begin(&entry).map_err(|error| writing(&link.path, error))
    }

    /// Adds a file. Returns `false` when it has vanished. What it grows by while it is read is cut; what it shrinks
    /// by is filled with zeros: recovery repairs both.
    pub fn file(&mut self, part: &mut OpenPart, names: FileNames<'_>) -> Result<bool> {
        let Some(mut opened) = Opened::open(names)? else { return Ok(false) };
        opened.source.prepare(opened.size);
        self.whole(part, &mut opened, names, Look::First)?;
        Ok(true)
    }

    /// Adds all of an open file.
    pub(super) fn whole(
        &mut self,
        part: &mut OpenPart,
        opened: &mut Opened,
        names: FileNames<'_>,
        look: Look,
    ) -> Result<()> {
        let mut entry = Entry::file(names.entry, opened.size);
        set(&mut entry, &opened.stat);
        part.tar().begin(&entry).map_err(|error| writing(names.entry, error))?;
        let hasher = self.pass(&mut opened.source, opened.size, names, look, |bytes| {
            part.tar().data(bytes).map(|_| ()).map_err(|error| writing(names.entry, error))
        })?;
        part.tar().end().map_err(|error| writing(names.entry, error))?;
        self.bytes += opened.size;
        self.note(part, names.manifest.to_owned(), opened.size, opened, hasher);
        Ok(())
    }

    /// Notes what of a file was stored, and under which path of the manifest.
    pub(super) fn note(
        &mut self,
        part: &OpenPart,
        path: PathBuf,
        size: u64,
        opened: &Opened,
        hasher: Hasher,
    ) {
        let file = record(path, size, opened.stat.mtime, hasher);
        self.records.push(FileRecord { part: part.name, file, identity: opened.identity });
    }

    /// Reads a file of a part that is in the store already; `None` when it has vanished.
    pub fn read_again(&mut self, part: PartName, names: FileNames<'_>) -> Result<Option<FileRecord>> {
        let Some(mut opened) = Opened::open(names)? else { return Ok(None) };
        opened.source.prepare(opened.size);
        let hasher = self.pass(&mut opened.source, opened.size, names, Look::First, |_| Ok(()))?;
        let file = record(names.manifest.to_owned(), opened.size, opened.stat.mtime, hasher);
        // As it is now: what was written while it was read shows.
        let now = opened.source.metadata().map_err(|error| Error::io("cannot read", names.source, error))?;
        Ok(Some(FileRecord { part, file, identity: Identity::from(&now) }))
    }

    /// Reads `size` bytes of a file once, and gives them on: the checksum is computed on the way, and at the first
    /// look pages are verified and progress is made.
    fn pass(
        &mut self,
        source: &mut Source,
        size: u64,
        names: FileNames<'_>,
        look: Look,
        mut give: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<Hasher> {
        let segment = self.check.filter(|_| look == Look::First).and_then(|check| {
            let text = names.manifest.to_str()?;
            Some((check, pages::relation_segment(text)?))
        });
        let mut hasher = Hasher::new(self.checksum);
        let mut offset = 0;
        while offset < size {
            if self.cancel.is_cancelled() {
                return Err(Error::cancelled());
            }
            let want = usize::try_from(size - offset).unwrap_or(usize::MAX).min(self.buffer.len());
            let count = self.read(source, want, offset, names.source)?;
            if let Some((check, segment)) = segment {
                self.verify(source, check, segment, offset, count, names.manifest)?;
            }
            hasher.update(&self.buffer[..want]);
            give(&self.buffer[..want])?;
            if look == Look::First {
                self.progress.add_done(want as u64);
            }
            offset += want as u64;
            source.done(offset);
        }
        source.finish();
        Ok(hasher)
    }

    /// Reads `want` bytes into the buffer, zeros where the file shrank. Returns how many were there.
    pub(super) fn read(&mut self, source: &Source, want: usize, offset: u64, path: &Path) -> Result<usize> {
        self.limits.read(want)?;
        let count = source
            .read_at(&mut self.buffer[..want], offset)
            .map_err(|error| Error::io("cannot read", path, error))?;
        self.buffer[count..want].fill(0);
        Ok(count)
    }

    /// Adds a file from memory, owned by whoever owns the data directory.
    pub fn content(&mut self, part: &mut OpenPart, name: &str, content: &[u8], owner: &Stat) -> Result<()> {
        let mut entry = Entry::file(name, content.len() as u64);
        set(&mut entry, owner);
        entry.mode = 0o600;
        let tar = part.tar();
        tar.begin(&entry)
            .and_then(|()| tar.data(content))
            .and_then(|_| tar.end())
            .map_err(|error| writing(Path::new(name), error))?;
        let mut hasher = Hasher::new(self.checksum);
        hasher.update(content);
        let file = record(PathBuf::from(name), content.len() as u64, owner.mtime, hasher);
        self.records.push(FileRecord { part: part.name, file, identity: Identity::default() });
        Ok(())
    }

    /// Checks the pages in the buffer, of which `count` bytes were read at `offset` of a file.
    pub(super) fn verify(
        &self,
        source: &Source,
        check: PageCheck,
        segment: u32,
        offset: u64,
        count: usize,
        path: &Path,
    ) -> Result<()> {
        let first = offset / check.page as u64;
        for (page, in_file) in self.buffer[..count].chunks_exact(check.page).zip(first..) {
            self.is_good(source, check, (segment, in_file), page, path)?;
        }
        Ok(())
    }

    /// Whether a page that was read has the right checksum. It is told as bad when it stays wrong.
    pub(super) fn is_good(
        &self,
        source: &Source,
        check: PageCheck,
        (segment, in_file): (u32, u64),
        page: &[u8],
        path: &Path,
    ) -> Result<bool> {
        let block = u64::from(segment) * u64::from(check.segment_pages) + in_file;
        // Forks have at most 2^32 blocks.
        let block = block as u32;
        let PageState::Bad(lsn) = pages::check(page, block) else { return Ok(true) };
        if lsn < check.start && is_bad(source, check, in_file, block, path)? {
            self.progress.add_bad_page(BadPage { file: path.display().to_string(), block });
        }
        Ok(false)
    }
}

/// Reads a page again: a torn read passes, and so does a page that was changed after the backup began.
fn is_bad(source: &Source, check: PageCheck, in_file: u64, block: u32, path: &Path) -> Result<bool> {
    let mut page = vec![0; check.page];
    for _ in 0..RECHECKS {
        let count = source
            .read_at(&mut page, in_file * check.page as u64)
            .map_err(|error| Error::io("cannot read", path, error))?;
        if count < page.len() {
            // Truncated meanwhile: the page is gone.
            return Ok(false);
        }
        match pages::check(&page, block) {
            PageState::Bad(lsn) if lsn < check.start => std::thread::yield_now(),
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// Size and identity of a regular file; `None` when there is none.
pub fn identity(path: &Path) -> Result<Option<(u64, Identity)>> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_file() => Ok(Some((meta.len(), Identity::from(&meta)))),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("cannot look at", path, error)),
    }
}

/// Names at the top of the tree are written with `./`, as Barman writes them.
pub fn entry_name(path: &Path) -> PathBuf {
    if path.parent().is_some_and(|parent| parent.as_os_str().is_empty()) {
        Path::new(".").join(path)
    } else {
        path.to_owned()
    }
}

fn record(path: PathBuf, size: u64, mtime: i64, hasher: Hasher) -> ManifestFile {
    ManifestFile {
        path,
        size,
        modified: DateTime::from_timestamp(mtime, 0).unwrap_or_default(),
        checksum: hasher.finish(),
    }
}

pub(super) fn set(entry: &mut Entry, stat: &Stat) {
    entry.mode = stat.mode;
    entry.uid = u64::from(stat.uid);
    entry.gid = u64::from(stat.gid);
    entry.mtime = stat.mtime;
}

/// The codec and the sink fail only when the upload did or the backup is being cancelled.
pub(super) fn writing(path: &Path, error: io::Error) -> Error {
    Error::new(crate::ErrorKind::Cancelled, format!("{} could not be stored", path.display()))
        .with_source(error)
}
