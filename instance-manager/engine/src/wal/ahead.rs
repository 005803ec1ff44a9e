//! Uploads that were begun before PostgreSQL asked for them.

use crate::error::Result;
use crate::identity::Identity;
use barman_cloud::WalName;
use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// A success older than this is not answered from memory: the file is archived again, which compares contents.
const TRUST: Duration = Duration::from_secs(300);

/// Size and identity of a file as it is now.
pub fn seen(path: &Path) -> std::io::Result<(u64, Identity)> {
    let meta = std::fs::metadata(path)?;
    Ok((meta.len(), Identity::from(&meta)))
}

/// One upload ahead of its request.
pub struct Upload {
    /// The file that is being uploaded, as it was [`seen`].
    pub file: (u64, Identity),
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
    pub fn take(&mut self, name: WalName, file: (u64, Identity)) -> Option<JoinHandle<Result<()>>> {
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
