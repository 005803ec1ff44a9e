//! How far a backup or a restore is, readable from any thread at any time.

use crate::backup::{BadPage, BadPages};
use barman_cloud::{BackupId, BackupType, Lsn, Segment};
use chrono::{DateTime, Utc};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is going on, with what is known by then.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Connecting, checking settings.
    Preparing,
    /// Backup: PostgreSQL makes the checkpoint that the backup starts from.
    Checkpoint {
        /// Id that the backup will have.
        backup_id: BackupId,
    },
    /// Backup: what an interrupted one had stored was looked through; then it goes on as [`Phase::Copying`].
    Resumed {
        /// Finished parts that stay.
        kept: usize,
        /// Finished parts that were there.
        found: usize,
        /// Bytes of files in those that stay.
        bytes: u64,
    },
    /// Backup: the start position is known, files are being read and uploaded.
    Copying(BackupStart),
    /// Backup: everything was read; PostgreSQL is told, the last part is being closed.
    Stopping,
    /// Backup: the data is in the store; WAL up to `end_wal` is being confirmed there.
    WaitingForWal {
        /// The last segment that the backup needs.
        end_wal: Segment,
        /// Where the backup ended.
        end_lsn: Lsn,
    },
    /// Backup: manifest and `backup.info` are being written.
    Committing,
    /// Restore: the repository is being checked; nothing was written yet.
    Checking,
    /// Restore: files that are there already are being compared with the manifest.
    Comparing,
    /// Restore: parts are being fetched and extracted.
    Fetching {
        /// The backup that was chosen.
        backup_id: BackupId,
    },
    /// Restore: files are being forced to disk.
    Syncing,
    /// Done.
    Done,
}

/// What is known when copying begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupStart {
    /// Id of the backup in the store.
    pub backup_id: BackupId,
    /// What it is: perhaps full where another type was asked for.
    pub kind: BackupType,
    /// When the backup started, by the server's clock.
    pub started_at: DateTime<Utc>,
    /// Start position.
    pub begin_lsn: Lsn,
    /// First segment that a restore needs.
    pub begin_wal: Segment,
    /// Timeline.
    pub timeline: u32,
    /// System identifier.
    pub system_id: u64,
    /// `server_version_num`.
    pub server_version: u32,
}

type Callback = Box<dyn Fn(&Phase) + Send + Sync>;

/// Counters and phase of one run. Share it in an `Arc`.
pub struct Progress {
    done: AtomicU64,
    total: AtomicU64,
    stored: AtomicU64,
    bad_pages: Mutex<BadPages>,
    phase: Mutex<Phase>,
    callback: Option<Callback>,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            bad_pages: Mutex::default(),
            phase: Mutex::new(Phase::Preparing),
            callback: None,
        }
    }
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Progress")
            .field("done", &self.bytes_done())
            .field("total", &self.bytes_total())
            .field("phase", &self.phase())
            .finish_non_exhaustive()
    }
}

impl Progress {
    /// Counters that nobody is told about.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counters whose phase changes are told to `callback`, from whatever thread makes them. It must not block.
    pub fn with_callback(callback: impl Fn(&Phase) + Send + Sync + 'static) -> Self {
        Self { callback: Some(Box::new(callback)), ..Self::default() }
    }

    /// Bytes of database files read (backup), of local files compared (restore, [`Phase::Comparing`]) or of stored
    /// parts fetched (restore) so far.
    pub fn bytes_done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Bytes expected in all, in the unit of [`Progress::bytes_done`]; for a backup an estimate, because files
    /// change while they are read. 0 until known.
    pub fn bytes_total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Bytes sent to the store so far (backup) or written to files (restore).
    pub fn bytes_stored(&self) -> u64 {
        self.stored.load(Ordering::Relaxed)
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        lock(&self.phase).clone()
    }

    /// Backup: pages with a wrong checksum so far.
    pub fn bad_pages(&self) -> BadPages {
        lock(&self.bad_pages).clone()
    }

    pub(crate) fn add_bad_page(&self, page: BadPage) {
        lock(&self.bad_pages).add(page);
    }

    pub(crate) fn add_done(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What was read has to be read once more.
    pub(crate) fn take_back(&self, bytes: u64) {
        self.done.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add_stored(&self, bytes: u64) {
        self.stored.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Takes back what was counted for something that is tried again.
    pub(crate) fn take_done(&self, bytes: u64) {
        self.done.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Begins to count anew, with another total.
    pub(crate) fn restart(&self, total: u64) {
        self.done.store(0, Ordering::Relaxed);
        self.set_total(total);
    }

    pub(crate) fn set_total(&self, bytes: u64) {
        self.total.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn enter(&self, phase: Phase) {
        tracing::debug!(?phase, "phase");
        phase.clone_into(&mut lock(&self.phase));
        if let Some(callback) = &self.callback {
            callback(&phase);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
