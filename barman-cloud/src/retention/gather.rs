//! Reads the facts for a plan from the store.

use super::facts::Facts;
use super::plan::Plan;
use super::policy::Policy;
use crate::backup_id::BackupId;
use crate::catalog::{BackupFacts, borders};
use crate::chain::BackupType;
use crate::error::Result;
use crate::repository::Repository;
use chrono::{DateTime, Utc};
use std::collections::BTreeSet;

impl Repository {
    /// Backups of a type: full ones, or those that build on others.
    pub(super) fn holding(&self, kind: BackupType) -> Self {
        match kind {
            BackupType::Full => self.clone(),
            BackupType::Differential | BackupType::Incremental => self.increments(),
        }
    }

    /// Makes a plan and changes nothing. Reads all records, lists the whole archive, reads all history files; call it
    /// on the repository of full backups.
    ///
    /// `in_use` are backups that a restore reads, running ones, and all that a running one builds on. `damaged` are
    /// those of which a check found that objects are lost.
    pub async fn plan_retention(
        &self,
        policy: &Policy,
        now: DateTime<Utc>,
        in_use: &BTreeSet<BackupId>,
        damaged: &BTreeSet<BackupId>,
    ) -> Result<Plan> {
        policy.check()?;
        let inventory = self.inventory().await?;
        let backups = BackupFacts::all(&inventory);
        let (borders, size) = borders(&backups);
        let wal = self.survey_wal(size.unwrap_or_default(), borders).await?;
        let histories = self.read_histories().await?;
        let facts = Facts { backups: &backups, histories: &histories, wal: &wal, now, in_use, damaged };
        let mut plan = Plan::make(policy, facts);
        plan.orphans = inventory.orphans.into_iter().map(|(_, id)| id).collect();
        for backup in plan.deletable.iter_mut().filter(|backup| backup.bytes.is_none()) {
            // Barman's records do not say.
            let objects = self.holding(backup.kind).backup_objects(&backup.id).await?;
            backup.bytes = Some(objects.stored_bytes());
        }
        Ok(plan)
    }
}
