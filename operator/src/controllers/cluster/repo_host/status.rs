//! Folds what is known of the repository host into `Cluster.status`. Pure.

use howdah_api::ClusterStatus;
use howdah_api::conditions::{self, REPOSITORY_HOST_READY};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::Plan;
use crate::controllers::cluster::observed::Observed;

/// Sets the condition and remembers the volumes.
pub fn fold(plan: &Plan, observed: &Observed, now: Timestamp, status: &mut ClusterStatus) {
    status.repository_volumes.clone_from(&plan.volumes);
    match &plan.verdict {
        Some(verdict) => {
            conditions::set(
                &mut status.conditions,
                REPOSITORY_HOST_READY,
                verdict.status,
                verdict.reason,
                &verdict.message,
                observed.cluster.metadata.generation,
                Time(crate::clock::to_seconds(now)),
            );
        }
        None => status.conditions.retain(|condition| condition.type_ != REPOSITORY_HOST_READY),
    }
}
