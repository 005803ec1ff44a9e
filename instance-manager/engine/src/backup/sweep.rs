//! Removes what killed backups left in the store.

use super::commit;
use super::resume::Shelf;
use crate::error::Result;
use barman_cloud::backup_info::BackupStatus;
use barman_cloud::{BackupId, Repository};
use chrono::{DateTime, Utc};

/// What a sweep found and removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sweep {
    /// Ids whose parts were removed.
    pub backups: Vec<BackupId>,
    /// Objects removed.
    pub objects: u64,
    /// Bytes freed.
    pub bytes: u64,
    /// Uploads given up that were begun and never completed.
    pub uploads: u64,
}

/// Removes the parts of backups that are not DONE, are not `running`, and whose newest object is older than
/// `older_than` (so that another writer's running backup is left alone). A record that says STARTED then says
/// FAILED. Records that cannot be read are left alone with their parts: they may be of a newer Barman. Backups of all
/// types are looked at.
pub async fn sweep_orphans(
    repository: &Repository,
    running: Option<&BackupId>,
    older_than: DateTime<Utc>,
) -> Result<Sweep> {
    let mut sweep = Sweep::default();
    for place in [repository.clone(), repository.increments()] {
        sweep_place(&place, running, older_than, &mut sweep).await?;
    }
    Ok(sweep)
}

async fn sweep_place(
    repository: &Repository,
    running: Option<&BackupId>,
    older_than: DateTime<Utc>,
    sweep: &mut Sweep,
) -> Result<()> {
    let catalog = repository.catalog().await?;
    let unfinished = catalog.entries.iter().filter_map(|entry| match &entry.info {
        Ok(info) if is_dead(info.status) => Some((entry.id.clone(), Some(info.clone()))),
        _ => None,
    });
    let candidates: Vec<_> = unfinished.chain(catalog.orphans.iter().map(|id| (id.clone(), None))).collect();
    for (id, info) in candidates {
        if Some(&id) == running {
            continue;
        }
        let objects = repository.backup_objects(&id).await?;
        let all = objects.parts.iter().map(|part| &part.object).chain(&objects.others).chain(&objects.info);
        if all.map(|object| object.last_modified).max().is_none_or(|newest| newest >= older_than) {
            continue;
        }
        if let Some(mut info) = info.filter(|info| info.status == BackupStatus::Started) {
            info.fail("the backup was interrupted");
            repository.put_backup_info(&id, &info).await?;
            Shelf::new(repository, &id).clear().await?;
        }
        if !objects.parts.is_empty() {
            let (count, bytes) = commit::remove_parts(repository, &id).await?;
            tracing::info!(backup = %id, objects = count, bytes, "removed what an interrupted backup had left");
            sweep.objects += count;
            sweep.bytes += bytes;
            sweep.backups.push(id);
        }
    }
    sweep.uploads += abort_uploads(repository, running, older_than).await?;
    Ok(())
}

/// Unfinished uploads are invisible and billed. Those of the running backup are its own business.
async fn abort_uploads(
    repository: &Repository,
    running: Option<&BackupId>,
    older_than: DateTime<Utc>,
) -> Result<u64> {
    let store = repository.store();
    let pending = match store.list_uploads(&repository.layout().base_dir()).await {
        Err(error) if error.kind() == barman_cloud::ErrorKind::Unsupported => return Ok(0),
        pending => pending?,
    };
    let ours = running.map(|id| format!("{}/", repository.layout().backup_dir(id)));
    let mut count = 0;
    for upload in pending {
        let is_running = ours.as_ref().is_some_and(|dir| upload.key.starts_with(dir));
        if upload.begun < older_than && !is_running {
            store.resume_upload(&upload.key, &upload.id)?.abort().await?;
            tracing::info!(key = upload.key, "gave up an upload that was never completed");
            count += 1;
        }
    }
    Ok(count)
}

/// States in which nobody will ever restore the backup. `WAITING_FOR_WALS` and `SYNCING` are Barman's and alive.
fn is_dead(status: BackupStatus) -> bool {
    matches!(status, BackupStatus::Started | BackupStatus::Failed | BackupStatus::Empty)
}
