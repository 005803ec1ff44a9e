//! A restore from beginning to end.

use super::check::Checker;
use super::extract::{Link, Target};
use super::inplace;
use super::layers::{Fill, Layers};
use super::leftover::Leftover;
use super::marker::{self, Marker, State};
use super::place::{self, Volumes};
use super::plan::{self, Detailed};
use super::request::{RestoreRequest, RestoreResult};
use super::space::{self, Need};
use crate::error::{Error, ErrorKind, Result};
use crate::progress::{Phase, Progress};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Longest wait for threads that were told to stop; they look at every buffer.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Restores into `request.pgdata`. May be run again after a crash: of what an interrupted run left, files that are
/// right by the manifest stay; a finished one is recognised until PostgreSQL has been started on it.
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
    let info = &detailed.last()?.info;
    let targets = place::targets(request, info)?;
    let mut directories: Vec<PathBuf> = targets.iter().map(|target| target.1.root.clone()).collect();
    directories.extend(request.wal_dir.clone());

    let old = Marker::read(&request.pgdata)?;
    let finished = old.as_ref().is_some_and(|old| old.state == State::Complete && old.is_of(&source, &id));
    // PostgreSQL takes the label away when it starts on the directory. A delta restore looks at every file.
    if finished && !request.delta && request.pgdata.join("backup_label").exists() {
        progress.enter(Phase::Done);
        return Ok(already_done(detailed));
    }
    let layers = Layers::read(&detailed.members).await?;
    let ground = Ground {
        // Only what an interrupted restore was filling may be emptied without being asked.
        ours: old.filter(|old| old.state == State::Running).map(|old| old.directories).unwrap_or_default(),
        checker: Arc::clone(&layers.result),
        targets: targets.iter().map(|target| target.1.clone()).collect(),
        major: detailed.plan.server_version.map(|version| version / 10_000),
        request: request.clone(),
        directories: directories.clone(),
        system_id: detailed.plan.system_id.or(layers.system_id),
    };
    let (ground, used) = ground.prepare(progress, cancel, threads).await?;
    let checker = Arc::clone(&ground.checker);
    let mut needs = checker.needs(&ground.targets).or_else(|| {
        // Barman's own record of the size, all on one volume for want of better knowledge.
        let bytes = info.cluster_size?;
        Some(vec![Need { dir: request.pgdata.clone(), bytes }])
    });
    let needed = needs.as_ref().map(|needs| needs.iter().map(|need| need.bytes).sum());
    if let Some(needs) = &mut needs {
        if !used.is_empty() {
            space::less(needs, &ground.leftover().freed()?);
        }
        space::check(needs)?;
    }
    let mut note =
        Marker { state: State::Running, source, backup_id: id.to_string(), directories: directories.clone() };
    note.write(&request.pgdata)?;
    let volumes = Volumes::open(&directories)?;
    let (kept_files, kept_bytes) = checker.kept();
    if !used.is_empty() {
        tracing::info!(files = kept_files, bytes = kept_bytes, "files on disk that are right stay");
        blocking(threads, move || ground.clear(&used)).await?;
    }

    let fill = Fill { request, layers: &layers, targets: &targets, progress, threads };
    let filled = fill.run(&detailed, cancel).await;
    let (extracted, fetched_bytes) =
        filled.map_err(|error| space::explain(error, &request.pgdata, needed))?;

    progress.enter(Phase::Syncing);
    let manifest = match &layers.built {
        None => layers.manifest.clone(),
        Some(built) => {
            let (built, targets) =
                (Arc::clone(built), targets.iter().map(|target| target.1.clone()).collect());
            let (jobs, cancel) = (request.jobs, cancel.clone());
            let render = move || built.finish(targets, jobs, &cancel).map(Some);
            blocking(threads, render).await?
        }
    };
    let finish = place::Finish {
        pgdata: request.pgdata.clone(),
        wal_dir: request.wal_dir.clone(),
        tablespaces: place::tablespace_links(&targets),
        links: extracted.links,
        manifest,
        directories,
        volumes,
    };
    blocking(threads, move || finish.run())
        .await
        .map_err(|error| space::explain(error, &request.pgdata, needed))?;
    note.state = State::Complete;
    note.write(&request.pgdata)?;
    progress.enter(Phase::Done);
    Ok(RestoreResult {
        plan: detailed.plan,
        files: extracted.files,
        bytes: extracted.bytes,
        kept_files,
        kept_bytes,
        fetched_bytes,
        verified: checker.is_verifying(),
        already_done: false,
    })
}

