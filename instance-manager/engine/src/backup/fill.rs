//! Workers that fill parts: each takes files off the group it is in and writes them into a part of its own.

use super::changes::Increment;
use super::copy::{Copier, FileNames, PageCheck};
use super::part::{OpenPart, PartContext, PartTask};
use super::plan;
use super::record::FileRecord;
use super::request::ManifestChecksum;
use super::resume::manifest_path;
use super::walk::{FileItem, Tree};
use crate::error::{Error, Result};
use barman_cloud::{Archive, BackupId, Layout, PartName};
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use tokio_util::sync::CancellationToken;

/// One tree with its parts.
pub struct Group {
    archive: Archive,
    tree: Tree,
    order: Vec<u32>,
    next: AtomicUsize,
    /// Index for the next part; 0 belongs to the first worker.
    parts: AtomicU32,
    joined: AtomicUsize,
    most_workers: usize,
    /// Files that are in parts of an interrupted backup already.
    stored: OnceLock<HashSet<u32>>,
}

impl Group {
    /// A group for up to `jobs` workers.
    pub fn new(archive: Archive, tree: Tree, jobs: usize) -> Self {
        let most_workers = plan::workers(tree.bytes, jobs);
        let order = plan::order(&tree, most_workers);
        Self {
            archive,
            tree,
            order,
            next: AtomicUsize::new(0),
            parts: AtomicU32::new(1),
            joined: AtomicUsize::new(0),
            most_workers,
            stored: OnceLock::new(),
        }
    }

    /// What its parts are of.
    pub fn archive(&self) -> Archive {
        self.archive
    }

    /// Leaves these files out, and begins new parts at index `next`. Once, before the first worker begins.
    pub fn leave_out(&self, files: HashSet<u32>, next: u32) {
        self.parts.store(next.max(1), Ordering::Relaxed);
        // Never set before: it is called once.
        let _ = self.stored.set(files);
    }

    /// The tree.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Every file with its path in the manifest.
    pub fn files(&self) -> impl Iterator<Item = (PathBuf, &FileItem)> {
        self.tree.files.iter().map(|file| (manifest_path(self.archive, self.tree.paths(file).0), file))
    }

    fn take(&self) -> Option<u32> {
        loop {
            let file = *self.order.get(self.next.fetch_add(1, Ordering::Relaxed))?;
            if !self.stored.get().is_some_and(|stored| stored.contains(&file)) {
                return Some(file);
            }
        }
    }
}

/// What all workers of a backup share.
pub struct Job {
    pub context: PartContext,
    pub layout: Layout,
    pub id: BackupId,
    /// Tablespaces first, the data directory last.
    pub groups: Vec<Group>,
    pub check: Option<PageCheck>,
    /// What this backup builds on, when it is no full one.
    pub increment: Option<Increment>,
    pub checksum: ManifestChecksum,
    /// Bytes of tar after which a part is closed.
    pub tar_bytes: u64,
    pub cancel: CancellationToken,
    /// Uploads of parts that could not be filled to their end: one of them tells why.
    pub broken: Mutex<Vec<PartTask>>,
}

/// What one worker leaves.
#[derive(Default)]
pub struct Filled {
    /// Uploads of finished parts.
    pub tasks: Vec<PartTask>,
    /// The part of the data directory that was not full.
    pub open: Option<OpenPart>,
    pub records: Vec<FileRecord>,
    pub bytes: u64,
}

