//! Carrying out a plan.
//!
//! Time has passed since it was made, so every deletion looks again at what protects the backup. Children go before
//! what they build on, WAL goes last, and only when no backup stayed that would need it. Whatever the store refuses is
//! told and does not end the run; a store that does not answer does.

use super::outcome::{Applied, Refusal, WalHeld};
use super::plan::{Deletable, Plan};
use super::wal::WalCut;
use crate::archive::WalObject;
use crate::backup_id::BackupId;
use crate::catalog::{Keep, directory};
use crate::chain::BackupType;
use crate::error::Result;
use crate::repository::Repository;
use crate::wal_name::Segment;
use std::collections::{BTreeMap, BTreeSet};

/// So many refusals without a single deletion, and the store is not asked about the rest of the WAL.
const HOPELESS: u64 = 100;

/// The run so far.
struct Run<'a> {
    repository: &'a Repository,
    plan: &'a Plan,
    applied: Applied,
    /// What is left of the plan: backups that stayed, with all that they build on.
    stayed: Vec<&'a Deletable>,
    /// What backups that are newer than the plan build on; `None` when they do not say yet.
    new: BTreeMap<BackupId, Option<Vec<BackupId>>>,
}

impl Repository {
    /// Carries out a plan; call it on the repository of full backups, and with no other run at the same time.
    /// `in_use` is asked before each deletion and gives the same as for
    /// [`plan_retention`](Self::plan_retention).
    pub async fn apply_retention(&self, plan: &Plan, in_use: impl Fn() -> BTreeSet<BackupId>) -> Applied {
        let mut run = Run {
            repository: self,
            plan,
            applied: Applied::default(),
            stayed: Vec::new(),
            new: BTreeMap::new(),
        };
        if let Err(error) = run.all(&in_use).await {
            run.applied.stopped = Some(error);
        }
        run.applied
    }
}

impl<'a> Run<'a> {
    async fn all(&mut self, in_use: &impl Fn() -> BTreeSet<BackupId>) -> Result<()> {
        let plan = self.plan;
        for backup in &plan.deletable {
            match self.protection(backup, in_use).await? {
                Some(why) => {
                    self.applied.refuse(&backup.id, why);
                    self.stayed.push(backup);
                }
                None => self.delete(backup).await?,
            }
        }
        self.applied.wal_held = self.wal_is_held().await?;
        if self.applied.wal_held.is_none() {
            self.prune().await?;
        }
        Ok(())
    }

    /// What has come to protect a backup since the plan was made.
    async fn protection(
        &mut self,
        backup: &Deletable,
        in_use: &impl Fn() -> BTreeSet<BackupId>,
    ) -> Result<Option<Refusal>> {
        let id = &backup.id;
        if in_use().contains(id) {
            return Ok(Some(Refusal::InUse));
        }
        if let Some(child) = self.stayed.iter().find(|other| other.ancestors.contains(id)) {
            return Ok(Some(Refusal::Dependent(child.id.clone())));
        }
        if let Some(keep) = self.repository.holding(backup.kind).keep(id).await? {
            return Ok(Some(Refusal::Kept(keep)));
        }
        if let Some(child) = self.new_dependent(id).await? {
            return Ok(Some(Refusal::Dependent(child)));
        }
        if backup.complete && backup.kind == BackupType::Full {
            return self.last_full_is_gone().await;
        }
        Ok(None)
    }

    /// A backup that had no record when the plan was made and builds on this one, or does not say yet on which.
    async fn new_dependent(&mut self, id: &BackupId) -> Result<Option<BackupId>> {
        let increments = self.repository.increments();
        let listing = increments.store().list_dir(&increments.layout().base_dir()).await?;
        for name in listing.dirs {
            let Ok(other) = name.parse::<BackupId>() else { continue };
            // A backup builds on older ones only.
            if other <= *id || self.plan.judged(&other) {
                continue;
            }
            let known = self.new.get(&other).cloned().flatten();
            let ancestors = match known {
                Some(ancestors) => Some(ancestors),
                None => match increments.chain(&other).await {
                    Ok(chain) => Some(chain.ancestors),
                    Err(error) if error.is_transient() => return Err(error),
                    Err(_) => None,
                },
            };
            let builds = match &ancestors {
                Some(ancestors) => ancestors.contains(id),
                // What was there before and says nothing was left by a killed run.
                None => !self.plan.orphans.contains(&other),
            };
            self.new.insert(other.clone(), ancestors);
            if builds {
                return Ok(Some(other));
            }
        }
        Ok(None)
    }

