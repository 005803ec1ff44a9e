//! How the first instance of a cluster comes to its data.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::LocalObjectReference;
use crate::object_store::BarmanObjectStore;
use crate::repository::{DEFAULT, NamedStore, Repository};

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
    /// Name of an entry in `spec.externalClusters` whose places hold the backup. The first of these from which the
    /// target can be reached is used; in it the newest backup of any type that ended before the target, or
    /// `recoveryTarget.backupID`.
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

/// A cluster outside of this one, known by the places of its backups and WAL.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.barmanObjectStore) || (has(self.repositories) && self.repositories.size() > 0)")
    .message("an external cluster is known by its barmanObjectStore, its repositories, or both"))]
pub struct ExternalCluster {
    /// Name by which `bootstrap.recovery.source` refers to it.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Name of the Cluster that wrote there: its folder below each place. Default: `name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[^/ ]+$')").message("serverName must not contain slashes or spaces"))]
    pub server_name: Option<String>,
    /// Its object store; the repository `default`. Its own `serverName` goes before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub barman_object_store: Option<BarmanObjectStore>,
    /// Its repositories, as in its `spec.backup.repositories`, the nearest first. A recovery takes the first place, with
    /// `barmanObjectStore` before all of these, from which the target can be reached, and WAL that this one lacks from
    /// the others. `path` defaults to `/<namespace of this cluster>/<serverName>/<name>`; schedules and retention have no
    /// effect here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub repositories: Vec<Repository>,
}

impl ExternalCluster {
    /// All its places, the nearest first; each names its server.
    #[must_use]
    pub fn stores(&self, namespace: &str) -> Vec<NamedStore> {
        let server = self.server_name.as_deref().unwrap_or(&self.name);
        let named = |name: &str, store: BarmanObjectStore, archive_wal| NamedStore {
            name: name.to_owned(),
            store: BarmanObjectStore { server_name: Some(store.server_name_or(server).to_owned()), ..store },
            retention: None,
            archive_wal,
        };
        let first = self.barman_object_store.iter().map(|store| named(DEFAULT, store.clone(), true));
        let others = self
            .repositories
            .iter()
            .map(|one| named(&one.name, one.store(namespace, server), one.archives_wal()));
        first.chain(others).collect()
    }
}

/// What the first instance was restored from; part of `Cluster.status`.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryStatus {
    /// Name of the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Folder of the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_path: Option<String>,
    /// Folder of the server below it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// Id of the backup.
    #[serde(rename = "backupID", skip_serializing_if = "Option::is_none")]
    pub backup_id: Option<String>,
    /// The timeline that was followed.
    #[serde(rename = "timelineID", skip_serializing_if = "Option::is_none")]
    pub timeline_id: Option<u32>,
    /// Nearer repositories that were passed over, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<PassedOver>,
}

/// A repository from which a recovery did not begin.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PassedOver {
    /// Its name.
    pub repository: String,
    /// Why.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::S3Repository;

    #[test]
    fn an_external_cluster_names_its_server_in_every_place() {
        let repository = |name: &str, path: Option<&str>| Repository {
            name: name.into(),
            s3: Some(S3Repository { bucket: "backups".into(), ..S3Repository::default() }),
            path: path.map(str::to_owned),
            ..Repository::default()
        };
        let store = BarmanObjectStore { destination_path: "s3://b/".into(), ..BarmanObjectStore::default() };
        let mut external = ExternalCluster {
            name: "origin".into(),
            barman_object_store: Some(store),
            repositories: vec![repository("repo1", None), repository("repo2", Some("/far"))],
            ..ExternalCluster::default()
        };
        let places = |external: &ExternalCluster| -> Vec<String> {
            let place = |n: NamedStore| {
                format!("{} {} {}", n.name, n.store.destination_path, n.store.server_name.unwrap_or_default())
            };
            external.stores("prod").into_iter().map(place).collect()
        };
        assert_eq!(
            places(&external),
            [
                "default s3://b/ origin",
                "repo1 s3://backups/prod/origin/repo1 origin",
                "repo2 s3://backups/far origin"
            ]
        );
        external.server_name = Some("pg".into());
        assert_eq!(places(&external)[1], "repo1 s3://backups/prod/pg/repo1 pg");
        assert_eq!(places(&external)[0], "default s3://b/ pg");
    }
}
