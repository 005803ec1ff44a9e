//! Rolls changes through the instances, one at a time, replicas first: pods of an older specification are replaced, instance
//! managers of another version too, and PostgreSQL is restarted where a parameter waits for it. Pure.

use std::cmp::Reverse;

use howdah_api::availability::{PrimaryUpdateMethod, PrimaryUpdateStrategy};
use howdah_api::instance::{InstanceRole, InstanceStatus};
use howdah_api::{Backup, labels, naming};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use crate::controllers::cluster::kubectl::Kubectl;
use crate::controllers::cluster::manager_upgrade::{self, Verdict};
use crate::controllers::cluster::observed::{Instance, Observed};
use crate::controllers::cluster::trouble;
use crate::controllers::cluster::validate::Validated;
use crate::lsn;

/// How long the replacement of an instance manager waits for a backup of its instance.
const BACKUP_PATIENCE: SignedDuration = SignedDuration::from_hours(1);

/// What a rolling change does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Replacement {
    /// This pod is replaced.
    Now(i32),
    /// The instance manager of this pod is replaced while PostgreSQL runs.
    Manager(i32),
    /// PostgreSQL is restarted in this pod.
    Restart(i32),
    /// This replica becomes the primary first.
    Switchover(i32),
    /// One is to be changed, later; why.
    Wait(String),
    /// The primary is to be changed, when a person says so; how.
    User(String),
}

/// What an instance needs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// A pod of the present specification.
    Pod,
    /// The operator's instance manager.
    Manager,
    /// A restart of PostgreSQL.
    Restart,
}

impl Need {
    fn of(validated: &Validated, observed: &Observed, instance: &Instance<'_>, hash: &str) -> Option<Self> {
        let pod = instance.pod.filter(|_| !instance.terminating())?;
        if pod.annotations().get(labels::POD_SPEC_HASH).map(String::as_str) != Some(hash) {
            return Some(Self::Pod);
        }
        match manager_upgrade::judge(validated, observed.now, instance) {
            Verdict::NewPod(_) => return Some(Self::Pod),
            Verdict::InPlace => return Some(Self::Manager),
            Verdict::Current => {}
        }
        instance.report.is_some_and(|r| r.pending_restart).then_some(Self::Restart)
    }

    fn at(self, serial: i32) -> Replacement {
        match self {
            Self::Pod => Replacement::Now(serial),
            Self::Manager => Replacement::Manager(serial),
            Self::Restart => Replacement::Restart(serial),
        }
    }

    fn done(self) -> &'static str {
        match self {
            Self::Pod => "replaced",
            Self::Manager => "given this operator's instance manager",
            Self::Restart => "restarted",
        }
    }
}

