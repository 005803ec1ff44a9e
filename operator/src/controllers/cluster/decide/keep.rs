//! Keeps the pods of the instances there while nothing else may be touched: the primary is failing, or changes. Pure.

use super::rolling::{Replacement, next_to_replace};
use super::scene::Scene;
use super::{Fill, Plan, Step};
use crate::controllers::cluster::trouble;

/// Makes pods that are missing on volumes that are full, and those anew that have ended for good. The pod of the lease's
/// holder stays: its end is what proves that the lease may be emptied.
pub(super) fn alive(scene: &Scene<'_>, plan: &mut Plan) {
    for instance in scene.instances.iter().filter(|i| scene.whole(i)) {
        let serial = instance.serial;
        let name = scene.name(instance);
        let full = instance.volume_ready() || scene.status.current_primary.as_deref() == Some(&name);
        match instance.pod {
            None if full => {
                let reason = format!("pod {name} is made on its volume");
                plan.steps.push(Step::EnsureInstance { serial, fill: Fill::Nothing, reason });
            }
            Some(pod)
                if trouble::is_finished(pod)
                    && !instance.terminating()
                    && !holds(scene, instance.pod_uid()) =>
            {
                let reason = format!("pod {name} has ended for good; it is made again on its volume");
                plan.steps.push(Step::DeletePod { serial, reason });
            }
            _ => {}
        }
    }
}

fn holds(scene: &Scene<'_>, uid: Option<&str>) -> bool {
    let holder = scene.observed.lease.as_ref().and_then(|lease| lease.holder.split_once('/'));
    holder.is_some_and(|(_, holder)| Some(holder) == uid)
}

/// The same when there is no other instance to go on with: besides, a pod that cannot run is replaced when its specification
/// was mended.
pub(super) fn mend(scene: &Scene<'_>, primary: i32, hash: &str, plan: &mut Plan) {
    alive(scene, plan);
    if let Some(Replacement::Now(serial)) =
        next_to_replace(scene.validated, scene.observed, scene.instances, primary, hash)
    {
        let reason =
            format!("pod {}-{serial} is replaced by one of the present specification", scene.validated.name);
        plan.steps.push(Step::DeletePod { serial, reason });
    }
}