    /// No full backup goes unless the one that is to be the last is still good.
    async fn last_full_is_gone(&self) -> Result<Option<Refusal>> {
        let Some(last) = self.plan.last_full() else { return Ok(None) };
        match self.repository.backup_info(last).await {
            Ok(info) if info.is_done() => Ok(None),
            Err(error) if error.is_transient() => Err(error),
            _ => Ok(Some(Refusal::LastFullGone(last.clone()))),
        }
    }

    async fn delete(&mut self, backup: &'a Deletable) -> Result<()> {
        let repository = self.repository.holding(backup.kind);
        let removal = match repository.remove_backup(&backup.id).await {
            Ok(removal) => removal,
            Err(error) if error.is_transient() => return Err(error),
            // Kept in this very moment, or a record that cannot be written.
            Err(error) => {
                let why = match repository.keep(&backup.id).await? {
                    Some(keep) => Refusal::Kept(keep),
                    None => Refusal::Store(error.report()),
                };
                self.applied.refuse(&backup.id, why);
                self.stayed.push(backup);
                return Ok(());
            }
        };
        self.applied.objects += removal.objects;
        self.applied.bytes += removal.bytes;
        self.applied.refuse_objects(Some(&backup.id), &removal.undeleted);
        if removal.is_whole() {
            tracing::info!(backup = %backup.id, reason = %backup.reason, "backup deleted");
            self.applied.backups.push(backup.id.clone());
        } else if removal.untouched {
            self.stayed.push(backup);
        }
        Ok(())
    }

    /// Whether a backup needs WAL that the plan gave away.
    async fn wal_is_held(&self) -> Result<Option<WalHeld>> {
        if let Some(backup) = self.stayed.iter().find(|backup| backup.complete) {
            return Ok(Some(WalHeld::BackupStays(backup.id.clone())));
        }
        let ranges = self.plan.wal.kept.iter().flat_map(|kept| &kept.ranges);
        let limited: BTreeSet<&BackupId> = ranges.map(|(_, _, id)| id).collect();
        for kept in self.plan.kept.iter().filter(|kept| limited.contains(&kept.id)) {
            if self.repository.holding(kept.kind).keep(&kept.id).await? == Some(Keep::Full) {
                return Ok(Some(WalHeld::KeptForMore(kept.id.clone())));
            }
        }
        Ok(None)
    }

    /// Deletes WAL directory by directory, oldest first.
    async fn prune(&mut self) -> Result<()> {
        let cuts = &self.plan.wal.cuts;
        if cuts.is_empty() {
            return Ok(());
        }
        for dir in self.repository.list_wal_dirs().await? {
            let Some(first) = directory(&dir) else { continue };
            let last = Segment { seg: u32::MAX, ..first };
            let touches = |cut: &&WalCut| cut.first <= last && first <= cut.last;
            let cuts: Vec<&WalCut> = cuts.iter().filter(touches).collect();
            if cuts.is_empty() {
                continue;
            }
            let objects = self.repository.list_wal_dir(first).await?;
            let goes = |object: &WalObject| {
                let segment = object.name.segment();
                segment.is_some_and(|at| cuts.iter().any(|cut| cut.first <= at && at <= cut.last))
            };
            let objects: Vec<WalObject> = objects.into_iter().filter(goes).collect();
            self.delete_wal(&objects).await?;
            if self.applied.wal_objects == 0 && self.applied.refused_objects >= HOPELESS {
                self.applied.wal_held = Some(WalHeld::Refused);
                return Ok(());
            }
        }
        Ok(())
    }

    async fn delete_wal(&mut self, objects: &[WalObject]) -> Result<()> {
        let keys: Vec<String> = objects.iter().map(|object| object.object.key.clone()).collect();
        let undeleted = self.repository.store().delete_each(&keys).await?;
        let stays: BTreeSet<&str> = undeleted.iter().map(|undeleted| undeleted.key.as_str()).collect();
        for object in objects.iter().filter(|object| !stays.contains(object.object.key.as_str())) {
            self.applied.wal_objects += 1;
            self.applied.wal_bytes += object.object.size;
        }
        self.applied.refuse_objects(None, &undeleted);
        Ok(())
    }
}
