//! What proves that an instance is not the running primary. A pod that is not ready may still take writes, and a pod object
//! that is gone may still run on a node that is cut off. Pure.

use std::time::Duration;

use howdah_api::naming;
use k8s_openapi::api::core::v1::Pod;

use super::failing::stopped;
use super::scene::{Scene, with_detail};
use super::wait::Wait;
use crate::controllers::cluster::kubectl::Kubectl;
use crate::controllers::cluster::observed::Instance;
use crate::controllers::cluster::trouble;

/// A running primary renews its lease every 3 s. One that was not renewed for this long belongs to nobody who could just
/// have been started again without Kubernetes having said so yet.
const QUIET: Duration = Duration::from_secs(4);

/// What proves that `name` does not run as the primary, in words; `None` when nothing does.
pub(super) fn down(scene: &Scene<'_>, name: &str) -> Option<String> {
    let instance = scene.find(name);
    let uid = instance.and_then(Instance::pod_uid);
    // No lease at all proves nothing: instances of earlier versions run without.
    if let Some(lease) = &scene.observed.lease {
        if lease.holder.is_empty() {
            return Some("nobody holds the lease of the primary".to_owned());
        }
        let (holder, _) = lease.holder.split_once('/').unwrap_or((&lease.holder, ""));
        if holder != name {
            return Some(format!("{holder} holds the lease of the primary"));
        }
        if uid.is_some_and(|uid| lease.holder != naming::lease_holder(name, uid)) {
            return Some("a former pod of it holds the lease of the primary".to_owned());
        }
        if lease.expired {
            return Some("its lease has ended".to_owned());
        }
    }
    let instance = instance?;
    if !instance.ready() && stopped(scene, instance) {
        return Some("its manager says that PostgreSQL does not run".to_owned());
    }
    container_ended(scene, instance)
}

/// What is waited for while nothing proves that `name` is down.
pub(super) fn awaited(scene: &Scene<'_>, name: &str) -> Wait {
    let kubernetes = "Kubernetes says that its container has ended";
    let kubectl = Kubectl::of(&scene.observed.cluster);
    let lease = naming::primary_lease(&scene.validated.name);
    if scene.observed.lease.is_some() {
        let seconds = naming::PRIMARY_LEASE_SECONDS;
        let what = format!("waiting until the lease of {name} ends");
        let more = format!(
            " ({seconds} s after it was last renewed) or {kubernetes}; when that lasts, somebody renews it: {}",
            kubectl.run(&format!("get lease {lease} -o yaml"))
        );
        Wait { what, more }
    } else {
        let what = format!("there is no Lease {lease} that would say whether it still runs");
        let more = format!(
            ": waiting until it is back or {kubernetes}; when it certainly does not run, set targetPrimary by hand: {}",
            kubectl.choose_primary()
        );
        Wait { what, more }
    }
}

/// What Kubernetes says about the end of the container with PostgreSQL. The word of a kubelet that is not heard any more
/// does not count.
fn container_ended(scene: &Scene<'_>, instance: &Instance<'_>) -> Option<String> {
    let pod = instance.pod?;
    if node_lost(scene, instance, pod) {
        return None;
    }
    let state = trouble::postgres(pod).and_then(|c| c.state.as_ref());
    if state.is_some_and(|s| s.running.is_some()) {
        return None;
    }
    if trouble::is_finished(pod) {
        return Some("its pod has ended for good".to_owned());
    }
    let state = state?;
    if let Some(ended) = &state.terminated {
        let code = format!("exit code {}", ended.exit_code);
        return Some(with_detail("Kubernetes says that its container has ended".to_owned(), &code));
    }
    let waiting = state.waiting.as_ref()?;
    let reason = waiting.reason.as_deref().unwrap_or_default();
    Some(with_detail("Kubernetes says that its container does not run".to_owned(), reason))
}

/// Whether the kubelet is starting the container with PostgreSQL again, and does not pause for long before it does.
pub(super) fn is_restarting(scene: &Scene<'_>, instance: &Instance<'_>) -> bool {
    let Some(pod) = instance.pod.filter(|pod| !trouble::is_finished(pod)) else { return false };
    if node_lost(scene, instance, pod) {
        return false;
    }
    let Some(postgres) = trouble::postgres(pod) else { return false };
    let state = postgres.state.as_ref();
    let waits_for = state.and_then(|s| s.waiting.as_ref()?.reason.as_deref());
    let ended = postgres.restart_count > 0 || state.is_some_and(|s| s.terminated.is_some());
    ended && waits_for != Some("CrashLoopBackOff")
}

fn node_lost(scene: &Scene<'_>, instance: &Instance<'_>, pod: &Pod) -> bool {
    let said = pod.status.as_ref().and_then(|s| s.reason.as_deref()) == Some("NodeLost");
    said || scene.node(instance).is_some_and(|(_, node)| !node.ready)
}

/// The holder of the lease, when its container has ended and nothing renews the lease any more: it may be emptied, so that
/// nobody has to wait for its end. `except` keeps it: it is to be started again.
pub(super) fn ended_holder(scene: &Scene<'_>, except: &str) -> Option<String> {
    let lease = scene.observed.lease.as_ref()?;
    let (name, uid) = lease.holder.split_once('/')?;
    let instance = scene.find(name).filter(|i| name != except && i.pod_uid() == Some(uid))?;
    container_ended(scene, instance)?;
    (lease.unchanged >= QUIET).then(|| lease.holder.clone())
}
