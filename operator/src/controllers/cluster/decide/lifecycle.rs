//! Keeps the instances that are there alive, and brings their number to what is asked for. Pure.

use std::ops::ControlFlow;

use howdah_api::naming;
use kube::ResourceExt;

use super::rolling::{Replacement, next_to_replace};
use super::scene::with_detail;
use super::surplus::{stays, surplus};
use super::{Fill, Plan, Step, failing, fencing, hibernation, lost};
use crate::controllers::cluster::kubectl::Kubectl;
use crate::controllers::cluster::observed::{Instance, Observed};
use crate::controllers::cluster::trouble::{self, Trouble};
use crate::controllers::cluster::validate::{Origin, Validated};
use crate::controllers::cluster::{manager_upgrade, phases, synchronous};

/// Adds to `plan` what the instances need. `hash` is the fingerprint of the pods that would be made now.
pub(super) fn run(
    validated: &Validated,
    observed: &Observed,
    instances: &[Instance<'_>],
    primary: i32,
    hash: &str,
    plan: &mut Plan,
) {
    let primary_instance = instances.iter().find(|i| i.serial == primary);
    if primary_instance.is_some_and(Instance::ready_primary) {
        plan.primary_restart = None;
    }
    let round = Round {
        validated,
        observed,
        instances,
        primary,
        initialised: observed.initialised(),
        with_wal: observed.cluster.spec.wal_storage.is_some(),
        desired: usize::try_from(observed.cluster.spec.instances).unwrap_or(1),
        fenced: fencing::fenced(observed, instances),
        waking: hibernation::waking(observed, primary_instance),
    };
    let verdict = round.decide(hash, plan);
    plan.phase = verdict.0;
    plan.reason = verdict.1;
    plan.at_rest = matches!(plan.phase, phases::HEALTHY | phases::FOLLOWING | phases::WAITING_FOR_USER)
        && plan.steps.is_empty();
}

/// Phase and reason.
type Verdict = (&'static str, String);

struct Round<'a> {
    validated: &'a Validated,
    observed: &'a Observed,
    instances: &'a [Instance<'a>],
    primary: i32,
    initialised: bool,
    with_wal: bool,
    desired: usize,
    /// Serials.
    fenced: Vec<i32>,
    /// The primary comes back after hibernation, and nothing else before it.
    waking: bool,
}

