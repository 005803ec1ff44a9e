//! `restore_command`: fetches what PostgreSQL asks for and runs ahead of it.
//!
//! PostgreSQL takes "not there" as the end of the archive and ends recovery, so it is said only when the store says
//! so. What may pass is retried here; what will not is an error, which must stop recovery.

use super::spool::{self, Spool};
use crate::control::ControlData;
use crate::error::{Error, Result};
use crate::owner::Owner;
use barman_cloud::archive::FetchOptions;
use barman_cloud::{Repository, Segment, SegmentSize, WalName};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// How WAL is fetched.
#[derive(Debug, Clone)]
pub struct RestorerConfig {
    /// Where WAL comes from.
    pub repository: Repository,
    /// Data directory; relative destinations are below it, and its `pg_control` tells the segment size.
    pub pgdata: PathBuf,
    /// Directory for segments fetched ahead; each source gets one of its own below it.
    pub spool: PathBuf,
    /// Files fetched at the same time, the requested one included; 1 switches prefetching off.
    pub max_parallel: usize,
    /// Whether a `.partial` segment may be delivered when no complete one is there: only for a recovery that
    /// ends in promotion, never for a standby.
    pub allow_partial: bool,
}

/// Answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalFetch {
    /// The file is at the destination, complete.
    Restored,
    /// The archive has no such file. PostgreSQL takes this as the end of the archive.
    NotThere,
}

/// The fetching service; one per source, cheap to clone.
#[derive(Clone)]
pub struct Restorer(Arc<Inner>);

struct Inner {
    config: RestorerConfig,
    spool: Spool,
    /// What the server's control file says; read at the first request, when the directory is complete.
    server: OnceCell<Server>,
    /// Segments that are or will be in the spool.
    ahead: Mutex<HashMap<Segment, JoinHandle<Result<()>>>>,
}

#[derive(Debug, Clone, Copy)]
struct Server {
    system_id: u64,
    segment_size: SegmentSize,
    owner: Owner,
}

impl std::fmt::Debug for Restorer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Restorer").field("config", &self.0.config).finish_non_exhaustive()
    }
}

impl Restorer {
    /// A service that has not touched the store yet.
    pub fn new(config: RestorerConfig) -> Self {
        let spool = Spool::new(&config.spool, &config.repository);
        Self(Arc::new(Inner { config, spool, server: OnceCell::new(), ahead: Mutex::new(HashMap::new()) }))
    }

    /// Fetches `name` (`%f`) to `dest` (`%p`: relative to the data directory, or absolute). Transient failures
    /// are retried inside until they pass, so an error is one that must stop recovery; dropping the future
    /// cancels.
    pub async fn restore(&self, name: &str, dest: &Path) -> Result<WalFetch> {
        let name: WalName = name.parse()?;
        let dest = self.0.config.pgdata.join(dest);
        let server = self.0.server().await?;
        match name {
            WalName::Segment(segment) => self.0.segment(segment, &dest, server).await,
            _ => self.0.fetch(name, &dest, server).await,
        }
    }

    /// Stops prefetching and removes the spool.
    pub async fn shutdown(&self) -> Result<()> {
        let tasks: Vec<_> = lock(&self.0.ahead).drain().map(|(_, task)| task).collect();
        for task in tasks {
            task.abort();
            // Aborted or done: either way it writes no more.
            let _ = task.await;
        }
        self.0.spool.remove()
    }
}

impl Inner {
    async fn server(&self) -> Result<Server> {
        let read = || async {
            let control = ControlData::read(&self.config.pgdata)?;
            self.spool.prepare()?;
            Ok(Server {
                system_id: control.system_id,
                segment_size: control.wal_segment_size,
                owner: Owner::of(&self.config.pgdata)?,
            })
        };
        self.server.get_or_try_init(read).await.copied()
    }

    async fn segment(self: &Arc<Self>, segment: Segment, dest: &Path, server: Server) -> Result<WalFetch> {
        let known = lock(&self.ahead).remove(&segment);
        if let Some(task) = known {
            // Room for the next one while this one is on its way.
            self.run_ahead(segment, server);
            if let Ok(Ok(())) = task.await {
                let (from, dest) = (self.spool.path(segment), dest.to_owned());
                let deliver = move || spool::deliver(&from, &dest, server.owner);
                let delivered = tokio::task::spawn_blocking(deliver).await;
                delivered.map_err(|error| Error::cancelled().with_source(error))??;
                return Ok(WalFetch::Restored);
            }
            // Not there, or failed: ask for it properly, so that the answer is right.
        }
        let fetched = self.fetch(WalName::Segment(segment), dest, server).await?;
        if fetched == WalFetch::Restored {
            self.run_ahead(segment, server);
        }
        Ok(fetched)
    }

    /// Fetches one file, again and again while the failure may pass.
    async fn fetch(&self, name: WalName, dest: &Path, server: Server) -> Result<WalFetch> {
        let options = FetchOptions {
            segment_size: Some(server.segment_size),
            system_id: Some(server.system_id),
            accept_partial: self.config.allow_partial,
            sync: false,
        };
        let near = spool::beside(dest);
        let mut pause = FIRST_PAUSE;
        loop {
            match self.config.repository.fetch_wal(name, &near, &options).await {
                Ok(fetched) => {
                    server.owner.own(&near)?;
                    std::fs::rename(&near, dest).map_err(|error| Error::io("cannot make", dest, error))?;
                    tracing::debug!(%name, key = fetched.object.object.key, "restored");
                    return Ok(WalFetch::Restored);
                }
                Err(error) if error.is_not_found() => return Ok(WalFetch::NotThere),
                Err(error) if error.is_transient() => {
                    tracing::warn!(%name, error = %error.report(), "the archive did not answer; trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Begins to fetch the segments after this one, and forgets all others.
    fn run_ahead(self: &Arc<Self>, segment: Segment, server: Server) {
        let size = server.segment_size;
        let wanted: Vec<Segment> =
            std::iter::successors(Some(segment.next(size)), |segment| Some(segment.next(size)))
                .take(self.config.max_parallel.saturating_sub(1))
                .collect();
        let mut ahead = lock(&self.ahead);
        ahead.retain(|known, task| {
            let keep = wanted.contains(known);
            if !keep {
                task.abort();
                self.spool.discard(*known);
            }
            keep
        });
        for segment in wanted {
            if !ahead.contains_key(&segment) {
                let inner = Arc::clone(self);
                ahead.insert(segment, tokio::spawn(async move { inner.prefetch(segment, server).await }));
            }
        }
    }

    /// Fetches one segment into the spool. One try: whatever goes wrong is found out again when it is asked for.
    async fn prefetch(&self, segment: Segment, server: Server) -> Result<()> {
        let options = FetchOptions {
            segment_size: Some(server.segment_size),
            system_id: Some(server.system_id),
            // Whether a partial segment will do is known only when PostgreSQL asks for it.
            accept_partial: false,
            sync: false,
        };
        let part = self.spool.partial_path(segment);
        self.config.repository.fetch_wal(WalName::Segment(segment), &part, &options).await?;
        server.owner.own(&part)?;
        let path = self.spool.path(segment);
        std::fs::rename(&part, &path).map_err(|error| Error::io("cannot make", &path, error))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for (_, task) in lock(&self.ahead).drain() {
            task.abort();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
