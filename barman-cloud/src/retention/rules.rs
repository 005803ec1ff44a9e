//! The rules of a policy, each over the backups that can be restored.

use super::facts::Scene;
use super::period::Period;
use super::policy::{FullRule, Policy};
use super::reason::{Calendar, KeepReason};
use crate::backup_id::BackupId;
use crate::catalog::BackupFacts;
use crate::chain::BackupType;
use chrono::{DateTime, Datelike, Utc};
use std::collections::{BTreeMap, BTreeSet};

/// Who is kept, and why.
pub(super) type Reasons = BTreeMap<BackupId, Vec<KeepReason>>;

pub(super) fn give(reasons: &mut Reasons, id: &BackupId, reason: KeepReason) {
    let given = reasons.entry(id.clone()).or_default();
    if !given.contains(&reason) {
        given.push(reason);
    }
}

/// What the policy keeps, without guards.
pub(super) fn apply(policy: &Policy, scene: &Scene<'_>) -> Reasons {
    let mut reasons = Reasons::new();
    full(policy, scene, &mut reasons);
    if let Some(window) = policy.recovery_window {
        let (within, begins) = (KeepReason::WithinWindow(window), KeepReason::WindowBegins(window));
        since(window, scene.sound(), scene, (within, begins), &mut reasons);
    }
    for (count, unit) in
        [(policy.daily, Calendar::Day), (policy.weekly, Calendar::Week), (policy.monthly, Calendar::Month)]
    {
        calendar(count, unit, scene, &mut reasons);
    }
    redundancy(policy.minimum_redundancy, scene, &mut reasons);
    if let Some(last) = scene.sound_full().next() {
        give(&mut reasons, &last.id, KeepReason::LastFull);
        match scene.sound_full().find(|backup| scene.leads_on(backup)) {
            Some(leads) if leads.id != last.id => {
                give(&mut reasons, &leads.id, KeepReason::LeadsToTimeline(scene.timeline));
            }
            _ => {}
        }
    }
    builders(policy, scene, &mut reasons);
    reasons
}

fn full(policy: &Policy, scene: &Scene<'_>, reasons: &mut Reasons) {
    match policy.full {
        Some(FullRule::Count(of)) => {
            for (index, backup) in scene.sound_full().take(of as usize).enumerate() {
                give(reasons, &backup.id, KeepReason::FullCount { place: index + 1, of });
            }
        }
        Some(FullRule::Age(age)) => {
            let words = (KeepReason::WithinAge(age), KeepReason::AgeBegins(age));
            since(age, scene.sound_full(), scene, words, reasons);
        }
        None if !policy.judges_full() => {
            for backup in scene.sound_full() {
                give(reasons, &backup.id, KeepReason::NoRule);
            }
        }
        None => {}
    }
}

/// Backups up to and including the first that ended before the time began, as Barman has it. When that one is of a
/// branch that the server left, the first that leads on is kept as well: else the oldest part of the time were lost.
fn since<'a>(
    period: Period,
    newest_first: impl Iterator<Item = &'a BackupFacts>,
    scene: &Scene<'_>,
    (within, begins): (KeepReason, KeepReason),
    reasons: &mut Reasons,
) {
    let point = period.before(scene.facts.now);
    let mut begun = false;
    for backup in newest_first {
        let before = backup.end.is_some_and(|end| end < point);
        match (before, begun) {
            (false, false) => give(reasons, &backup.id, within.clone()),
            (true, false) => give(reasons, &backup.id, begins.clone()),
            (true, true) if scene.leads_on(backup) => give(reasons, &backup.id, begins.clone()),
            _ => {}
        }
        begun |= before;
        if before && scene.leads_on(backup) {
            break;
        }
    }
}

/// The newest full backup of each of the newest days, weeks or months that have one.
fn calendar(count: u32, unit: Calendar, scene: &Scene<'_>, reasons: &mut Reasons) {
    let mut seen = BTreeSet::new();
    for backup in scene.sound_full() {
        let Some(name) = backup.begin.map(|begin| name_of(unit, begin)) else { continue };
        if seen.len() < count as usize && seen.insert(name.clone()) {
            give(reasons, &backup.id, KeepReason::NewestOf(unit, name));
        }
    }
}

