//! A base backup from beginning to end.

use super::archive_wait::{self, NeededWal};
use super::commit::{self, PartList};
use super::copy::{FileNames, PageCheck};
use super::fill::{self, Filled, Group, Job};
use super::naming;
use super::part::{FinishedPart, PartContext, PartTask};
use super::plan;
use super::pool::BufferPool;
use super::request::{BackupRequest, BackupResult, BadPage, BadPagePolicy, PrimaryWal, StoredPart};
use super::session::{ServerFacts, Session, Started, Stopped, label_value};
use super::walk::{self, Root, Stat};
use crate::control::{self, ControlData};
use crate::error::{Error, ErrorKind, Result};
use crate::progress::{BackupStart, Phase, Progress};
use barman_cloud::backup_info::Tablespace;
use barman_cloud::exclude::Scope;
use barman_cloud::manifest::ManifestFile;
use barman_cloud::store::Created;
use barman_cloud::{Archive, BackupId, BackupInfo, Segment};
use chrono::Utc;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Longest that cleaning up after a failure may take.
const UNDO_LIMIT: Duration = Duration::from_secs(120);

/// Takes a base backup. Returns only when it is restorable: parts, WAL from begin to end, manifest and
/// `backup.info` were confirmed in the store. On failure or cancellation nothing of it stays but a `backup.info`
/// with FAILED (when the store can be reached).
///
/// Needs a multi-threaded runtime; file reading and compression run on its blocking threads.
pub async fn run(
    request: BackupRequest,
    primary: Arc<dyn PrimaryWal>,
    progress: Arc<Progress>,
    cancel: CancellationToken,
) -> Result<BackupResult> {
    check(&request)?;
    progress.enter(Phase::Preparing);
    // A future that is dropped must stop the threads too.
    let cancel = cancel.child_token();
    let _guard = cancel.clone().drop_guard();
    let mut run =
        Run { request, primary, progress, cancel, claimed: None, uploads: TaskTracker::new(), pool: None };
    let outcome = run.all().await;
    if let Err(error) = &outcome {
        run.undo(error).await;
    }
    outcome
}

fn check(request: &BackupRequest) -> Result<()> {
    let invalid = |text: String| Err(Error::new(ErrorKind::Invalid, text));
    if !request.compression.allowed_for_base() {
        return invalid(format!("base backups cannot be compressed with {}", request.compression));
    }
    request.compression.check_level(request.compression_level)?;
    if request.jobs == 0 {
        return invalid("a backup needs at least one job".to_owned());
    }
    request.name.as_deref().map_or(Ok(()), naming::check_name)
}

struct Run {
    request: BackupRequest,
    primary: Arc<dyn PrimaryWal>,
    progress: Arc<Progress>,
    cancel: CancellationToken,
    /// The id in the store, from when there may be objects under it.
    claimed: Option<(BackupId, BackupInfo)>,
    uploads: TaskTracker,
    pool: Option<BufferPool>,
}

/// What copying left.
struct Copied {
    parts: Vec<FinishedPart>,
    records: Vec<ManifestFile>,
    bad_pages: Vec<BadPage>,
    bytes: u64,
    stopped: Stopped,
}

impl Run {
    async fn all(&mut self) -> Result<BackupResult> {
        let cancel = self.cancel.clone();
        let session = or_cancelled(&cancel, Session::connect(&self.request.server)).await?;
        // A lost session ends backup mode: going on would copy what cannot be made consistent.
        let lost = session.lost().clone();
        let facts = or_cancelled(&cancel, session.facts()).await?;
        let control = self.match_directory(&facts)?;
        let repository = self.request.repository.clone();
        let system_id = facts.system_id.to_string();
        let claim = async { repository.claim(&system_id, None, Utc::now()).await.map_err(Error::foreign) };
        or_cancelled(&cancel, claim).await?;
        let catalog = or_cancelled(&cancel, async { Ok(repository.catalog().await?) }).await?;
        let id = naming::next_id(Utc::now(), &catalog);
        drop(catalog);

        self.progress.enter(Phase::Checkpoint { backup_id: id.clone() });
        let label = format!("Howdah backup {id}");
        let start = session.start(&label, self.request.immediate_checkpoint);
        let started = or_cancelled(&cancel, or_lost(&lost, start)).await?;
        let id = or_cancelled(&cancel, self.claim_id(id, &facts, &control, &started)).await?;
        self.progress.enter(Phase::Copying(BackupStart {
            backup_id: id.clone(),
            started_at: started.time,
            begin_lsn: started.lsn,
            begin_wal: Segment::containing(started.timeline, started.lsn, control.wal_segment_size),
            timeline: started.timeline,
            system_id: facts.system_id,
            server_version: facts.version,
        }));

        let copied =
            or_cancelled(&cancel, or_lost(&lost, self.copy(&session, &facts, &control, &started, &id)))
                .await?;
        session.close().await;
        self.check_pages(&copied)?;
        self.commit(&facts, &control, &started, &id, copied).await
    }

