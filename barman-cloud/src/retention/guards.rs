//! What stays whatever the policy says.

use super::facts::Scene;
use super::reason::KeepReason;
use super::rules::{Reasons, give};
use crate::backup_id::BackupId;
use crate::backup_info::BackupStatus;
use crate::catalog::{BackupFacts, Fault, State};
use crate::chain::BackupType;
use std::collections::BTreeMap;

/// Adds the guards to what the rules keep.
pub(super) fn apply(scene: &Scene<'_>, reasons: &mut Reasons) {
    let backups = &scene.newest_first;
    needed(scene, reasons);
    let oldest = oldest_full(scene, reasons);
    for backup in backups {
        if let Some(keep) = backup.keep {
            give(reasons, &backup.id, KeepReason::Pinned(keep));
        }
        if scene.facts.in_use.contains(&backup.id) {
            give(reasons, &backup.id, KeepReason::InUse);
        }
        let Some(fault) = scene.faults.get(&backup.id) else { continue };
        let recent = oldest.as_ref().is_none_or(|oldest| backup.id > *oldest);
        match fault {
            Fault::Unreadable(why) => give(reasons, &backup.id, KeepReason::NeedsPerson(why.clone())),
            Fault::Unfinished(status) if recent => {
                give(reasons, &backup.id, KeepReason::RecentUnfinished(*status));
            }
            fault if recent => give(reasons, &backup.id, KeepReason::Faulty(fault.clone())),
            _ => {}
        }
    }
    may_be_needed(scene, reasons);
    needed(scene, reasons);
    failed_go_with_their_base(scene, reasons);
}

/// The oldest full backup that is kept for more than a request: what failed before it is old. A backup that is kept for
/// years would else keep all failures of these years.
fn oldest_full(scene: &Scene<'_>, reasons: &Reasons) -> Option<BackupId> {
    let kept = scene.sound_full().filter(|backup| reasons.contains_key(&backup.id));
    kept.map(|backup| backup.id.clone()).min()
}

/// Keeps what the kept ones build on.
fn needed(scene: &Scene<'_>, reasons: &mut Reasons) {
    let mut needs: BTreeMap<&BackupId, (BackupId, usize)> = BTreeMap::new();
    for backup in &scene.newest_first {
        if reasons.get(&backup.id).is_some_and(|given| given.iter().any(|reason| builds(backup, reason))) {
            for ancestor in &backup.ancestors {
                needs.entry(ancestor).or_insert_with(|| (backup.id.clone(), 0)).1 += 1;
            }
        }
    }
    for backup in &scene.newest_first {
        if let Some((newest, count)) = needs.remove(&backup.id) {
            let given = reasons.entry(backup.id.clone()).or_default();
            given.retain(|reason| !matches!(reason, KeepReason::NeededBy { .. }));
            given.push(KeepReason::NeededBy { newest, count });
        }
    }
}

/// Whether a backup that is kept for this reason needs what it builds on. One that failed does not; one that does not
/// say how it ended may be running.
fn builds(backup: &BackupFacts, reason: &KeepReason) -> bool {
    match (&backup.state, reason) {
        (State::Unfinished(BackupStatus::Failed), reason) => *reason == KeepReason::InUse,
        _ => true,
    }
}

/// A backup that has lost the record of what it builds on may build on the newest full backup before it, and on any
/// that builds on that.
pub(super) fn may_be_needed(scene: &Scene<'_>, reasons: &mut Reasons) {
    let unknown =
        |backup: &&&BackupFacts| matches!(backup.state, State::Unreadable(_)) && backup.lost_its_chain();
    for lost in scene.newest_first.iter().filter(unknown) {
        let older = || scene.newest_first.iter().filter(move |backup| backup.id < lost.id);
        let full = older().find(|backup| backup.kind == BackupType::Full && backup.is_complete());
        let Some(full) = full else { continue };
        for backup in older().filter(|b| b.id == full.id || b.ancestors.contains(&full.id)) {
            give(reasons, &backup.id, KeepReason::MayBeNeededBy(lost.id.clone()));
        }
    }
}

/// A failed backup is kept for its error only as long as what it was to build on.
fn failed_go_with_their_base(scene: &Scene<'_>, reasons: &mut Reasons) {
    for backup in &scene.newest_first {
        let only_recent = reasons.get(&backup.id).is_some_and(|given| {
            given.iter().all(|reason| matches!(reason, KeepReason::RecentUnfinished(BackupStatus::Failed)))
        });
        let goes = |id: &BackupId| scene.get(id).is_some() && !reasons.contains_key(id);
        if only_recent && backup.ancestors.iter().any(goes) {
            reasons.remove(&backup.id);
        }
    }
}
