//! `bootstrap full-recovery`: a data directory from a backup.

use std::sync::Arc;

use barman_cloud::BackupId;
use howdah_api::backup::{Backup, BackupPhase};
use howdah_api::bootstrap::{Recovery, RecoveryTarget};
use howdah_api::object_store::BarmanObjectStore;
use howdah_engine::{BackupChoice, Phase, Progress, RestoreRequest, TargetTimeline};
use kube::runtime::events::EventType;
use tokio_util::sync::CancellationToken;

use super::recovery_file::RecoveryFile;
use super::{Context, marker};
use crate::config::recovery::{Moment, moment};
use crate::error::{Error, Result};
use crate::kube::client::bounded;
use crate::objstore::{Purpose, jobs, repository};
use crate::pg::files::{RECOVERY_SIGNAL, set_signal};

/// Word in the marks.
const KIND: &str = "full-recovery";
/// How often progress is written to the log.
const PROGRESS_EVERY: std::time::Duration = std::time::Duration::from_secs(10);

/// Where the backup is, and which one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Store.
    pub store: BarmanObjectStore,
    /// Folder of the server.
    pub server_name: String,
    /// The backup; `None` lets the target decide.
    pub backup_id: Option<String>,
    /// Major version of PostgreSQL, when it is known already.
    pub major: Option<u32>,
}

/// Restores unless the data directory is finished.
///
/// # Errors
/// Before anything is fetched when the backup cannot serve: not completed, of another version, incomplete in the
/// store, or the target out of reach.
pub async fn run(context: &Context) -> Result<()> {
    let paths = &context.env.paths;
    if marker::look(paths)? == marker::Found::Done {
        tracing::info!("the data directory is finished already");
        return Ok(());
    }
    let spec = &context.cluster.spec;
    let recovery = spec.bootstrap.as_ref().and_then(|b| b.recovery()).ok_or_else(|| {
        Error::permanent("the Cluster has no bootstrap.fullRecovery: there is nothing to recover")
    })?;
    let source = find(context, recovery).await?;
    let major = context.programs.major_version(&context.children).await?;
    same_version(source.major, major)?;

    let mut names = source.store.secret_names();
    names.sort_unstable();
    let secrets = context.kube.read_secrets(names).await?;
    let target = recovery.recovery_target.as_ref();
    let mut request = RestoreRequest::new(
        repository(&source.store, &source.server_name, &secrets, Purpose::Data)?,
        &paths.pgdata,
    );
    request.choice = choice(source.backup_id.as_deref())?;
    request.target = engine_target(target)?;
    request.timeline = timeline(target)?;
    request.wal_dir = context.wal_dir();
    let own = spec.stores(&context.env.namespace, &context.env.cluster);
    request.jobs = own.iter().map(|named| jobs(&named.store)).max().unwrap_or(1).max(jobs(&source.store));

    // Everything that can be known from the store is known before the volume is touched.
    let plan = howdah_engine::restore::plan(&request).await?;
    same_version(plan.server_version.map(|v| v / 10_000), major)?;
    if let Some(gap) = plan.wal_gap
        && to_the_end(target)
    {
        let last = plan.last_wal.map_or_else(|| "none".to_owned(), |segment| segment.to_string());
        return Err(hole(&gap.to_string(), &last));
    }
    let file = RecoveryFile {
        store: source.store.clone(),
        server_name: source.server_name.clone(),
        backup_id: plan.backup_id.to_string(),
        backup_end: Some(plan.end_time.to_rfc3339()),
        target: target.cloned(),
    };
    file.mark_in_use(&context.env, &secrets).await;
    // The engine goes on from what an interrupted restore left: the mark only says that it is ours.
    marker::begin(paths, KIND)?;
    // The chosen backup is pinned, so that a new one that appears meanwhile changes nothing.
    request.choice = BackupChoice::Id(plan.backup_id.clone());
    told(context, &format!("restoring backup {} from {}", plan.backup_id, source.store.destination_path))
        .await;
    let cancel = CancellationToken::new();
    let _guard = cancel.clone().drop_guard();
    let progress = progress();
    let result = tokio::select! {
        result = howdah_engine::restore::run(request, progress.clone(), cancel) => result?,
        never = log_progress(&progress) => match never {},
    };
    tracing::info!(
        backup = %plan.backup_id, files = result.files, bytes = result.bytes, kept_files = result.kept_files,
        kept_bytes = result.kept_bytes, fetched_bytes = result.fetched_bytes, verified = result.verified,
        "the backup is restored"
    );

    file.write(paths)?;
    set_signal(paths, Some(RECOVERY_SIGNAL))?;
    marker::finish(paths, KIND)?;
    told(context, &format!("backup {} is restored; PostgreSQL replays the archive next", plan.backup_id))
        .await;
    Ok(())
}

