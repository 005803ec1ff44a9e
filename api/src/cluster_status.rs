//! `Cluster.status`. Its only writer is the operator.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bootstrap::RecoveryStatus;
use crate::certificates::CertificatesStatus;
use crate::encryption::EncryptionStatus;
use crate::instance::InstanceRole;
use crate::retention::RetentionStatus;
use crate::store_probe::StoreProbe;
use crate::wal_runway::{DroppedWal, WalRunway};
use crate::window::RecoveryGap;

/// What is known about a cluster.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// What the cluster is doing, in a few words, for example `Cluster in healthy state`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Why it is in this phase and, when something is wrong, what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase_reason: Option<String>,
    /// Generation of the spec that this status was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Number of instances that exist.
    #[serde(default)]
    pub instances: i32,
    /// Number of instances that are ready.
    #[serde(default)]
    pub ready_instances: i32,
    /// Each instance with its role and state.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub instances_status: Vec<InstanceSummary>,
    /// The instance that is the primary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_primary: Option<String>,
    /// The instance that shall be the primary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_primary: Option<String>,
    /// When `currentPrimary` became the primary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_primary_timestamp: Option<Time>,
    /// When `targetPrimary` was chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_primary_timestamp: Option<Time>,
    /// Since when the primary is not ready; absent while it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_primary_failing_since_timestamp: Option<Time>,
    /// UID of the primary's pod that the operator itself replaces in its place: no reason to choose another primary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary_restart: Option<String>,
    /// What the primary shall set as `synchronous_standby_names`; empty for asynchronous replication.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synchronous_standby_names: Option<String>,
    /// What the primary said it has set: whose confirmation acknowledged transactions have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synchronous_standby_names_in_effect: Option<String>,
    /// Highest serial ever given to an instance; serials do not come back.
    #[serde(default)]
    pub latest_generated_serial: i32,
    /// Timeline of the primary.
    #[serde(rename = "timelineID", skip_serializing_if = "Option::is_none")]
    pub timeline_id: Option<u32>,
    /// System identifier of the database cluster.
    #[serde(rename = "systemID", skip_serializing_if = "Option::is_none")]
    pub system_id: Option<String>,
    /// PostgreSQL's version as a number, for example `150018`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_version: Option<i32>,
    /// Earliest time to which this cluster can be restored: the end of the oldest completed backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_recoverability_point: Option<Time>,
    /// Latest time up to which WAL is known to be in the archive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_archived_time: Option<Time>,
    /// Name of the last WAL file archived.
    #[serde(rename = "lastArchivedWAL", skip_serializing_if = "Option::is_none")]
    pub last_archived_wal: Option<String>,
    /// When the last successful backup ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_successful_backup: Option<Time>,
    /// Name of the last successful Backup object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_successful_backup_name: Option<String>,
    /// When the last failed backup ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failed_backup: Option<Time>,
    /// Name of the last failed Backup object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failed_backup_name: Option<String>,
    /// Each place for backups and WAL: what it holds, and whether WAL reaches it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub repositories: Vec<RepositoryStatus>,
    /// How long the volume with the primary's `pg_wal` lasts. Written anew when it has changed by a good part only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wal_runway: Option<WalRunway>,
    /// The newest gaps in the archive that were made on purpose, oldest first: see `spec.backup.walOverflow`.
    #[serde(default, rename = "droppedWAL", skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["firstWAL".into()]))]
    pub dropped_wal: Vec<DroppedWal>,
    /// What the first instance was restored from, when it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery: Option<RecoveryStatus>,
    /// The certificates that PostgreSQL uses, and when they end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificates: Option<CertificatesStatus>,
    /// `Ready`, `ContinuousArchiving`, `LastBackupSucceeded`, `BackupConfigured`, `RepositoryHostReady`,
    /// `RepositoriesUpToDate`, `SynchronousReplication`,
    /// `WALRunway`, `CertificatesValid`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// UID of the volume of each repository on one, by name of the repository. A volume that goes missing is lost,
    /// never made anew.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub repository_volumes: BTreeMap<String, String>,
    /// Service for reads and writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_service: Option<String>,
    /// Service for reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_service: Option<String>,
    /// PostgreSQL image in use. It stays when `spec.imageName` is not given and the operator's default changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Fingerprint of the pod template in use, for the operator's own comparison.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_spec_hash: Option<String>,
}

/// One instance, as seen by the operator.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceSummary {
    /// Name of the pod.
    pub name: String,
    /// Its role, as reported by its manager.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<InstanceRole>,
    /// Whether it takes connections.
    #[serde(default)]
    pub ready: bool,
    /// Its timeline.
    #[serde(rename = "timelineID", skip_serializing_if = "Option::is_none")]
    pub timeline_id: Option<u32>,
    /// Address of the pod.
    #[serde(rename = "podIP", skip_serializing_if = "Option::is_none")]
    pub pod_ip: Option<String>,
    /// What it is doing or why it is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Version of its instance manager. It follows the operator's without a new pod where the manager was replaced in
    /// place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manager_version: Option<String>,
    /// Whether PostgreSQL is kept down by the annotation `…/fenced-instances`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fenced: bool,
    /// Whether it streams from the primary.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub streaming: bool,
    /// Bytes of WAL that it has not received yet, at the last look; absent on the primary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_bytes: Option<i64>,
}

/// How far a repository is behind the others.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryLag {
    /// Whether it is late: something failed or takes long. A file that is just on its way is no lateness.
    #[serde(default)]
    pub late: bool,
    /// WAL files that it lacks. While it cannot be listed after a restart, all that it may lack.
    #[serde(default)]
    pub files: u64,
    /// Their bytes before compression.
    #[serde(default)]
    pub bytes: u64,
    /// The first WAL file that it lacks.
    #[serde(rename = "oldestWAL", skip_serializing_if = "Option::is_none")]
    pub oldest_wal: Option<String>,
    /// When that file was stored in another repository: so long it is behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
}

/// One place for backups and WAL.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryStatus {
    /// Its name; `default` is the one in `barmanObjectStore`.
    pub name: String,
    /// Folder of the store.
    pub destination_path: String,
    /// Whether the last attempt to archive WAL there succeeded; absent until the primary has said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archiving: Option<bool>,
    /// Why not, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Last WAL file that reached it.
    #[serde(rename = "lastArchivedWAL", skip_serializing_if = "Option::is_none")]
    pub last_archived_wal: Option<String>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_archived_time: Option<Time>,
    /// What its store can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe: Option<StoreProbe>,
    /// How it is encrypted; absent when it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<EncryptionStatus>,
    /// What it lacks of the WAL that was acknowledged without it; absent when it has everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<RepositoryLag>,
    /// Backups in it that can be restored: full ones, and those that build on others with all that they build on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backups: Option<u32>,
    /// End of the oldest of these backups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_recoverability_point: Option<Time>,
    /// End of the newest of these backups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_backup: Option<Time>,
    /// Earliest time to which it can restore on the way to the newest timeline: the end of a backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub earliest: Option<Time>,
    /// Latest time to which it can restore: when the last WAL that follows a backup without a gap was stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest: Option<Time>,
    /// Times in between to which it cannot restore, because WAL is missing: the newest ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<RecoveryGap>,
    /// What retention decided and did; absent without a policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionStatus>,
}
