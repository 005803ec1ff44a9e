//! `archive_command`: uploads what PostgreSQL asks for, and in parallel what is ready behind it.
//!
//! PostgreSQL asks for one file at a time and waits. While the requested file travels, the next ones in its queue
//! travel too; their failures are nobody's business until they are asked for themselves. One file more than may be
//! sent at a time is under way, so that it is compressed when its turn comes. WAL is left in the page cache:
//! PostgreSQL recycles the files by writing over them, and senders to replicas read them.
//!
//! Memory is bounded whatever `max_parallel` and the segment size are: [`AHEAD_MEMORY`] for all files ahead, and on
//! top the one that is asked for (a segment, or three parts of one that goes in parts).

use super::ahead::{Ahead, Upload, seen};
use super::pace::Pace;
use super::queue::{self, Queue};
use super::watch::{Watch, Writer};
use crate::control::ControlData;
use crate::error::{Error, ErrorKind, Result};
use barman_cloud::archive::{ArchiveOptions, Lane, WalSource, WalWriter, WriterLimits};
use barman_cloud::{Compression, Repository, SegmentSize, WalName};
use chrono::{DateTime, Utc};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;
use tokio::time::timeout;

/// Bytes in memory of files that were not asked for yet.
const AHEAD_MEMORY: u64 = 32 << 20;
/// How long an archive may take to say whether this server is overtaken, while files wait that go elsewhere too.
const LOOK_PATIENCE: Duration = Duration::from_secs(5);

/// How WAL is archived.
#[derive(Debug, Clone)]
pub struct ArchiverConfig {
    /// Data directory; relative paths are below it.
    pub pgdata: PathBuf,
    /// Where WAL goes.
    pub repository: Repository,
    /// Codec.
    pub compression: Compression,
    /// Level; `None` is the usual one for WAL.
    pub compression_level: Option<i32>,
    /// Files sent at the same time, the requested one included; at least 1.
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
    writer: WalWriter,
    /// The server that the archive was claimed for.
    owner: OnceCell<Owner>,
    /// Whether it may still write.
    watch: Watch,
    queue: Mutex<Queue>,
    ahead: Mutex<Ahead>,
    pace: Mutex<Pace>,
    stats: Mutex<ArchiverStats>,
}

/// What the archive was claimed for.
#[derive(Debug, Clone, Copy)]
struct Owner {
    system_id: u64,
    segment_size: SegmentSize,
}

impl std::fmt::Debug for Archiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Archiver").field("config", &self.0.config).finish_non_exhaustive()
    }
}