fn already_done(detailed: Detailed) -> RestoreResult {
    RestoreResult {
        files: 0,
        bytes: 0,
        kept_files: 0,
        kept_bytes: 0,
        fetched_bytes: 0,
        verified: detailed.plan.has_manifest,
        already_done: true,
        plan: detailed.plan,
    }
}

/// The directories that a restore works in.
struct Ground {
    request: RestoreRequest,
    targets: Vec<Target>,
    directories: Vec<PathBuf>,
    /// Directories that an interrupted restore was filling.
    ours: Vec<PathBuf>,
    checker: Arc<Checker>,
    system_id: Option<u64>,
    major: Option<u32>,
}

impl Ground {
    /// Makes the directories, and finds out what of their content is right. Returns those with content that may
    /// be worked on; nothing in them was changed yet.
    async fn prepare(
        self,
        progress: &Arc<Progress>,
        cancel: &CancellationToken,
        threads: &TaskTracker,
    ) -> Result<(Self, Vec<PathBuf>)> {
        let (progress, cancel) = (Arc::clone(progress), cancel.clone());
        blocking(threads, move || {
            let used = self.used()?;
            marker::prepare(&self.directories, &self.ours, &used)?;
            if !used.is_empty() {
                progress.enter(Phase::Comparing);
                self.leftover().compare(self.request.jobs, &progress, &cancel)?;
            }
            Ok((self, used))
        })
        .await
    }

    fn used(&self) -> Result<Vec<PathBuf>> {
        let pgdata = &self.request.pgdata;
        if !self.ours.is_empty() {
            inplace::not_running(pgdata)?;
            // Without a manifest nothing is known of what is there.
            let known = |dir: &&PathBuf| self.checker.is_verifying() && self.directories.contains(dir);
            return Ok(self.ours.iter().filter(known).cloned().collect());
        }
        if !self.request.delta {
            return Ok(Vec::new());
        }
        let owned = inplace::owned(pgdata, &self.targets, self.request.wal_dir.as_deref(), self.system_id)?;
        inplace::not_running(pgdata)?;
        if !owned.is_empty() && !self.checker.is_verifying() {
            return Err(Error::new(
                ErrorKind::Precondition,
                "the backup has no manifest by which a data directory could be compared with it",
            )
            .with_remedy("restore into an empty directory"));
        }
        Ok(owned)
    }

    fn leftover(&self) -> Leftover<'_> {
        Leftover { targets: &self.targets, checker: &self.checker, major: self.major }
    }

    /// Removes what is not right. From here on PostgreSQL does not start on the directory until it is finished.
    fn clear(&self, used: &[PathBuf]) -> Result<()> {
        let leftover = self.leftover();
        leftover.hide_control()?;
        if let Some(wal_dir) = self.request.wal_dir.as_ref().filter(|dir| used.contains(dir)) {
            marker::empty(wal_dir)?;
        }
        leftover.sweep()
    }
}

/// Threads are known to the tracker: whoever begins again must not meet one that still writes.
pub(super) async fn blocking<T: Send + 'static>(
    threads: &TaskTracker,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    threads.spawn_blocking(work).await.map_err(|error| Error::cancelled().with_source(error))?
}

/// Links of all parts, for the last step.
pub(super) type Links = Vec<Link>;
