//! PodDisruptionBudgets: what a drain of a node must leave running.

use std::collections::BTreeMap;

use howdah_api::{Cluster, labels, naming};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::child_meta;

/// The budgets of `cluster` by name; `None` for one that it shall not have.
#[must_use]
pub fn budgets(cluster: &Cluster) -> [(String, Option<PodDisruptionBudget>); 2] {
    let name = cluster.name_any();
    let (primary, replicas) = (naming::primary_budget(&name), naming::replicas_budget(&name));
    let wanted = cluster.spec.enable_pdb.unwrap_or(true);
    // All replicas but one. A single replica is free to go: it protects nothing that a drain could wait for.
    let others = cluster.spec.instances - 2;
    let of_primary = wanted.then(|| budget(cluster, &primary, labels::ROLE_PRIMARY, 1));
    let of_replicas =
        (wanted && others > 0).then(|| budget(cluster, &replicas, labels::ROLE_REPLICA, others));
    [(primary, of_primary), (replicas, of_replicas)]
}

fn budget(cluster: &Cluster, name: &str, role: &str, available: i32) -> PodDisruptionBudget {
    let selected = BTreeMap::from([
        (labels::CLUSTER.to_owned(), cluster.name_any()),
        (labels::ROLE.to_owned(), role.to_owned()),
    ]);
    PodDisruptionBudget {
        metadata: child_meta(cluster, name),
        spec: Some(PodDisruptionBudgetSpec {
            min_available: Some(IntOrString::Int(available)),
            selector: Some(LabelSelector { match_labels: Some(selected), match_expressions: None }),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}
