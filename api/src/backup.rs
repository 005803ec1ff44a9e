//! `Backup`: one base backup, asked for or taken.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{BackupTarget, BackupType, DeletionPolicy, LocalObjectReference, SecretKeySelector};
use crate::encryption::ClientEncryption;
use crate::labels::BACKUP_DATA;
use crate::object_store::{
    AzureCredentials, BarmanObjectStore, Encryption, GoogleCredentials, S3Credentials, UriStyle,
};

/// One base backup of a cluster. Creating it takes the backup; deleting it leaves the data in the store, unless its
/// `deletionPolicy` is `Delete`.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[kube(
    group = "postgresql.k8s.enterprisedb.io",
    version = "v1alpha1",
    kind = "Backup",
    namespaced,
    status = "BackupStatus",
    derive = "Default",
    derive = "PartialEq",
    category = "howdah",
    doc = "One base backup of a cluster. Creating it takes the backup; deleting it leaves the data in the store, unless its deletionPolicy is Delete.",
    printcolumn(json_path = ".spec.cluster.name", name = "Cluster", type_ = "string"),
    printcolumn(json_path = ".status.repository", name = "Repository", type_ = "string"),
    printcolumn(json_path = ".status.type", name = "Type", type_ = "string"),
    printcolumn(json_path = ".status.phase", name = "Phase", type_ = "string"),
    printcolumn(json_path = ".status.progress.percent", name = "Progress", type_ = "string"),
    printcolumn(json_path = ".status.size", name = "Size", type_ = "string"),
    printcolumn(json_path = ".metadata.creationTimestamp", name = "Age", type_ = "date"),
    printcolumn(json_path = ".status.duration", name = "Duration", type_ = "string"),
    printcolumn(json_path = ".status.error", name = "Error", type_ = "string")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.cluster == oldSelf.cluster && has(self.repository) == has(oldSelf.repository) && (!has(self.repository) || self.repository == oldSelf.repository) && has(self.type) == has(oldSelf.type) && (!has(self.type) || self.type == oldSelf.type) && has(self.target) == has(oldSelf.target) && (!has(self.target) || self.target == oldSelf.target) && has(self.immediateCheckpoint) == has(oldSelf.immediateCheckpoint) && (!has(self.immediateCheckpoint) || self.immediateCheckpoint == oldSelf.immediateCheckpoint)")
    .message("the spec of a Backup cannot be changed, but for deletionPolicy: create another Backup"))]
pub struct BackupSpec {
    /// The cluster to back up, in the same namespace.
    pub cluster: LocalObjectReference,
    /// The repository that receives it: a name in `spec.backup.repositories` of the cluster, or `default` for
    /// `barmanObjectStore`. Default: `default` when there is a `barmanObjectStore`, else the first repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 20))]
    pub repository: Option<String>,
    /// `full`, `differential` (what changed since the last full backup in the repository) or `incremental` (since the
    /// last backup of any type). One without a backup that it could build on becomes a full one and says why.
    /// Default: `full`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<BackupType>,
    /// Which instance the backup is read from. Default: `spec.backup.target` of the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<BackupTarget>,
    /// Ask for an immediate checkpoint at the start instead of a spread one.
    /// Default: `data.immediateCheckpoint` of the cluster's object store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub immediate_checkpoint: Option<bool>,
    /// What becomes of the data when this object is deleted. `Retain`: it stays in the repository. `Delete`: the object
    /// stays until its data is deleted; the condition `DataDeleted` says why when it cannot be: other backups build on
    /// it, it is the last full one that can be restored, somebody asked to keep it, a recovery reads it, or the store
    /// refuses. Its WAL goes with the next run of retention. Once the cluster is gone, the data stays. May be changed at
    /// any time. Default: `Retain`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
}

/// Phases of a Backup, in their order. A phase never goes back.
#[derive(
    Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum BackupPhase {
    /// Waits; the condition `Scheduled` says for what.
    #[default]
    Pending,
    /// Given to an instance.
    Started,
    /// Data is being read and uploaded.
    Running,
    /// The data is in the store; the WAL that makes it consistent is being confirmed there.
    Finalizing,
    /// Restorable: everything was confirmed in the store.
    Completed,
    /// Ended without a usable backup; `error` says why and what to do.
    Failed,
}

