//! Chooses the backup and makes sure that the restore can succeed, before a byte of data is fetched.

use super::members::{self, Member};
use super::path::{self, Histories};
use super::request::{BackupChoice, RecoveryTarget, RestorePlan, RestoreRequest};
use crate::error::{Error, ErrorKind, Result};
use barman_cloud::catalog::{Inventory, Reach};
use barman_cloud::{BackupId, BackupInfo, Repository, Segment, SegmentRange, TimelineHistory};
use chrono::{DateTime, Utc};

/// A plan with what only the restore itself needs.
#[derive(Debug)]
pub struct Detailed {
    pub plan: RestorePlan,
    /// The full backup, what builds on it, and last the one that was chosen; perhaps that alone.
    pub members: Vec<Member>,
}

impl Detailed {
    /// The chosen backup.
    pub fn last(&self) -> Result<&Member> {
        // There is always one.
        self.members.last().ok_or_else(|| Error::new(ErrorKind::Missing, "no backup was chosen"))
    }
}

/// Chooses the backup and checks that everything is in the store: every part, every segment from begin to end,
/// and as far as names and history files can tell the way to the target. Reads metadata only, writes nothing.
pub async fn plan(request: &RestoreRequest) -> Result<RestorePlan> {
    Ok(detailed(request).await?.plan)
}

pub async fn detailed(request: &RestoreRequest) -> Result<Detailed> {
    let repository = &request.repository;
    // A wrong passphrase would otherwise look like a catalogue of damaged backups.
    repository.check_encryption().await?;
    let inventory = repository.inventory().await?;
    let histories = path::histories(repository).await?;
    let (id, info, history) = choose(repository, &inventory, request, &histories)?;
    let members = members::load(repository, &inventory, &id).await?;
    let (begin_wal, end_wal) = info.needed_wal()?;
    let size = info.segment_size()?;
    repository.require_wal(SegmentRange::new(begin_wal, end_wal, size)?).await.map_err(
        |error| match error.kind() {
            barman_cloud::ErrorKind::NotFound => Error::new(
                ErrorKind::Missing,
                format!("backup {id} needs WAL that is not in the archive: {error}"),
            )
            .with_remedy("put the segment back from a copy, or use another backup"),
            _ => error.into(),
        },
    )?;
    let reach = repository.reach(&history, end_wal, size).await?;
    let facts = Facts::read(&id, &info)?;
    not_before(&request.target, &id, &facts)?;
    check_target(&request.target, &history, reach.as_ref(), &info)?;
    let chosen = inventory.get(&id);
    let plan = RestorePlan {
        kind: chosen.map_or_else(Default::default, |member| member.kind),
        label: chosen.map_or_else(String::new, |member| member.label()),
        ancestors: members[..members.len() - 1].iter().map(|member| member.id.clone()).collect(),
        backup_id: id,
        backup_name: info.backup_name.clone(),
        system_id: info.systemid.as_deref().and_then(|id| id.parse().ok()),
        server_version: info.version,
        backup_timeline: facts.timeline,
        begin_wal,
        end_wal,
        end_lsn: facts.end_lsn,
        end_time: facts.end_time,
        target_timeline: history.timeline(),
        last_wal: reach.as_ref().map(|reach| reach.last),
        last_wal_stored: reach.as_ref().map(|reach| reach.stored),
        wal_gap: reach.as_ref().and_then(|reach| reach.gap),
        stored_bytes: members.iter().map(Member::stored_bytes).sum(),
        parts: members.iter().map(Member::count).sum(),
        has_manifest: members.last().is_some_and(|member| member.has_manifest),
    };
    Ok(Detailed { plan, members })
}

/// What must be known of a backup.
struct Facts {
    timeline: u32,
    end_lsn: barman_cloud::Lsn,
    end_time: DateTime<Utc>,
}

impl Facts {
    fn read(id: &BackupId, info: &BackupInfo) -> Result<Self> {
        let lacks =
            |what: &str| Error::new(ErrorKind::Corrupt, format!("backup.info of backup {id} has no {what}"));
        Ok(Self {
            timeline: info.timeline.ok_or_else(|| lacks("timeline"))?,
            end_lsn: info.end_xlog.ok_or_else(|| lacks("end_xlog"))?,
            end_time: info.end_time.ok_or_else(|| lacks("end_time"))?.to_utc(),
        })
    }
}

