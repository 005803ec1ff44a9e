//! Which backups cannot be restored, and why. Pure.

use super::facts::{BackupFacts, State};
use super::survey::WalSurvey;
use crate::backup_id::BackupId;
use crate::backup_info::BackupStatus;
use crate::wal_name::Segment;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Why a restore cannot begin from a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It is not complete.
    Unfinished(BackupStatus),
    /// A record cannot be read.
    Unreadable(String),
    /// A check found that objects of it are lost or damaged.
    Damaged,
    /// A segment between its begin and its end is not in the archive.
    LacksWal(Segment),
    /// A backup that it builds on is not there, or has a fault itself.
    LacksBase(BackupId),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unfinished(status) => write!(f, "it is not complete: its status is {status}"),
            Self::Unreadable(why) => write!(f, "its record cannot be used: {why}"),
            Self::Damaged => f.write_str("objects of it are lost or damaged"),
            Self::LacksWal(segment) => write!(f, "WAL segment {segment} is missing"),
            Self::LacksBase(id) => write!(f, "backup {id}, which it builds on, is missing or cannot be used"),
        }
    }
}

/// The backups that cannot be restored; all others can, as far as listings tell. `damaged` are those of which a check
/// has found more.
pub fn faults(
    backups: &[BackupFacts],
    survey: &WalSurvey,
    damaged: &BTreeSet<BackupId>,
) -> BTreeMap<BackupId, Fault> {
    let by_id: BTreeMap<&BackupId, &BackupFacts> =
        backups.iter().map(|backup| (&backup.id, backup)).collect();
    let files = |backup: &BackupFacts| match &backup.state {
        State::Unfinished(status) => Some(Fault::Unfinished(*status)),
        State::Unreadable(why) => Some(Fault::Unreadable(why.clone())),
        State::Complete => damaged.contains(&backup.id).then_some(Fault::Damaged),
    };
    let whole = |id: &BackupId| by_id.get(id).is_some_and(|backup| files(backup).is_none());
    let mut faults = BTreeMap::new();
    for backup in backups {
        // Of those that it builds on only the files are needed, not their WAL.
        let base = || backup.ancestors.iter().find(|id| !whole(id)).cloned().map(Fault::LacksBase);
        if let Some(fault) = files(backup).or_else(base).or_else(|| lacks_wal(backup, survey)) {
            faults.insert(backup.id.clone(), fault);
        }
    }
    faults
}

fn lacks_wal(backup: &BackupFacts, survey: &WalSurvey) -> Option<Fault> {
    let wal = backup.wal.filter(|wal| wal.size == survey.size())?;
    // A backup that ended on another timeline has its WAL on either; names alone do not tell which.
    let one_timeline = wal.begin.timeline == wal.end.timeline;
    let missing = one_timeline.then(|| survey.first_missing(wal.begin, wal.end)).flatten()?;
    Some(Fault::LacksWal(missing))
}
