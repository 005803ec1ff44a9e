//! How the first instance of a cluster comes to its data.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::LocalObjectReference;
use crate::object_store::BarmanObjectStore;

/// How the cluster begins. Nothing given: `initdb` with its defaults.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.initdb), has(self.fullRecovery), has(self.recovery)].filter(x, x).size() <= 1")
    .message("give only one of initdb, fullRecovery and recovery"))]
pub struct Bootstrap {
    /// Begin with an empty database cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initdb: Option<InitDb>,
    /// Begin with the content of a backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_recovery: Option<Recovery>,
    /// The later name of `fullRecovery`; same meaning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Recovery>,
}

impl Bootstrap {
    /// The recovery, under whichever name it was given.
    #[must_use]
    pub fn recovery(&self) -> Option<&Recovery> {
        self.full_recovery.as_ref().or(self.recovery.as_ref())
    }
}

/// Options of `initdb`.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct InitDb {
    /// Application database that is created. Default: `app`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub database: Option<String>,
    /// Owner of that database. Default: the database's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self != 'postgres' && self != 'streaming_replica'").message("owner must not be postgres or streaming_replica"))]
    pub owner: Option<String>,
    /// Secret of type `kubernetes.io/basic-auth` with the owner's `username` and `password`.
    /// Default: `<cluster>-app`, generated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<LocalObjectReference>,
    /// Encoding of the databases. Default: `UTF8`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding: Option<String>,
    /// Collation. Default: `C`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locale_collate: Option<String>,
    /// Character classification. Default: `C`.
    #[serde(rename = "localeCType", skip_serializing_if = "Option::is_none")]
    pub locale_ctype: Option<String>,
    /// Page checksums. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_checksums: Option<bool>,
    /// Size of a WAL segment in MiB, a power of two from 1 to 1024. Default: 16.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]").message("walSegmentSize must be a power of two from 1 to 1024 (MiB)"))]
    pub wal_segment_size: Option<i32>,
    /// SQL statements run as superuser in the `postgres` database after creation.
    #[serde(default, rename = "postInitSQL", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub post_init_sql: Vec<String>,
    /// SQL statements run as superuser in the application database after creation.
    #[serde(default, rename = "postInitApplicationSQL", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub post_init_application_sql: Vec<String>,
}

/// Begin with the content of a backup, replayed to its end or to a target.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.backup) != has(self.source)")
    .message("give either backup (a Backup object) or source (a name in externalClusters)"))]
pub struct Recovery {
    /// A completed Backup object in the same namespace. The cluster that made it need not exist any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<LocalObjectReference>,
    /// Name of an entry in `spec.externalClusters` whose object store holds the backup. The newest backup
    /// that reaches the target is taken, or `recoveryTarget.backupID`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Where replay stops. Default: the end of the archive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery_target: Option<RecoveryTarget>,
    /// Application database whose credentials go into `<cluster>-app`. Default: none is touched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Owner of that database; its password is set after recovery. Default: the database's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Secret with the owner's `username` and `password`. Default: `<cluster>-app`, generated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<LocalObjectReference>,
}

/// Where replay stops; see PostgreSQL's documentation of recovery targets.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.targetXID), has(self.targetName), has(self.targetLSN), has(self.targetTime), has(self.targetImmediate) && self.targetImmediate].filter(x, x).size() <= 1")
    .message("give only one of targetXID, targetName, targetLSN, targetTime and targetImmediate"))]
pub struct RecoveryTarget {
    /// Id of the base backup to begin with, for example `20261121T135740`. Only with `source`.
    #[serde(rename = "backupID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 15))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9]{8}T[0-9]{6}$')").message("backupID must look like 20261121T135740"))]
    pub backup_id: Option<String>,
    /// Timeline to follow: a number, `latest` or `current`. Default: `latest`.
    #[serde(rename = "targetTLI", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 10))]
    #[x_kube(validation = Rule::new("self.matches('^([1-9][0-9]*|latest|current)$')").message("targetTLI must be a positive number, latest or current"))]
    pub target_tli: Option<String>,
    /// Stop at this transaction id.
    #[serde(rename = "targetXID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 20))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9]{1,20}$')").message("targetXID must be a decimal transaction id"))]
    pub target_xid: Option<String>,
    /// Stop at the restore point of this name (`pg_create_restore_point`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub target_name: Option<String>,
    /// Stop at this log sequence number, for example `0/3000060`.
    #[serde(rename = "targetLSN", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 17))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}$')").message("targetLSN must look like 0/3000060"))]
    pub target_lsn: Option<String>,
    /// Stop at this time: RFC 3339 (`2026-11-21T10:00:00Z`) or PostgreSQL's own form
    /// (`2026-11-21 10:00:00+01`); without a zone it is UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,6})?)?( ?(Z|UTC|[+-][0-9]{2}(:?[0-9]{2})?))?)?$')")
        .message("targetTime must be RFC 3339, for example 2026-11-21T10:00:00Z"))]
    pub target_time: Option<String>,
    /// Stop as soon as the data is consistent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_immediate: Option<bool>,
    /// Stop just before the target instead of just behind it. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclusive: Option<bool>,
}

/// A cluster outside of this one, known by its object store.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalCluster {
    /// Name by which `bootstrap.recovery.source` refers to it.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Its object store. `serverName` defaults to `name`.
    pub barman_object_store: BarmanObjectStore,
}

/// Where a recovery stands; part of `Cluster.status`.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryStatus {
    /// Id of the base backup that was restored.
    #[serde(rename = "backupID", skip_serializing_if = "Option::is_none")]
    pub backup_id: Option<String>,
    /// Last WAL position replayed.
    #[serde(rename = "replayedLSN", skip_serializing_if = "Option::is_none")]
    pub replayed_lsn: Option<String>,
    /// When recovery ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
}
