//! `Cluster`: a PostgreSQL primary with its replicas.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeAffinity, ResourceRequirements, Toleration, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::availability::{
    DataDurability, PrimaryUpdateMethod, PrimaryUpdateStrategy, ReplicaSource, SynchronousMethod,
    SynchronousReplication,
};
use crate::bootstrap::{Bootstrap, ExternalCluster};
use crate::certificates::CertificatesConfiguration;
use crate::cluster_status::ClusterStatus;
use crate::common::{BackupTarget, LocalObjectReference};
use crate::object_store::BarmanObjectStore;
use crate::replica_cluster::ReplicaCluster;
use crate::repository::{DEFAULT, NamedStore, Repository};
use crate::retention::Retention;
use crate::wal_runway::WalOverflow;

/// A PostgreSQL primary with its replicas, its backups and its WAL archive.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[kube(
    group = "postgresql.k8s.enterprisedb.io",
    version = "v1alpha1",
    kind = "Cluster",
    namespaced,
    status = "ClusterStatus",
    derive = "Default",
    derive = "PartialEq",
    category = "howdah",
    doc = "A PostgreSQL primary with its replicas, its backups and its WAL archive.",
    validation = Rule::new("self.metadata.name.size() <= 50 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("the name of a Cluster must be a DNS label of at most 50 characters that begins with a letter"),
    printcolumn(json_path = ".spec.instances", name = "Instances", type_ = "integer"),
    printcolumn(json_path = ".status.readyInstances", name = "Ready", type_ = "integer"),
    printcolumn(json_path = ".status.phase", name = "Status", type_ = "string"),
    printcolumn(json_path = ".status.currentPrimary", name = "Primary", type_ = "string"),
    printcolumn(json_path = ".status.lastSuccessfulBackup", name = "Last Backup", type_ = "date"),
    printcolumn(json_path = ".metadata.creationTimestamp", name = "Age", type_ = "date")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.bootstrap) == has(oldSelf.bootstrap) && (!has(self.bootstrap) || self.bootstrap == oldSelf.bootstrap)")
    .message("bootstrap is read once, when the cluster is made: create a new Cluster instead of changing it"))]
#[x_kube(validation = Rule::new("!has(self.replica) || !self.replica.enabled || (has(oldSelf.replica) && oldSelf.replica.enabled)")
    .message("replica.enabled cannot become true later: a cluster that has taken writes does not follow another one; create a new Cluster with replica and bootstrap.fullRecovery"))]
#[x_kube(validation = Rule::new("!has(self.replica) || !self.replica.enabled || (has(self.bootstrap) && ((has(self.bootstrap.fullRecovery) && has(self.bootstrap.fullRecovery.source) && self.bootstrap.fullRecovery.source == self.replica.source) || (has(self.bootstrap.recovery) && has(self.bootstrap.recovery.source) && self.bootstrap.recovery.source == self.replica.source)))")
    .message("replica.source must be the external cluster that bootstrap.fullRecovery.source names: what is followed is what the cluster began with"))]
#[x_kube(validation = Rule::new("!has(self.replica) || !self.replica.enabled || !has(self.bootstrap) || !((has(self.bootstrap.fullRecovery) && has(self.bootstrap.fullRecovery.recoveryTarget)) || (has(self.bootstrap.recovery) && has(self.bootstrap.recovery.recoveryTarget)))")
    .message("a replica cluster follows its source without end: take recoveryTarget away, or replica"))]
#[x_kube(validation = Rule::new("has(self.walStorage) == has(oldSelf.walStorage)")
    .message("walStorage cannot be added or removed later: create a new Cluster from a backup"))]
#[x_kube(validation = Rule::new("!has(self.maxSyncReplicas) || self.maxSyncReplicas < (has(self.instances) ? self.instances : 1)")
    .message("maxSyncReplicas must be less than instances: the primary is no replica; give a smaller number, or more instances"))]
#[x_kube(validation = Rule::new("!has(self.minSyncReplicas) || self.minSyncReplicas <= (has(self.maxSyncReplicas) ? self.maxSyncReplicas : 0)")
    .message("minSyncReplicas must not be more than maxSyncReplicas: give maxSyncReplicas as well, or a smaller minimum"))]
#[x_kube(validation = Rule::new("!has(self.postgresql) || !has(self.postgresql.synchronous) || self.postgresql.synchronous.number < (has(self.instances) ? self.instances : 1)")
    .message("postgresql.synchronous.number must be less than instances: the primary is no replica; give a smaller number, or more instances"))]
#[x_kube(validation = Rule::new("!has(self.postgresql) || !has(self.postgresql.synchronous) || !has(self.maxSyncReplicas)")
    .message("give postgresql.synchronous or minSyncReplicas and maxSyncReplicas, not both"))]