impl Round<'_> {
    fn name(&self, serial: i32) -> String {
        naming::instance(&self.validated.name, serial)
    }

    fn primary_instance(&self) -> Option<&Instance<'_>> {
        self.instances.iter().find(|i| i.serial == self.primary)
    }

    /// The first matter that is in hand, in the order of their weight.
    fn decide(&self, hash: &str, plan: &mut Plan) -> Verdict {
        if let Some(lost) = self.lost_primary() {
            return lost;
        }
        let surplus = surplus(self.observed, self.instances, self.primary);
        let (recreating, leaving) = self.keep_alive(surplus, plan);
        if self.waking {
            let reason = format!(
                "primary {} comes first, the replicas when it is ready; it has until {}",
                self.name(self.primary),
                hibernation::until(self.observed)
            );
            return self.failing(&leaving).unwrap_or((phases::WAKING_UP, reason));
        }
        if !self.fenced.is_empty() {
            return self.held_back(&leaving);
        }
        if let Some(serial) = surplus {
            if let Some(why) = synchronous::keeps(self.observed, &self.name(serial)) {
                return self.failing(&leaving).unwrap_or((phases::SCALING_DOWN, why));
            }
            let reason =
                format!("instance {} is removed; instances asked for: {}", self.name(serial), self.desired);
            plan.steps.push(Step::RemoveInstance { serial, reason: reason.clone() });
            return (phases::SCALING_DOWN, reason);
        }
        let failing = self.failing(&leaving).or_else(|| {
            let word = self.with_word(self.name(self.primary));
            let reason = failing::stays_away(self.observed, self.primary, self.primary_instance(), &word)?;
            Some((phases::INSTANCE_FAILED, reason))
        });
        let user = match self.roll(hash, failing.is_none(), plan) {
            ControlFlow::Break(verdict) => return verdict,
            ControlFlow::Continue(user) => user,
        };
        if let Some(failing) = failing {
            return failing;
        }
        let busy = if self.initialised { phases::WAITING_FOR_INSTANCES } else { phases::FIRST_PRIMARY };
        if !recreating.is_empty() {
            return (busy, format!("made again on their volumes: {}", recreating.join(", ")));
        }
        let waiting = self.waiting(&leaving);
        if !waiting.is_empty() {
            return (busy, format!("not ready yet: {}", waiting.join(", ")));
        }
        if let Some(source) = self.primary_instance().and_then(Instance::following) {
            let reason = format!(
                "{} follows {source}; to promote it, when the source takes no writes any more: {}",
                self.name(self.primary),
                Kubectl::of(&self.observed.cluster).promote_cluster()
            );
            return (phases::FOLLOWING, reason);
        }
        let verdict = self.grow(&leaving, plan);
        match user {
            Some(reason) if verdict.0 == phases::HEALTHY => (phases::WAITING_FOR_USER, reason),
            _ => verdict,
        }
    }

    /// Fenced instances are somebody's to look into: nothing is taken away meanwhile.
    fn held_back(&self, leaving: &[String]) -> Verdict {
        let names: Vec<String> = self.fenced.iter().map(|serial| self.name(*serial)).collect();
        let mut reason = fencing::told(self.observed, &names);
        if let Some((_, failing)) = self.failing(leaving) {
            reason = format!("{reason}; besides, {failing}");
        }
        (phases::FENCED, reason)
    }

    /// The next step of a rolling change, or what a person has to do for it. While something fails nobody is told to wait
    /// for the rolling change (`calm`).
    fn roll(&self, hash: &str, calm: bool, plan: &mut Plan) -> ControlFlow<Verdict, Option<String>> {
        let change = next_to_replace(self.validated, self.observed, self.instances, self.primary, hash);
        let reason = match change {
            None => return ControlFlow::Continue(None),
            Some(Replacement::User(how)) => return ControlFlow::Continue(Some(how)),
            Some(Replacement::Wait(why)) if calm => why,
            Some(Replacement::Wait(_)) => return ControlFlow::Continue(None),
            Some(Replacement::Now(serial)) => {
                self.spare_primary(serial, plan);
                let mut reason =
                    format!("pod {} is replaced by one of the present specification", self.name(serial));
                if let Some(why) = self.manager_stays(serial) {
                    reason = format!(
                        "{reason}, because its instance manager cannot be replaced while PostgreSQL runs: {why}"
                    );
                }
                plan.steps.push(Step::DeletePod { serial, reason: reason.clone() });
                reason
            }
            Some(Replacement::Manager(serial)) => {
                let reason = format!(
                    "the instance manager of {} is replaced by this operator's; PostgreSQL runs on",
                    self.name(serial)
                );
                plan.steps.push(Step::UpgradeManager { serial, reason: reason.clone() });
                reason
            }
            Some(Replacement::Restart(serial)) => {
                self.spare_primary(serial, plan);
                let reason = format!("PostgreSQL of {} is restarted for its parameters", self.name(serial));
                plan.steps.push(Step::RestartInstance { serial, reason: reason.clone() });
                reason
            }
            Some(Replacement::Switchover(serial)) => {
                let heir = self.name(serial);
                let reason =
                    format!("{heir} takes the place of {}, which is changed then", self.name(self.primary));
                plan.target_primary = Some(heir);
                return ControlFlow::Break((phases::SWITCHING_OVER, reason));
            }
        };
        ControlFlow::Break((phases::UPGRADING, reason))
    }

    /// Why a manager comes with a new pod that was to be replaced in place.
    fn manager_stays(&self, serial: i32) -> Option<String> {
        let instance = self.instances.iter().find(|i| i.serial == serial)?;
        match manager_upgrade::judge(self.validated, self.observed.now, instance) {
            manager_upgrade::Verdict::NewPod(why) => why,
            _ => None,
        }
    }

    /// A primary that works and goes down by our own doing is no failure. One that does not work is given no such grace.
    fn spare_primary(&self, serial: i32, plan: &mut Plan) {
        let primary = self.primary_instance().filter(|i| i.serial == serial && i.ready());
        if let Some(pod) = primary.and_then(|i| i.pod) {
            plan.primary_restart = pod.uid();
        }
    }

    /// The primary's data is what everything else is made from: without it nothing is touched.
    fn lost_primary(&self) -> Option<Verdict> {
        let whole = self.primary_instance().is_some_and(|i| i.has_volumes(self.with_wal));
        (!whole && self.initialised).then(|| {
            (phases::UNRECOVERABLE, lost::primary(self.observed, self.primary, self.primary_instance()))
        })
    }

    /// Makes pods that are missing and removes what is left of replicas without volume. Returns the names of
    /// those that are made again, and of those that leave.
    fn keep_alive(&self, surplus: Option<i32>, plan: &mut Plan) -> (Vec<String>, Vec<String>) {
        let mut recreating = Vec::new();
        let mut leaving = Vec::new();
        let empty = Instance { serial: self.primary, pod: None, data: None, wal: None, report: None };
        let missing = self.primary_instance().is_none().then_some(&empty);
        let wanted =
            |i: &&Instance<'_>| surplus != Some(i.serial) && (!self.waking || i.serial == self.primary);
        for instance in self.instances.iter().chain(missing).filter(wanted) {
            let serial = instance.serial;
            let name = self.name(serial);
            let whole = instance.has_volumes(self.with_wal);
            if !whole && serial != self.primary {
                // A replica without its volume is not repaired: another one takes its place.
                if lingers(instance) && self.fenced.is_empty() {
                    let reason = format!("{name} leaves with its volumes");
                    plan.steps.push(Step::RemoveInstance { serial, reason });
                }
                leaving.push(name);
                continue;
            }
            match instance.pod {
                Some(pod) if trouble::is_finished(pod) && !instance.terminating() => {
                    let reason = format!("pod {name} has ended for good; it is made again on its volume");
                    plan.steps.push(Step::DeletePod { serial, reason });
                    recreating.push(name);
                }
                Some(_) if whole => {}
                _ => {
                    let reason = format!("pod {name} is made on its volume");
                    plan.steps.push(Step::EnsureInstance { serial, fill: self.fill(instance), reason });
                    recreating.push(name);
                }
            }
        }
        (recreating, leaving)
    }

    /// How the volume of an instance that has no pod is filled. What was full once is never filled again, and
    /// a primary's volume is filled only while the cluster has never had data.
    fn fill(&self, instance: &Instance<'_>) -> Fill {
        if instance.volume_ready() {
            Fill::Nothing
        } else if instance.serial != self.primary {
            Fill::Join
        } else if self.initialised {
            Fill::Nothing
        } else {
            match self.validated.origin {
                Origin::InitDb => Fill::InitDb,
                Origin::Recovery => Fill::Recovery,
            }
        }
    }

    /// What keeps an instance from running.
    fn failing(&self, leaving: &[String]) -> Option<Verdict> {
        let stays =
            |i: &&Instance<'_>| !leaving.contains(&self.name(i.serial)) && !self.fenced.contains(&i.serial);
        let staying = || self.instances.iter().filter(stays);
        let fatal = staying().find_map(|i| Some((i, i.report?.fatal.as_deref()?)));
        if let Some((instance, message)) = fatal {
            let recovering = self.validated.origin == Origin::Recovery
                && !self.primary_instance().is_some_and(Instance::volume_ready);
            let phase = if recovering { phases::RECOVERY_FAILED } else { phases::INSTANCE_FAILED };
            let name = self.name(instance.serial);
            let logs = Kubectl::of(&self.observed.cluster).logs(&name, naming::CONTAINER_POSTGRES);
            return Some((phase, format!("{name}: {message}; look: {logs}")));
        }
        let troubled = staying().filter(|i| !i.terminating()).find_map(|i| Some((i, trouble::of(i.pod?)?)));
        troubled.map(|(instance, trouble)| {
            let phase = self.trouble_phase(&trouble, instance.serial);
            (phase, trouble.told(&self.observed.cluster, &self.name(instance.serial)))
        })
    }

    fn trouble_phase(&self, trouble: &Trouble, serial: i32) -> &'static str {
        match (trouble.in_bootstrap(), serial == self.primary, self.validated.origin) {
            (false, ..) => phases::INSTANCE_FAILED,
            (true, true, Origin::Recovery) => phases::RECOVERY_FAILED,
            (true, ..) => phases::BOOTSTRAP_FAILED,
        }
    }

    /// Instances that are not ready, each with what is known of why.
    fn waiting(&self, leaving: &[String]) -> Vec<String> {
        let unready = |i: &&Instance<'_>| {
            let serves = if i.serial == self.primary { i.ready_primary() } else { i.ready() };
            !serves && i.following().is_none()
        };
        self.instances
            .iter()
            .filter(unready)
            .map(|i| self.name(i.serial))
            .filter(|name| !leaving.contains(name))
            .map(|name| self.with_word(name))
            .collect()
    }

    /// The name of an instance, with what is known of why it is not ready.
    fn with_word(&self, name: String) -> String {
        let why = match self.observed.reports.get(&name) {
            Some(Ok(report)) => report.message.clone(),
            Some(Err(error)) => error.to_string(),
            None => String::new(),
        };
        with_detail(name, &why)
    }

    /// All that stays is ready: adds the next replica, or rests.
    fn grow(&self, leaving: &[String], plan: &mut Plan) -> Verdict {
        let living = self.instances.len().saturating_sub(leaving.len());
        if living >= self.desired && !leaving.is_empty() {
            return (phases::SCALING_DOWN, format!("leaving with their volumes: {}", leaving.join(", ")));
        }
        if let Some(problem) = self.validated.blocking() {
            return (phases::INVALID, problem.message.clone());
        }
        if living < self.desired {
            let serial = plan.latest_serial + 1;
            plan.latest_serial = serial;
            let reason = format!("{} joins {}", self.name(serial), self.name(self.primary));
            plan.steps.push(Step::EnsureInstance { serial, fill: Fill::Join, reason: reason.clone() });
            return (phases::CREATING_REPLICA, reason);
        }
        let reason = match self.desired {
            1 => "the instance is ready".to_owned(),
            n => format!("all {n} instances are ready"),
        };
        (phases::HEALTHY, reason)
    }
}

/// Whether anything of an instance is left that nobody has deleted yet.
fn lingers(instance: &Instance<'_>) -> bool {
    (instance.pod.is_some() && !instance.terminating()) || stays(instance.data) || stays(instance.wal)
}
