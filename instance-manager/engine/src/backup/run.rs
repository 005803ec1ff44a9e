//! A base backup from beginning to end.

use super::bad_pages::BadPages;
use super::begin::{Beginning, Course};
use super::commit::{self, PartList};
use super::naming;
use super::parent::NoParent;
use super::pool::BufferPool;
use super::request::{BackupRequest, BackupResult, PrimaryWal};
use super::resume::Leftover;
use super::session::{ServerFacts, Session, Started};
use crate::control::{self, ControlData};
use crate::error::{Error, ErrorKind, Result};
use crate::progress::{BackupStart, Phase, Progress};
use barman_cloud::backup_info::Tablespace;
use barman_cloud::store::Created;
use barman_cloud::{BackupId, BackupInfo, BackupType, Repository, Segment};
use chrono::Utc;
use std::path::PathBuf;
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
/// Needs a multi-threaded runtime; file reading and compression run on threads of the backup's own.
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
    let mut run = Run {
        root: request.repository.clone(),
        request,
        primary,
        progress,
        cancel,
        claimed: None,
        uploads: TaskTracker::new(),
        pool: None,
        resumed_full: false,
        instead: None,
    };
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
    request.priority.check()?;
    if request.jobs == 0 {
        return invalid("a backup needs at least one job".to_owned());
    }
    request.name.as_deref().map_or(Ok(()), naming::check_name)
}

pub(super) struct Run {
    /// Its repository is where this backup's own objects go: another place for what is not full.
    pub(super) request: BackupRequest,
    /// The repository as the caller gave it: full backups, and the inventory of all.
    pub(super) root: Repository,
    /// The interrupted backup that this one goes on from was full, whatever is asked for now.
    pub(super) resumed_full: bool,
    /// Why this is a full backup although another type was asked for.
    pub(super) instead: Option<NoParent>,
    pub(super) primary: Arc<dyn PrimaryWal>,
    pub(super) progress: Arc<Progress>,
    pub(super) cancel: CancellationToken,
    /// The id in the store, from when there may be objects under it.
    claimed: Option<(BackupId, BackupInfo)>,
    pub(super) uploads: TaskTracker,
    pub(super) pool: Option<BufferPool>,
}

/// A run that is dropped in the middle must not leave threads that wait for buffers.
impl Drop for Run {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            pool.close();
        }
    }
}

impl Run {
    async fn all(&mut self) -> Result<BackupResult> {
        let cancel = self.cancel.clone();
        let noted = match self.request.resume.clone() {
            None => None,
            Some(resume) => {
                or_cancelled(&cancel, self.find_place(&resume)).await?;
                match or_cancelled(&cancel, self.leftover(&resume)).await? {
                    Leftover::Parts(parts) => Some(parts),
                    Leftover::Sealed(sealed) => {
                        tracing::info!(backup = %resume.id, "the interrupted backup only waits for its WAL");
                        self.claimed = Some((resume.id.clone(), BackupInfo::parse(&sealed.info)?));
                        return self.commit(&resume.id, &sealed, false).await;
                    }
                    Leftover::Done(info) => {
                        let list = PartList::load(&self.request.repository, &resume.id).await?;
                        let list = list.unwrap_or_default();
                        return self.finished(&resume.id, &info, &list, BadPages::default()).await;
                    }
                }
            }
        };
        let session = or_cancelled(&cancel, Session::connect(&self.request.server)).await?;
        // A lost session ends backup mode: going on would copy what cannot be made consistent.
        let lost = session.lost().clone();
        let facts = or_cancelled(&cancel, session.facts()).await?;
        let control = self.match_directory(&facts)?;
        let repository = self.request.repository.clone();
        let system_id = facts.system_id.to_string();
        let claim = async { repository.claim(&system_id, None, Utc::now()).await.map_err(Error::foreign) };
        or_cancelled(&cancel, claim).await?;
        or_cancelled(&cancel, async { Ok(repository.learn().await) }).await?;
        let root = self.root.clone();
        let inventory = or_cancelled(&cancel, async { Ok(root.inventory().await?) }).await?;
        let id = match &self.request.resume {
            Some(resume) => resume.id.clone(),
            None => naming::next_id(Utc::now(), &inventory),
        };

        self.progress.enter(Phase::Checkpoint { backup_id: id.clone() });
        let label = format!("Howdah backup {id}");
        let start = session.start(&label, self.request.immediate_checkpoint);
        let started = or_cancelled(&cancel, or_lost(&lost, start)).await?;
        let now = Beginning { facts: &facts, control: &control, started: &started };
        let course = self.course(&session, &inventory, now);
        let increment = match or_cancelled(&cancel, or_lost(&lost, course)).await? {
            Course::Full(why) => {
                self.instead = why;
                None
            }
            Course::Increment(increment) => Some(*increment),
        };
        or_cancelled(&cancel, self.take_place(increment.is_some())).await?;
        let id = or_cancelled(&cancel, self.claim_id(id, &facts, &control, &started)).await?;
        if let Some(increment) = &increment {
            self.request.repository.put_chain(&id, &increment.chain).await?;
        }
        self.progress.enter(Phase::Copying(BackupStart {
            backup_id: id.clone(),
            kind: increment.as_ref().map_or(BackupType::Full, |increment| increment.chain.kind),
            started_at: started.time,
            begin_lsn: started.lsn,
            begin_wal: Segment::containing(started.timeline, started.lsn, control.wal_segment_size),
            timeline: started.timeline,
            system_id: facts.system_id,
            server_version: facts.version,
        }));

        let noted = if increment.is_some() { noted.map(|_| Default::default()) } else { noted };
        let copy = self.copy(&session, now, &id, noted, increment);
        let copied = or_cancelled(&cancel, or_lost(&lost, copy)).await?;
        session.close().await;
        self.check_pages()?;
        let sealed = self.seal(&facts, &control, &started, &id, copied).await?;
        self.commit(&id, &sealed, !facts.in_recovery).await
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
        let repository = self.request.repository.clone();
        if self.request.resume.is_some() {
            // The id is this backup's own already.
            self.claimed = Some((id.clone(), info.clone()));
            repository.put_backup_info(&id, &info).await?;
            return Ok(id);
        }
        loop {
            let key = repository.layout().backup_info(&id);
            // From here on something may be in the store, even when the answer gets lost.
            self.claimed = Some((id.clone(), info.clone()));
            match repository.store().create(&key, info.render().into()).await {
                Ok(Created::Yes) if !self.is_taken_elsewhere(&id).await? => return Ok(id),
                Ok(created) => {
                    self.claimed = None;
                    if created == Created::Yes {
                        repository.store().delete(&key).await?;
                    }
                    id = naming::next_id(Utc::now(), &self.root.inventory().await?);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(super) fn started_info(
        &self,
        facts: &ServerFacts,
        control: &ControlData,
        started: &Started,
    ) -> BackupInfo {
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

pub(super) async fn or_cancelled<T>(
    cancel: &CancellationToken,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
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
