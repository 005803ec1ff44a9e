//! The Kubernetes API of Howdah: the three custom resources, their rules, and the words that operator and
//! instance manager share. Types only: no I/O, no client, no clock.
//!
//! Doc comments on CRD fields are user documentation: they end up in `kubectl explain` and in
//! `docs/api-reference.md`.

#![allow(
    clippy::duplicated_attributes,
    reason = "print columns of one type look like duplicates to the lint"
)]

pub mod availability;
pub mod backup;
pub mod bootstrap;
pub mod certificates;
pub mod cluster;
pub mod cluster_status;
pub mod common;
pub mod conditions;
pub mod encryption;
pub mod instance;
pub mod labels;
pub mod naming;
pub mod object_store;
pub mod quantity;
pub mod replica_cluster;
pub mod repository;
pub mod retention;
pub mod scheduled_backup;
pub mod store_probe;
pub mod volume_repository;
pub mod wal_runway;
pub mod window;

pub use backup::{Backup, BackupPhase, BackupSpec, BackupStatus};
pub use cluster::{Cluster, ClusterSpec};
pub use cluster_status::ClusterStatus;
pub use scheduled_backup::{ScheduledBackup, ScheduledBackupSpec, ScheduledBackupStatus};

/// API group of every custom resource.
pub const GROUP: &str = "postgresql.k8s.enterprisedb.io";
/// The one served and stored version.
pub const VERSION: &str = "v1alpha1";
/// Field manager of the operator in server-side apply.
pub const OPERATOR_MANAGER: &str = "howdah-operator";
/// Field manager of the instance manager.
pub const INSTANCE_MANAGER: &str = "howdah-instance";

/// The three custom resource definitions, in the order in which they are written to `config/crd/`.
#[must_use]
pub fn crds()
-> Vec<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition> {
    use kube::CustomResourceExt;
    vec![Backup::crd(), Cluster::crd(), ScheduledBackup::crd()]
}
