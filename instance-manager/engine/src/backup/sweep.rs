//! Removes what killed backups left in the store.

use crate::error::Result;
use crate::repository::Repository;
use barman_cloud::BackupId;
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
    /// Unfinished multipart uploads aborted.
    pub uploads: u64,
}

/// Removes the parts of backups that have no `backup.info` with DONE, are not `running`, and whose newest object
/// is older than `older_than` (so that another writer's running backup is left alone). `backup.info` becomes
/// FAILED when it said STARTED.
pub async fn sweep_orphans(
    repository: &Repository,
    running: Option<&BackupId>,
    older_than: DateTime<Utc>,
) -> Result<Sweep> {
    todo!()
}
