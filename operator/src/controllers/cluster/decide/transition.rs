//! Follows a change of the primary until the new one serves: nothing else is touched meanwhile. Pure.

use std::time::Duration;

use super::candidate::field;
use super::failover::{SOON, choose, enough, release};
use super::scene::{Scene, with_detail};
use super::{Plan, evidence, keep, switchover};
use crate::controllers::cluster::kubectl::Kubectl;
use crate::controllers::cluster::observed::Instance;
use crate::controllers::cluster::{phases, trouble};

/// A chosen instance that has not become the primary, and shows no progress, for this long, is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Goes on with the change from `current` to `target`. False: it is over.
pub(super) fn run(scene: &Scene<'_>, target: &str, current: &str, plan: &mut Plan) -> bool {
    if scene.find(target).is_some_and(Instance::ready_primary) {
        plan.primary_restart = None;
        return false;
    }
    if by_hand(scene) && !switchover::accept_by_hand(scene, target, current, plan) {
        return true;
    }
    plan.primary_failing = true;
    plan.primary_restart = None;
    plan.look_again = Some(SOON);
    let switching =
        plan.phase == phases::SWITCHING_OVER || scene.status.phase.as_deref() == Some(phases::SWITCHING_OVER);
    plan.phase = if switching { phases::SWITCHING_OVER } else { phases::FAILING_OVER };
    switchover::settle_request(scene, target, plan);
    match trouble_of(scene, target) {
        Some(trouble) => choose_again(scene, target, current, &trouble, plan),
        None => {
            let text = format!("{target} takes over from {current}");
            plan.reason = with_detail(text, &scene.says(target));
        }
    }
    let chosen = plan.target_primary.clone().unwrap_or_default();
    release(scene, &chosen, plan);
    keep::alive(scene, plan);
    true
}

/// Whether a person changed the target: what the operator itself chose bears a time after that of the present primary.
fn by_hand(scene: &Scene<'_>) -> bool {
    let status = &scene.status;
    let under_way = [phases::FAILING_OVER, phases::SWITCHING_OVER, phases::NO_CANDIDATE];
    if status.phase.as_deref().is_some_and(|phase| under_way.contains(&phase)) {
        return false;
    }
    let chosen = status.target_primary_timestamp.as_ref().map(|t| t.0);
    let became = status.current_primary_timestamp.as_ref().map(|t| t.0);
    chosen <= became
}

/// What keeps the chosen instance from becoming the primary, as a sentence.
fn trouble_of(scene: &Scene<'_>, target: &str) -> Option<String> {
    let Some(instance) = scene.find(target) else {
        return Some(format!("{target} is gone with its volumes"));
    };
    if !scene.whole(instance) {
        return Some(format!("{target} has lost a volume"));
    }
    let Some(pod) = instance.pod else { return Some(format!("{target} has no pod")) };
    if instance.terminating() {
        return Some(format!("the pod of {target} is being deleted"));
    }
    if trouble::is_finished(pod) {
        return Some(format!("the pod of {target} has ended for good"));
    }
    if let Some(fatal) = instance.report.and_then(|r| r.fatal.as_deref()) {
        return Some(format!("{target}: {fatal}"));
    }
    if scene.fenced(target) {
        return Some(format!("{target} is fenced"));
    }
    // As long as the former primary holds the lease, to wait is all that it can do.
    let waits = scene.observed.lease.as_ref().is_some_and(|lease| {
        let holder = lease.holder.split_once('/').map_or(lease.holder.as_str(), |(name, _)| name);
        !holder.is_empty() && holder != target && !lease.expired
    });
    let stuck = !waits && scene.observed.target_unchanged >= PATIENCE;
    stuck.then(|| {
        let text = format!("{target} has made no progress for {} s", PATIENCE.as_secs());
        with_detail(text, &scene.says(target))
    })
}

/// The chosen instance fails: the former primary if that still serves, else another one.
fn choose_again(scene: &Scene<'_>, target: &str, current: &str, trouble: &str, plan: &mut Plan) {
    if scene.find(current).is_some_and(Instance::ready_primary) {
        plan.target_primary = Some(current.to_owned());
        plan.target_chosen = true;
        plan.phase = phases::SWITCHING_OVER;
        plan.reason = format!("{trouble}; {current} stays the primary");
        return;
    }
    plan.phase = phases::FAILING_OVER;
    let Some(evidence) = evidence::down(scene, target) else {
        evidence::awaited(scene, target).tell(trouble, plan);
        return;
    };
    let field = field(scene, target);
    let Some(best) = field.fit.first() else {
        plan.phase = phases::NO_CANDIDATE;
        plan.reason =
            format!("{trouble}; {}; {}", field.why_not(), Kubectl::of(&scene.observed.cluster).list());
        return;
    };
    if let Err(short) = enough(scene, &field, best) {
        short.tell(trouble, plan);
        return;
    }
    choose(best, plan);
    plan.reason = format!(
        "{trouble}; {evidence}; {} takes over, its WAL goes to {}{}",
        best.name,
        best.lsn,
        field.behind(best)
    );
}