/// The next instance that needs something: replicas first, from the highest serial, the primary last, one at a time and
/// only while all others are ready. A pod that cannot run anyway is replaced at once.
pub(super) fn next_to_replace(
    validated: &Validated,
    observed: &Observed,
    instances: &[Instance<'_>],
    primary: i32,
    hash: &str,
) -> Option<Replacement> {
    let mut candidates: Vec<(&Instance<'_>, Need)> =
        instances.iter().filter_map(|i| Some((i, Need::of(validated, observed, i, hash)?))).collect();
    candidates.sort_by_key(|(i, _)| (i.serial == primary, Reverse(i.serial)));
    let stuck = |(i, need): &&(&Instance<'_>, Need)| {
        *need == Need::Pod && i.pod.and_then(trouble::of).is_some_and(|t| t.idle)
    };
    if let Some((stuck, _)) = candidates.iter().find(stuck) {
        return Some(Replacement::Now(stuck.serial));
    }
    let (next, need) = *candidates.first()?;
    let pod = next.pod?.name_any();
    let done = need.done();
    let wait = |why: String| Some(Replacement::Wait(format!("{pod} is {done} when {why}")));
    let all_ready = instances.iter().filter(|i| i.data.is_some()).all(Instance::ready);
    if !all_ready && !observed.initialised() {
        return None;
    }
    if !all_ready {
        return wait("all instances are ready".to_owned());
    }
    let name = naming::instance(&observed.cluster.name_any(), primary);
    if !settled(observed, instances, primary, &name) {
        return wait(format!("{name} is the primary"));
    }
    if let Some(backup) =
        backup_on(observed, &pod).filter(|b| need != Need::Manager || !outlasts(b, observed.now))
    {
        return wait(format!("Backup {} has ended", backup.name_any()));
    }
    if need == Need::Manager {
        // PostgreSQL runs on, so nobody has to say when; but one after the other.
        if let Some(silent) = instances.iter().find(|i| i.pod.is_some() && !i.report.is_some_and(|r| r.ready))
        {
            let silent = naming::instance(&observed.cluster.name_any(), silent.serial);
            return wait(format!("{silent} says that it is ready"));
        }
        return Some(need.at(next.serial));
    }
    if next.serial == primary {
        return Some(primary_change(observed, instances, next, need));
    }
    Some(need.at(next.serial))
}

/// Whether the primary is the one that it shall be: nothing else is touched while it moves.
fn settled(observed: &Observed, instances: &[Instance<'_>], primary: i32, name: &str) -> bool {
    let is_known = observed.status().current_primary.is_none_or(|current| current == name);
    let leads = |r: &InstanceStatus| !r.recovering && r.role == Some(InstanceRole::Primary);
    let says_so = instances
        .iter()
        .filter(|i| i.serial == primary)
        .all(|i| i.report.is_none_or(|r| r.ready && (leads(r) || r.following.is_some())));
    is_known && says_so
}

/// Whether a backup takes so long that the instance manager is replaced all the same: the next one goes on with it.
fn outlasts(backup: &Backup, now: Timestamp) -> bool {
    let begun = backup.status.as_ref().and_then(|s| s.started_at.clone());
    begun.is_some_and(|begun| now.duration_since(begun.0) > BACKUP_PATIENCE)
}

/// The Backup that is being taken in `pod`.
pub(super) fn backup_on<'a>(observed: &'a Observed, pod: &str) -> Option<&'a Backup> {
    observed.backups.iter().find(|b| {
        b.status.as_ref().is_some_and(|s| {
            s.phase().is_executing() && s.instance_id.as_ref().is_some_and(|i| i.pod_name == pod)
        })
    })
}

/// All replicas are done; how the primary comes to what it needs.
fn primary_change(
    observed: &Observed,
    instances: &[Instance<'_>],
    primary: &Instance<'_>,
    need: Need,
) -> Replacement {
    let spec = &observed.cluster.spec;
    let supervised = spec.primary_update_strategy == PrimaryUpdateStrategy::Supervised;
    let (cluster, kubectl) = (observed.cluster.name_any(), Kubectl::of(&observed.cluster));
    let pod = naming::instance(&cluster, primary.serial);
    let done = need.done();
    // A replica runs with no less than its primary, so it would still have the old values as a primary.
    if need == Need::Restart && primary.report.is_some_and(|r| r.pending_restart_lowers) {
        return if supervised {
            let patch = format!(
                "patch cluster {cluster} --type merge -p '{{\"spec\":{{\"primaryUpdateStrategy\":\"unsupervised\"}}}}'"
            );
            Replacement::User(format!(
                "{pod} is restarted in its place to lower parameters, which no switchover can do; \
                 primaryUpdateStrategy is supervised: {} lets it begin",
                kubectl.run(&patch)
            ))
        } else {
            need.at(primary.serial)
        };
    }
    let alone = instances.iter().all(|i| i.serial == primary.serial || i.data.is_none());
    if alone && supervised {
        return Replacement::User(format!(
            "{pod} is {done} when you say so, primaryUpdateStrategy is supervised and no replica can take its place: \
             {}",
            kubectl.run(&format!("delete pod {pod}"))
        ));
    }
    if alone || (!supervised && spec.primary_update_method == PrimaryUpdateMethod::Restart) {
        return need.at(primary.serial);
    }
    let Some(heir) = most_advanced(instances, primary.serial) else {
        return Replacement::Wait(format!("{pod} is {done} when a replica streams and can take its place"));
    };
    if supervised {
        let replica = naming::instance(&cluster, heir);
        return Replacement::User(format!(
            "{pod} is {done} after a switchover, which is yours to begin, primaryUpdateStrategy is supervised: \
             {}, or operator switchover",
            kubectl.annotate(labels::SWITCHOVER, &replica)
        ));
    }
    Replacement::Switchover(heir)
}

/// The ready, streaming replica that has received most; the lowest serial when several have.
fn most_advanced(instances: &[Instance<'_>], primary: i32) -> Option<i32> {
    let replicas = instances.iter().filter(|i| i.serial != primary && i.ready());
    replicas
        .filter_map(|i| Some((i.serial, i.report?)))
        .filter(|(_, r)| r.ready && r.streaming && r.role == Some(InstanceRole::Replica))
        .max_by_key(|(serial, r)| {
            (r.timeline_id, r.received_lsn.as_deref().and_then(lsn::parse), Reverse(*serial))
        })
        .map(|(serial, _)| serial)
}
