//! What to do next with the pod and the volumes of the repository host. Pure.
//!
//! A volume is made once. One that is gone later held backups: making an empty one in its place would hide that, so
//! a person has to give it back, or an empty one, under its name.

use std::collections::BTreeMap;

use howdah_api::conditions::{FALSE, TRUE};
use howdah_api::labels;
use howdah_api::naming;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, Pod};
use kube::ResourceExt;
use serde::Serialize;

use crate::controllers::cluster::build::repo_host::{RepoHostInput, spec_hash};
use crate::controllers::cluster::decide::hibernation;
use crate::controllers::cluster::observed::{Observed, pod_ready};
use crate::controllers::cluster::validate::Validated;
use crate::controllers::cluster::{quantity, trouble};

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Step {
    /// Make the volume of a repository, for the first time.
    MakeVolume {
        /// Name of the repository.
        repository: String,
    },
    /// Grow a volume.
    Grow {
        /// Name of the PersistentVolumeClaim.
        volume: String,
        /// New size.
        size: String,
    },
    /// Make the pod.
    MakePod {
        /// Why.
        reason: String,
    },
    /// Delete the pod; it is made again while there are repositories on volumes.
    DeletePod {
        /// Why.
        reason: String,
    },
}

/// Reason of the condition while the cluster is hibernated.
const HIBERNATED: &str = "Hibernated";

/// What the condition says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Status.
    pub status: &'static str,
    /// Reason.
    pub reason: &'static str,
    /// In words, with the remedy.
    pub message: String,
    /// The repository that it is about; none when it is about all.
    pub repository: Option<String>,
}

/// What shall be done, and what there is to say about it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Plan {
    /// In this order.
    pub steps: Vec<Step>,
    /// The condition; none without repositories on volumes.
    pub verdict: Option<Verdict>,
    /// UID of each volume that is known, by name of the repository.
    pub volumes: BTreeMap<String, String>,
    /// What the pod serves: repositories whose volume is not lost.
    #[serde(skip)]
    pub served: Vec<(String, PersistentVolumeClaimSpec)>,
}

impl Plan {
    /// Whether nothing is going on.
    #[must_use]
    pub fn at_rest(&self) -> bool {
        let good = |verdict: &Verdict| verdict.status == TRUE || verdict.reason == HIBERNATED;
        self.steps.is_empty() && self.verdict.as_ref().is_none_or(good)
    }

    fn say(&mut self, status: &'static str, reason: &'static str, message: String) {
        // The first is the weightiest.
        self.verdict.get_or_insert(Verdict { status, reason, message, repository: None });
    }

    fn say_of(&mut self, repository: &str, reason: &'static str, message: String) {
        let repository = Some(repository.to_owned());
        self.verdict.get_or_insert(Verdict { status: FALSE, reason, message, repository });
    }
}

/// Decides.
#[must_use]
pub fn decide(validated: &Validated, observed: &Observed) -> Plan {
    let mut plan = Plan::default();
    let pod = observed.repo_host.pod.as_ref().filter(|pod| observed.owns(&pod.metadata));
    if validated.volume_repositories.is_empty() {
        if let Some(pod) = pod.filter(|pod| !leaving(pod)) {
            let reason = format!("{} goes: no repository is on a volume any more", pod.name_any());
            plan.steps.push(Step::DeletePod { reason });
        }
        return plan;
    }
    let held = volumes(validated, observed, &mut plan);
    if !held && hibernation::complete(observed) {
        if let Some(pod) = pod.filter(|pod| !leaving(pod)) {
            let reason = format!("{} is stopped: the cluster is hibernated", pod.name_any());
            plan.steps.push(Step::DeletePod { reason });
        }
        let message =
            "the cluster is hibernated; its repositories on volumes are served again when it wakes up";
        plan.say(FALSE, HIBERNATED, message.to_owned());
        return plan;
    }
    // A volume that is being deleted lives as long as its pod does: that is the time to save what is on it.
    if !held {
        pod_steps(validated, observed, pod, &mut plan);
    }
    tell_of_pod(observed, pod, &mut plan);
    plan
}