fn choose(
    repository: &Repository,
    inventory: &Inventory,
    request: &RestoreRequest,
    histories: &Histories,
) -> Result<(BackupId, BackupInfo, TimelineHistory)> {
    if let BackupChoice::Id(id) = &request.choice {
        let info = named(repository, inventory, id)?;
        let facts = Facts::read(id, info)?;
        let history = path::follow(request.timeline, facts.timeline, facts.end_lsn, histories)?;
        return Ok((id.clone(), info.clone(), history));
    }
    // The newest that serves; the reason why the very newest does not is what a user wants to read.
    let mut refused: Option<Error> = None;
    for (member, info) in inventory.restorable().rev() {
        let id = &member.id;
        let fits = Facts::read(id, info).and_then(|facts| {
            let history = path::follow(request.timeline, facts.timeline, facts.end_lsn, histories)?;
            not_before(&request.target, id, &facts).map(|()| history)
        });
        match fits {
            Ok(history) => return Ok((id.clone(), info.clone(), history)),
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.unwrap_or_else(|| {
        Error::new(ErrorKind::Missing, format!("{} holds no completed backup", repository.url())).with_remedy(
            "check destination path and server name; barman-cloud-backup-list shows what is there",
        )
    }))
}

fn named<'a>(repository: &Repository, inventory: &'a Inventory, id: &BackupId) -> Result<&'a BackupInfo> {
    let missing = |text: String, remedy: &str| Err(Error::new(ErrorKind::Missing, text).with_remedy(remedy));
    let Some(entry) = inventory.get(id) else {
        return missing(
            format!("backup {id} is not in {}", repository.url()),
            "check destination path, server name and id; barman-cloud-backup-list shows what is there",
        );
    };
    match &entry.info {
        Ok(info) if info.is_done() => members::check_chain(repository, inventory, entry).map(|()| info),
        Ok(info) => missing(
            format!(
                "backup {id} in {} is not complete: its status is {}",
                repository.url(),
                info.status.as_str()
            ),
            "use a completed backup",
        ),
        Err(error) => Err(Error::new(
            ErrorKind::Corrupt,
            format!("backup.info of backup {id} in {} cannot be read: {}", repository.url(), error.report()),
        )
        .with_remedy("restore the object from a copy, or use another backup")),
    }
}

/// A target before the end of the backup cannot be reached: the data is not consistent before it.
fn not_before(target: &RecoveryTarget, id: &BackupId, facts: &Facts) -> Result<()> {
    let early = |what: String| {
        Err(Error::new(ErrorKind::Unreachable, what)
            .with_remedy("choose a later target, or a backup that ended before it"))
    };
    match target {
        RecoveryTarget::Time(time) if *time < facts.end_time => early(format!(
            "target time {} is before the end of backup {id} at {}",
            time.to_rfc3339(),
            facts.end_time.to_rfc3339()
        )),
        RecoveryTarget::Lsn(lsn) if *lsn < facts.end_lsn => {
            early(format!("target LSN {lsn} is before the end of backup {id} at {}", facts.end_lsn))
        }
        _ => Ok(()),
    }
}

/// What the archive cannot hold is refused now; whether a name or a transaction occurs only replay can tell.
fn check_target(
    target: &RecoveryTarget,
    history: &TimelineHistory,
    reach: Option<&Reach>,
    info: &BackupInfo,
) -> Result<()> {
    let size = info.segment_size()?;
    match target {
        RecoveryTarget::Time(time) => {
            let Some(reach) = reach else { return Ok(()) };
            // A minute for clocks that disagree.
            if *time > reach.stored + chrono::Duration::minutes(1) {
                return Err(beyond(
                    format!("target time {}", time.to_rfc3339()),
                    history,
                    reach,
                    format!("was stored at {}", reach.stored.to_rfc3339()),
                ));
            }
            Ok(())
        }
        RecoveryTarget::Lsn(lsn) => {
            let Some(reach) = reach else { return Ok(()) };
            let end = reach.last.next(size).start(size);
            if *lsn > end {
                return Err(beyond(format!("target LSN {lsn}"), history, reach, format!("ends at {end}")));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn beyond(what: String, history: &TimelineHistory, reach: &Reach, end: String) -> Error {
    let last: Segment = reach.last;
    let why = match reach.gap {
        Some(gap) => format!("segment {gap} is missing, and {last}, the last one before it, {end}"),
        None => format!("{last}, the last segment, {end}"),
    };
    Error::new(
        ErrorKind::Unreachable,
        format!("{what} lies beyond the archive on timeline {}: {why}", history.timeline()),
    )
    .with_remedy("choose an earlier target, or recover to the latest point by leaving the target out")
}
