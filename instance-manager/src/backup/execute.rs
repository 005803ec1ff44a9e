//! One backup from its assignment to its terminal phase.
//!
//! The engine's work and the writing of status are separate: while the Kubernetes API is away the backup goes on,
//! and what became of it is written when the API is back.

use std::sync::Arc;
use std::time::Duration;

use barman_cloud::archive::ArchiveOptions;
use chrono::Utc;
use howdah_api::backup::{Backup, BackupPhase, BackupStatus};
use howdah_api::common::BackupType;
use howdah_api::object_store::BarmanObjectStore;
use howdah_api::repository::NamedStore;
use howdah_engine::backup::{BorrowedWal, Resume};
use howdah_engine::{BackupRequest, BackupResult, BackupStart, BadPages, Phase, Progress, ServerAccess};
use kube::ResourceExt;
use kube::runtime::events::EventType;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::decide::{Me, Verdict, decide, may_write};
use super::fields::{self, Look};
use super::primary::Primary;
use super::writer::{Patience, Written, write};
use crate::error::{Error, Result};
use crate::objstore::{Purpose, repository, tune, wal_compression, wal_compression_level};
use crate::pg::sql::{MAINTENANCE_DB, SUPERUSER};
use crate::run::role::Running;
use crate::run::shared::{RunningBackup, Shared};

/// How often a sign of life is written.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How soon one is tried again that could not be written.
const HEARTBEAT_RETRY: Duration = Duration::from_secs(2);
/// How long one write may hang.
const WRITE_LIMIT: Duration = Duration::from_secs(15);

/// How long PostgreSQL may take to come back with the manager, before the backup that goes on is given up.
const READY_LIMIT: Duration = Duration::from_secs(900);

/// Takes the backup; everything that happens ends up in its status.
pub async fn take(shared: Arc<Shared>, backup: Backup) {
    Job::new(shared, backup).go().await;
}

/// Takes over a backup of a former process of this pod.
pub async fn go_on(shared: Arc<Shared>, backup: Backup) {
    let (name, uid) = (backup.name_any(), backup.uid().unwrap_or_default());
    let me = Me { cluster: &shared.env.cluster, pod: &shared.env.pod, session: &shared.session };
    let adopted = write(&shared.kube, &name, &uid, Patience::Endless, |status, now| {
        let ours = decide(now, me, None) == Verdict::GoOn;
        if ours {
            fields::taken_over(status, &shared.session, Utc::now());
        }
        ours
    })
    .await;
    match adopted {
        Ok(Written::Done(backup)) => Job::new(shared, *backup).go().await,
        Ok(Written::Refused) => {}
        Err(error) => tracing::error!(backup = name, "cannot be taken over: {}", error.report()),
    }
}

struct Job {
    shared: Arc<Shared>,
    backup: Backup,
    name: String,
    uid: String,
    /// The phase in which it was found; never gone behind.
    found: BackupPhase,
}

/// The type in the words of the library; one without a base becomes a full backup, which the status explains.
fn kind(asked: Option<BackupType>) -> barman_cloud::BackupType {
    match asked.unwrap_or_default() {
        BackupType::Full => barman_cloud::BackupType::Full,
        BackupType::Differential => barman_cloud::BackupType::Differential,
        BackupType::Incremental => barman_cloud::BackupType::Incremental,
    }
}

/// How it ended.
enum Outcome {
    Done(Box<BackupResult>),
    Failed(String),
    /// The object is gone or no longer ours: there is nothing to write.
    NotOurs,
}

impl Job {
    fn new(shared: Arc<Shared>, backup: Backup) -> Self {
        let (name, uid) = (backup.name_any(), backup.uid().unwrap_or_default());
        let found = backup.status.as_ref().map(BackupStatus::phase).unwrap_or_default();
        Self { shared, backup, name, uid, found }
    }

    async fn go(self) {
        let outcome = self.run().await;
        self.conclude(outcome).await;
        self.shared.set_backup(None);
    }

    /// The interrupted backup to go on from; `None` when this is a new one.
    fn resume(&self) -> Option<Resume> {
        let status = self.backup.status.as_ref().filter(|_| self.found != BackupPhase::Started)?;
        let id = status.backup_id.as_deref()?.parse().ok()?;
        Some(Resume { id, finishing: self.found == BackupPhase::Finalizing })
    }

