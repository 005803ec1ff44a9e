//! Whether the primary serves, and whether the operator itself is the reason why it does not. Pure.

use howdah_api::naming;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::hibernation;
use super::scene::{Scene, with_detail};
use crate::controllers::cluster::kubectl::Kubectl;
use crate::controllers::cluster::observed::{Instance, Observed};
use crate::controllers::cluster::trouble;

/// Seconds that a primary which the operator itself took down has for coming back.
pub(super) const RESTART: i64 = 300;

/// Why the primary `name` does not serve, as a sentence; `None` while it does.
pub(super) fn failing(scene: &Scene<'_>, name: &str) -> Option<String> {
    let Some(instance) = scene.find(name) else { return Some(format!("{name} is gone with its volumes")) };
    let Some(pod) = instance.pod else { return Some(format!("{name} has no pod")) };
    if instance.terminating() {
        return Some(format!("the pod of {name} is being deleted"));
    }
    if trouble::is_finished(pod) {
        return Some(format!("the pod of {name} has ended for good"));
    }
    if stopped(scene, instance) {
        return Some(with_detail(format!("PostgreSQL of {name} does not run"), &scene.says(name)));
    }
    if !instance.ready() {
        let why = trouble::of(pod).map_or_else(|| scene.says(name), |t| t.message);
        return Some(with_detail(format!("{name} is not ready"), &why));
    }
    // Kubernetes takes most of a minute to notice that a node is gone; its primary does not renew its lease.
    let silent = matches!(scene.observed.reports.get(name), Some(Err(_)));
    let expired = scene.observed.lease.as_ref().is_some_and(|lease| lease.expired);
    (silent && expired).then(|| with_detail(format!("{name} does not answer"), &scene.says(name)))
}

/// Whether the manager of an instance says that PostgreSQL does not run. Managers of versions without leases say nothing
/// of the kind.
pub(super) fn stopped(scene: &Scene<'_>, instance: &Instance<'_>) -> bool {
    instance.report.is_some_and(|report| {
        report.former_primary || (scene.observed.lease.is_some() && !report.server_running && !report.ready)
    })
}

/// Whether the primary `name`, which fails, was taken down by the operator itself or was let up again, and has time left for
/// coming back.
pub(super) fn restarting(scene: &Scene<'_>, name: &str) -> bool {
    let instance = scene.find(name);
    let restart = scene.status.primary_restart.as_deref();
    let ending = instance.is_some_and(|i| i.terminating() && i.pod_uid().is_some() && i.pod_uid() == restart);
    let excused = restart.is_some() || hibernation::waking(scene.observed, instance);
    ending || (excused && overdue(scene.observed).is_none())
}

/// Since when the primary fails, when that is for longer than one has for coming back.
pub(super) fn overdue(observed: &Observed) -> Option<Timestamp> {
    let since = observed.status().current_primary_failing_since_timestamp?.0;
    (observed.now.as_second() - since.as_second() >= RESTART).then_some(since)
}

/// That a primary which the operator itself took down, or let up again, is not back in its time, though nothing says why.
/// `word` is its name, with what it says of itself.
pub(super) fn stays_away(
    observed: &Observed,
    serial: i32,
    primary: Option<&Instance<'_>>,
    word: &str,
) -> Option<String> {
    observed.status().primary_restart.filter(|_| !primary.is_some_and(Instance::ready_primary))?;
    let since = overdue(observed)?;
    let name = naming::instance(&observed.cluster.name_any(), serial);
    let kubectl = Kubectl::of(&observed.cluster);
    let (describe, logs) = (kubectl.describe_pod(&name), kubectl.logs(&name, naming::CONTAINER_POSTGRES));
    Some(format!("{word} is not back since {since}, it had {RESTART} s; look: {describe}; {logs}"))
}
