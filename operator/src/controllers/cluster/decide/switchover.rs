//! A change of the primary that somebody asks for: by annotation, by hand in the status, or by draining a node. Pure.

use howdah_api::labels;
use kube::ResourceExt;

use super::candidate::{Candidate, field};
use super::failover::choose;
use super::scene::Scene;
use super::{Plan, Step};
use crate::controllers::cluster::observed::Instance;
use crate::controllers::cluster::phases;

/// The present primary serves: is another one asked for? True: the change begins, and the plan is complete.
pub(super) fn run(scene: &Scene<'_>, current: &str, plan: &mut Plan) -> bool {
    if let Some(wanted) = request(scene) {
        plan.steps.push(Step::ClearAnnotation { key: labels::SWITCHOVER });
        return match order(scene, &wanted, current) {
            Ok((best, why)) => {
                begin(&best, current, &why, plan);
                true
            }
            Err(why) => {
                // Told before the request goes away: who waits for its end finds the answer.
                plan.steps.insert(0, Step::RefuseSwitchover { reason: why });
                false
            }
        };
    }
    let Some((best, why)) = doomed(scene, current).or_else(|| drained(scene, current)) else { return false };
    begin(&best, current, &why, plan);
    true
}

/// What the annotation asks for.
fn request(scene: &Scene<'_>) -> Option<String> {
    scene.observed.cluster.annotations().get(labels::SWITCHOVER).map(|v| v.trim().to_owned())
}

/// A request that comes while the primary does not serve is refused.
pub(super) fn refuse_request(scene: &Scene<'_>, why: &str, plan: &mut Plan) {
    if request(scene).is_some() {
        let reason = format!("{why}; a switchover needs a primary that serves");
        plan.steps.push(Step::RefuseSwitchover { reason });
        plan.steps.push(Step::ClearAnnotation { key: labels::SWITCHOVER });
    }
}

/// A request that is there while the primary changes to `target`: it is the one that has begun this, or too much.
pub(super) fn settle_request(scene: &Scene<'_>, target: &str, plan: &mut Plan) {
    let Some(wanted) = request(scene) else { return };
    if wanted != target && wanted != "*" {
        let reason =
            format!("{wanted} is asked for while {target} becomes the primary: ask again afterwards");
        plan.steps.push(Step::RefuseSwitchover { reason });
    }
    plan.steps.push(Step::ClearAnnotation { key: labels::SWITCHOVER });
}

fn begin(best: &Candidate, current: &str, why: &str, plan: &mut Plan) {
    choose(best, plan);
    plan.phase = phases::SWITCHING_OVER;
    plan.reason = format!("{} takes over from {current}: {why}", best.name);
}

/// The instance that `wanted` means (`*`: the most advanced), and why it is the one.
///
/// # Errors
/// Why it cannot become the primary.
pub(super) fn order(scene: &Scene<'_>, wanted: &str, current: &str) -> Result<(Candidate, String), String> {
    if !scene.find(current).is_some_and(Instance::ready_primary) {
        return Err(format!("the primary {current} does not say that it is ready; ask again when it does"));
    }
    if wanted == current {
        return Err(format!("{current} is the primary already"));
    }
    let field = field(scene, current);
    let streaming = |c: &&Candidate| c.streaming;
    if wanted == "*" {
        return match field.fit.iter().find(streaming) {
            Some(best) => {
                Ok((best.clone(), "a switchover to the most advanced replica was asked for".to_owned()))
            }
            None if field.fit.is_empty() => {
                Err(format!("no replica can become the primary: {}", field.why_not()))
            }
            None => Err("no replica streams from the primary; wait until one has caught up".to_owned()),
        };
    }
    if let Some(candidate) = field.fit.iter().find(|c| c.name == wanted) {
        return if candidate.streaming {
            Ok((candidate.clone(), "a switchover was asked for".to_owned()))
        } else {
            Err(format!("{wanted} does not stream from the primary; wait until it has caught up"))
        };
    }
    match field.unfit.iter().find(|(name, _)| name == wanted) {
        Some((_, why)) => Err(format!("{wanted} {why}")),
        None => {
            let names: Vec<String> = scene.instances.iter().map(|i| scene.name(i)).collect();
            Err(format!("there is no instance {wanted}, only {}", names.join(", ")))
        }
    }
}

/// A volume of the serving primary is missing or being deleted: once its pod ends, the data is gone.
fn doomed(scene: &Scene<'_>, current: &str) -> Option<(Candidate, String)> {
    if scene.find(current).is_some_and(|i| scene.whole(i)) {
        return None;
    }
    let (best, _) = order(scene, "*", current).ok()?;
    Some((best, format!("a volume of {current} is missing or being deleted")))
}

/// The node of the primary is being drained, and a replica is on one that is not.
fn drained(scene: &Scene<'_>, current: &str) -> Option<(Candidate, String)> {
    let primary = scene.find(current).filter(|i| i.ready_primary())?;
    let (node, facts) = scene.node(primary)?;
    if !facts.unschedulable {
        return None;
    }
    let best = field(scene, current).fit.into_iter().find(|c| c.streaming && c.on_good_node)?;
    Some((best, format!("node {node} of {current} takes no more pods")))
}

/// A person changed the target in the status. True: it is taken up; false: it is taken back.
pub(super) fn accept_by_hand(scene: &Scene<'_>, target: &str, current: &str, plan: &mut Plan) -> bool {
    let verdict = if scene.find(current).is_some_and(Instance::ready_primary) {
        order(scene, target, current).map(|_| phases::SWITCHING_OVER)
    } else if scene.find(target).is_some_and(|i| scene.whole(i)) && !scene.fenced(target) {
        // The person's word stands for the proofs that the operator would need.
        Ok(phases::FAILING_OVER)
    } else {
        Err(format!("{target} does not exist, has lost a volume or is fenced"))
    };
    match verdict {
        Ok(phase) => {
            plan.target_chosen = true;
            plan.phase = phase;
            true
        }
        Err(reason) => {
            plan.target_primary = Some(current.to_owned());
            plan.target_chosen = true;
            plan.phase = phases::SWITCHING_OVER;
            plan.reason = format!("{current} stays the primary: {reason}");
            plan.look_again = Some(super::failover::SOON);
            plan.steps.push(Step::RefuseSwitchover { reason });
            false
        }
    }
}
