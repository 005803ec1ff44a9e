//! Folds what is known of the repository host into `Cluster.status`. Pure.

use howdah_api::ClusterStatus;
use howdah_api::conditions::{self, CONTINUOUS_ARCHIVING, FALSE, REPOSITORY_HOST_READY};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::{Plan, Verdict};
use crate::controllers::cluster::observed::Observed;

/// Stands before what the host's state adds to an error.
const ADDED: &str = "; RepositoryHostReady: ";

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
    explain(plan, status);
}

/// To the instances a host that is away looks like any store that is away: why it is, and what to do, is known here.
fn explain(plan: &Plan, status: &mut ClusterStatus) {
    let verdict = plan.verdict.as_ref().filter(|verdict| verdict.status == FALSE);
    let mut any = false;
    for one in status.repositories.iter_mut().filter(|one| plan.volumes.contains_key(&one.name)) {
        let about = |v: &&Verdict| v.repository.as_ref().is_none_or(|name| *name == one.name);
        let Some(error) = one.error.as_mut() else { continue };
        add(error, verdict.filter(about));
        any |= verdict.filter(about).is_some();
    }
    let failing = status.conditions.iter_mut().find(|c| c.type_ == CONTINUOUS_ARCHIVING && c.status == FALSE);
    if let Some(condition) = failing {
        add(&mut condition.message, verdict.filter(|_| any));
    }
}

/// An error may be one of an earlier round: what was added then is replaced.
fn add(error: &mut String, verdict: Option<&Verdict>) {
    if let Some(at) = error.find(ADDED) {
        error.truncate(at);
    }
    if let Some(verdict) = verdict {
        error.push_str(ADDED);
        error.push_str(&verdict.message);
    }
}