    /// The data directory must be that of the server, or the backup would be of something else.
    fn match_directory(&self, facts: &ServerFacts) -> Result<ControlData> {
        let control = ControlData::read(&self.request.pgdata)?;
        let major = control::major_version(&self.request.pgdata)?;
        if control.system_id != facts.system_id || major != facts.version / 10_000 {
            return Err(Error::new(
                ErrorKind::Precondition,
                format!(
                    "{} holds system {} of PostgreSQL {major}, but the server is system {} of PostgreSQL {}",
                    self.request.pgdata.display(),
                    control.system_id,
                    facts.system_id,
                    facts.version / 10_000
                ),
            )
            .with_remedy("give the data directory of the server that the socket belongs to"));
        }
        Ok(control)
    }

    /// Writes `backup.info` as STARTED under a free id. The write does not replace anything, so two instances that
    /// start in the same second get two ids.
    async fn claim_id(
        &mut self,
        mut id: BackupId,
        facts: &ServerFacts,
        control: &ControlData,
        started: &Started,
    ) -> Result<BackupId> {
        let info = self.started_info(facts, control, started);
        let repository = &self.request.repository;
        loop {
            let key = repository.layout().backup_info(&id);
            // From here on something may be in the store, even when the answer gets lost.
            self.claimed = Some((id.clone(), info.clone()));
            match repository.store().create(&key, info.render().into()).await {
                Ok(Created::Yes) => return Ok(id),
                Ok(Created::Exists) => {
                    self.claimed = None;
                    let catalog = repository.catalog().await?;
                    id = naming::next_id(Utc::now(), &catalog);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn started_info(&self, facts: &ServerFacts, control: &ControlData, started: &Started) -> BackupInfo {
        let path = |path: &PathBuf| Some(path.display().to_string());
        let mut info = BackupInfo::started(
            started.timeline,
            started.lsn,
            control.wal_segment_size,
            started.time.fixed_offset(),
        );
        info.version = Some(facts.version);
        info.pgdata = path(&facts.data_directory);
        info.systemid = Some(facts.system_id.to_string());
        info.data_checksums = Some(if control.data_checksums { "on" } else { "off" }.to_owned());
        info.summarize_wal.clone_from(&facts.summarize_wal);
        info.config_file = path(&facts.config_file);
        info.hba_file = path(&facts.hba_file);
        info.ident_file = path(&facts.ident_file);
        info.included_files = facts.included_files.iter().map(|file| file.display().to_string()).collect();
        info.tablespaces = facts
            .tablespaces
            .iter()
            .map(|space| Tablespace {
                name: space.name.clone(),
                oid: space.oid,
                location: space.location.display().to_string(),
            })
            .collect();
        info
    }

    async fn copy(
        &mut self,
        session: &Session,
        facts: &ServerFacts,
        control: &ControlData,
        started: &Started,
        id: &BackupId,
    ) -> Result<Copied> {
        let job = Arc::new(self.job(facts, control, started, id).await?);
        let workers: Vec<_> = (0..self.request.jobs)
            .map(|_| {
                let job = Arc::clone(&job);
                let (cancel, pool) = (job.cancel.clone(), job.context.pool.clone());
                tokio::task::spawn_blocking(move || {
                    let filled = job.work();
                    if filled.is_err() {
                        // The others need not go on, and must not wait for buffers.
                        cancel.cancel();
                        pool.close();
                    }
                    filled
                })
            })
            .collect();
        let mut all = Vec::with_capacity(workers.len());
        for worker in workers {
            all.push(worker.await.map_err(|error| stopped_worker("a worker of the backup stopped", error))?);
        }
        let (filled, tasks) = self.gather(&job, all).await?;
        self.progress.enter(Phase::Stopping);
        self.finish(session, facts, &job, filled, tasks).await
    }

    async fn job(
        &mut self,
        facts: &ServerFacts,
        control: &ControlData,
        started: &Started,
        id: &BackupId,
    ) -> Result<Job> {
        let (pgdata, spaces) = (self.request.pgdata.clone(), facts.tablespaces.clone());
        let (jobs, major) = (self.request.jobs, facts.version / 10_000);
        let groups = tokio::task::spawn_blocking(move || groups(&pgdata, &spaces, major, jobs))
            .await
            .map_err(|error| stopped_worker("listing the data directory stopped", error))??;
        let total: u64 = groups.iter().map(|group| group.tree().bytes).sum();
        self.progress.set_total(total);
        let sizes = plan::sizes(&self.request.part_size, total, jobs)?;
        let buffer = usize::try_from(sizes.buffer_bytes).unwrap_or(usize::MAX);
        let pool = BufferPool::new(sizes.buffers, buffer);
        self.pool = Some(pool.clone());
        let check = control.data_checksums.then_some(PageCheck {
            page: control.block_size as usize,
            segment_pages: control.relation_segment_blocks,
            start: started.lsn,
        });
        Ok(Job {
            context: PartContext {
                store: self.request.repository.store().clone(),
                pool,
                compression: self.request.compression,
                level: self.request.compression_level,
                progress: Arc::clone(&self.progress),
                runtime: tokio::runtime::Handle::current(),
                uploads: self.uploads.clone(),
            },
            layout: self.request.repository.layout().clone(),
            id: id.clone(),
            groups,
            check,
            checksum: self.request.manifest_checksum,
            tar_bytes: sizes.tar_bytes,
            // Its own, so that a worker's failure stops the others without hiding the failure.
            cancel: self.cancel.child_token(),
        })
    }

    /// Puts the workers' results together. When one failed, the upload that made it fail says why.
    async fn gather(&self, job: &Arc<Job>, all: Vec<Result<Filled>>) -> Result<(Filled, Vec<PartTask>)> {
        let mut sum = Filled::default();
        let mut tasks = Vec::new();
        let mut failure: Option<Error> = None;
        for filled in all {
            match filled {
                Ok(mut filled) => {
                    tasks.append(&mut filled.tasks);
                    sum.records.append(&mut filled.records);
                    sum.bad_pages.append(&mut filled.bad_pages);
                    sum.bytes += filled.bytes;
                    match filled.open {
                        Some(part) if job.is_last_data(&part) => sum.open = Some(part),
                        Some(part) if failure.is_none() => {
                            let job = Arc::clone(job);
                            let finished = tokio::task::spawn_blocking(move || {
                                let _job = job;
                                fill::finish(part)
                            })
                            .await
                            .map_err(|error| stopped_worker("closing a part stopped", error))?;
                            tasks.push(finished?);
                        }
                        _ => {}
                    }
                }
                Err(error) => {
                    // Cancelled workers follow the one that failed first.
                    if failure.as_ref().is_none_or(|known| known.kind() == ErrorKind::Cancelled) {
                        failure = Some(error);
                    }
                }
            }
        }
        match failure {
            None => Ok((sum, tasks)),
            Some(error) if error.kind() == ErrorKind::Cancelled => {
                drop(sum);
                Err(first_failure(tasks).await.unwrap_or(error))
            }
            Some(error) => Err(error),
        }
    }

    /// The control file and what must follow it: it is read after everything else and before the stop, because a
    /// standby's backup ends where the control file says.
    async fn finish(
        &mut self,
        session: &Session,
        facts: &ServerFacts,
        job: &Arc<Job>,
        mut filled: Filled,
        mut tasks: Vec<PartTask>,
    ) -> Result<Copied> {
        let (open, blocking_job) = (filled.open.take(), Arc::clone(job));
        let (pgdata, outside) = (self.request.pgdata.clone(), outside_files(&self.request.pgdata, facts));
        let (mut part, mut records) = tokio::task::spawn_blocking(move || {
            let mut copier = blocking_job.copier();
            let mut part = match open {
                Some(part) => part,
                None => blocking_job.open_next_data()?,
            };
            let name = Path::new("global/pg_control");
            let source = pgdata.join(name);
            let names = FileNames { entry: name, manifest: name, source: &source };
            if !copier.file(&mut part, names)? {
                return Err(Error::new(ErrorKind::Io, format!("{} has vanished", source.display())));
            }
            for source in outside {
                let Some(file) = source.file_name() else { continue };
                let entry = Path::new(".").join(file);
                copier.file(
                    &mut part,
                    FileNames { entry: &entry, manifest: Path::new(file), source: &source },
                )?;
            }
            Ok::<_, Error>((part, std::mem::take(&mut copier.records)))
        })
        .await
        .map_err(|error| stopped_worker("the last part stopped", error))??;

        let stopped = session.stop().await?;
        let owner = job.data().tree().dirs.first().map(|root| root.stat);
        let owner = Stat {
            mtime: stopped.time.timestamp(),
            ..owner.unwrap_or(Stat { mode: 0o600, uid: 0, gid: 0, mtime: 0 })
        };
        let (blocking_job, label) = (Arc::clone(job), stopped.label.clone());
        let (task, mut label_records) = tokio::task::spawn_blocking(move || {
            let mut copier = blocking_job.copier();
            copier.content(&mut part, "backup_label", label.as_bytes(), &owner)?;
            Ok::<_, Error>((fill::finish(part)?, std::mem::take(&mut copier.records)))
        })
        .await
        .map_err(|error| stopped_worker("the last part stopped", error))??;
        tasks.push(task);
        filled.records.append(&mut records);
        filled.records.append(&mut label_records);

        let mut parts = Vec::with_capacity(tasks.len());
        for task in tasks {
            parts.push(task.await.map_err(|error| stopped_worker("an upload stopped", error))??);
        }
        parts.sort_by_key(|part| part.name);
        Ok(Copied {
            parts,
            records: filled.records,
            bad_pages: filled.bad_pages,
            bytes: filled.bytes,
            stopped,
        })
    }

    fn check_pages(&self, copied: &Copied) -> Result<()> {
        let Some(first) = copied.bad_pages.first() else { return Ok(()) };
        tracing::warn!(count = copied.bad_pages.len(), first = %first, "the backup holds pages with wrong checksums");
        match self.request.bad_pages {
            BadPagePolicy::Warn => Ok(()),
            BadPagePolicy::Fail => {
                let shown: Vec<String> = copied.bad_pages.iter().take(10).map(ToString::to_string).collect();
                Err(Error::new(
                    ErrorKind::BadPages,
                    format!("{} pages have a wrong checksum: {}", copied.bad_pages.len(), shown.join(", ")),
                ))
            }
        }
    }

    async fn commit(
        &mut self,
        facts: &ServerFacts,
        control: &ControlData,
        started: &Started,
        id: &BackupId,
        copied: Copied,
    ) -> Result<BackupResult> {
        let repository = self.request.repository.clone();
        let stopped = &copied.stopped;
        check_label(started, stopped)?;
        let mut info = self.started_info(facts, control, started);
        info.backup_label = Some(stopped.label.clone());
        info.backup_name.clone_from(&self.request.name);
        info.cluster_size = Some(copied.bytes);
        info.finish(started.timeline, stopped.lsn, control.wal_segment_size, stopped.time.fixed_offset());
        let (begin_wal, end_wal) = info.needed_wal()?;

        self.progress.enter(Phase::WaitingForWal { end_wal, end_lsn: stopped.lsn });
        let needed = NeededWal {
            begin: begin_wal,
            end: end_wal,
            end_lsn: stopped.lsn,
            size: control.wal_segment_size,
            closed: !facts.in_recovery,
        };
        let limit = self.request.wal_timeout;
        archive_wait::wait(&repository, needed, self.primary.as_ref(), limit, &self.cancel).await?;
        super::history::ensure(&repository, &self.request.pgdata, started.timeline).await?;

        self.progress.enter(Phase::Committing);
        let manifest = super::manifest::render(facts, started, stopped, &copied.records)?;
        let key = repository.layout().manifest(id);
        let list = PartList::new(&copied.parts);
        let store = async {
            repository.store().put(&key, manifest).await?;
            list.store(&repository, id).await?;
            // A last look: the store may have lost something since it was confirmed.
            list.compare(id, &repository, &commit::stored_parts(&repository, id).await?)
        };
        or_cancelled(&self.cancel, store).await?;
        repository.put_backup_info(id, &info).await?;
        if !repository.backup_info(id).await?.is_done() {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!(
                    "{}: the store does not give back what was written",
                    repository.layout().backup_info(id)
                ),
            ));
        }
        self.progress.enter(Phase::Done);
        Ok(BackupResult {
            backup_id: id.clone(),
            name: self.request.name.clone(),
            system_id: facts.system_id,
            server_version: facts.version,
            timeline: started.timeline,
            begin_wal,
            end_wal,
            begin_lsn: started.lsn,
            end_lsn: stopped.lsn,
            started_at: started.time,
            stopped_at: stopped.time,
            database_bytes: copied.bytes,
            stored_bytes: copied.parts.iter().map(|part| part.size).sum(),
            parts: copied
                .parts
                .iter()
                .map(|part| StoredPart { name: part.name.to_string(), size: part.size })
                .collect(),
            compression: self.request.compression,
            tablespaces: facts.tablespaces.clone(),
            data_checksums: control.data_checksums,
            bad_pages: copied.bad_pages,
        })
    }

    /// Stops everything, waits until the uploads under way were given up, and removes what is in the store.
    async fn undo(&mut self, error: &Error) {
        self.cancel.cancel();
        if let Some(pool) = &self.pool {
            pool.close();
        }
        self.uploads.close();
        let repository = self.request.repository.clone();
        let claimed = self.claimed.take();
        let undo = async {
            self.uploads.wait().await;
            if let Some((id, info)) = claimed {
                commit::undo(&repository, &id, Some(info), error).await;
            }
        };
        if tokio::time::timeout(UNDO_LIMIT, undo).await.is_err() {
            tracing::warn!("cleaning up after the failed backup took too long; the orphan sweep will do it");
        }
    }
}

/// Lists all trees: tablespaces first, the data directory last.
fn groups(
    pgdata: &Path,
    spaces: &[super::request::TablespaceInfo],
    major: u32,
    jobs: usize,
) -> Result<Vec<Group>> {
    let mut groups = Vec::with_capacity(spaces.len() + 1);
    let mut apart = Vec::with_capacity(spaces.len());
    for space in spaces {
        // As PostgreSQL itself finds it; a standby or a pod may see the location elsewhere.
        let link = pgdata.join(format!("pg_tblspc/{}", space.oid));
        let real =
            link.canonicalize().map_err(|error| Error::io("cannot find the tablespace", &link, error))?;
        let tree = walk::walk(Root { path: &real, scope: Scope::Tablespace { major }, apart: &[] })?;
        groups.push(Group::new(Archive::Tablespace(space.oid), tree, jobs));
        apart.push(real);
    }
    let tree = walk::walk(Root { path: pgdata, scope: Scope::Data, apart: &apart })?;
    groups.push(Group::new(Archive::Data, tree, jobs));
    Ok(groups)
}

/// Configuration files that live outside of the data directory travel at its top, under their own names.
fn outside_files(pgdata: &Path, facts: &ServerFacts) -> Vec<PathBuf> {
    let inside = |path: &Path| path.starts_with(&facts.data_directory) || path.starts_with(pgdata);
    [&facts.config_file, &facts.hba_file, &facts.ident_file]
        .into_iter()
        .filter(|path| !inside(path) && path.is_file())
        .filter(|path| path.file_name().is_some_and(|name| !pgdata.join(name).exists()))
        .cloned()
        .collect()
}

fn check_label(started: &Started, stopped: &Stopped) -> Result<()> {
    let timeline = label_value(&stopped.label, "START TIMELINE");
    if timeline.is_some_and(|timeline| timeline.parse() != Ok(started.timeline)) || stopped.lsn < started.lsn
    {
        return Err(Error::new(
            ErrorKind::Postgres,
            format!(
                "the backup started on timeline {} at {} and ended on timeline {} at {}",
                started.timeline,
                started.lsn,
                timeline.unwrap_or("unknown"),
                stopped.lsn
            ),
        )
        .with_remedy("the server was promoted meanwhile: take the backup again"));
    }
    Ok(())
}

async fn first_failure(tasks: Vec<PartTask>) -> Option<Error> {
    for task in tasks {
        if let Ok(Err(error)) = task.await {
            if error.kind() != ErrorKind::Cancelled {
                return Some(error);
            }
        }
    }
    None
}

fn stopped_worker(what: &str, error: tokio::task::JoinError) -> Error {
    Error::new(ErrorKind::Cancelled, what).with_source(error)
}

async fn or_cancelled<T>(cancel: &CancellationToken, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        biased;
        outcome = work => outcome,
        () = cancel.cancelled() => Err(Error::cancelled()),
    }
}

async fn or_lost<T>(lost: &CancellationToken, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        biased;
        outcome = work => outcome,
        () = lost.cancelled() => Err(Error::new(ErrorKind::Postgres, "the connection to PostgreSQL was lost during the backup")
            .with_remedy("see why PostgreSQL stopped or closed the connection, and take the backup again")),
    }
}
