//! Keeps the instances that are there alive, and brings their number to what is asked for. Pure.

use howdah_api::naming;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use super::rolling::{Replacement, next_to_replace};
use super::{Fill, Plan, Step};
use crate::controllers::cluster::observed::{Instance, Observed};
use crate::controllers::cluster::phases;
use crate::controllers::cluster::trouble::{self, Trouble};
use crate::controllers::cluster::validate::{Origin, Validated};

/// Adds to `plan` what the instances need. `hash` is the fingerprint of the pods that would be made now.
pub(super) fn run(
    validated: &Validated,
    observed: &Observed,
    instances: &[Instance<'_>],
    primary: i32,
    hash: &str,
    plan: &mut Plan,
) {
    let round = Round {
        validated,
        observed,
        instances,
        primary,
        initialised: observed.initialised(),
        with_wal: observed.cluster.spec.wal_storage.is_some(),
        desired: usize::try_from(observed.cluster.spec.instances).unwrap_or(1),
    };
    let verdict = round.decide(hash, plan);
    plan.phase = verdict.0;
    plan.reason = verdict.1;
    plan.at_rest = plan.phase == phases::HEALTHY && plan.steps.is_empty();
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
        let surplus = self.surplus();
        let (recreating, leaving) = self.keep_alive(surplus, plan);
        if let Some(serial) = surplus {
            let reason =
                format!("instance {} is removed; instances asked for: {}", self.name(serial), self.desired);
            plan.steps.push(Step::RemoveInstance { serial, reason: reason.clone() });
            return (phases::SCALING_DOWN, reason);
        }
        let failing = self.failing(&leaving);
        match next_to_replace(self.observed, self.instances, self.primary, hash) {
            Some(Replacement::Now(serial)) => {
                let reason =
                    format!("pod {} is replaced by one of the present specification", self.name(serial));
                plan.steps.push(Step::DeletePod { serial, reason: reason.clone() });
                if serial == self.primary && self.initialised {
                    // It comes back in its place: nobody takes over meanwhile.
                    plan.primary_restart =
                        self.primary_instance().and_then(Instance::pod_uid).map(str::to_owned);
                }
                return (phases::UPGRADING, reason);
            }
            Some(Replacement::Wait(reason)) if failing.is_none() => return (phases::UPGRADING, reason),
            _ => {}
        }
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
        self.grow(&leaving, plan)
    }

    /// The primary's data is what everything else is made from: without it nothing is touched.
    fn lost_primary(&self) -> Option<Verdict> {
        let whole = self.primary_instance().is_some_and(|i| i.has_volumes(self.with_wal));
        (!whole && self.initialised).then(|| {
            let reason = format!(
                "a volume of the primary {} is missing or being deleted; nothing is touched: give the volume back, \
                 or recover the last backup into a new Cluster",
                self.name(self.primary)
            );
            (phases::UNRECOVERABLE, reason)
        })
    }

    /// Makes pods that are missing and removes what is left of replicas without volume. Returns the names of
    /// those that are made again, and of those that leave.
    fn keep_alive(&self, surplus: Option<i32>, plan: &mut Plan) -> (Vec<String>, Vec<String>) {
        let mut recreating = Vec::new();
        let mut leaving = Vec::new();
        let empty = Instance { serial: self.primary, pod: None, data: None, wal: None, report: None };
        let missing = self.primary_instance().is_none().then_some(&empty);
        for instance in self.instances.iter().chain(missing).filter(|i| surplus != Some(i.serial)) {
            let serial = instance.serial;
            let name = self.name(serial);
            let whole = instance.has_volumes(self.with_wal);
            if !whole && serial != self.primary {
                // A replica without its volume is not repaired: another one takes its place.
                if lingers(instance) {
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
        let staying = || self.instances.iter().filter(|i| !leaving.contains(&self.name(i.serial)));
        let fatal = staying().find_map(|i| Some((i, i.report?.fatal.as_deref()?)));
        if let Some((instance, message)) = fatal {
            let recovering = self.validated.origin == Origin::Recovery
                && !self.primary_instance().is_some_and(Instance::volume_ready);
            let phase = if recovering { phases::RECOVERY_FAILED } else { phases::INSTANCE_FAILED };
            return Some((phase, format!("{}: {message}", self.name(instance.serial))));
        }
        let troubled = staying().filter(|i| !i.terminating()).find_map(|i| Some((i, trouble::of(i.pod?)?)));
        troubled.map(|(instance, trouble)| {
            let phase = self.trouble_phase(&trouble, instance.serial);
            (phase, format!("{}: {}", self.name(instance.serial), trouble.message))
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
        let unready =
            |i: &&Instance<'_>| if i.serial == self.primary { !i.ready_primary() } else { !i.ready() };
        self.instances
            .iter()
            .filter(unready)
            .map(|i| self.name(i.serial))
            .filter(|name| !leaving.contains(name))
            .map(|name| {
                let why = match self.observed.reports.get(&name) {
                    Some(Ok(report)) => report.message.clone(),
                    Some(Err(error)) => error.to_string(),
                    None => String::new(),
                };
                if why.is_empty() { name } else { format!("{name} ({why})") }
            })
            .collect()
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

    /// The instance to remove when there are too many: the replica with the highest serial.
    fn surplus(&self) -> Option<i32> {
        let living = self.instances.iter().filter(|i| stays(i.data));
        if living.clone().count() <= self.desired {
            return None;
        }
        living.map(|i| i.serial).filter(|s| *s != self.primary).max()
    }
}

fn stays(volume: Option<&PersistentVolumeClaim>) -> bool {
    volume.is_some_and(|v| v.metadata.deletion_timestamp.is_none())
}

/// Whether anything of an instance is left that nobody has deleted yet.
fn lingers(instance: &Instance<'_>) -> bool {
    (instance.pod.is_some() && !instance.terminating()) || stays(instance.data) || stays(instance.wal)
}
