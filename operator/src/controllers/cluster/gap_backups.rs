//! A gap that was made in the archive on purpose (`spec.backup.walOverflow`) is followed by a full Backup in each repository
//! that held backups: with it the recovery window begins anew. The order follows from status and Backups, so that it is
//! given once.

use std::time::Duration;

use howdah_api::backup::{BackupPhase, BackupSpec};
use howdah_api::common::{BackupType, LocalObjectReference};
use howdah_api::wal_runway::DroppedWal;
use howdah_api::{Backup, ClusterStatus, naming};
use k8s_openapi::jiff::Timestamp;
use kube::runtime::events::EventType;
use kube::{Resource, ResourceExt};

use super::observed::Observed;
use super::synchronous::primary_report;
use super::validate::Validated;
use super::{apply, build};
use crate::context::Context;
use crate::error::Error;

/// Gaps that are told of, the newest.
const SHOWN: usize = 10;
/// Backups that are tried for one gap and repository.
const ATTEMPTS: usize = 6;
/// Pause after a failed one.
const PAUSE: Duration = Duration::from_secs(300);

/// Folds in what the primary says of gaps. What another primary said stays: its volume may be gone.
pub fn fold(observed: &Observed, status: &mut ClusterStatus) {
    let reported = primary_report(observed, status).map(|report| report.dropped_wal.clone());
    for gap in reported.unwrap_or_default() {
        match status.dropped_wal.iter_mut().find(|known| known.first_wal == gap.first_wal) {
            Some(known) => {
                let backups = std::mem::take(&mut known.backups);
                *known = DroppedWal { backups, ..gap };
            }
            None => status.dropped_wal.push(gap),
        }
    }
    status.dropped_wal.sort_by_key(|gap| gap.since.0);
    let excess = status.dropped_wal.len().saturating_sub(SHOWN);
    status.dropped_wal.drain(..excess);
    let cluster = observed.cluster.name_any();
    for gap in &mut status.dropped_wal {
        let prefix = naming::gap_backup(&cluster, &gap.first_wal, "");
        let ordered = observed.backups.iter().map(ResourceExt::name_any);
        gap.backups.extend(ordered.filter(|name| name.starts_with(&prefix)));
        gap.backups.sort();
        gap.backups.dedup();
    }
}

/// The Backups to make now, each with the gap that it is for. Pure.
#[must_use]
pub fn orders(observed: &Observed) -> Vec<(Backup, DroppedWal)> {
    let (cluster, status) = (&observed.cluster, observed.status());
    let mut orders = Vec::new();
    for gap in &status.dropped_wal {
        for repository in repositories(observed, &status, gap) {
            let base = naming::gap_backup(&cluster.name_any(), &gap.first_wal, &repository);
            if let Some(name) = due(observed, gap, &repository, &base) {
                orders.push((backup(observed, name, repository), gap.clone()));
            }
        }
    }
    orders
}

/// The repositories that the gap makes a difference to: those that held backups, else the first.
fn repositories(observed: &Observed, status: &ClusterStatus, gap: &DroppedWal) -> Vec<String> {
    let cluster = &observed.cluster;
    let stores = cluster.spec.stores(&cluster.namespace().unwrap_or_default(), &cluster.name_any());
    let archiving: Vec<String> =
        stores.into_iter().filter(|named| named.archive_wal).map(|named| named.name).collect();
    let held = |name: &&String| {
        let known = status.repositories.iter().find(|repository| repository.name == **name);
        let first = known.and_then(|known| known.first_recoverability_point.as_ref());
        first.is_some_and(|first| first.0 < gap.since.0)
    };
    let holding: Vec<String> = archiving.iter().filter(held).cloned().collect();
    if holding.is_empty() { archiving.into_iter().take(1).collect() } else { holding }
}

/// Name of the Backup to make, when one is.
fn due(observed: &Observed, gap: &DroppedWal, repository: &str, base: &str) -> Option<String> {
    if observed.backups.iter().any(|backup| closes(backup, gap, repository)) {
        return None;
    }
    let tried: Vec<&Backup> = observed
        .backups
        .iter()
        .filter(|backup| backup.spec.repository.as_deref() == Some(repository))
        .filter(|backup| {
            let name = backup.name_any();
            name == base || name.strip_prefix(base).is_some_and(|rest| rest.starts_with("-try"))
        })
        .collect();
    if tried.is_empty() {
        // One that a person has deleted is not made again.
        return (!gap.backups.iter().any(|name| name == base)).then(|| base.to_owned());
    }
    let failed = |backup: &&Backup| phase(backup) == BackupPhase::Failed;
    let last = tried.iter().filter_map(|backup| ended(backup)).max()?;
    let over = observed.now.duration_since(last).unsigned_abs() >= PAUSE;
    (tried.iter().all(failed) && over && tried.len() < ATTEMPTS)
        .then(|| format!("{base}-try{}", tried.len() + 1))
}

fn phase(backup: &Backup) -> BackupPhase {
    backup.status.as_ref().map(|status| status.phase()).unwrap_or_default()
}

fn ended(backup: &Backup) -> Option<Timestamp> {
    let stopped = backup.status.as_ref().and_then(|status| status.stopped_at.as_ref());
    stopped.or(backup.metadata.creation_timestamp.as_ref()).map(|time| time.0)
}

/// Whether it is a full backup in the repository that began behind the gap.
fn closes(backup: &Backup, gap: &DroppedWal, repository: &str) -> bool {
    let Some(status) = backup.status.as_ref().filter(|status| status.phase() == BackupPhase::Completed)
    else {
        return false;
    };
    // Log and segment of a name follow its timeline.
    let position = |name: &str| name.get(8..).map(str::to_owned);
    let behind = match status.begin_wal.as_deref().and_then(position) {
        Some(begin) => Some(begin) > position(&gap.last_wal),
        None => false,
    };
    let full = status.backup_type.as_deref().is_none_or(|kind| kind == BackupType::Full.as_str());
    full && behind && status.repository.as_deref() == Some(repository)
}

fn backup(observed: &Observed, name: String, repository: String) -> Backup {
    Backup {
        metadata: build::child_meta(&observed.cluster, name),
        spec: BackupSpec {
            cluster: LocalObjectReference { name: observed.cluster.name_any() },
            repository: Some(repository),
            type_: Some(BackupType::Full),
            target: None,
            immediate_checkpoint: None,
            deletion_policy: None,
        },
        status: None,
    }
}

/// Makes the Backups that are due.
pub async fn apply(ctx: &Context, validated: &Validated, observed: &Observed) -> Result<(), Error> {
    let reference = observed.cluster.object_ref(&());
    for (backup, gap) in orders(observed) {
        apply::create(ctx, validated, &backup).await?;
        let note = format!(
            "Backup {} is ordered: {} WAL files from {} to {} were let go of without having been archived, and recovery \
             from earlier backups ends before them",
            backup.name_any(),
            gap.segments,
            gap.first_wal,
            gap.last_wal
        );
        tracing::info!(
            cluster = validated.name,
            backup = backup.name_any(),
            "Backup ordered because of a gap"
        );
        ctx.event(&reference, EventType::Normal, "BackupOrdered", note).await;
    }
    Ok(())
}