    fn me(&self) -> Me<'_> {
        Me { cluster: &self.shared.env.cluster, pod: &self.shared.env.pod, session: &self.shared.session }
    }

    async fn run(&self) -> Outcome {
        let resumed = self.backup.status.as_ref().is_some_and(|status| status.resumes.is_some());
        if resumed {
            self.until_able().await;
        }
        let mut prepared = match self.prepare() {
            Ok(prepared) => prepared,
            Err(error) => return Outcome::Failed(error.report()),
        };
        if self.found != BackupPhase::Started {
            prepared.resume = self.resume();
            if let Some(name) = self.backup.status.as_ref().and_then(|status| status.backup_name.clone()) {
                prepared.name = Some(name);
            }
            let note = format!("{} goes on with the backup after a restart", self.shared.env.pod);
            self.event(EventType::Normal, "Resuming", &note).await;
            return self.drive(prepared).await;
        }
        let named = match self.place() {
            Ok(named) => named,
            Err(error) => return Outcome::Failed(error.report()),
        };
        let backup_name = prepared.name.clone().unwrap_or_default();
        let begun = self
            .write(BackupPhase::Running, Patience::Endless, |status| {
                fields::begun(status, &named, &self.shared.env.cluster, &backup_name, Utc::now());
            })
            .await;
        match begun {
            Ok(Written::Done(_)) => {}
            Ok(Written::Refused) => return Outcome::NotOurs,
            Err(error) => return Outcome::Failed(error.report()),
        }
        self.event(EventType::Normal, "Starting", &format!("{} takes the backup", self.shared.env.pod)).await;
        self.drive(prepared).await
    }

    /// PostgreSQL went down with the former process: waits until it can be backed up again, with signs of life.
    async fn until_able(&self) {
        let mut server = self.shared.server.subscribe();
        let deadline = Instant::now() + READY_LIMIT;
        let mut beat = Instant::now() + HEARTBEAT;
        while self.prepare().is_err() && Instant::now() < deadline {
            // What else it waits for, the archiver above all, has no bell: it is looked at with each sign of life.
            tokio::select! {
                changed = server.changed() => if changed.is_err() { return },
                () = sleep_until(beat) => {
                    beat = Instant::now() + HEARTBEAT_RETRY;
                    let alive = self.write(self.found, Patience::None, |status| {
                        status.heartbeat_at = Some(crate::time::now());
                    });
                    if let Ok(Err(error)) = timeout(WRITE_LIMIT, alive).await {
                        tracing::warn!(backup = self.name, "no sign of life could be written: {}", error.report());
                    }
                }
            }
        }
    }

    /// The repository that receives the backup; one that goes on stays where it began.
    fn place(&self) -> Result<NamedStore> {
        let begun = self.backup.status.as_ref().and_then(|status| status.repository.as_deref());
        let wanted = begun.or(self.backup.spec.repository.as_deref());
        let mut stores = self.shared.stores().into_iter();
        stores.find(|named| wanted.is_none_or(|wanted| wanted == named.name)).ok_or_else(|| {
            let cluster = &self.shared.env.cluster;
            Error::permanent(match wanted {
                Some(wanted) => format!(
                    "Cluster {cluster} has no repository {wanted}: create another Backup that names one of \
                     spec.backup.repositories"
                ),
                None => format!(
                    "Cluster {cluster} has no spec.backup.barmanObjectStore and no spec.backup.repositories: add one, \
                     then create another Backup"
                ),
            })
        })
    }

    /// Everything that can be refused before PostgreSQL is asked.
    fn prepare(&self) -> Result<BackupRequest> {
        let shared = &self.shared;
        let NamedStore { store, archive_wal, .. } = &self.place()?;
        let server = shared.server();
        let able = matches!(server.running, Some(Running::Primary | Running::Standby));
        if !able || !server.up || server.stopping {
            return Err(Error::transient(format!(
                "the instance cannot be backed up now ({}): create another Backup when it is ready",
                server.message
            )));
        }
        if let Some(archiver) = shared.wal.status()
            && server.running == Some(Running::Primary)
            && let Some(why) = archiver.last_error
        {
            return Err(Error::transient(format!(
                "WAL archiving does not work, so the backup could not be restored: {why}"
            )));
        }
        let repository = repository(store, &shared.env.cluster, &shared.secrets(), Purpose::Data)?;
        let access = ServerAccess {
            socket_dir: shared.local.socket_dir.clone(),
            port: shared.local.port,
            user: SUPERUSER.to_owned(),
            database: MAINTENANCE_DB.to_owned(),
        };
        let mut request = BackupRequest::new(access, &shared.env.paths.pgdata, repository);
        tune(&mut request, store)?;
        if let Some(immediate) = self.backup.spec.immediate_checkpoint {
            request.immediate_checkpoint = immediate;
        }
        if !archive_wal {
            request.borrowed_wal = Some(self.borrowed_wal(store)?);
        }
        request.kind = kind(self.backup.spec.type_);
        request.name = Some(format!("backup-{}", Utc::now().format("%Y%m%d%H%M%S")));
        Ok(request)
    }

    /// Where a backup gets its WAL from whose repository archives none.
    fn borrowed_wal(&self, store: &BarmanObjectStore) -> Result<BorrowedWal> {
        let shared = &self.shared;
        let archiving = shared.stores().into_iter().filter(|named| named.archive_wal);
        let sources: Vec<_> = archiving
            .map(|named| repository(&named.store, &shared.env.cluster, &shared.secrets(), Purpose::Wal))
            .collect::<Result<_>>()?;
        Ok(BorrowedWal {
            sources,
            scratch: shared.env.paths.catch_up().with_file_name("backup-wal"),
            options: ArchiveOptions {
                compression: wal_compression(store),
                level: wal_compression_level(store),
                confirm: true,
            },
        })
    }

    async fn drive(&self, request: BackupRequest) -> Outcome {
        let (phases, mut phase) = watch::channel(Phase::Preparing);
        let (starts, start) = watch::channel(None::<BackupStart>);
        let (keeps, keep) = watch::channel(None::<String>);
        let progress = Arc::new(Progress::with_callback(move |p: &Phase| {
            if let Phase::Copying(start) = p {
                starts.send_replace(Some(start.clone()));
            }
            if let Phase::Resumed { kept, found, bytes } = p {
                keeps.send_replace(Some(fields::resumed(*kept, *found, *bytes)));
            }
            phases.send_replace(p.clone());
        }));
        let cancel = CancellationToken::new();
        self.shared.set_backup(Some(RunningBackup {
            uid: self.uid.clone(),
            // It was there a moment ago, when the request was made.
            repository: self.place().map(|named| named.name).unwrap_or_default(),
            progress: progress.clone(),
            cancel: cancel.clone(),
        }));
        let repository = self.place().map(|named| named.name).unwrap_or_default();
        let primary = Arc::new(Primary { shared: self.shared.clone(), repository });
        let work = howdah_engine::backup::run(request, primary, progress.clone(), cancel.clone());
        let mut work = std::pin::pin!(work);
        let (mut ours, mut deleted) = (true, false);
        let mut look = Look { at: Utc::now(), done: 0, total: 0 };
        let mut next = Instant::now() + HEARTBEAT;
        let result = loop {
            tokio::select! {
                result = &mut work => break result,
                changed = phase.changed() => if changed.is_err() { continue },
                () = sleep_until(next) => {}
            }
            if !ours {
                next = Instant::now() + HEARTBEAT;
                continue;
            }
            let now = Look { at: Utc::now(), done: progress.bytes_done(), total: progress.bytes_total() };
            let seen = (phase.borrow_and_update().clone(), start.borrow().clone());
            let write = self.beat(seen, look, now, progress.bad_pages());
            // The work goes on while the API is slow.
            tokio::select! {
                result = &mut work => break result,
                written = timeout(WRITE_LIMIT, write) => match written {
                    Ok(Ok(Written::Done(seen))) => {
                        look = now;
                        next = Instant::now() + HEARTBEAT;
                        if seen.metadata.deletion_timestamp.is_some() && !deleted {
                            tracing::warn!(backup = self.name, "this Backup was deleted; it is not taken to its end");
                            deleted = true;
                            cancel.cancel();
                        }
                    }
                    Ok(Ok(Written::Refused)) => {
                        tracing::warn!(backup = self.name, "somebody else ended this Backup; its data is removed");
                        ours = false;
                        cancel.cancel();
                    }
                    Ok(Err(error)) => {
                        tracing::warn!(backup = self.name, "no sign of life could be written: {}", error.report());
                        next = Instant::now() + HEARTBEAT_RETRY;
                    }
                    Err(_) => next = Instant::now() + HEARTBEAT_RETRY,
                }
            }
        };
        let kept = keep.borrow().clone();
        if let Some(note) = kept {
            self.event(EventType::Normal, "Resumed", &note).await;
        }
        match result {
            Ok(result) => Outcome::Done(Box::new(result)),
            Err(_) if !ours => Outcome::NotOurs,
            Err(_) if deleted => Outcome::Failed(
                "this Backup was deleted while it was taken; nothing of it is kept".to_owned(),
            ),
            Err(error) if self.shared.server.borrow().stopping => Outcome::Failed(format!(
                "the pod was shut down while it took this backup ({error}); create another Backup (a schedule does so by itself)"
            )),
            Err(error) => Outcome::Failed(error.report()),
        }
    }

    async fn beat(
        &self,
        (phase, start): (Phase, Option<BackupStart>),
        before: Look,
        now: Look,
        bad: BadPages,
    ) -> Result<Written> {
        let next = match phase {
            Phase::WaitingForWal { .. } | Phase::Committing | Phase::Done => BackupPhase::Finalizing,
            _ if self.found == BackupPhase::Finalizing => BackupPhase::Finalizing,
            _ => BackupPhase::Running,
        };
        self.write(next, Patience::None, |status| {
            if let Some(start) = &start {
                fields::started(status, start);
            }
            if let Phase::Checkpoint { backup_id } = &phase {
                status.backup_id = Some(backup_id.to_string());
            }
            if let Phase::WaitingForWal { end_wal, end_lsn } = &phase {
                status.end_wal = Some(end_wal.to_string());
                status.end_lsn = Some(end_lsn.to_string());
            }
            if now.total > 0 {
                status.progress = Some(fields::progress(before, now));
            }
            fields::bad_pages(status, &bad, now.at, self.backup.metadata.generation);
            status.phase = Some(next);
            status.heartbeat_at = Some(crate::time::kube(now.at));
        })
        .await
    }

    async fn write(
        &self,
        next: BackupPhase,
        patience: Patience,
        mut change: impl FnMut(&mut BackupStatus),
    ) -> Result<Written> {
        write(&self.shared.kube, &self.name, &self.uid, patience, |status, _| {
            let allowed = may_write(status, self.me(), next);
            if allowed {
                change(status);
            }
            allowed
        })
        .await
    }

    async fn conclude(&self, outcome: Outcome) {
        let generation = self.backup.metadata.generation;
        let bad = self.shared.backup().map(|running| running.progress.bad_pages()).unwrap_or_default();
        let written = match &outcome {
            Outcome::NotOurs => return,
            Outcome::Done(result) => self.complete(result, generation).await,
            Outcome::Failed(error) => {
                self.write(BackupPhase::Failed, Patience::Endless, |status| {
                    fields::bad_pages(status, &bad, Utc::now(), generation);
                    fields::failed(status, error, Utc::now(), generation);
                })
                .await
            }
        };
        match written {
            Ok(Written::Done(_)) => {}
            Ok(Written::Refused) => tracing::warn!(backup = self.name, "the outcome was not wanted any more"),
            Err(error) => {
                tracing::error!(backup = self.name, "the outcome cannot be written: {}", error.report());
            }
        }
        if let Some(note) = fields::bad_pages_note(&bad) {
            self.event(EventType::Warning, "BadPages", &note).await;
        }
        let (type_, reason, note) = match &outcome {
            Outcome::Done(result) => (
                EventType::Normal,
                "Completed",
                format!(
                    "backup {} is restorable: {} in the store",
                    result.backup_id,
                    fields::human_size(result.stored_bytes)
                ),
            ),
            Outcome::Failed(error) => (EventType::Warning, "Failed", error.clone()),
            Outcome::NotOurs => return,
        };
        tracing::info!(backup = self.name, "{note}");
        self.event(type_, reason, &note).await;
    }

    /// `finalizing` first: a Backup is never called complete without having been there.
    async fn complete(&self, result: &BackupResult, generation: Option<i64>) -> Result<Written> {
        let finalizing = self
            .write(BackupPhase::Finalizing, Patience::Endless, |status| {
                status.phase = Some(BackupPhase::Finalizing);
                status.heartbeat_at = Some(crate::time::now());
            })
            .await?;
        if finalizing == Written::Refused {
            return Ok(finalizing);
        }
        self.write(BackupPhase::Completed, Patience::Endless, |status| {
            fields::completed(status, result, Utc::now(), generation);
        })
        .await
    }

    async fn event(&self, type_: EventType, reason: &str, note: &str) {
        self.shared.kube.event(&self.backup, type_, reason, note).await;
        let cluster = self.shared.cluster();
        let note = format!("Backup {}: {note}", self.name);
        self.shared.kube.event(&*cluster, type_, &format!("Backup{reason}"), &note).await;
    }
}
