//! Builds the objects of a cluster. Pure: no client, no clock.

pub mod budgets;
pub mod pod;
pub mod rbac;
pub mod repo_host;
pub mod schedules;
pub mod secrets;
pub mod services;
pub mod volumes;

use std::collections::BTreeMap;

use howdah_api::{Cluster, labels};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};

/// Labels on everything that belongs to `cluster`.
#[must_use]
pub fn common_labels(cluster: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (labels::CLUSTER.to_owned(), cluster.to_owned()),
        (labels::MANAGED_BY.to_owned(), labels::MANAGED_BY_VALUE.to_owned()),
    ])
}

/// Metadata of a child of `cluster`.
#[must_use]
pub fn child_meta(cluster: &Cluster, name: impl Into<String>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.into()),
        namespace: cluster.namespace(),
        labels: Some(common_labels(&cluster.name_any())),
        owner_references: Some(vec![owner(cluster)]),
        ..ObjectMeta::default()
    }
}

/// The owner reference that ties a child to `cluster`.
#[must_use]
pub fn owner(cluster: &Cluster) -> OwnerReference {
    OwnerReference {
        api_version: Cluster::api_version(&()).into_owned(),
        kind: Cluster::kind(&()).into_owned(),
        name: cluster.name_any(),
        uid: cluster.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}