impl BackupPhase {
    /// Completed or failed: never changed again.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }

    /// An instance works on it.
    #[must_use]
    pub fn is_executing(self) -> bool {
        matches!(self, Self::Started | Self::Running | Self::Finalizing)
    }

    /// Whether `next` may follow `self`. Staying is allowed, going back is not; a terminal phase stays;
    /// `completed` follows only `finalizing`, so that no backup is called complete without its WAL check.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        if self.is_terminal() {
            return self == next;
        }
        match next {
            Self::Failed => true,
            Self::Completed => self == Self::Finalizing,
            _ => self <= next,
        }
    }
}

impl fmt::Display for BackupPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "pending",
            Self::Started => "started",
            Self::Running => "running",
            Self::Finalizing => "finalizing",
            Self::Completed => "completed",
            Self::Failed => "failed",
        })
    }
}

/// What is known about a backup. Once completed it holds everything that a restore needs.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupStatus {
    /// `pending`, `started`, `running`, `finalizing`, `completed` or `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<BackupPhase>,
    /// Id in the store, for example `20261121T135740`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup_id: Option<String>,
    /// Name in the store's `backup.info`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup_name: Option<String>,
    /// `full`, `differential` or `incremental`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub backup_type: Option<String>,
    /// Label as pgBackRest spells it, for example `20261121-012341F` or `20261121-012341F_20261122-020000I`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Ids of the backups that a restore needs before this one: the full one first. Absent for a full one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<String>,
    /// Why it is a full backup although another type was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_because: Option<String>,
    /// The instance that takes it.
    #[serde(rename = "instanceID", skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<InstanceId>,

    /// Name of the repository: `default` is the one in `barmanObjectStore`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Folder of the store, as in the cluster when the backup was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_path: Option<String>,
    /// Endpoint of the store.
    #[serde(rename = "endpointURL", skip_serializing_if = "Option::is_none")]
    pub endpoint_url: Option<String>,
    /// Certificate authority of the endpoint.
    #[serde(rename = "endpointCA", skip_serializing_if = "Option::is_none")]
    pub endpoint_ca: Option<SecretKeySelector>,
    /// Certificate that the endpoint asks its clients for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<LocalObjectReference>,
    /// Where the bucket stands in a URL, when the cluster says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri_style: Option<UriStyle>,
    /// Region of the store, when the cluster says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// References to the credentials, never their values.
    #[serde(rename = "s3Credentials", skip_serializing_if = "Option::is_none")]
    pub s3_credentials: Option<S3Credentials>,
    /// The same for Google Cloud Storage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub google_credentials: Option<GoogleCredentials>,
    /// The same for Azure Blob Storage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub azure_credentials: Option<AzureCredentials>,
    /// Client-side encryption of the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_encryption: Option<ClientEncryption>,
    /// Folder of the server below the destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// Server-side encryption that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
    /// Compression of the parts, `none` when they are plain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<String>,

    /// When the instance began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended, well or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<Time>,
    /// How long it took, for example `4s` or `1h12m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// First WAL file that a restore needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub begin_wal: Option<String>,
    /// Last WAL file that makes the backup consistent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_wal: Option<String>,
    /// Position at which the backup began.
    #[serde(rename = "beginLSN", skip_serializing_if = "Option::is_none")]
    pub begin_lsn: Option<String>,
    /// Position at which it ended.
    #[serde(rename = "endLSN", skip_serializing_if = "Option::is_none")]
    pub end_lsn: Option<String>,
    /// Timeline of the backup.
    #[serde(rename = "timelineID", skip_serializing_if = "Option::is_none")]
    pub timeline_id: Option<u32>,
    /// System identifier of the database cluster.
    #[serde(rename = "systemID", skip_serializing_if = "Option::is_none")]
    pub system_id: Option<String>,
    /// Major version of PostgreSQL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub major_version: Option<i32>,

    /// Size in the store, for people, for example `1.2 GiB`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// Size in the store in bytes, WAL not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<i64>,
    /// Size in the store of this backup and all that it builds on, in bytes: what a restore fetches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_size_bytes: Option<i64>,
    /// Size of all files of the database, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_size_bytes: Option<i64>,
    /// Number of objects that hold the data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parts: Option<i32>,
    /// Data pages whose checksum was wrong when they were read; absent when there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bad_pages: Option<BadPages>,
    /// How far it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<BackupProgress>,
    /// Last sign of life of the instance while it works, every ten seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat_at: Option<Time>,
    /// How often the backup went on after a restart of its instance manager. Parts that were finished and whose files
    /// have not changed since are kept. At most 3 times; then it fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resumes: Option<i32>,

    /// Why it failed, and the remedy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// `Scheduled`: given to an instance, or what it waits for. `Completed`: the outcome. `PagesIntact`: whether the
    /// checksums of all data pages were right. `DataDeleted`: whether its data is gone from the repository, when the
    /// object was deleted with `deletionPolicy: Delete`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// Which run of which instance manager works on a backup.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceId {
    /// Name of the pod.
    pub pod_name: String,
    /// Random id of the manager's process; it changes with every start.
    #[serde(rename = "sessionID")]
    pub session_id: String,
}