/// Whether everything in the archive is wanted: no point was named at which replay stops.
fn to_the_end(target: Option<&howdah_api::bootstrap::RecoveryTarget>) -> bool {
    target.is_none_or(|t| {
        t.target_time.is_none()
            && t.target_lsn.is_none()
            && t.target_name.is_none()
            && t.target_xid.is_none()
            && t.target_immediate != Some(true)
    })
}

/// PostgreSQL would take the hole for the end of the archive, promote there, and lose what lies behind it without
/// a word.
fn hole(gap: &str, last: &str) -> Error {
    Error::permanent(format!(
        "WAL segment {gap} is missing in the archive although later ones are there: replay would end with {last} \
         and lose what lies behind it; remedy: bring {gap} back, or accept the loss by a recoveryTarget that lies \
         before it"
    ))
}

async fn told(context: &Context, note: &str) {
    tracing::info!("{note}");
    context.kube.event(&context.cluster, EventType::Normal, "Recovery", note).await;
}

/// Writes to the log how far the restore is.
async fn log_progress(progress: &Progress) -> std::convert::Infallible {
    let mut before = 0;
    loop {
        tokio::time::sleep(PROGRESS_EVERY).await;
        let (done, total) = (progress.bytes_done(), progress.bytes_total());
        let percent = done.saturating_mul(100).checked_div(total).unwrap_or(0).min(100);
        let bytes_per_second = done.saturating_sub(before) / PROGRESS_EVERY.as_secs();
        tracing::info!(percent, bytes_done = done, bytes_total = total, bytes_per_second, "restoring");
        before = done;
    }
}

fn progress() -> Arc<Progress> {
    Arc::new(Progress::with_callback(|phase: &Phase| tracing::info!(?phase, "restore")))
}

async fn find(context: &Context, recovery: &Recovery) -> Result<Source> {
    let backup_id = recovery.recovery_target.as_ref().and_then(|t| t.backup_id.clone());
    if let Some(reference) = &recovery.backup {
        let name = &reference.name;
        let backup = bounded("Backup", name, context.kube.backups().get(name)).await?;
        return from_backup(&backup, name);
    }
    let name = recovery.source.as_deref().unwrap_or_default();
    let external = context.cluster.spec.external_clusters.iter().find(|e| e.name == name).ok_or_else(|| {
        Error::permanent(format!(
            "bootstrap.recovery.source {name:?} is not in spec.externalClusters: make a new Cluster that describes it"
        ))
    })?;
    Ok(Source {
        store: external.barman_object_store.clone(),
        server_name: external.barman_object_store.server_name_or(name).to_owned(),
        backup_id,
        major: None,
    })
}

/// What the status of a Backup says about where its data is.
///
/// # Errors
/// When the Backup is not completed, or was completed by something that wrote no destination.
pub fn from_backup(backup: &Backup, name: &str) -> Result<Source> {
    let status = backup.status.clone().unwrap_or_default();
    match status.phase() {
        BackupPhase::Completed => {}
        BackupPhase::Failed => {
            return Err(Error::permanent(format!(
                "Backup {name} failed ({}): name a completed one",
                status.error.as_deref().unwrap_or("no reason was kept")
            )));
        }
        phase => {
            return Err(Error::transient(format!(
                "Backup {name} is {phase}: recovery begins once it is completed"
            )));
        }
    }
    let missing = |what: &str| {
        Error::permanent(format!(
            "status.{what} of Backup {name} is missing: name a Backup that Howdah completed"
        ))
    };
    Ok(Source {
        store: status.object_store().ok_or_else(|| missing("destinationPath"))?,
        server_name: status.server_name.clone().unwrap_or_else(|| backup.spec.cluster.name.clone()),
        backup_id: Some(status.backup_id.clone().ok_or_else(|| missing("backupId"))?),
        major: status.major_version.and_then(|m| u32::try_from(m).ok()),
    })
}

