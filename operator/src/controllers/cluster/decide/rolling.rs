//! Replaces pods whose specification is out of date, one at a time. Pure.

use howdah_api::labels;
use kube::ResourceExt;

use crate::controllers::cluster::observed::{Instance, Observed};
use crate::controllers::cluster::trouble;

/// What a rolling change does next.
pub(super) enum Replacement {
    /// This pod is replaced.
    Now(i32),
    /// One is to be replaced, later; why.
    Wait(String),
}

/// The next pod whose specification is out of date: replicas first, from the highest serial, the primary last,
/// one at a time and only while all others are ready. A pod that cannot run anyway is replaced at once.
pub(super) fn next_to_replace(
    observed: &Observed,
    instances: &[Instance<'_>],
    primary: i32,
    hash: &str,
) -> Option<Replacement> {
    let outdated = |i: &&Instance<'_>| {
        i.pod.is_some_and(|p| {
            p.metadata.deletion_timestamp.is_none()
                && p.annotations().get(labels::POD_SPEC_HASH).map(String::as_str) != Some(hash)
        })
    };
    let mut candidates: Vec<&Instance<'_>> = instances.iter().filter(outdated).collect();
    candidates.sort_by_key(|i| (i.serial == primary, std::cmp::Reverse(i.serial)));
    if let Some(stuck) = candidates.iter().find(|i| i.pod.and_then(trouble::of).is_some_and(|t| t.idle)) {
        return Some(Replacement::Now(stuck.serial));
    }
    let next = candidates.first()?;
    let pod = next.pod?.name_any();
    let others_ready = instances.iter().filter(|i| i.data.is_some()).all(Instance::ready);
    if !others_ready && !observed.initialised() {
        return None;
    }
    if !others_ready {
        return Some(Replacement::Wait(format!("{pod} is replaced when all instances are ready")));
    }
    let backup = observed.backups.iter().find(|b| {
        b.status.as_ref().is_some_and(|s| {
            s.phase().is_executing() && s.instance_id.as_ref().is_some_and(|i| i.pod_name == pod)
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
