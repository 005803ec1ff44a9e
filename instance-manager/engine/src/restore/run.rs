//! A restore from beginning to end.

use super::check::Checker;
use super::extract::{self, Extracted, Link, Target};
use super::marker::{self, Marker, State};
use super::place;
use super::plan::{self, Detailed};
use super::request::{RestoreRequest, RestoreResult};
use super::space::{self, Need};
use crate::error::{Error, ErrorKind, Result};
use crate::progress::{Phase, Progress};
use barman_cloud::catalog::PartObject;
use barman_cloud::codec::Decoder;
use barman_cloud::manifest::Manifest;
use barman_cloud::store::blocking::BlockingReader;
use barman_cloud::{Archive, Repository};
use bytes::Bytes;
use std::collections::VecDeque;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Tries of one part while failures may pass; each request is retried by the store besides.
const TRIES: u32 = 3;
/// Longest wait for threads that were told to stop; they look at every buffer.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Largest manifest: some ten million files.
const MAX_MANIFEST: u64 = 4 << 30;

/// Restores into `request.pgdata`. May be run again after a crash: what an interrupted run left is cleaned, a
/// finished one is recognised until PostgreSQL has been started on it.
///
/// Needs a multi-threaded runtime; extraction runs on its blocking threads.
pub async fn run(
    request: RestoreRequest,
    progress: Arc<Progress>,
    cancel: CancellationToken,
) -> Result<RestoreResult> {
    if request.jobs == 0 {
        return Err(Error::new(ErrorKind::Invalid, "a restore needs at least one job"));
    }
    let cancel = cancel.child_token();
    let _guard = cancel.clone().drop_guard();
    progress.enter(Phase::Checking);
    let threads = TaskTracker::new();
    let work = async {
        let detailed = plan::detailed(&request).await?;
        restore(&request, detailed, &progress, &cancel, &threads).await
    };
    tokio::select! {
        biased;
        outcome = work => outcome,
        () = cancel.cancelled() => {
            // Whoever begins again must not meet threads that still write.
            threads.close();
            if tokio::time::timeout(STOP_LIMIT, threads.wait()).await.is_err() {
                tracing::warn!("extraction has not stopped yet");
            }
            Err(Error::cancelled())
        }
    }
}

async fn restore(
    request: &RestoreRequest,
    detailed: Detailed,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
    threads: &TaskTracker,
) -> Result<RestoreResult> {
    let id = detailed.plan.backup_id.clone();
    let source = request.repository.url();
    let targets = place::targets(request, &detailed.info)?;
    let mut directories: Vec<PathBuf> = targets.iter().map(|target| target.1.root.clone()).collect();
    directories.extend(request.wal_dir.clone());

    let old = Marker::read(&request.pgdata)?;
    let finished = old.as_ref().is_some_and(|old| old.state == State::Complete && old.is_of(&source, &id));
    // PostgreSQL takes the label away when it starts on the directory.
    if finished && request.pgdata.join("backup_label").exists() {
        progress.enter(Phase::Done);
        let verified = detailed.plan.has_manifest;
        return Ok(RestoreResult { plan: detailed.plan, files: 0, bytes: 0, verified, already_done: true });
    }
    let manifest = manifest(&request.repository, &detailed).await?;
    let checker = match &manifest {
        Some(bytes) => Checker::new(Some(parse(&request.repository, &detailed, bytes)?)),
        None => Checker::new(None),
    };
    let needs = checker.needs(&targets).or_else(|| {
        // Barman's own record of the size, all on one volume for want of better knowledge.
        let bytes = detailed.info.cluster_size?;
        Some(vec![Need { dir: request.pgdata.clone(), bytes }])
    });

    // Only what an interrupted restore was filling may be emptied.
    let ours = old.filter(|old| old.state == State::Running).map(|old| old.directories).unwrap_or_default();
    let dirs = directories.clone();
    blocking(move || marker::prepare(&dirs, &ours)).await?;
    if let Some(needs) = &needs {
        space::check(needs)?;
    }
    let mut note =
        Marker { state: State::Running, source, backup_id: id.to_string(), directories: directories.clone() };
    note.write(&request.pgdata)?;

    progress.set_total(detailed.plan.stored_bytes);
    progress.enter(Phase::Fetching { backup_id: id.clone() });
    let job = Arc::new(Fetch {
        repository: request.repository.clone(),
        queue: Mutex::new(queue(&detailed, &targets)),
        checker,
        progress: Arc::clone(progress),
        // Its own, so that a worker's failure stops the others without hiding the failure.
        cancel: cancel.child_token(),
        threads: threads.clone(),
    });
    let needed = needs.map(|needs| needs.iter().map(|need| need.bytes).sum());
    let extracted = fetch_all(&job, request.jobs)
        .await
        .map_err(|error| space::explain(error, &request.pgdata, needed))?;
    job.checker.finish()?;
    if !extracted.has_label {
        return Err(Error::new(
            ErrorKind::Missing,
            format!("backup {id} has no backup_label: the last part of its data archive is missing"),
        ));
    }

    progress.enter(Phase::Syncing);
    let verified = job.checker.is_verifying();
    let finish = place::Finish {
        pgdata: request.pgdata.clone(),
        wal_dir: request.wal_dir.clone(),
        tablespaces: place::tablespace_links(&targets),
        links: extracted.links,
        manifest,
        directories,
    };
    blocking(move || finish.run()).await.map_err(|error| space::explain(error, &request.pgdata, needed))?;
    note.state = State::Complete;
    note.write(&request.pgdata)?;
    progress.enter(Phase::Done);
    Ok(RestoreResult {
        plan: detailed.plan,
        files: extracted.files,
        bytes: extracted.bytes,
        verified,
        already_done: false,
    })
}

