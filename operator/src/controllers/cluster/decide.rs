//! What to do next with the instances of a cluster. Pure: the same observation gives the same plan.

use howdah_api::naming;
use howdah_api::{backup::BackupPhase, instance::InstanceRole, labels};
use kube::ResourceExt;
use serde::Serialize;

use super::observed::{Instance, Observed};
use super::phases;
use super::trouble::{self, Trouble};
use super::validate::{Blocks, Origin, Validated};

/// How the volume of an instance is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Fill {
    /// By `initdb`.
    InitDb,
    /// From a backup.
    Recovery,
    /// From the primary.
    Join,
    /// It is full already and must never be filled again.
    Nothing,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Step {
    /// Make the volumes and the pod of an instance, as far as they are missing.
    EnsureInstance {
        /// Serial.
        serial: i32,
        /// How its volume is filled.
        fill: Fill,
        /// Why.
        reason: String,
    },
    /// Delete a pod; it is made again later.
    DeletePod {
        /// Serial.
        serial: i32,
        /// Why.
        reason: String,
    },
    /// Delete pod and volumes for good.
    RemoveInstance {
        /// Serial.
        serial: i32,
        /// Why.
        reason: String,
    },
    /// Correct the role label of a pod.
    Label {
        /// Serial.
        serial: i32,
        /// `primary` or `replica`.
        role: &'static str,
    },
    /// Mark a volume as holding a finished data directory.
    MarkVolume {
        /// Serial.
        serial: i32,
    },
    /// Grow a volume.
    Resize {
        /// Name of the PersistentVolumeClaim.
        volume: String,
        /// New size.
        size: String,
    },
}

/// What shall be done, and what there is to say about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// In this order.
    pub steps: Vec<Step>,
    /// The instance that shall be the primary; written before anything is done.
    pub target_primary: Option<String>,
    /// Highest serial ever given; written before anything is done.
    pub latest_serial: i32,
    /// Phase.
    pub phase: &'static str,
    /// Why.
    pub reason: String,
    /// Nothing is going on: look again later rather than soon.
    pub at_rest: bool,
}

/// Decides. `hash` is the fingerprint of the pods that would be made now.
#[must_use]
pub fn decide(validated: &Validated, observed: &Observed, hash: &str) -> Plan {
    let status = observed.status();
    let instances = observed.instances();
    let highest = instances.iter().map(|i| i.serial).max().unwrap_or(0);
    let latest_serial = status.latest_generated_serial.max(highest);
    let mut plan = Plan {
        steps: Vec::new(),
        target_primary: status.target_primary.clone(),
        latest_serial,
        phase: phases::HEALTHY,
        reason: String::new(),
        at_rest: false,
    };
    if instances.is_empty() && !observed.initialised() {
        first_instance(validated, &mut plan);
        return plan;
    }
    let Some(primary_serial) = primary_serial(validated, observed, &instances, &mut plan) else {
        return unrecoverable(
            plan,
            format!(
                "no volume of {} is left; recover its last backup into a new Cluster (bootstrap.recovery)",
                validated.name
            ),
        );
    };
    maintain(observed, &instances, primary_serial, &mut plan);
    lifecycle(validated, observed, &instances, primary_serial, hash, &mut plan);
    plan
}

fn first_instance(validated: &Validated, plan: &mut Plan) {
    if let Some(problem) = validated.blocking() {
        plan.phase = match problem.blocks {
            Blocks::Recovery => phases::WAITING_FOR_BACKUP,
            _ => phases::INVALID,
        };
        plan.reason.clone_from(&problem.message);
        return;
    }
    // A target that was written and came to nothing is used again: its serial was never seen by anybody.
    let serial = plan
        .target_primary
        .as_deref()
        .and_then(|t| naming::serial_of(&validated.name, t))
        .unwrap_or(plan.latest_serial + 1);
    plan.latest_serial = plan.latest_serial.max(serial);
    plan.target_primary = Some(naming::instance(&validated.name, serial));
    let (fill, how) = match validated.origin {
        Origin::InitDb => (Fill::InitDb, "an empty database cluster"),
        Origin::Recovery => (Fill::Recovery, "a backup"),
    };
    plan.phase = phases::FIRST_PRIMARY;
    plan.reason = format!("instance {} begins with {how}", naming::instance(&validated.name, serial));
    plan.steps.push(Step::EnsureInstance { serial, fill, reason: plan.reason.clone() });
}