pub struct ClusterSpec {
    /// Number of instances: one primary, the rest replicas. Default: 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 100))]
    pub instances: i32,

    /// Container image with PostgreSQL 13 to 18; any image with PostgreSQL's own programs will do.
    /// Default: the operator's `POSTGRES_IMAGE_NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_name: Option<String>,

    /// `Always`, `IfNotPresent` or `Never`. Default: Kubernetes' own rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,

    /// Secrets with which images are pulled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<LocalObjectReference>,

    /// User id of PostgreSQL in the pod. Default: 26.
    #[serde(rename = "postgresUID", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("postgresUID is fixed once the data exists"))]
    pub postgres_uid: Option<i64>,

    /// Group id of PostgreSQL in the pod. Default: 26.
    #[serde(rename = "postgresGID", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("postgresGID is fixed once the data exists"))]
    pub postgres_gid: Option<i64>,

    /// Settings of the PostgreSQL server.
    #[serde(default)]
    pub postgresql: PostgresConfiguration,

    /// Volume of the data directory.
    pub storage: StorageConfiguration,

    /// Volume of `pg_wal`. Default: WAL lives on the data volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wal_storage: Option<StorageConfiguration>,

    /// CPU and memory of the PostgreSQL container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,

    /// Where instances may run.
    #[serde(default)]
    pub affinity: AffinityConfiguration,

    /// Secret with the superuser's `username` (must be `postgres`) and `password`.
    /// Default: `<cluster>-superuser`, generated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub superuser_secret: Option<LocalObjectReference>,

    /// Whether `postgres` may log in with a password. Default: true. When false, no superuser Secret is made
    /// and the password is removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_superuser_access: Option<bool>,

    /// How the first instance comes to its data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<Bootstrap>,

    /// Object stores and repositories of other clusters, to recover from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub external_clusters: Vec<ExternalCluster>,

    /// Backups and the WAL archive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupConfiguration>,

    /// Certificates of PostgreSQL that are provided, and further names for those that the operator makes. Default: the
    /// operator makes all of them, and renews them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificates: Option<CertificatesConfiguration>,

    /// Metadata of the service account of the instances, for example a cloud role annotation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_template: Option<ServiceAccountTemplate>,

    /// Seconds within which an instance must become ready after its start; replaying a long archive counts.
    /// Default: 3600.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub start_delay: Option<i32>,

    /// Seconds PostgreSQL is given to shut down when its pod ends. Default: 1800.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub stop_delay: Option<i32>,

    /// Seconds that a primary may be unready before another instance takes its place. Default: 0; 10 with asynchronous
    /// replication while the container of the primary is being started again in its place, since that loses nothing and a
    /// failover may.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub failover_delay: Option<i32>,

    /// Seconds the primary is given to shut down in a switchover, so that everything it wrote reaches the replicas and
    /// the archive; then it is stopped at once. Default: 3600.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub switchover_delay: Option<i32>,

    /// Fewest replicas that a commit waits for; the operator asks for less only while fewer are ready. Default: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 99))]
    pub min_sync_replicas: Option<i32>,

    /// Most replicas that a commit waits for. Default: 0, which is asynchronous replication.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 99))]
    pub max_sync_replicas: Option<i32>,

    /// `unsupervised`: the operator ends a rolling change with the primary by itself. `supervised`: it waits until a
    /// person orders a switchover. Default: `unsupervised`.
    #[serde(default)]
    pub primary_update_strategy: PrimaryUpdateStrategy,

    /// `restart` or `switchover`: how a rolling change comes to the primary. Default: `restart`.
    #[serde(default)]
    pub primary_update_method: PrimaryUpdateMethod,

    /// Where a new replica's data comes from. `primary`: it is copied by streaming. `backup`: the newest backup of the
    /// nearest repository is restored and the archive replayed, so that the primary reads none of its data for it; without
    /// a backup that can serve, the primary is copied and the event `JoiningFromPrimary` tells why. `auto`: from the backup
    /// when the databases take at least 4 GiB and at most half as much WAL was written since. Default: `auto`.
    #[serde(default)]
    pub replica_source: ReplicaSource,

    /// Makes this a replica cluster: one that follows the archive of another cluster until it is promoted. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replica: Option<ReplicaCluster>,

    /// Whether PodDisruptionBudgets protect the primary, and all replicas but one, from evictions. Default: true.
    #[serde(rename = "enablePDB", skip_serializing_if = "Option::is_none")]
    pub enable_pdb: Option<bool>,

    /// How instances are spread over zones or nodes, in Kubernetes' own words. Without a `labelSelector` the instances of
    /// this cluster are meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
}

fn one() -> i32 {
    1
}

/// When images are pulled.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum ImagePullPolicy {
    /// At every start.
    Always,
    /// When the node has none.
    IfNotPresent,
    /// Never.
    Never,
}

