//! What to do next with the instances of a cluster. Pure: the same observation gives the same plan.

mod candidate;
mod evidence;
mod failing;
mod failover;
pub mod fencing;
pub mod hibernation;
mod keep;
mod lifecycle;
mod lost;
mod quorum;
mod rolling;
mod scene;
pub mod surplus;
mod switchover;
mod transition;
mod wait;

use howdah_api::naming;
use howdah_api::{instance::InstanceRole, labels};
use kube::ResourceExt;
use serde::Serialize;

use self::scene::Scene;
use super::observed::{Instance, Observed};
use super::validate::{Blocks, Origin, Validated};
use super::{phases, quantity};

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
    /// Delete a pod that is not made again for now.
    StopPod {
        /// Serial.
        serial: i32,
        /// Why.
        reason: String,
    },
    /// Replace the instance manager of a pod while PostgreSQL runs.
    UpgradeManager {
        /// Serial.
        serial: i32,
        /// Why.
        reason: String,
    },
    /// Restart PostgreSQL in its pod.
    RestartInstance {
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
    /// Empty the lease of the primary, when it is still that holder's.
    ReleaseLease {
        /// Who holds it and has ended.
        holder: String,
    },
    /// Take an annotation of the Cluster away.
    ClearAnnotation {
        /// Its key.
        key: &'static str,
    },
    /// Tell that a switchover is not begun.
    RefuseSwitchover {
        /// Why.
        reason: String,
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
    /// UID of the primary's pod that is replaced, or whose PostgreSQL is restarted, by the operator itself; written before
    /// that is done, and kept until a primary is ready again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary_restart: Option<String>,
    /// Look again after so many seconds, whatever `at_rest` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub look_again: Option<u32>,
    /// What a failover waits for; a part of the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// The target was chosen now, even if it bears the same name as before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub target_chosen: bool,
    /// The primary does not serve.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub primary_failing: bool,
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
        look_again: None,
        waits_for: None,
        target_chosen: false,
        primary_failing: false,
        primary_restart: status.primary_restart.clone(),
    };
    if hibernation::begins(observed) {
        let primary = primary_serial(validated, observed, &instances, &mut plan);
        hibernation::run(validated, observed, &instances, primary, &mut plan);
        return plan;
    }
    if instances.is_empty() && !observed.initialised() {
        first_instance(validated, &mut plan);
        return plan;
    }
    let Some(primary_serial) = primary_serial(validated, observed, &instances, &mut plan) else {
        plan.phase = phases::UNRECOVERABLE;
        plan.reason = lost::everything(observed);
        return plan;
    };
    let scene = Scene::new(validated, observed, &instances);
    let complete = failover::run(&scene, hash, &mut plan);
    let chosen = plan.target_primary.as_deref().and_then(|t| naming::serial_of(&validated.name, t));
    let primary_serial = chosen.unwrap_or(primary_serial);
    maintain(observed, &instances, primary_serial, &mut plan);
    if !complete {
        lifecycle::run(validated, observed, &instances, primary_serial, hash, &mut plan);
    }
    plan
}

fn first_instance(validated: &Validated, plan: &mut Plan) {
    if let Some(problem) = validated.blocking() {
        plan.phase = match (validated.predecessor, problem.blocks) {
            (true, _) => phases::WAITING_FOR_PREDECESSOR,
            (false, Blocks::Recovery) => phases::WAITING_FOR_BACKUP,
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
        if let Some(role) = role_to_write(instance, primary) {
            plan.steps.push(Step::Label { serial: instance.serial, role });
        }
        let filled = instance.report.is_some_and(|r| r.role.is_some() && r.ready && !r.recovering);
        if filled && instance.data.is_some() && !instance.volume_ready() {
            plan.steps.push(Step::MarkVolume { serial: instance.serial });
        }
        let sizes = [(instance.data, Some(&spec.storage)), (instance.wal, spec.wal_storage.as_ref())];
        for (volume, wanted) in sizes {
            let (Some(volume), Some(wanted)) = (volume, wanted) else { continue };
            if quantity::is_less(quantity::requested(volume), &wanted.size) {
                plan.steps.push(Step::Resize { volume: volume.name_any(), size: wanted.size.clone() });
            }
        }
    }
}

/// The role that the label of a pod must be changed to. The primary bears its role when it says that it has it; everybody
/// else loses it at once, so that clients are sent to nobody rather than to a former primary.
fn role_to_write(instance: &Instance<'_>, primary: i32) -> Option<&'static str> {
    let written = instance.pod?.labels().get(labels::ROLE).map(String::as_str);
    let role = match instance.report.and_then(|r| r.role) {
        Some(InstanceRole::Primary) if instance.serial == primary => labels::ROLE_PRIMARY,
        Some(_) => labels::ROLE_REPLICA,
        None if instance.serial != primary && written == Some(labels::ROLE_PRIMARY) => labels::ROLE_REPLICA,
        None => return None,
    };
    (written != Some(role)).then_some(role)
}