/// Makes, grows and misses volumes. Returns whether one is being deleted.
fn volumes(validated: &Validated, observed: &Observed, plan: &mut Plan) -> bool {
    let known = observed.status().repository_volumes;
    let mut deleting = false;
    for (repository, wanted) in &validated.volume_repositories {
        let volume = naming::repo_volume(&validated.name, repository);
        match (observed.repo_host.volumes.get(repository), known.get(repository)) {
            (Some(present), _) if present.metadata.deletion_timestamp.is_none() => {
                plan.volumes.insert(repository.clone(), present.uid().unwrap_or_default());
                plan.served.push((repository.clone(), wanted.clone()));
                size((repository, &volume), present, wanted, plan);
            }
            (Some(present), _) => {
                deleting = true;
                plan.volumes.insert(repository.clone(), present.uid().unwrap_or_default());
                plan.served.push((repository.clone(), wanted.clone()));
                let message = format!(
                    "PersistentVolumeClaim {volume} of repository {repository} is being deleted and goes when its pod \
                     ends; nothing is touched: copy the backups to another repository now"
                );
                plan.say_of(repository, "VolumeIsBeingDeleted", message);
            }
            (None, Some(uid)) => {
                plan.volumes.insert(repository.clone(), uid.clone());
                let message = format!(
                    "PersistentVolumeClaim {volume} of repository {repository} is gone, and its backups with it, unless \
                     you have a copy; it is not made anew: make one of that name from a snapshot, or an empty one to \
                     begin anew, or take the repository out of the Cluster"
                );
                plan.say_of(repository, "VolumeLost", message);
            }
            (None, None) => {
                plan.steps.push(Step::MakeVolume { repository: repository.clone() });
                plan.served.push((repository.clone(), wanted.clone()));
            }
        }
    }
    deleting
}

fn size(
    (repository, volume): (&str, &str),
    present: &PersistentVolumeClaim,
    wanted: &PersistentVolumeClaimSpec,
    plan: &mut Plan,
) {
    let requests = wanted.resources.as_ref().and_then(|r| r.requests.as_ref());
    let Some(size) = requests.and_then(|r| r.get("storage")).map(|q| q.0.as_str()) else { return };
    let now = quantity::requested(present);
    if quantity::is_less(now, size) {
        plan.steps.push(Step::Grow { volume: volume.to_owned(), size: size.to_owned() });
    } else if let Some(now) = now
        && quantity::is_less(Some(size), now)
    {
        let message = format!(
            "PersistentVolumeClaim {volume} of repository {repository} has {now} and cannot shrink to {size}: ask for {now} \
             or more in volumeClaimSpec"
        );
        plan.say_of(repository, "VolumeCannotShrink", message);
    }
}

fn pod_steps(validated: &Validated, observed: &Observed, pod: Option<&Pod>, plan: &mut Plan) {
    let name = naming::repo_host_pod(&validated.name);
    let Some(pod) = pod else {
        if !plan.served.is_empty() {
            plan.steps.push(Step::MakePod { reason: format!("pod {name} is made on its volumes") });
        }
        return;
    };
    if leaving(pod) {
        return;
    }
    if trouble::is_finished(pod) {
        let reason = format!("pod {name} has ended for good; it is made again on its volumes");
        plan.steps.push(Step::DeletePod { reason });
        return;
    }
    let hash = spec_hash(&observed.cluster, validated, RepoHostInput { repositories: &plan.served });
    if pod.annotations().get(labels::POD_SPEC_HASH) == Some(&hash) {
        return;
    }
    let stuck = trouble::of(pod).is_some_and(|trouble| trouble.idle);
    let running =
        observed.backups.iter().find(|b| b.status.as_ref().is_some_and(|s| s.phase().is_executing()));
    match running {
        Some(backup) if !stuck => {
            let message = format!("pod {name} is replaced when Backup {} has ended", backup.name_any());
            plan.say(TRUE, "WaitingForBackup", message);
        }
        _ => {
            let reason = format!("pod {name} is replaced by one of the present specification");
            plan.steps.push(Step::DeletePod { reason });
        }
    }
}

/// What the pod's state says about the repositories.
fn tell_of_pod(observed: &Observed, pod: Option<&Pod>, plan: &mut Plan) {
    let name = naming::repo_host_pod(&observed.cluster.name_any());
    if pod.is_some_and(pod_ready) {
        let served: Vec<&str> = plan.served.iter().map(|(name, _)| name.as_str()).collect();
        return plan.say(TRUE, "Serving", format!("{name} serves {}", served.join(", ")));
    }
    // Whatever waits is nothing against a host that nobody can archive to.
    plan.verdict = plan.verdict.take().filter(|verdict| verdict.status == FALSE);
    match pod.and_then(trouble::of) {
        Some(trouble) => plan.say(FALSE, "RepositoryHostFailing", trouble.told(&observed.cluster, &name)),
        None => plan.say(FALSE, "RepositoryHostNotReady", format!("{name} is not ready yet")),
    }
}

fn leaving(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}