/// Settings of the PostgreSQL server.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.parameters) || ['archive_command', 'archive_library', 'archive_mode', 'restore_command', 'primary_conninfo', 'primary_slot_name', 'recovery_target', 'recovery_target_time', 'recovery_target_lsn', 'recovery_target_name', 'recovery_target_xid', 'recovery_target_timeline', 'data_directory', 'hba_file', 'ident_file', 'config_file', 'external_pid_file', 'port', 'listen_addresses', 'unix_socket_directories', 'ssl', 'ssl_ca_file', 'ssl_cert_file', 'ssl_key_file', 'hot_standby', 'synchronous_standby_names', 'full_page_writes', 'logging_collector', 'log_destination', 'allow_alter_system'].all(k, !(k in self.parameters))")
    .message("this parameter is managed by the operator and cannot be set: archive_*, restore_command, recovery_target*, primary_conninfo, file locations, port, listen_addresses, ssl*, hot_standby, synchronous_standby_names (use postgresql.synchronous), full_page_writes, logging_collector, log_destination"))]
pub struct PostgresConfiguration {
    /// Parameters of `postgresql.conf`, for example `{"shared_buffers": "256MB"}`. Those that the operator
    /// manages (archiving, replication, file locations) are refused.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 400))]
    pub parameters: BTreeMap<String, String>,

    /// Lines added to `pg_hba.conf`, after the operator's own and before the final rule, for example
    /// `host app app 10.0.0.0/8 scram-sha-256`.
    #[serde(default, rename = "pg_hba", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200))]
    pub pg_hba: Vec<String>,

    /// Synchronous replication: how many replicas must have a transaction before it is acknowledged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synchronous: Option<SynchronousReplication>,
}

/// A volume.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0").message("a volume cannot shrink: give at least the present size"))]
pub struct StorageConfiguration {
    /// Size, for example `5Gi`. It can grow where the storage class allows it, never shrink.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = Rule::new("isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))").message("size must be a positive quantity such as 5Gi"))]
    pub size: String,
    /// Storage class. Default: the cluster's default class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
}

impl StorageConfiguration {
    /// The size as a Kubernetes quantity.
    #[must_use]
    pub fn quantity(&self) -> Quantity {
        Quantity(self.size.clone())
    }
}

/// Where instances may run.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AffinityConfiguration {
    /// Keep instances apart. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_pod_anti_affinity: Option<bool>,
    /// What "apart" means: a node label. Default: `kubernetes.io/hostname`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topology_key: Option<String>,
    /// `preferred` or `required`. Default: `preferred`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_anti_affinity_type: Option<PodAntiAffinityType>,
    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that are tolerated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Rules for the choice of nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_affinity: Option<NodeAffinity>,
}

/// How strictly instances are kept apart.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PodAntiAffinityType {
    /// Where possible.
    #[default]
    Preferred,
    /// Always; an instance that finds no place waits.
    Required,
}

/// Backups and the WAL archive.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.barmanObjectStore) || !has(self.repositories) || self.repositories.size() == 0 || self.repositories.exists(r, !has(r.archiveWAL) || r.archiveWAL)")
    .message("one repository at least must archive WAL, else no backup could be made consistent: take archiveWAL: false away from one of them"))]
#[x_kube(validation = Rule::new("!has(self.walAcknowledgement) || !string(self.walAcknowledgement).matches('^[1-9]$') || int(string(self.walAcknowledgement)) <= (has(self.barmanObjectStore) ? 1 : 0) + (has(self.repositories) ? self.repositories.filter(r, !has(r.archiveWAL) || r.archiveWAL).size() : 0)")
    .message("walAcknowledgement is more than the number of repositories that archive WAL (barmanObjectStore counts, archiveWAL: false does not): give a smaller number, or all"))]
#[x_kube(validation = Rule::new("!has(self.walOverflow) || !has(self.walOverflow.policy) || self.walOverflow.policy != 'Drop' || has(self.barmanObjectStore) || (has(self.repositories) && self.repositories.size() > 0)")
    .message("walOverflow.policy Drop needs a repository, without one no WAL waits: give barmanObjectStore or repositories, or leave policy out"))]
