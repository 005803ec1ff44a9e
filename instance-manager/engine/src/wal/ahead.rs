//! Uploads that were begun before PostgreSQL asked for them.

use crate::error::Result;
use barman_cloud::WalName;
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// A success older than this is not answered from memory: the file is archived again, which compares contents.
const TRUST: Duration = Duration::from_secs(300);

/// What tells one file from another of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Fingerprint {
    /// The file as it is now.
    pub fn of(path: &Path) -> std::io::Result<Self> {
        let meta = std::fs::metadata(path)?;
        Ok(Self { inode: meta.ino(), size: meta.len(), modified: (meta.mtime(), meta.mtime_nsec()) })
    }
}

/// One upload ahead of its request.
pub struct Upload {
    /// The file that is being uploaded.
    pub file: Fingerprint,
    /// When it was begun.
    pub begun: Instant,
    /// Its outcome.
    pub task: JoinHandle<Result<()>>,
}

/// Uploads ahead of their requests, by name.
#[derive(Default)]
pub struct Ahead(HashMap<WalName, Upload>);

impl Ahead {
    /// Takes the upload of exactly this file out, unless it is too old to be trusted.
    pub fn take(&mut self, name: WalName, file: Fingerprint) -> Option<JoinHandle<Result<()>>> {
        let upload = self.0.remove(&name)?;
        (upload.file == file && upload.begun.elapsed() < TRUST).then_some(upload.task)
    }

    /// Whether the file is known.
    pub fn contains(&self, name: WalName) -> bool {
        self.0.contains_key(&name)
    }

    /// Uploads that are not done.
    pub fn running(&self) -> usize {
        self.0.values().filter(|upload| !upload.task.is_finished()).count()
    }

    /// Remembers an upload.
    pub fn insert(&mut self, name: WalName, upload: Upload) {
        self.0.insert(name, upload);
    }

    /// Forgets what is done and not next in PostgreSQL's queue.
    pub fn forget(&mut self, behind: &[WalName]) {
        self.0.retain(|name, upload| !upload.task.is_finished() || behind.contains(name));
    }
}
