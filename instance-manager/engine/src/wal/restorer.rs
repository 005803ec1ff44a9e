//! `restore_command`: fetches what PostgreSQL asks for and runs ahead of it.
//!
//! PostgreSQL takes "not there" as the end of the archive and ends recovery, so it is said only when the store says
//! so. What may pass is retried here; what will not is an error, which must stop recovery.
//!
//! One listing tells which segments follow, so a segment costs one request. A requested segment that is not on its
//! way already waits for no turn among those fetched ahead, and none of these begins while it travels.

use super::prefetch::{Ahead, Prefetch, Stage};
use super::spool::{self, Spool};
use crate::control::ControlData;
use crate::error::{Error, Result};
use crate::owner::Owner;
use barman_cloud::archive::{FetchOptions, FetchedWal, Lookout};
use barman_cloud::{Repository, Segment, SegmentSize, WalName};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit, watch};

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
    lookout: Lookout,
    /// Segments that are or will be in the spool.
    ahead: Mutex<Ahead>,
    /// Turns of fetches ahead.
    turns: Semaphore,
    /// Requests that are answered from the store now.
    direct: watch::Sender<usize>,
}

/// Holds up fetches ahead.
struct Direct<'a>(&'a watch::Sender<usize>);

impl<'a> Direct<'a> {
    fn begin(requests: &'a watch::Sender<usize>) -> Self {
        requests.send_modify(|count| *count += 1);
        Self(requests)
    }
}

impl Drop for Direct<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
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
        let parallel = config.max_parallel.saturating_sub(1);
        Self(Arc::new(Inner {
            config,
            spool,
            server: OnceCell::new(),
            lookout: Lookout::default(),
            ahead: Mutex::new(Ahead::new(parallel)),
            turns: Semaphore::new(parallel),
            direct: watch::Sender::new(0),
        }))
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
        let fetches = lock(&self.0.ahead).drain();
        for fetch in fetches {
            fetch.stop().await;
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
        let known = lock(&self.ahead).take(segment);
        if let Some(fetch) = known {
            // Room for the next one while this one is on its way.
            self.run_ahead(segment, server);
            if fetch.finish().await.is_ok() {
                let (from, dest) = (self.spool.path(segment), dest.to_owned());
                let deliver = move || spool::deliver(&from, &dest, server.owner);
                let delivered = tokio::task::spawn_blocking(deliver).await;
                delivered.map_err(|error| Error::cancelled().with_source(error))??;
                return Ok(WalFetch::Restored);
            }
            // Not there, or failed: ask for it properly, so that the answer is right.
        }
        // Replay went somewhere else: what is fetched for the old place ends now.
        self.keep(&self.wanted(segment, server));
        let fetched = self.fetch(WalName::Segment(segment), dest, server).await?;
        if fetched == WalFetch::Restored {
            lock(&self.ahead).forget_failures();
            self.run_ahead(segment, server);
        }
        Ok(fetched)
    }

    /// Fetches one file, again and again while the failure may pass.
    async fn fetch(&self, name: WalName, dest: &Path, server: Server) -> Result<WalFetch> {
        let _direct = Direct::begin(&self.direct);
        let near = spool::beside(dest);
        let mut pause = FIRST_PAUSE;
        loop {
            match self.fetch_once(name, &near, server).await {
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

    async fn fetch_once(
        &self,
        name: WalName,
        near: &Path,
        server: Server,
    ) -> barman_cloud::Result<FetchedWal> {
        let repository = &self.config.repository;
        let options = server.options(self.config.allow_partial);
        let WalName::Segment(segment) = name else { return repository.fetch_wal(name, near, &options).await };
        let window = self.lookout.fresh(repository, segment).await?;
        let found = window.of(segment).unwrap_or_default();
        repository.fetch_wal_found(name, found, near, &options).await
    }

    /// The segments after this one that may be ahead.
    fn wanted(&self, segment: Segment, server: Server) -> Vec<Segment> {
        if self.config.max_parallel <= 1 {
            return Vec::new();
        }
        let size = server.segment_size;
        let depth = lock(&self.ahead).depth(size.bytes(), self.spool.free());
        std::iter::successors(Some(segment.next(size)), |segment| Some(segment.next(size)))
            .take(depth)
            .collect()
    }

    /// Forgets all others.
    fn keep(&self, wanted: &[Segment]) {
        for segment in lock(&self.ahead).retain(wanted) {
            self.spool.discard(segment);
        }
    }

    /// Begins to fetch the segments after this one, and forgets all others.
    fn run_ahead(self: &Arc<Self>, segment: Segment, server: Server) {
        let wanted = self.wanted(segment, server);
        self.keep(&wanted);
        let mut ahead = lock(&self.ahead);
        for segment in wanted {
            if ahead.contains(segment) {
                continue;
            }
            let (inner, stage) = (Arc::clone(self), Stage::default());
            let told = stage.clone();
            let task = tokio::spawn(async move {
                let fetched = inner.prefetch(segment, server, &told).await;
                if fetched.is_err() {
                    told.fail();
                }
                fetched
            });
            ahead.insert(segment, Prefetch::new(stage, task));
        }
    }

    /// The turn of a fetch ahead; it ends when dropped.
    async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // Neither is ever closed.
        let turn = self.turns.acquire().await.ok();
        let _ = self.direct.subscribe().wait_for(|count| *count == 0).await;
        turn
    }

    /// Fetches one segment into the spool. One try: whatever goes wrong is found out again when it is asked for.
    async fn prefetch(&self, segment: Segment, server: Server, stage: &Stage) -> Result<()> {
        let _turn = tokio::select! {
            turn = self.turn() => turn,
            () = stage.hurried() => None,
        };
        let repository = &self.config.repository;
        let window = self.lookout.recent(repository, segment).await?;
        let found = window.of(segment).unwrap_or_default();
        // Whether a partial segment will do is known only when PostgreSQL asks for it.
        let options = server.options(false);
        let file = self.spool.unfinished(segment);
        repository.fetch_wal_found(WalName::Segment(segment), found, file.path(), &options).await?;
        server.owner.own(file.path())?;
        let path = self.spool.path(segment);
        std::fs::rename(file.path(), &path).map_err(|error| Error::io("cannot make", &path, error))
    }
}

impl Server {
    fn options(&self, accept_partial: bool) -> FetchOptions {
        FetchOptions {
            segment_size: Some(self.segment_size),
            system_id: Some(self.system_id),
            accept_partial,
            sync: false,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