fn name_of(unit: Calendar, time: DateTime<Utc>) -> String {
    match unit {
        Calendar::Day => time.format("%Y-%m-%d").to_string(),
        Calendar::Week => format!("{}-W{:02}", time.iso_week().year(), time.iso_week().week()),
        Calendar::Month => time.format("%Y-%m").to_string(),
    }
}

/// Backups that cannot be restored do not count, but where there are too few others they stay.
fn redundancy(count: u32, scene: &Scene<'_>, reasons: &mut Reasons) {
    let sound = |backup: &&&BackupFacts| !scene.faults.contains_key(&backup.id);
    let complete = |backup: &&&BackupFacts| backup.kind == BackupType::Full && backup.is_complete();
    let full: Vec<_> = scene.newest_first.iter().filter(complete).collect();
    let (first, second): (Vec<&&BackupFacts>, Vec<&&BackupFacts>) = full.iter().copied().partition(sound);
    for backup in first.into_iter().chain(second).take(count as usize) {
        give(reasons, &backup.id, KeepReason::MinimumRedundancy(count));
    }
}

/// Differential and incremental backups that stay with their full one.
fn builders(policy: &Policy, scene: &Scene<'_>, reasons: &mut Reasons) {
    let bases = |wanted: &dyn Fn(&KeepReason) -> bool| -> BTreeSet<BackupId> {
        let kept = reasons.iter().filter(|(_, given)| given.iter().any(wanted));
        kept.map(|(id, _)| id.clone()).collect()
    };
    let (carrying, lasting) = (bases(&|reason| carries(reason, policy)), bases(&lasts));
    match policy.differential {
        Some(of) => {
            let newest = on(scene, &lasting, BackupType::Differential).into_iter().take(of as usize);
            for (index, backup) in newest.enumerate() {
                give(reasons, &backup.id, KeepReason::DifferentialCount { place: index + 1, of });
            }
        }
        None => {
            for backup in on(scene, &carrying, BackupType::Differential) {
                with_full(backup, reasons);
            }
        }
    }
    let is_differential =
        |id: &&BackupId| scene.get(id).is_some_and(|backup| backup.kind == BackupType::Differential);
    for backup in on(scene, &carrying, BackupType::Incremental) {
        let mut below = backup.ancestors.iter().filter(is_differential);
        if below.all(|id| reasons.contains_key(id)) {
            with_full(backup, reasons);
        }
    }
}

/// Backups of a type that build on these full ones, newest first.
fn on<'a>(scene: &Scene<'a>, bases: &BTreeSet<BackupId>, kind: BackupType) -> Vec<&'a BackupFacts> {
    let of_kind = scene.sound().filter(|backup| backup.kind == kind);
    of_kind.filter(|backup| backup.ancestors.first().is_some_and(|full| bases.contains(full))).collect()
}

fn with_full(backup: &BackupFacts, reasons: &mut Reasons) {
    if let Some(full) = backup.ancestors.first() {
        give(reasons, &backup.id, KeepReason::WithFull(full.clone()));
    }
}

/// Whether differential backups of a full one that is kept for this count among the newest.
fn lasts(reason: &KeepReason) -> bool {
    !matches!(reason, KeepReason::NewestOf(..) | KeepReason::MinimumRedundancy(_))
}

/// Whether what builds on a full backup stays because of it. A window judges every backup by itself; what is kept for
/// years is the full backup alone.
fn carries(reason: &KeepReason, policy: &Policy) -> bool {
    match reason {
        KeepReason::NoRule
        | KeepReason::FullCount { .. }
        | KeepReason::WithinAge(_)
        | KeepReason::AgeBegins(_) => true,
        KeepReason::LastFull | KeepReason::LeadsToTimeline(_) => policy.recovery_window.is_none(),
        _ => false,
    }
}
