//! Types and reasons of conditions, and the one way to set a condition.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Cluster: all instances are ready.
pub const READY: &str = "Ready";
/// Cluster: WAL reaches the archive.
pub const CONTINUOUS_ARCHIVING: &str = "ContinuousArchiving";
/// Cluster: outcome of the last backup.
pub const LAST_BACKUP_SUCCEEDED: &str = "LastBackupSucceeded";
/// Cluster: the object store is configured and its Secrets are there.
pub const BACKUP_CONFIGURED: &str = "BackupConfigured";
/// Cluster: the repositories on volumes are served; absent without such repositories.
pub const REPOSITORY_HOST_READY: &str = "RepositoryHostReady";
/// Cluster: no repository lacks WAL that others have.
pub const REPOSITORIES_UP_TO_DATE: &str = "RepositoriesUpToDate";
/// Cluster: as many replicas confirm commits as were asked for; absent with asynchronous replication.
pub const SYNCHRONOUS_REPLICATION: &str = "SynchronousReplication";
/// Cluster: the certificates that were provided can be used, do not end soon, and name the services; absent when none are
/// provided.
pub const CERTIFICATES_VALID: &str = "CertificatesValid";
/// Cluster: there is room for WAL for a good while.
pub const WAL_RUNWAY: &str = "WALRunway";
/// Backup: given to an instance. ScheduledBackup: due times can be computed.
pub const SCHEDULED: &str = "Scheduled";
/// Backup: the outcome.
pub const COMPLETED: &str = "Completed";
/// Backup: the checksums of all data pages were right.
pub const PAGES_INTACT: &str = "PagesIntact";
/// Backup: its data is gone from the repository.
pub const DATA_DELETED: &str = "DataDeleted";

/// Status of a condition: known and true.
pub const TRUE: &str = "True";
/// Known and false.
pub const FALSE: &str = "False";
/// Not known.
pub const UNKNOWN: &str = "Unknown";

/// Sets `type_` in `conditions`; `lastTransitionTime` moves only when the status does.
/// Returns whether anything changed.
pub fn set(
    conditions: &mut Vec<Condition>,
    type_: &str,
    status: &str,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Time,
) -> bool {
    let new = Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: generation,
        last_transition_time: now,
    };
    let Some(old) = conditions.iter_mut().find(|c| c.type_ == type_) else {
        conditions.push(new);
        return true;
    };
    let kept = Condition {
        last_transition_time: if old.status == new.status {
            old.last_transition_time.clone()
        } else {
            new.last_transition_time.clone()
        },
        ..new
    };
    let changed = *old != kept;
    *old = kept;
    changed
}

/// The condition `type_`, when set.
#[must_use]
pub fn get<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}
