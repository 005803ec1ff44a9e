//! `archive_command`: uploads what PostgreSQL asks for, and in parallel what is ready behind it.
//!
//! PostgreSQL asks for one file at a time and waits. While the requested file travels, the next ones in its queue
//! travel too; their failures are nobody's business until they are asked for themselves. WAL is left in the page
//! cache: PostgreSQL recycles the files by writing over them, and senders to replicas read them.

use super::ahead::{Ahead, Fingerprint, Upload};
use super::ready;
use crate::control::ControlData;
use crate::error::{Error, ErrorKind, Result};
use barman_cloud::archive::{ArchiveOptions, WalSource};
use barman_cloud::{Compression, Repository, SegmentSize, WalName};
use chrono::{DateTime, Utc};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::OnceCell;

/// How WAL is archived.
#[derive(Debug, Clone)]
pub struct ArchiverConfig {
    /// Data directory; relative paths are below it.
    pub pgdata: PathBuf,
    /// Where WAL goes.
    pub repository: Repository,
    /// Codec.
    pub compression: Compression,
    /// Level; `None` is the codec's usual one.
    pub compression_level: Option<i32>,
    /// Files uploaded at the same time, the requested one included; at least 1.
    pub max_parallel: usize,
    /// Who claims the archive, for people who look at `lineage.json`: for example namespace and name of the cluster.
    pub claimed_by: Option<String>,
}

/// Counters and the last outcome.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArchiverStats {
    /// Files archived since the service was made, look-ahead included.
    pub archived_count: u64,
    /// Requests answered with an error since then.
    pub failed_count: u64,
    /// Last file archived, and when.
    pub last_archived: Option<(String, DateTime<Utc>)>,
    /// Last file that failed, and when.
    pub last_failed: Option<(String, DateTime<Utc>)>,
    /// Why it failed and what to do; `None` once a later request succeeded.
    pub last_error: Option<String>,
    /// Files waiting (`.ready`) now.
    pub waiting: u64,
}

/// The archiving service; cheap to clone, clones are one service.
#[derive(Clone)]
pub struct Archiver(Arc<Inner>);

struct Inner {
    config: ArchiverConfig,
    /// Segment size of the server that the archive was claimed for.
    owner: OnceCell<SegmentSize>,
    ahead: Mutex<Ahead>,
    stats: Mutex<ArchiverStats>,
}

impl std::fmt::Debug for Archiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Archiver").field("config", &self.0.config).finish_non_exhaustive()
    }
}

impl Archiver {
    /// A service that has not touched the store yet.
    pub fn new(config: ArchiverConfig) -> Self {
        Self(Arc::new(Inner {
            config,
            owner: OnceCell::new(),
            ahead: Mutex::new(Ahead::default()),
            stats: Mutex::new(ArchiverStats::default()),
        }))
    }

    /// Archives the file at `path` (`%p`: relative to the data directory, or absolute). Returns when the object
    /// is confirmed in the store. Any error means "not archived"; PostgreSQL calls again.
    pub async fn archive(&self, path: &Path) -> Result<()> {
        let inner = &self.0;
        let path = inner.config.pgdata.join(path);
        let text = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let outcome = async {
            let name: WalName = text.parse()?;
            inner.archive(name, &path).await
        }
        .await;
        let mut stats = lock(&inner.stats);
        match &outcome {
            Ok(()) => stats.last_error = None,
            Err(error) => {
                stats.failed_count += 1;
                stats.last_failed = Some((text, Utc::now()));
                stats.last_error = Some(error.report());
            }
        }
        outcome
    }

    /// Counters now. Counts `.ready` files, so it reads a directory.
    pub fn stats(&self) -> ArchiverStats {
        let mut stats = lock(&self.0.stats).clone();
        // While PostgreSQL is being set up there is no queue.
        stats.waiting = ready::list(&self.0.config.pgdata).map_or(0, |names| names.len() as u64);
        stats
    }

    /// Claims the archive for this server, unless that was done already: [`ErrorKind::Lineage`] when it belongs to
    /// another. [`Archiver::archive`] does it by itself; ask beforehand to learn of a conflict early.
    pub async fn claim(&self) -> Result<()> {
        self.0.owner().await.map(|_| ())
    }
}

impl Inner {
    async fn archive(self: &Arc<Self>, name: WalName, path: &Path) -> Result<()> {
        let segment_size = self.owner().await?;
        let file = Fingerprint::of(path).map_err(|error| Error::io("cannot archive", path, error))?;
        let known = lock(&self.ahead).take(name, file);
        self.look_ahead(name, segment_size).await;
        if let Some(task) = known {
            match task.await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => {
                    tracing::debug!(%name, error = %error.report(), "failed ahead of its request; trying again")
                }
                Err(error) => tracing::debug!(%name, %error, "stopped ahead of its request; trying again"),
            }
        }
        self.upload(name, path, segment_size).await
    }

    async fn upload(&self, name: WalName, path: &Path, segment_size: SegmentSize) -> Result<()> {
        if name.has_segment_size() {
            let size =
                std::fs::metadata(path).map_err(|error| Error::io("cannot archive", path, error))?.len();
            if size != segment_size.bytes() {
                return Err(Error::new(
                    ErrorKind::Invalid,
                    format!(
                        "{} has {size} bytes; a segment of this server has {}",
                        path.display(),
                        segment_size.bytes()
                    ),
                )
                .with_remedy("see what truncated the file; PostgreSQL keeps it until it is archived whole"));
            }
        }
        let options = ArchiveOptions {
            compression: self.config.compression,
            level: self.config.compression_level,
            confirm: true,
        };
        let source = WalSource::File(path.to_owned());
        let archived = self.config.repository.archive_wal(name, source, &options).await?;
        tracing::debug!(%name, key = archived.key, stored = archived.stored, "archived");
        let mut stats = lock(&self.stats);
        stats.archived_count += 1;
        stats.last_archived = Some((name.to_string(), Utc::now()));
        Ok(())
    }

    /// Begins to upload what is ready behind the requested file.
    async fn look_ahead(self: &Arc<Self>, requested: WalName, segment_size: SegmentSize) {
        let most = self.config.max_parallel.saturating_sub(1);
        if most == 0 {
            return;
        }
        let pgdata = self.config.pgdata.clone();
        // The queue may hold many thousands of files after a long outage.
        let Ok(Ok(queue)) = tokio::task::spawn_blocking(move || ready::list(&pgdata)).await else { return };
        let mut ahead = lock(&self.ahead);
        ahead.retain(&queue);
        let free = most.saturating_sub(ahead.running());
        let next: Vec<WalName> = queue
            .into_iter()
            .filter(|name| *name != requested && !ahead.contains(*name))
            .take(free)
            .collect();
        for name in next {
            let path = self.config.pgdata.join("pg_wal").join(name.to_string());
            let Ok(file) = Fingerprint::of(&path) else { continue };
            let inner = Arc::clone(self);
            let task = tokio::spawn(async move { inner.upload(name, &path, segment_size).await });
            ahead.insert(name, Upload { file, begun: Instant::now(), task });
        }
    }

    /// Claims the archive once; nothing is uploaded into another server's archive.
    async fn owner(&self) -> Result<SegmentSize> {
        let claim = || async {
            let control = ControlData::read(&self.config.pgdata)?;
            let by = self.config.claimed_by.as_deref();
            self.config
                .repository
                .claim(&control.system_id.to_string(), by, Utc::now())
                .await
                .map_err(Error::foreign)?;
            Ok(control.wal_segment_size)
        };
        self.owner.get_or_try_init(claim).await.copied()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
