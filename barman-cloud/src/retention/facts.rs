//! What a plan is made from.

use crate::backup_id::BackupId;
use crate::catalog::{BackupFacts, Fault, Histories, WalSurvey, faults, history_of};
use crate::chain::BackupType;
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, BTreeSet};

/// Everything that a decision depends on.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// All backups with a record, in any order.
    pub backups: &'a [BackupFacts],
    /// Histories of timelines.
    pub histories: &'a Histories,
    /// The WAL in the archive, divided at [`crate::catalog::borders`].
    pub wal: &'a WalSurvey,
    /// Now.
    pub now: DateTime<Utc>,
    /// Backups that a restore reads, running ones, and those that a running one builds on.
    pub in_use: &'a BTreeSet<BackupId>,
    /// Backups of which a check found that objects are lost or damaged.
    pub damaged: &'a BTreeSet<BackupId>,
}

/// Facts, put in order.
pub(super) struct Scene<'a> {
    pub facts: Facts<'a>,
    /// Newest first.
    pub newest_first: Vec<&'a BackupFacts>,
    by_id: BTreeMap<&'a BackupId, &'a BackupFacts>,
    pub faults: BTreeMap<BackupId, Fault>,
    /// The timeline that the server is on, as far as the store tells: the highest.
    pub timeline: u32,
}

impl<'a> Scene<'a> {
    pub fn new(facts: Facts<'a>) -> Self {
        let mut newest_first: Vec<&BackupFacts> = facts.backups.iter().collect();
        newest_first.sort_by(|a, b| b.id.cmp(&a.id));
        let faults = faults(facts.backups, facts.wal, facts.damaged);
        let by_id = facts.backups.iter().map(|backup| (&backup.id, backup)).collect();
        let mut scene = Self { facts, newest_first, by_id, faults, timeline: 0 };
        let written = facts.wal.newest_timeline().max(facts.histories.keys().copied().max().unwrap_or(0));
        let backed_up = scene.sound_full().filter_map(|backup| Some(backup.wal?.end.timeline)).max();
        scene.timeline = written.max(backed_up.unwrap_or(0));
        scene
    }

    /// Backups from which a restore can begin, newest first.
    pub fn sound(&self) -> impl Iterator<Item = &'a BackupFacts> {
        self.newest_first.iter().copied().filter(move |backup| !self.faults.contains_key(&backup.id))
    }

    /// Full ones of them.
    pub fn sound_full(&self) -> impl Iterator<Item = &'a BackupFacts> {
        self.sound().filter(|backup| backup.kind == BackupType::Full)
    }

    pub fn get(&self, id: &BackupId) -> Option<&'a BackupFacts> {
        self.by_id.get(id).copied()
    }

    /// Whether the timeline of the server can be reached from a backup. When its history is not known it may be.
    pub fn leads_on(&self, backup: &BackupFacts) -> bool {
        let Some(wal) = backup.wal else { return false };
        if !self.facts.histories.contains_key(&self.timeline) && self.timeline > 1 {
            return wal.end.timeline <= self.timeline;
        }
        history_of(self.facts.histories, self.timeline)
            .is_none_or(|history| history.contains(wal.end.timeline, wal.lsn))
    }
}