impl Job {
    /// A copier for one thread.
    pub fn copier(&self) -> Copier<'_> {
        let context = &self.context;
        Copier::new(self.check, self.checksum, &context.progress, &self.cancel, &context.limits)
    }

    /// Writes into a part. When that fails, the part's upload is kept to be asked why.
    pub fn fill<T>(
        &self,
        mut part: OpenPart,
        work: impl FnOnce(&mut OpenPart) -> Result<T>,
    ) -> Result<(OpenPart, T)> {
        match work(&mut part) {
            Ok(value) => Ok((part, value)),
            Err(error) => {
                self.broken.lock().unwrap_or_else(PoisonError::into_inner).push(part.abandon());
                Err(error)
            }
        }
    }

    /// Closes a part that holds these files.
    pub fn finish(&self, part: OpenPart, records: &[FileRecord]) -> Result<PartTask> {
        let name = part.name;
        part.finish(records).map_err(|(error, task)| {
            self.broken.lock().unwrap_or_else(PoisonError::into_inner).push(task);
            Error::new(crate::ErrorKind::Cancelled, format!("{name} could not be stored")).with_source(error)
        })
    }

    /// Begins a part.
    pub fn open(&self, archive: Archive, index: u32) -> Result<OpenPart> {
        let name = PartName { archive, index, compression: self.context.compression };
        OpenPart::open(&self.context, self.layout.part(&self.id, name), name)
    }

    /// Begins the next part of the data directory.
    pub fn open_next_data(&self) -> Result<OpenPart> {
        let group = self.data();
        self.open(Archive::Data, group.parts.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether this is the last part of the data directory, by number.
    pub fn is_last_data(&self, part: &OpenPart) -> bool {
        part.name.archive == Archive::Data && part.name.index + 1 == self.data().parts.load(Ordering::Relaxed)
    }

    /// The group of the data directory.
    pub fn data(&self) -> &Group {
        &self.groups[self.groups.len() - 1]
    }

    /// One worker, from the first group to the last. Runs on a blocking thread.
    pub fn work(&self) -> Result<Filled> {
        let mut copier = self.copier();
        let mut filled = Filled::default();
        for group in &self.groups {
            let place = group.joined.fetch_add(1, Ordering::Relaxed);
            if place >= group.most_workers {
                continue;
            }
            let mut open = if place == 0 { Some(self.first_part(group, &copier)?) } else { None };
            // The records from here on are of the part that is open.
            let mut since = copier.records.len();
            while let Some(file) = group.take() {
                if self.cancel.is_cancelled() {
                    return Err(Error::cancelled());
                }
                let part = match open.take() {
                    Some(part) => part,
                    None => self.open(group.archive, group.parts.fetch_add(1, Ordering::Relaxed))?,
                };
                let (part, ()) = self.fill(part, |part| self.copy(&mut copier, group, part, file))?;
                if part.written() >= self.tar_bytes {
                    filled.tasks.push(self.finish(part, &copier.records[since..])?);
                    since = copier.records.len();
                } else {
                    open = Some(part);
                }
            }
            match (open, group.archive) {
                (Some(part), Archive::Data) => filled.open = Some(part),
                (Some(part), Archive::Tablespace(_)) => {
                    filled.tasks.push(self.finish(part, &copier.records[since..])?);
                }
                (None, _) => {}
            }
        }
        filled.records = std::mem::take(&mut copier.records);
        filled.bytes = copier.bytes;
        Ok(filled)
    }

    /// All directories and links go into the first part: readers extract it first, so every directory has its own
    /// mode before a file is put into it.
    fn first_part(&self, group: &Group, copier: &Copier<'_>) -> Result<OpenPart> {
        let part = self.open(group.archive, 0)?;
        let (part, ()) = self.fill(part, |part| {
            for dir in &group.tree.dirs {
                // A tablespace's own directory is made by whoever restores it.
                if group.archive == Archive::Data || !dir.path.as_os_str().is_empty() {
                    copier.directory(part, dir)?;
                }
            }
            group.tree.links.iter().try_for_each(|link| copier.link(part, link))
        })?;
        Ok(part)
    }

    fn copy(&self, copier: &mut Copier<'_>, group: &Group, part: &mut OpenPart, file: u32) -> Result<()> {
        let (path, source) = group.tree.paths(&group.tree.files[file as usize]);
        let manifest = manifest_path(group.archive, path.clone());
        let entry = match group.archive {
            Archive::Data => super::copy::entry_name(&path),
            Archive::Tablespace(_) => path,
        };
        let names = FileNames { entry: &entry, manifest: &manifest, source: &source };
        let stored = match &self.increment {
            Some(increment) => copier.changes(part, names, increment)?,
            None => copier.file(part, names)?,
        };
        if !stored {
            tracing::debug!(file = %source.display(), "vanished while the backup was running");
        }
        Ok(())
    }
}
