//! Keys of labels, annotations and finalizers.

/// Name of the cluster; on everything that belongs to one.
pub const CLUSTER: &str = "postgresql.k8s.enterprisedb.io/cluster";
/// Name of the instance; on its pod and volumes.
pub const INSTANCE: &str = "postgresql.k8s.enterprisedb.io/instance";
/// `primary` or `replica`; on pods.
pub const ROLE: &str = "postgresql.k8s.enterprisedb.io/role";
/// Value of [`ROLE`] on the primary.
pub const ROLE_PRIMARY: &str = "primary";
/// Value of [`ROLE`] on a replica.
pub const ROLE_REPLICA: &str = "replica";
/// `data` or `wal`; on volumes.
pub const VOLUME_ROLE: &str = "postgresql.k8s.enterprisedb.io/volume";
/// Name of the cluster; on the pod that serves its repositories on volumes, and on these. The pod has no
/// [`CLUSTER`], or the service of all instances would lead to it.
pub const REPO_HOST: &str = "postgresql.k8s.enterprisedb.io/repo-host";
/// Name of the repository; on its volume.
pub const REPOSITORY: &str = "postgresql.k8s.enterprisedb.io/repository";
/// Name of the ScheduledBackup; on the Backups that it made.
pub const SCHEDULED_BACKUP: &str = "postgresql.k8s.enterprisedb.io/scheduled-backup";
/// `true` on the Backup made at once for `immediate`.
pub const IMMEDIATE_BACKUP: &str = "postgresql.k8s.enterprisedb.io/immediate-backup";
/// Serial of the instance; annotation on pods and volumes.
pub const SERIAL: &str = "postgresql.k8s.enterprisedb.io/serial";
/// `ready` once the volume holds a finished data directory; annotation on volumes.
pub const VOLUME_STATUS: &str = "postgresql.k8s.enterprisedb.io/volume-status";
/// Fingerprint of the pod's specification; annotation on pods.
pub const POD_SPEC_HASH: &str = "postgresql.k8s.enterprisedb.io/pod-spec-hash";
/// Annotation of a pod: since when the operator has tried to replace its instance manager in place, by which program, and
/// why that was refused, as JSON.
pub const MANAGER_UPGRADE: &str = "postgresql.k8s.enterprisedb.io/manager-upgrade";
/// Finalizer of a Backup whose data goes with it.
pub const BACKUP_DATA: &str = "postgresql.k8s.enterprisedb.io/backup-data";
/// Annotation of a Cluster: instances whose PostgreSQL is kept down, as a JSON list of names or `*` for all.
pub const FENCED: &str = "postgresql.k8s.enterprisedb.io/fenced-instances";
/// Annotation of a Cluster: the replica that shall become the primary, or `*` for the most advanced one. The operator
/// takes it away when it has begun, or refused.
pub const SWITCHOVER: &str = "postgresql.k8s.enterprisedb.io/switchover";
/// Annotation of a Cluster: `on` takes its pods away and leaves its volumes.
pub const HIBERNATION: &str = "postgresql.k8s.enterprisedb.io/hibernation";
/// Annotation of a Cluster: another value restarts all instances, one after the other.
pub const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";
/// Standard label: what manages this object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Value of [`MANAGED_BY`].
pub const MANAGED_BY_VALUE: &str = "howdah";

/// Whether `instance` is fenced by the value of [`FENCED`]. A value that is no list of names fences nobody: a typing
/// error must not stop a database.
///
/// # Errors
/// Says what is wrong with the value.
pub fn fences(value: &str, instance: &str) -> Result<bool, String> {
    Ok(fenced_names(value)?.iter().any(|name| name == "*" || name == instance))
}

/// Names in the value of [`FENCED`]; `*` stands for all instances.
///
/// # Errors
/// Says what is wrong with the value.
pub fn fenced_names(value: &str) -> Result<Vec<String>, String> {
    let value = value.trim();
    if value == "*" {
        return Ok(vec![value.to_owned()]);
    }
    serde_json::from_str(value).map_err(|error| {
        format!("annotation {FENCED} is neither * nor a JSON list of instances such as [\"pg-1\"]: {error}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fences_by_name_or_all() {
        assert_eq!(fences("*", "pg-1"), Ok(true));
        assert_eq!(fences("[\"pg-1\"]", "pg-1"), Ok(true));
        assert_eq!(fences("[\"pg-1\"]", "pg-2"), Ok(false));
        assert_eq!(fences("[]", "pg-2"), Ok(false));
        assert!(fences("pg-1", "pg-1").unwrap_err().contains("JSON list"));
    }
}