pub struct BackupConfiguration {
    /// The object store in the Barman Cloud layout. WAL archiving begins as soon as it is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub barman_object_store: Option<BarmanObjectStore>,
    /// How long backups and WAL in `barmanObjectStore` stay: every moment of this time can be recovered. Days, weeks or
    /// months, for example `30d`, `4w` or `6m`. Default: for ever. Repositories have a `retention` of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 8))]
    #[x_kube(validation = Rule::new("self.matches('^[1-9][0-9]*[dwm]$')").message("retentionPolicy must be a number of days, weeks or months, for example 30d, 4w or 6m"))]
    pub retention_policy: Option<String>,
    /// Further places for backups and WAL, each with a name. WAL goes to every one of them (but those with `archiveWAL:
    /// false`) and to `barmanObjectStore`, in parallel. A Backup goes to the one that its `repository` names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub repositories: Vec<Repository>,
    /// How many repositories must have a WAL file before PostgreSQL may let it go: `all`, or a number. Default: `all`. With
    /// a number a repository that is away holds nothing up; it gets what it lacks when it is back, from `pg_wal` or from
    /// another repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("string(self) == 'all' || string(self).matches('^[1-9]$')")
        .message("walAcknowledgement must be all or a number of repositories from 1 on"))]
    pub wal_acknowledgement: Option<IntOrString>,
    /// When the volume with `pg_wal` fills: from when on it is told, and whether WAL may be let go of instead of a
    /// database that stops.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wal_overflow: Option<WalOverflow>,
    /// Which instance base backups are read from. Default: `prefer-standby`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<BackupTarget>,
}

/// Metadata of the service account of the instances.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountTemplate {
    /// Labels and annotations.
    #[serde(default)]
    pub metadata: TemplateMetadata,
}

/// Labels and annotations.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateMetadata {
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations, for example `eks.amazonaws.com/role-arn`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Synchronous replication as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synchronous {
    /// Any of them, or the first.
    pub method: SynchronousMethod,
    /// Fewest replicas that a commit shall wait for.
    pub minimum: i32,
    /// Most.
    pub maximum: i32,
    /// Whether commits wait while there are fewer replicas than `minimum`.
    pub waits: bool,
}

impl ClusterSpec {
    /// User and group ids of PostgreSQL.
    #[must_use]
    pub fn postgres_ids(&self) -> (i64, i64) {
        (self.postgres_uid.unwrap_or(26), self.postgres_gid.unwrap_or(26))
    }

    /// All places for backups and WAL: the one in `barmanObjectStore` first, under the name `default`.
    #[must_use]
    pub fn stores(&self, namespace: &str, cluster: &str) -> Vec<NamedStore> {
        let Some(backup) = &self.backup else { return Vec::new() };
        let first = backup.barman_object_store.iter().map(|store| NamedStore {
            name: DEFAULT.to_owned(),
            store: store.clone(),
            retention: backup
                .retention_policy
                .as_ref()
                .map(|window| Retention { recovery_window: Some(window.clone()), ..Retention::default() }),
            archive_wal: true,
        });
        let others = backup.repositories.iter().map(|repository| NamedStore {
            name: repository.name.clone(),
            store: repository.store(namespace, cluster),
            retention: repository.retention.clone(),
            archive_wal: repository.archives_wal(),
        });
        first.chain(others).collect()
    }

    /// Whether there is a place for backups and WAL.
    #[must_use]
    pub fn has_stores(&self) -> bool {
        self.backup.as_ref().is_some_and(|b| b.barman_object_store.is_some() || !b.repositories.is_empty())
    }

    /// How many repositories must have a WAL file before PostgreSQL may let it go; `None` is all.
    #[must_use]
    pub fn wal_acknowledgement(&self) -> Option<usize> {
        match self.backup.as_ref()?.wal_acknowledgement.as_ref()? {
            IntOrString::Int(number) => usize::try_from(*number).ok(),
            // As an edit may leave it; the schema takes no other words than numbers and "all".
            IntOrString::String(text) => text.parse().ok(),
        }
    }

    /// What happens when the volume with `pg_wal` fills.
    #[must_use]
    pub fn wal_overflow(&self) -> WalOverflow {
        self.backup.as_ref().and_then(|backup| backup.wal_overflow.clone()).unwrap_or_default()
    }

    /// Synchronous replication as it is asked for, in whichever words; `None` when it is asynchronous. With
    /// `minSyncReplicas` and `maxSyncReplicas` it is `maxSyncReplicas`, as long as so many are ready.
    #[must_use]
    pub fn synchronous(&self) -> Option<Synchronous> {
        if let Some(given) = &self.postgresql.synchronous {
            let preferred = given.data_durability == DataDurability::Preferred;
            let minimum = if preferred { 0 } else { given.number };
            return Some(Synchronous {
                method: given.method,
                minimum,
                maximum: given.number,
                waits: !preferred,
            });
        }
        let maximum = self.max_sync_replicas.unwrap_or(0);
        let minimum = self.min_sync_replicas.unwrap_or(0);
        (maximum > 0).then_some(Synchronous {
            method: SynchronousMethod::Any,
            minimum,
            maximum,
            waits: false,
        })
    }

    /// Whether the superuser has a password.
    #[must_use]
    pub fn superuser_access(&self) -> bool {
        self.enable_superuser_access.unwrap_or(true)
    }
}
