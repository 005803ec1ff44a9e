//! What can be recovered: a pure reading of the catalogue.

use barman_cloud::BackupId;
use chrono::{DateTime, Utc};

/// What a repository can bring back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryWindow {
    /// End of the oldest restorable backup: the earliest point in time.
    pub first: Option<DateTime<Utc>>,
    /// End of the newest restorable backup.
    pub last_backup: Option<DateTime<Utc>>,
    /// Restorable backups, oldest first.
    pub restorable: Vec<BackupId>,
    /// Completed backups that cannot be restored, and why.
    pub broken: Vec<(BackupId, String)>,
}
