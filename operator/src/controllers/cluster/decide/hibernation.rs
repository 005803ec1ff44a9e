//! Takes the pods of a cluster away and gives them back, on request; its volumes stay. Pure.

use howdah_api::{Cluster, labels, naming};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::failing::{RESTART, overdue};
use super::rolling::backup_on;
use super::{Plan, Step};
use crate::controllers::cluster::kubectl::Kubectl;
use crate::controllers::cluster::observed::{Instance, Observed};
use crate::controllers::cluster::phases;
use crate::controllers::cluster::validate::Validated;

/// Whether the annotation asks for hibernation.
#[must_use]
pub fn asked(cluster: &Cluster) -> bool {
    cluster.annotations().get(labels::HIBERNATION).is_some_and(|value| value.trim() == "on")
}

/// Whether it is asked for and no instance runs any more.
#[must_use]
pub fn complete(observed: &Observed) -> bool {
    asked(&observed.cluster) && observed.instances().iter().all(|i| i.pod.is_none())
}

/// Whether pods go now. Not while the primary moves: the new one might not have everything yet.
pub(super) fn begins(observed: &Observed) -> bool {
    let status = observed.status();
    asked(&observed.cluster)
        && (status.current_primary.is_none() || status.current_primary == status.target_primary)
}

/// Stops the replicas, then the primary: nothing that runs ever misses its primary.
pub(super) fn run(
    validated: &Validated,
    observed: &Observed,
    instances: &[Instance<'_>],
    primary: Option<i32>,
    plan: &mut Plan,
) {
    // Woken up, the primary has time to come back before another instance would take its place.
    let pod = instances.iter().find(|i| Some(i.serial) == primary).and_then(|i| i.pod);
    plan.primary_restart =
        pod.and_then(ResourceExt::uid).or(plan.primary_restart.take()).or(Some(String::new()));
    let name = |i: &Instance<'_>| naming::instance(&validated.name, i.serial);
    let (last, replicas): (Vec<&Instance<'_>>, Vec<&Instance<'_>>) =
        instances.iter().filter(|i| i.pod.is_some()).partition(|i| Some(i.serial) == primary);
    if last.is_empty() && replicas.is_empty() {
        plan.phase = phases::HIBERNATED;
        let wake = Kubectl::of(&observed.cluster).clear_annotation(labels::HIBERNATION);
        plan.reason = format!("no instance runs, the volumes stay; {wake} wakes it up");
        plan.at_rest = true;
        return;
    }
    let going = if replicas.is_empty() { last } else { replicas };
    let mut said = Vec::new();
    for instance in going {
        let pod = name(instance);
        if instance.terminating() {
            said.push(format!("{pod} is ending"));
        } else if let Some(backup) = backup_on(observed, &pod) {
            said.push(format!("{pod} is stopped when Backup {} has ended", backup.name_any()));
        } else {
            let reason = format!("{pod} is stopped: the cluster is hibernated");
            plan.steps.push(Step::StopPod { serial: instance.serial, reason });
            said.push(format!("{pod} is stopped"));
        }
    }
    plan.phase = phases::HIBERNATING;
    plan.reason = said.join(", ");
}

/// Until when the primary is waited for, when it wakes up; it fails since the first look at it.
pub(super) fn until(observed: &Observed) -> Timestamp {
    let since = observed.status().current_primary_failing_since_timestamp;
    let since = since.map_or(observed.now, |since| since.0);
    let until = since.saturating_add(SignedDuration::from_secs(RESTART)).unwrap_or(since);
    crate::clock::to_seconds(until)
}

/// Whether the cluster wakes up: until its primary runs, or has had its time, nothing else is made.
pub(super) fn waking(observed: &Observed, primary: Option<&Instance<'_>>) -> bool {
    let slept = matches!(
        observed.status().phase.as_deref(),
        Some(phases::HIBERNATED | phases::HIBERNATING | phases::WAKING_UP)
    );
    slept && !primary.is_some_and(Instance::ready_primary) && overdue(observed).is_none()
}
