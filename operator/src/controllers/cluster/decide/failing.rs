//! Whether the primary serves, and whether the operator itself is the reason why it does not. Pure.

use super::scene::{Scene, with_detail};
use crate::controllers::cluster::observed::Instance;
use crate::controllers::cluster::trouble;

/// Seconds that a primary which the operator itself took down has for coming back.
const RESTART: i64 = 300;

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

/// Whether the primary `name`, which has been failing since `since` (Unix seconds), was taken down by the operator itself or
/// was let up again, and has time left for coming back.
pub(super) fn restarting(scene: &Scene<'_>, name: &str, since: i64) -> bool {
    let Some(restart) = scene.status.primary_restart.as_deref() else { return false };
    let ending = scene.find(name).is_some_and(|i| i.terminating() && i.pod_uid() == Some(restart));
    ending || scene.observed.now.as_second() - since < RESTART
}
