//! Who is the primary: follows a change that is under way, begins one when the primary has failed or somebody asks for it,
//! and leaves everything else alone. Pure.

use howdah_api::naming;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::candidate::{Candidate, Field, field};
use super::evidence;
use super::failing::{failing, restarting};
use super::scene::Scene;
use super::wait::Wait;
use super::{Plan, Step, keep, quorum, switchover, transition};
use crate::controllers::cluster::kubectl::Kubectl;
use crate::controllers::cluster::observed::Instance;
use crate::controllers::cluster::phases;

/// Seconds until the next look while the primary fails or changes.
pub(super) const SOON: u32 = 1;

/// Seconds that a container has to come back in its place where a failover may lose what was acknowledged.
const IN_PLACE: i64 = 10;

/// Decides about the primary. True: the plan is complete, and nothing else is to be done now.
pub(super) fn run(scene: &Scene<'_>, hash: &str, plan: &mut Plan) -> bool {
    // Before there was a primary, there is nothing to fail over to.
    let Some(current) = scene.status.current_primary.clone() else { return false };
    let Some(target) = plan.target_primary.clone() else { return false };
    if target != current {
        return transition::run(scene, &target, &current, plan);
    }
    if scene.hibernating() || scene.fenced(&current) {
        // Once it is let up again it has time to come back.
        let uid = scene.find(&current).and_then(Instance::pod_uid).map(str::to_owned);
        plan.primary_restart = uid.or(plan.primary_restart.take()).or(Some(String::new()));
        let kept_down = if scene.hibernating() { "the cluster hibernates" } else { "the primary is fenced" };
        switchover::refuse_request(scene, kept_down, plan);
        return false;
    }
    let Some(why) = failing(scene, &current) else {
        plan.primary_restart = None;
        return serving(scene, &current, plan);
    };
    plan.primary_failing = true;
    if restarting(scene, &current) {
        return false;
    }
    fail_over(scene, &current, &why, since(scene), hash, plan)
}

/// Since when the primary fails.
fn since(scene: &Scene<'_>) -> Timestamp {
    let noted: Option<&Time> = scene.status.current_primary_failing_since_timestamp.as_ref();
    noted.map_or(scene.observed.now, |time| time.0)
}

/// The primary serves.
fn serving(scene: &Scene<'_>, current: &str, plan: &mut Plan) -> bool {
    let silent = matches!(scene.observed.reports.get(current), Some(Err(_)));
    if silent && scene.instances.len() > 1 {
        // Whether its lease ends is seen only by looking.
        plan.look_again = Some(SOON);
    }
    switchover::run(scene, current, plan)
}

/// The primary does not serve.
fn fail_over(
    scene: &Scene<'_>,
    current: &str,
    why: &str,
    since: Timestamp,
    hash: &str,
    plan: &mut Plan,
) -> bool {
    let others = scene.instances.iter().filter(|i| scene.name(i) != current);
    if !others.into_iter().any(Instance::volume_ready) {
        return false;
    }
    switchover::refuse_request(scene, why, plan);
    let why = &format!("{why}, since {}", crate::clock::to_seconds(since));
    plan.phase = phases::FAILING_OVER;
    plan.look_again = Some(SOON);
    let usual = if comes_back(scene, current) { IN_PLACE } else { 0 };
    let delay = scene.observed.cluster.spec.failover_delay.map_or(usual, i64::from);
    let due = since.saturating_add(SignedDuration::from_secs(delay)).unwrap_or(since);
    if scene.observed.now < due {
        let due = crate::clock::to_seconds(due);
        let what = "another instance takes over unless it is back before".to_owned();
        Wait { what, more: format!(" {due} (failoverDelay)") }.tell(why, plan);
        keep::alive(scene, plan);
        return true;
    }
    let Some(evidence) = evidence::down(scene, current) else {
        evidence::awaited(scene, current).tell(why, plan);
        let serial = naming::serial_of(&scene.validated.name, current).unwrap_or_default();
        keep::mend(scene, serial, hash, plan);
        return true;
    };
    let field = field(scene, current);
    let Some(best) = field.fit.first() else {
        if !scene.find(current).is_some_and(|i| scene.whole(i)) {
            // Told as what it is: the data is gone.
            plan.look_again = None;
            return false;
        }
        plan.phase = phases::NO_CANDIDATE;
        plan.reason = format!("{why}; {}; {}", field.why_not(), Kubectl::of(&scene.observed.cluster).list());
        let serial = naming::serial_of(&scene.validated.name, current).unwrap_or_default();
        keep::mend(scene, serial, hash, plan);
        return true;
    };
    if let Err(short) = enough(scene, &field, best) {
        short.tell(why, plan);
        keep::alive(scene, plan);
        return true;
    }
    choose(best, plan);
    plan.reason = format!(
        "{why}; {evidence}; {} takes over, its WAL goes to {}{}",
        best.name,
        best.lsn,
        field.behind(best)
    );
    release(scene, &best.name, plan);
    true
}

/// Whether the primary is about to be started again where it is, and has what no replica is sure to have: with asynchronous
/// replication a moment of waiting loses nothing, a failover may.
fn comes_back(scene: &Scene<'_>, current: &str) -> bool {
    let synchronous = scene.status.synchronous_standby_names_in_effect.as_deref();
    if synchronous.is_some_and(|names| !names.is_empty()) {
        return false;
    }
    scene
        .find(current)
        .is_some_and(|instance| !instance.terminating() && evidence::is_restarting(scene, instance))
}

/// `best` shall be the primary.
pub(super) fn choose(best: &Candidate, plan: &mut Plan) {
    plan.target_primary = Some(best.name.clone());
    plan.target_chosen = true;
    plan.primary_restart = None;
    plan.look_again = Some(SOON);
}

/// Empties the lease when its holder has ended, so that `target` need not wait for its end.
pub(super) fn release(scene: &Scene<'_>, target: &str, plan: &mut Plan) {
    if let Some(holder) = evidence::ended_holder(scene, target) {
        plan.steps.push(Step::ReleaseLease { holder });
    }
}

/// Whether `best` is sure to have every transaction that was acknowledged by synchronous replication, as far as that was in
/// use.
///
/// # Errors
/// What is missing, and how a person may go on all the same.
pub(super) fn enough(scene: &Scene<'_>, field: &Field, best: &Candidate) -> Result<(), Wait> {
    if best.former_primary {
        // The last primary has what it acknowledged.
        return Ok(());
    }
    let names: Vec<&str> = field.fit.iter().map(|c| c.name.as_str()).collect();
    let texts = [&scene.status.synchronous_standby_names_in_effect, &scene.status.synchronous_standby_names];
    let by_hand = || Kubectl::of(&scene.observed.cluster).choose_primary();
    for text in texts.into_iter().flatten() {
        let parsed = quorum::parse(text)
            .map_err(|what| Wait { what, more: format!("; to choose by hand: {}", by_hand()) });
        let Some(quorum) = parsed? else { continue };
        if let Err(short) = quorum.met_by(&names) {
            let unfit = field.unfit.iter().filter(|(name, _)| short.missing.contains(name));
            let why: String = unfit.map(|(name, why)| format!("; {name} {why}")).collect();
            let what = format!(
                "replication is synchronous: {} of {} listed replicas are reachable, {} are needed so that no \
                 acknowledged transaction is lost; waiting for {}",
                short.reachable,
                short.listed,
                short.needed,
                short.missing.join(", "),
            );
            let by_hand = by_hand();
            let more = format!("{why}; to do without them, at the price of what only they have: {by_hand}");
            return Err(Wait { what, more });
        }
    }
    Ok(())
}