impl Archiver {
    /// A service that has not touched the store yet.
    pub fn new(config: ArchiverConfig) -> Self {
        let options = ArchiveOptions {
            compression: config.compression,
            level: config.compression_level,
            confirm: true,
        };
        let limits = WriterLimits {
            packing: std::thread::available_parallelism().map_or(1, usize::from),
            sending: config.max_parallel,
            memory: AHEAD_MEMORY,
        };
        let writer = WalWriter::new(config.repository.clone(), options, limits);
        Self(Arc::new(Inner {
            writer,
            pace: Mutex::new(Pace::new(config.max_parallel)),
            config,
            owner: OnceCell::new(),
            watch: Watch::default(),
            queue: Mutex::new(Queue::default()),
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
        match &outcome {
            Ok(()) => lock(&inner.stats).last_error = None,
            Err(error) => self.failed(text, error.report()),
        }
        outcome
    }

    /// As [`Archiver::archive`], and nothing that waits behind it begins to travel: for who must choose what is archived.
    pub async fn archive_alone(&self, path: &Path) -> Result<()> {
        let path = self.0.config.pgdata.join(path);
        let text = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let outcome = async {
            let name: WalName = text.parse()?;
            let owner = self.0.owner().await?;
            self.0.watch.permit(&self.0.writer(owner), name).await?;
            self.0.upload(name, &path, owner.segment_size, Lane::Requested).await
        }
        .await;
        match &outcome {
            Ok(()) => lock(&self.0.stats).last_error = None,
            Err(error) => self.failed(text, error.report()),
        }
        outcome
    }

    /// Archives a file under its name from a copy of it: for one that PostgreSQL does not keep any more.
    pub(super) async fn archive_copy(&self, name: WalName, copy: &Path) -> Result<()> {
        let outcome = async {
            let segment_size = self.0.owner().await?.segment_size;
            if let Some(error) = self.0.watch.stale() {
                return Err(error);
            }
            let source = WalSource::File(copy.to_owned());
            self.0.send(name, copy, &source, segment_size, Lane::Ahead).await
        }
        .await;
        match &outcome {
            Ok(()) => lock(&self.0.stats).last_error = None,
            Err(error) => self.failed(name.to_string(), error.report()),
        }
        outcome
    }

    /// Counts a failure of somebody who works for this archive.
    pub(super) fn failed(&self, name: String, why: String) {
        let mut stats = lock(&self.0.stats);
        stats.failed_count += 1;
        stats.last_failed = Some((name, Utc::now()));
        stats.last_error = Some(why);
    }

    /// Whose archive it is: segment size and system identifier of this server, once the archive is claimed for it.
    pub(super) async fn owned(&self) -> Result<SegmentSize> {
        Ok(self.0.owner().await?.segment_size)
    }

    /// Where WAL goes.
    pub(super) fn repository(&self) -> &Repository {
        &self.0.config.repository
    }

    /// Files sent at the same time.
    pub(super) fn max_parallel(&self) -> usize {
        self.0.config.max_parallel
    }

    /// Counters now. Counts `.ready` files, so it reads a directory.
    pub fn stats(&self) -> ArchiverStats {
        let mut stats = lock(&self.0.stats).clone();
        // While PostgreSQL is being set up there is no queue.
        stats.waiting = queue::count(&self.0.config.pgdata).unwrap_or(0);
        stats
    }

    /// Claims the archive for this server, unless that was done already: [`ErrorKind::Lineage`] when it belongs to
    /// another, or this one may not write any more. [`Archiver::archive`] does it by itself; ask beforehand to learn of a
    /// conflict early.
    pub async fn claim(&self) -> Result<()> {
        let owner = self.0.owner().await?;
        // No file is meant, so none is refused: this looks, and announces what is to be announced.
        self.0.watch.permit(&self.0.writer(owner), WalName::History(1)).await
    }

    /// This server has become the primary, or was started as one, on `timeline`. `name` is its instance, or
    /// `<instance>/<uid of its pod>`. The timeline is announced before the next file, or by [`Archiver::announce`]; what was
    /// found out about a former primary is found out anew. Makes no request.
    pub fn lead(&self, name: &str, timeline: u32) {
        self.0.watch.lead(name, timeline);
    }

    /// It is no primary any more. Nothing is announced from now on.
    pub fn follow(&self) {
        self.0.watch.follow();
    }

    /// Announces the timeline of [`Archiver::lead`] now.
    ///
    /// # Errors
    /// [`ErrorKind::Lineage`] when the archive belongs to another server, or this one is a former primary.
    pub async fn announce(&self) -> Result<()> {
        let owner = self.0.owner().await?;
        self.0.watch.announce(&self.0.writer(owner)).await
    }

    /// Why nothing is taken from this server any more: it was found to be a former primary.
    pub fn stale(&self) -> Option<Error> {
        self.0.watch.stale()
    }

    /// Why a file is taken by no archive: this one knows that the server is a former primary. Asks now and then, and
    /// not for long; an archive that does not answer knows nothing.
    pub(super) async fn overtaken(&self, name: WalName) -> Option<Error> {
        let inner = &self.0;
        if let Some(owner) = inner.owner.get()
            && let Some(known) = inner.watch.known(name, owner.segment_size)
        {
            let left = inner.watch.has_left(name, owner.segment_size);
            return known.err().filter(|_| !left || inner.watch.stale().is_some());
        }
        if !inner.watch.is_due() {
            return None;
        }
        let asking = async {
            let owner = inner.owner().await?;
            inner.watch.permit(&inner.writer(owner), name).await
        };
        match timeout(LOOK_PATIENCE, asking).await {
            // Its upload tells of other errors.
            Ok(Err(_)) => inner.watch.stale(),
            Ok(Ok(())) | Err(_) => None,
        }
    }
}

impl Inner {
    async fn archive(self: &Arc<Self>, name: WalName, path: &Path) -> Result<()> {
        let owner = self.owner().await?;
        if let Err(error) = self.watch.permit(&self.writer(owner), name).await {
            if self.watch.stale().is_none() && self.watch.has_left(name, owner.segment_size) {
                tracing::warn!(%name, "not archived, and no longer kept: this server wrote it before it went another way");
                return Ok(());
            }
            return Err(error);
        }
        let outcome = self.archive_ours(name, path, owner.segment_size).await;
        let Err(error) = outcome else { return Ok(()) };
        if error.kind() == ErrorKind::Store(barman_cloud::ErrorKind::AlreadyExists) {
            // Somebody else archives: perhaps a new primary that was not heard of yet.
            self.watch.distrust();
            let permitted = self.watch.permit(&self.writer(owner), name).await;
            if let Some(stale) = permitted.err().and_then(|_| self.watch.stale()) {
                return Err(stale);
            }
        }
        Err(error)
    }

    async fn archive_ours(
        self: &Arc<Self>,
        name: WalName,
        path: &Path,
        segment_size: SegmentSize,
    ) -> Result<()> {
        let file = seen(path).map_err(|error| Error::io("cannot archive", path, error))?;
        let known = lock(&self.ahead).take(name, file);
        let ahead = self.look_ahead(name, segment_size);
        let Some(task) = known else {
            // The requested file first: it is at work before those behind it begin.
            let upload = self.upload(name, path, segment_size, Lane::Requested);
            let (outcome, ()) = tokio::join!(upload, ahead);
            return outcome;
        };
        ahead.await;
        match task.await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => {
                tracing::debug!(%name, error = %error.report(), "failed ahead of its request; trying again")
            }
            Err(error) => tracing::debug!(%name, %error, "stopped ahead of its request; trying again"),
        }
        self.upload(name, path, segment_size, Lane::Requested).await
    }

    async fn upload(&self, name: WalName, path: &Path, segment_size: SegmentSize, lane: Lane) -> Result<()> {
        self.send(name, path, &WalSource::pinned(path)?, segment_size, lane).await
    }

    async fn send(
        &self,
        name: WalName,
        path: &Path,
        source: &WalSource,
        segment_size: SegmentSize,
        lane: Lane,
    ) -> Result<()> {
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
        let throttled = self.config.repository.store().throttled();
        let outcome = self.writer.archive(name, source, lane).await;
        lock(&self.pace).done(self.config.repository.store().throttled() != throttled);
        let archived = outcome?;
        tracing::debug!(%name, key = archived.key, stored = archived.stored, "archived");
        let mut stats = lock(&self.stats);
        stats.archived_count += 1;
        stats.last_archived = Some((name.to_string(), Utc::now()));
        Ok(())
    }

    /// Begins to upload what is ready behind the requested file.
    async fn look_ahead(self: &Arc<Self>, requested: WalName, segment_size: SegmentSize) {
        let most = self.config.max_parallel;
        // One more than is wanted tells whether more than the last is left.
        if lock(&self.queue).pass(requested, most + 1) {
            let pgdata = self.config.pgdata.clone();
            let reading = tokio::task::spawn_blocking(move || queue::first(&pgdata, requested));
            let Ok(Ok(names)) = reading.await else { return };
            lock(&self.queue).fill(names);
        }
        let behind: Vec<WalName> = lock(&self.queue).behind().take(most + 1).collect();
        let wanted = lock(&self.pace).ahead(behind.len());
        let mut ahead = lock(&self.ahead);
        ahead.forget(&behind);
        for name in behind {
            if ahead.running() >= wanted {
                return;
            }
            if ahead.contains(name) {
                continue;
            }
            if !self.watch.allows(name, segment_size) {
                return;
            }
            let path = self.config.pgdata.join("pg_wal").join(name.to_string());
            let Ok(file) = seen(&path) else { continue };
            let inner = Arc::clone(self);
            let task =
                tokio::spawn(async move { inner.upload(name, &path, segment_size, Lane::Ahead).await });
            ahead.insert(name, Upload { file, begun: Instant::now(), task });
        }
    }

    /// Claims the archive once; nothing is uploaded into another server's archive.
    async fn owner(&self) -> Result<Owner> {
        let claim = || async {
            let control = ControlData::read(&self.config.pgdata)?;
            let by = self.config.claimed_by.as_deref();
            self.config
                .repository
                .claim(&control.system_id.to_string(), by, Utc::now())
                .await
                .map_err(Error::foreign)?;
            // How the store lets a body be protected at the least cost.
            self.config.repository.learn().await;
            Ok(Owner { system_id: control.system_id, segment_size: control.wal_segment_size })
        };
        self.owner.get_or_try_init(claim).await.copied()
    }

    fn writer(&self, owner: Owner) -> Writer<'_> {
        Writer {
            pgdata: &self.config.pgdata,
            repository: &self.config.repository,
            system_id: owner.system_id,
            segment_size: owner.segment_size,
            claimed_by: self.config.claimed_by.as_deref(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