/// How far a backup is.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupProgress {
    /// Bytes of the data directory and tablespaces read so far.
    pub bytes_done: i64,
    /// Bytes expected in all; an estimate, files change while they are read.
    pub bytes_total: i64,
    /// Bytes read per second, over the last seconds.
    pub bytes_per_second: i64,
    /// For people, for example `42%`.
    pub percent: String,
    /// When the data will have been read at this rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_completion: Option<Time>,
}

/// Data pages whose checksum is wrong.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BadPages {
    /// How many there are.
    pub count: i64,
    /// The first ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pages: Vec<BadPage>,
}

/// A data page whose checksum is wrong.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BadPage {
    /// File relative to the data directory, for example `base/5/16384`; in a tablespace `pg_tblspc/OID/…`.
    pub file: String,
    /// Number of the block within the relation.
    pub block: i64,
}

impl Backup {
    /// Whether its data goes with it.
    #[must_use]
    pub fn deletes_data(&self) -> bool {
        self.spec.deletion_policy == Some(DeletionPolicy::Delete)
    }

    /// Whether its deletion waits for its data.
    #[must_use]
    pub fn is_held(&self) -> bool {
        let held = self.metadata.finalizers.iter().flatten().any(|name| name == BACKUP_DATA);
        held && self.metadata.deletion_timestamp.is_some()
    }
}

impl BackupStatus {
    /// The phase, `pending` when none was written yet.
    #[must_use]
    pub fn phase(&self) -> BackupPhase {
        self.phase.unwrap_or_default()
    }

    /// The store that holds this backup, rebuilt from the status alone: the cluster may be gone.
    /// `None` while the instance has not written its destination yet.
    #[must_use]
    pub fn object_store(&self) -> Option<BarmanObjectStore> {
        Some(BarmanObjectStore {
            destination_path: self.destination_path.clone()?,
            endpoint_url: self.endpoint_url.clone(),
            endpoint_ca: self.endpoint_ca.clone(),
            client_certificate: self.client_certificate.clone(),
            uri_style: self.uri_style,
            region: self.region.clone(),
            server_name: self.server_name.clone(),
            s3_credentials: self.s3_credentials.clone(),
            google_credentials: self.google_credentials.clone(),
            azure_credentials: self.azure_credentials.clone(),
            encryption: self.client_encryption.clone(),
            ..BarmanObjectStore::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::BackupPhase::{Completed, Failed, Finalizing, Pending, Running, Started};

    #[test]
    fn phases_only_go_forward() {
        let all = [Pending, Started, Running, Finalizing, Completed, Failed];
        let mut allowed = Vec::new();
        for from in all {
            for to in all {
                if from.may_become(to) && from != to {
                    allowed.push(format!("{from}->{to}"));
                }
            }
        }
        assert_eq!(
            allowed,
            [
                "pending->started",
                "pending->running",
                "pending->finalizing",
                "pending->failed",
                "started->running",
                "started->finalizing",
                "started->failed",
                "running->finalizing",
                "running->failed",
                "finalizing->completed",
                "finalizing->failed",
            ]
        );
    }
}