/// Serial of the primary. When the status does not tell (it was lost), the instance that is a primary, else
/// the oldest one, becomes the target.
fn primary_serial(
    validated: &Validated,
    observed: &Observed,
    instances: &[Instance<'_>],
    plan: &mut Plan,
) -> Option<i32> {
    let named = plan
        .target_primary
        .as_deref()
        .or(observed.cluster.status.as_ref().and_then(|s| s.current_primary.as_deref()))
        .and_then(|n| naming::serial_of(&validated.name, n));
    let serial = named
        .or_else(|| {
            let says_so = |i: &&Instance<'_>| i.report.is_some_and(|r| r.role == Some(InstanceRole::Primary));
            instances.iter().find(says_so).map(|i| i.serial)
        })
        .or_else(|| instances.first().map(|i| i.serial))?;
    if instances.is_empty() {
        return None;
    }
    plan.target_primary = Some(naming::instance(&validated.name, serial));
    Some(serial)
}

/// What is always done, whatever else goes on: labels, marks, sizes.
fn maintain(observed: &Observed, instances: &[Instance<'_>], primary: i32, plan: &mut Plan) {
    let spec = &observed.cluster.spec;
    for instance in instances {
        if let (Some(pod), Some(report)) = (instance.pod, instance.report)
            && let Some(role) = report.role
        {
            let role = if role == InstanceRole::Primary && instance.serial == primary {
                labels::ROLE_PRIMARY
            } else {
                labels::ROLE_REPLICA
            };
            if pod.labels().get(labels::ROLE).map(String::as_str) != Some(role) {
                plan.steps.push(Step::Label { serial: instance.serial, role });
            }
            if report.ready && !report.recovering && instance.data.is_some() && !instance.volume_ready() {
                plan.steps.push(Step::MarkVolume { serial: instance.serial });
            }
        }
        let sizes = [(instance.data, Some(&spec.storage)), (instance.wal, spec.wal_storage.as_ref())];
        for (volume, wanted) in sizes {
            let (Some(volume), Some(wanted)) = (volume, wanted) else { continue };
            if super::quantity::is_less(super::quantity::requested(volume), &wanted.size) {
                plan.steps.push(Step::Resize { volume: volume.name_any(), size: wanted.size.clone() });
            }
        }
    }
}

fn unrecoverable(mut plan: Plan, reason: String) -> Plan {
    plan.phase = phases::UNRECOVERABLE;
    plan.reason = reason;
    plan
}

fn lifecycle(
    validated: &Validated,
    observed: &Observed,
    instances: &[Instance<'_>],
    primary: i32,
    hash: &str,
    plan: &mut Plan,
) {
    let spec = &observed.cluster.spec;
    let with_wal = spec.wal_storage.is_some();
    let initialised = observed.initialised();
    let name = |serial| naming::instance(&validated.name, serial);
    let desired = usize::try_from(spec.instances).unwrap_or(1);
    let primary_instance = instances.iter().find(|i| i.serial == primary);

    // The primary's data is what everything else is made from.
    let primary_whole = primary_instance.is_some_and(|i| i.has_volumes(with_wal));
    if !primary_whole && initialised {
        let reason = format!(
            "a volume of the primary {} is missing or being deleted; nothing is touched: give the volume back, or \
             recover the last backup into a new Cluster",
            name(primary)
        );
        plan.phase = phases::UNRECOVERABLE;
        plan.reason = reason;
        return;
    }

    let surplus = surplus(instances, primary, desired);
    let mut recreating = Vec::new();
    let mut replaced = 0_usize;
    let empty = Instance { serial: primary, pod: None, data: None, wal: None, report: None };
    let all = instances.iter().chain(primary_instance.is_none().then_some(&empty));
    for instance in all {
        if surplus == Some(instance.serial) {
            continue;
        }
        let is_primary = instance.serial == primary;
        let whole = instance.has_volumes(with_wal);
        if !whole && !is_primary {
            // A replica without its volume is not repaired: another one takes its place.
            replaced += 1;
            if !instance.terminating()
                && (instance.pod.is_some() || instance.data.is_some() || instance.wal.is_some())
            {
                plan.steps.push(Step::RemoveInstance {
                    serial: instance.serial,
                    reason: format!(
                        "a volume of {} is gone; a new replica takes its place",
                        name(instance.serial)
                    ),
                });
            }
            continue;
        }
        match instance.pod {
            Some(pod) if trouble::is_finished(pod) && !instance.terminating() => {
                plan.steps.push(Step::DeletePod {
                    serial: instance.serial,
                    reason: format!(
                        "pod {} has ended for good; it is made again on its volume",
                        name(instance.serial)
                    ),
                });
            }
            Some(_) if whole => {}
            _ => {
                let fill = fill(validated, instance, is_primary, initialised);
                let reason = format!("pod {} is made on its volume", name(instance.serial));
                recreating.push(name(instance.serial));
                plan.steps.push(Step::EnsureInstance { serial: instance.serial, fill, reason });
            }
        }
    }

    let troubled = instances
        .iter()
        .filter(|i| !i.terminating())
        .find_map(|i| i.pod.and_then(trouble::of).map(|t| (i, t)));
    let fatal = instances.iter().find_map(|i| i.report.and_then(|r| r.fatal.as_deref()).map(|f| (i, f)));

    if let Some(outdated) = next_to_replace(observed, instances, primary, hash, surplus) {
        plan.phase = phases::UPGRADING;
        match outdated {
            Replacement::Now(serial) => {
                plan.reason = format!("pod {} is replaced by one of the present specification", name(serial));
                plan.steps.push(Step::DeletePod { serial, reason: plan.reason.clone() });
                return;
            }
            Replacement::Wait(reason) => {
                plan.reason = reason;
                if troubled.is_none() && fatal.is_none() {
                    return;
                }
            }
        }
    }
    if let Some((instance, message)) = fatal {
        let recovering =
            validated.origin == Origin::Recovery && !primary_instance.is_some_and(Instance::volume_ready);
        plan.phase = if recovering { phases::RECOVERY_FAILED } else { phases::INSTANCE_FAILED };
        plan.reason = format!("{}: {message}", name(instance.serial));
        return;
    }
    if let Some((instance, trouble)) = troubled {
        plan.phase = trouble_phase(validated, &trouble, instance.serial == primary);
        plan.reason = format!("{}: {}", name(instance.serial), trouble.message);
        return;
    }
    if let Some(serial) = surplus {
        plan.phase = phases::SCALING_DOWN;
        plan.reason = format!("instance {} is removed; instances asked for: {desired}", name(serial));
        plan.steps.push(Step::RemoveInstance { serial, reason: plan.reason.clone() });
        return;
    }
    if !recreating.is_empty() {
        plan.phase = if initialised { phases::WAITING_FOR_INSTANCES } else { phases::FIRST_PRIMARY };
        plan.reason = format!("made again on their volumes: {}", recreating.join(", "));
        return;
    }
    let waiting = waiting(validated, observed, instances, primary);
    if !waiting.is_empty() {
        plan.phase = if initialised { phases::WAITING_FOR_INSTANCES } else { phases::FIRST_PRIMARY };
        plan.reason = format!("not ready yet: {}", waiting.join(", "));
        return;
    }
    let living = instances.len().saturating_sub(replaced);
    grow(validated, living, primary, desired, plan);
}

/// Instances that are not ready, each with what is known of why.
fn waiting(
    validated: &Validated,
    observed: &Observed,
    instances: &[Instance<'_>],
    primary: i32,
) -> Vec<String> {
    let unready = |i: &&Instance<'_>| if i.serial == primary { !i.ready_primary() } else { !i.ready() };
    instances
        .iter()
        .filter(unready)
        .map(|i| {
            let name = naming::instance(&validated.name, i.serial);
            let why = match observed.reports.get(&name) {
                Some(Ok(report)) => report.message.clone(),
                Some(Err(error)) => error.to_string(),
                None => String::new(),
            };
            if why.is_empty() { name } else { format!("{name} ({why})") }
        })
        .collect()
}

/// All that exists is ready: adds the next replica, or rests.
fn grow(validated: &Validated, living: usize, primary: i32, desired: usize, plan: &mut Plan) {
    let name = |serial| naming::instance(&validated.name, serial);
    if living < desired {
        if let Some(problem) = validated.blocking() {
            plan.phase = phases::INVALID;
            plan.reason.clone_from(&problem.message);
            return;
        }
        let serial = plan.latest_serial + 1;
        plan.latest_serial = serial;
        plan.phase = phases::CREATING_REPLICA;
        plan.reason = format!("{} joins {}", name(serial), name(primary));
        plan.steps.push(Step::EnsureInstance { serial, fill: Fill::Join, reason: plan.reason.clone() });
        return;
    }
    if let Some(problem) = validated.blocking() {
        plan.phase = phases::INVALID;
        plan.reason.clone_from(&problem.message);
        return;
    }
    plan.phase = phases::HEALTHY;
    plan.reason = match desired {
        1 => "the instance is ready".to_owned(),
        n => format!("all {n} instances are ready"),
    };
    plan.at_rest = plan.steps.is_empty();
}

fn trouble_phase(validated: &Validated, trouble: &Trouble, is_primary: bool) -> &'static str {
    if !trouble.in_bootstrap() {
        return phases::INSTANCE_FAILED;
    }
    match (is_primary, validated.origin) {
        (true, Origin::Recovery) => phases::RECOVERY_FAILED,
        _ => phases::BOOTSTRAP_FAILED,
    }
}

/// How the volume of an instance that has no pod is filled. What was full once is never filled again, and a
/// primary's volume is filled only while the cluster has never had data.
fn fill(validated: &Validated, instance: &Instance<'_>, is_primary: bool, initialised: bool) -> Fill {
    if instance.volume_ready() {
        Fill::Nothing
    } else if !is_primary {
        Fill::Join
    } else if initialised {
        Fill::Nothing
    } else {
        match validated.origin {
            Origin::InitDb => Fill::InitDb,
            Origin::Recovery => Fill::Recovery,
        }
    }
}

/// The instance to remove when there are too many: the replica with the highest serial.
fn surplus(instances: &[Instance<'_>], primary: i32, desired: usize) -> Option<i32> {
    let living = instances.iter().filter(|i| i.data.is_some());
    if living.clone().count() <= desired {
        return None;
    }
    living.map(|i| i.serial).filter(|s| *s != primary).max()
}

enum Replacement {
    Now(i32),
    Wait(String),
}

/// The next pod whose specification is out of date: replicas first, from the highest serial, the primary last,
/// one at a time and only while all others are ready. A pod that cannot run anyway is replaced at once.
fn next_to_replace(
    observed: &Observed,
    instances: &[Instance<'_>],
    primary: i32,
    hash: &str,
    surplus: Option<i32>,
) -> Option<Replacement> {
    let outdated = |i: &&Instance<'_>| {
        i.pod.is_some_and(|p| {
            p.metadata.deletion_timestamp.is_none()
                && p.annotations().get(labels::POD_SPEC_HASH).map(String::as_str) != Some(hash)
        })
    };
    let mut candidates: Vec<&Instance<'_>> =
        instances.iter().filter(outdated).filter(|i| surplus != Some(i.serial)).collect();
    candidates.sort_by_key(|i| (i.serial == primary, std::cmp::Reverse(i.serial)));
    if let Some(stuck) = candidates.iter().find(|i| i.pod.is_some_and(|p| trouble::of(p).is_some())) {
        return Some(Replacement::Now(stuck.serial));
    }
    let next = candidates.first()?;
    let pod = next.pod?.name_any();
    let others_ready = instances.iter().all(|i| i.ready() && i.data.is_some());
    if !others_ready && !observed.initialised() {
        return None;
    }
    if !others_ready {
        return Some(Replacement::Wait(format!("{pod} is replaced when all instances are ready")));
    }
    let backup = observed.backups.iter().find(|b| {
        b.status.as_ref().is_some_and(|s| {
            matches!(s.phase(), BackupPhase::Started | BackupPhase::Running | BackupPhase::Finalizing)
                && s.instance_id.as_ref().is_some_and(|i| i.pod_name == pod)
        })
    });
    if let Some(backup) = backup {
        return Some(Replacement::Wait(format!(
            "{pod} is replaced when Backup {} has ended",
            backup.name_any()
        )));
    }
    Some(Replacement::Now(next.serial))
}