async fn manifest(repository: &Repository, detailed: &Detailed) -> Result<Option<Bytes>> {
    if !detailed.plan.has_manifest {
        return Ok(None);
    }
    let key = repository.layout().manifest(&detailed.plan.backup_id);
    Ok(Some(repository.store().get(&key, MAX_MANIFEST).await?))
}

fn parse(repository: &Repository, detailed: &Detailed, bytes: &[u8]) -> Result<Manifest> {
    let key = repository.layout().manifest(&detailed.plan.backup_id);
    Manifest::parse(bytes).map_err(|error| error.with_key(repository.store().url_of(&key)).into())
}

/// One part to be fetched.
struct Item {
    part: PartObject,
    target: Target,
}

/// Largest parts first, so that none is left alone at the end.
fn queue(detailed: &Detailed, targets: &[(Archive, Target)]) -> VecDeque<Item> {
    let mut items: Vec<Item> = Vec::new();
    for (archive, target) in targets {
        for part in detailed.parts.get(archive).into_iter().flatten() {
            items.push(Item { part: part.clone(), target: target.clone() });
        }
    }
    items.sort_by_key(|item| std::cmp::Reverse(item.part.object.size));
    items.into()
}

struct Fetch {
    repository: Repository,
    queue: Mutex<VecDeque<Item>>,
    checker: Checker,
    progress: Arc<Progress>,
    cancel: CancellationToken,
    threads: TaskTracker,
}

async fn fetch_all(job: &Arc<Fetch>, jobs: usize) -> Result<Extracted> {
    let workers: Vec<_> = (0..jobs)
        .map(|_| {
            let job = Arc::clone(job);
            tokio::spawn(async move {
                let outcome = job.work().await;
                if outcome.is_err() {
                    // The others need not go on.
                    job.cancel.cancel();
                }
                outcome
            })
        })
        .collect();
    let mut sum = Extracted::default();
    let mut failure: Option<Error> = None;
    for worker in workers {
        match worker.await.map_err(|error| Error::cancelled().with_source(error))? {
            Ok(extracted) => add(&mut sum, extracted),
            Err(error) if failure.as_ref().is_none_or(|known| known.kind() == ErrorKind::Cancelled) => {
                failure = Some(error);
            }
            Err(_) => {}
        }
    }
    failure.map_or(Ok(sum), Err)
}

fn add(sum: &mut Extracted, more: Extracted) {
    sum.files += more.files;
    sum.bytes += more.bytes;
    sum.links.extend(more.links);
    sum.has_label |= more.has_label;
}

impl Fetch {
    async fn work(self: &Arc<Self>) -> Result<Extracted> {
        let mut sum = Extracted::default();
        loop {
            let item = self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(item) = item else { return Ok(sum) };
            tokio::select! {
                biased;
                part = self.part(Arc::new(item)) => add(&mut sum, part?),
                () = self.cancel.cancelled() => return Err(Error::cancelled()),
            }
        }
    }

    async fn part(self: &Arc<Self>, item: Arc<Item>) -> Result<Extracted> {
        let url = self.repository.store().url_of(&item.part.object.key);
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_part(&item).await {
                Err(error)
                    if error.is_transient() && error.kind() != ErrorKind::Cancelled && tries < TRIES =>
                {
                    tracing::warn!(part = url, error = %error.report(), "fetching the part again");
                }
                other => return other.map_err(|error| about(error, &url)),
            }
        }
    }

    async fn try_part(self: &Arc<Self>, item: &Arc<Item>) -> Result<Extracted> {
        let (info, stream) = self.repository.store().open(&item.part.object.key, None).await?;
        if info.size != item.part.object.size {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!("it changed from {} to {} bytes meanwhile", item.part.object.size, info.size),
            ));
        }
        let reader = Counting { inner: BlockingReader::new(stream), progress: Arc::clone(&self.progress) };
        let (job, item) = (Arc::clone(self), Arc::clone(item));
        let thread = self.threads.spawn_blocking(move || {
            let decoder = Decoder::new(item.part.name.compression, reader).map_err(|error| {
                barman_cloud::Error::from_io(
                    error,
                    barman_cloud::ErrorKind::Corrupt,
                    "it cannot be decompressed",
                )
            })?;
            extract::extract(decoder, &item.target, &job.checker, &job.progress, &job.cancel)
        });
        thread.await.map_err(|error| Error::cancelled().with_source(error))?
    }
}

/// Names the object in errors that are about what was in it.
fn about(error: Error, url: &str) -> Error {
    match error.kind() {
        ErrorKind::Corrupt if !error.to_string().contains(url) => {
            Error::new(ErrorKind::Corrupt, format!("{url}: {error}")).with_source(error)
        }
        _ => error,
    }
}

struct Counting<R> {
    inner: R,
    progress: Arc<Progress>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.progress.add_done(count as u64);
        Ok(count)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::cancelled().with_source(error))?
}

/// Links of all parts, for the last step.
pub(super) type Links = Vec<Link>;