/// Physical backups fit one major version only.
fn same_version(backup: Option<u32>, image: u32) -> Result<()> {
    match backup {
        Some(backup) if backup != image => Err(Error::permanent(format!(
            "the backup was taken by PostgreSQL {backup}, the image holds PostgreSQL {image}: use an image with PostgreSQL {backup}"
        ))),
        _ => Ok(()),
    }
}

fn choice(id: Option<&str>) -> Result<BackupChoice> {
    Ok(match id {
        Some(id) => BackupChoice::Id(id.parse::<BackupId>()?),
        None => BackupChoice::Best,
    })
}

fn engine_target(target: Option<&RecoveryTarget>) -> Result<howdah_engine::RecoveryTarget> {
    use howdah_engine::RecoveryTarget as Engine;
    Ok(match moment(target).map_err(|e| Error::permanent(e.to_string()))? {
        Moment::Latest => Engine::Latest,
        Moment::Immediate => Engine::Immediate,
        Moment::Time(time) => Engine::Time(time),
        Moment::Lsn(lsn) => Engine::Lsn(barman_cloud::Lsn(lsn)),
        Moment::Xid(xid) => Engine::Xid(xid.parse().unwrap_or_default()),
        Moment::Name(name) => Engine::Name(name),
    })
}

fn timeline(target: Option<&RecoveryTarget>) -> Result<TargetTimeline> {
    Ok(match target.and_then(|t| t.target_tli.as_deref()) {
        None | Some("latest") => TargetTimeline::Latest,
        Some("current") => TargetTimeline::Current,
        Some(number) => TargetTimeline::Id(number.parse().map_err(|_| {
            Error::permanent(format!(
                "recoveryTarget.targetTLI {number:?} is not a number, latest or current"
            ))
        })?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use howdah_api::backup::{BackupSpec, BackupStatus};
    use howdah_api::common::LocalObjectReference;

    fn backup(phase: BackupPhase) -> Backup {
        let mut backup = Backup::new(
            "nightly",
            BackupSpec { cluster: LocalObjectReference { name: "pg".into() }, ..BackupSpec::default() },
        );
        backup.status = Some(BackupStatus {
            phase: Some(phase),
            backup_id: Some("20261121T135740".into()),
            destination_path: Some("s3://b/".into()),
            major_version: Some(15),
            error: Some("the store was away".into()),
            ..BackupStatus::default()
        });
        backup
    }

    /// S2.26: the status says the rest.
    #[test]
    fn a_completed_backup_is_all_that_is_needed() {
        let source = from_backup(&backup(BackupPhase::Completed), "nightly").unwrap();
        assert_eq!((source.server_name.as_str(), source.major), ("pg", Some(15)));
        assert_eq!(source.backup_id.as_deref(), Some("20261121T135740"));
    }

    #[test]
    fn other_backups_are_refused_or_awaited() {
        let failed = from_backup(&backup(BackupPhase::Failed), "nightly").unwrap_err();
        assert!(failed.is_permanent() && failed.report().contains("the store was away"));
        let running = from_backup(&backup(BackupPhase::Running), "nightly").unwrap_err();
        assert!(!running.is_permanent() && running.report().contains("is running"));
        let mut unfinished = backup(BackupPhase::Completed);
        unfinished.status.as_mut().unwrap().destination_path = None;
        assert!(from_backup(&unfinished, "nightly").unwrap_err().report().contains("destinationPath"));
    }

    #[test]
    fn versions_must_match() {
        assert!(same_version(Some(15), 15).is_ok() && same_version(None, 15).is_ok());
        let text = same_version(Some(14), 15).unwrap_err().to_string();
        assert!(text.contains("use an image with PostgreSQL 14"), "{text}");
    }

    #[test]
    fn timelines() {
        let tli = |t: &str| {
            timeline(Some(&RecoveryTarget { target_tli: Some(t.into()), ..RecoveryTarget::default() }))
        };
        assert_eq!(tli("latest").unwrap(), TargetTimeline::Latest);
        assert_eq!(tli("3").unwrap(), TargetTimeline::Id(3));
        assert!(tli("x").unwrap_err().to_string().contains("targetTLI"));
    }
}
