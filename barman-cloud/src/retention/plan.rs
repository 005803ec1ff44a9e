//! The plan: what stays, what may go, and why.

use super::facts::{Facts, Scene};
use super::policy::{FullRule, Policy};
use super::reason::{DeleteReason, KeepReason, Miss};
use super::rules::Reasons;
use super::wal::WalPlan;
use super::{guards, rules, wal};
use crate::backup_id::BackupId;
use crate::catalog::{BackupFacts, Fault};
use crate::chain::{BackupType, label};
use chrono::{DateTime, Utc};

/// A backup that stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Id.
    pub id: BackupId,
    /// Full, differential or incremental.
    pub kind: BackupType,
    /// What it builds on, the full backup first.
    pub ancestors: Vec<BackupId>,
    /// Why it stays: all reasons.
    pub reasons: Vec<KeepReason>,
}

/// A backup that may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletable {
    /// Id.
    pub id: BackupId,
    /// Full, differential or incremental.
    pub kind: BackupType,
    /// What it builds on, the full backup first.
    pub ancestors: Vec<BackupId>,
    /// Whether its record says that it is complete.
    pub complete: bool,
    /// Why it may go.
    pub reason: DeleteReason,
    /// Bytes it takes in the store, when known.
    pub bytes: Option<u64>,
}

/// What retention would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// When it was made.
    pub made: DateTime<Utc>,
    /// The policy.
    pub policy: Policy,
    /// Backups that stay, oldest first.
    pub kept: Vec<Kept>,
    /// Backups that may go, in the order in which they must: the oldest chain first, and of a chain what builds on
    /// others before these.
    pub deletable: Vec<Deletable>,
    /// What happens to WAL once they are gone.
    pub wal: WalPlan,
    /// Ids without a record: what killed runs left, and what has only begun.
    pub orphans: Vec<BackupId>,
}

impl Plan {
    /// Decides. Nothing but `facts` has a part in it.
    pub fn make(policy: &Policy, facts: Facts<'_>) -> Self {
        let scene = Scene::new(facts);
        let mut reasons = rules::apply(policy, &scene);
        guards::apply(&scene, &mut reasons);
        let mut plan = Self {
            made: facts.now,
            policy: policy.clone(),
            kept: Vec::new(),
            deletable: Vec::new(),
            wal: wal::plan(&scene, &reasons),
            orphans: Vec::new(),
        };
        for backup in scene.newest_first.iter().rev() {
            let (id, kind, ancestors) = (backup.id.clone(), backup.kind, backup.ancestors.clone());
            match reasons.get(&backup.id) {
                Some(given) => plan.kept.push(Kept { id, kind, ancestors, reasons: given.clone() }),
                None => plan.deletable.push(Deletable {
                    id,
                    kind,
                    ancestors,
                    complete: backup.is_complete(),
                    reason: why(policy, &scene, &reasons, backup),
                    bytes: backup.bytes,
                }),
            }
        }
        let root = |backup: &Deletable| backup.ancestors.first().unwrap_or(&backup.id).clone();
        plan.deletable.sort_by(|a, b| root(a).cmp(&root(b)).then_with(|| b.id.cmp(&a.id)));
        plan
    }

    /// Whether nothing would be deleted.
    pub fn is_empty(&self) -> bool {
        self.deletable.is_empty() && self.wal.cuts.is_empty()
    }

    /// Bytes of backups that may go, as far as known.
    pub fn backup_bytes(&self) -> u64 {
        self.deletable.iter().filter_map(|backup| backup.bytes).sum()
    }

    /// Bytes of backups and of WAL that may go, as far as known.
    pub fn freed_bytes(&self) -> u64 {
        self.backup_bytes() + self.wal.bytes()
    }

    /// Backups that somebody has to look at, and why.
    pub fn needing_person(&self) -> impl Iterator<Item = (&BackupId, &KeepReason)> {
        self.kept.iter().flat_map(|kept| {
            kept.reasons.iter().filter(|reason| reason.needs_person()).map(|reason| (&kept.id, reason))
        })
    }

    /// The newest full backup that can be restored.
    pub fn last_full(&self) -> Option<&BackupId> {
        self.kept.iter().find(|kept| kept.reasons.contains(&KeepReason::LastFull)).map(|kept| &kept.id)
    }

    /// Whether a backup was judged.
    pub(super) fn judged(&self, id: &BackupId) -> bool {
        self.kept.iter().any(|kept| kept.id == *id) || self.deletable.iter().any(|backup| backup.id == *id)
    }

    /// The label of a backup in this plan.
    pub(super) fn label(kind: BackupType, id: &BackupId, ancestors: &[BackupId]) -> String {
        label(kind, id, ancestors.first())
    }
}

fn why(policy: &Policy, scene: &Scene<'_>, reasons: &Reasons, backup: &BackupFacts) -> DeleteReason {
    match scene.faults.get(&backup.id) {
        Some(Fault::Unfinished(status)) => return DeleteReason::Unfinished(*status),
        Some(fault) => return DeleteReason::Faulty(fault.clone()),
        None => {}
    }
    // The nearest: it is the one that the rules judged.
    let base = backup.ancestors.iter().rev().find(|id| !reasons.contains_key(*id));
    let base_kind = base.and_then(|id| scene.get(id)).map(|base| base.kind);
    match base {
        Some(base) if backup.kind == BackupType::Incremental || base_kind == Some(BackupType::Full) => {
            DeleteReason::BaseGoes(base.clone())
        }
        _ => DeleteReason::Outside(backup.kind, misses(policy, scene, backup)),
    }
}

fn misses(policy: &Policy, scene: &Scene<'_>, backup: &BackupFacts) -> Vec<Miss> {
    let mut misses = Vec::new();
    match (policy.full, backup.kind) {
        (Some(FullRule::Count(count)), BackupType::Full) => misses.push(Miss::Count(count)),
        (Some(FullRule::Age(age)), BackupType::Full) => {
            misses.push(Miss::Age(age, age.before(scene.facts.now)));
        }
        (_, BackupType::Differential) => misses.extend(policy.differential.map(Miss::Count)),
        _ => {}
    }
    misses.extend(policy.recovery_window.map(|window| Miss::Window(window, window.before(scene.facts.now))));
    if backup.kind == BackupType::Full && policy.daily + policy.weekly + policy.monthly > 0 {
        misses.push(Miss::Calendar);
    }
    misses
}
