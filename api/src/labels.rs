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
/// Finalizer of a Backup whose data goes with it.
pub const BACKUP_DATA: &str = "postgresql.k8s.enterprisedb.io/backup-data";
/// Standard label: what manages this object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Value of [`MANAGED_BY`].
pub const MANAGED_BY_VALUE: &str = "howdah";
