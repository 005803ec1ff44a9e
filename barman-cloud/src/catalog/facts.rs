//! What is known of a backup, as plain facts for decisions: without errors and without a store.

use super::{Inventory, Keep, Member};
use crate::backup_id::BackupId;
use crate::backup_info::{BackupInfo, BackupStatus};
use crate::chain::BackupType;
use crate::lsn::Lsn;
use crate::wal_name::{Segment, SegmentSize};
use chrono::{DateTime, Utc};
use std::collections::BTreeSet;

/// What became of a backup, as far as its records tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Complete, and all that must be known of it is in its record.
    Complete,
    /// Its record can be read and does not say that it is complete.
    Unfinished(BackupStatus),
    /// A record cannot be read, or lacks what must be known. Says which.
    Unreadable(String),
}

/// The WAL between the begin and the end of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnWal {
    /// Segment where replay begins.
    pub begin: Segment,
    /// The last segment that is needed for a consistent state; `begin` when the end is not known.
    pub end: Segment,
    /// Position at which the backup ended, or began when the end is not known.
    pub lsn: Lsn,
    /// Bytes in a segment.
    pub size: SegmentSize,
}

/// A backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupFacts {
    /// Id.
    pub id: BackupId,
    /// Full, differential or incremental.
    pub kind: BackupType,
    /// What a restore of it needs before it, the full backup first; empty when that is not known.
    pub ancestors: Vec<BackupId>,
    /// What became of it.
    pub state: State,
    /// When it began; from its id when the record does not say.
    pub begin: Option<DateTime<Utc>>,
    /// When it ended.
    pub end: Option<DateTime<Utc>>,
    /// Its own WAL, as far as known; always for a complete one.
    pub wal: Option<OwnWal>,
    /// Whether it is kept from retention.
    pub keep: Option<Keep>,
    /// Bytes it takes in the store, when known.
    pub bytes: Option<u64>,
}

impl BackupFacts {
    /// Reads a member of an inventory.
    pub fn of(member: &Member) -> Self {
        let info = member.info.as_ref().ok();
        let wal = info.and_then(own_wal);
        let state = match (&member.info, &member.chain) {
            (Err(error), _) => State::Unreadable(error.to_string()),
            (Ok(info), _) if !info.is_done() => State::Unfinished(info.status),
            (Ok(_), Some(Err(error))) => State::Unreadable(error.to_string()),
            (Ok(info), _) => match lacks(info) {
                None if wal.is_some() => State::Complete,
                what => {
                    let what = what.unwrap_or("usable WAL positions");
                    State::Unreadable(format!("its backup.info has no {what}"))
                }
            },
        };
        Self {
            id: member.id.clone(),
            kind: member.kind,
            ancestors: member.ancestors().to_vec(),
            state,
            begin: info
                .and_then(|info| info.begin_time)
                .map(|time| time.to_utc())
                .or_else(|| member.id.time().map(|time| time.and_utc())),
            end: info.and_then(|info| info.end_time).map(|time| time.to_utc()),
            wal,
            keep: member.keep,
            bytes: info.and_then(|info| info.size),
        }
    }

    /// All members of an inventory.
    pub fn all(inventory: &Inventory) -> Vec<Self> {
        inventory.members.iter().map(Self::of).collect()
    }

    /// Whether it is complete, by its record.
    pub fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// Whether it is one that builds on others, and which is not known.
    pub fn lost_its_chain(&self) -> bool {
        self.kind != BackupType::Full && self.ancestors.is_empty()
    }
}

fn lacks(info: &BackupInfo) -> Option<&'static str> {
    [
        (info.end_time.is_none(), "end_time"),
        (info.begin_wal.is_none(), "begin_wal"),
        (info.end_xlog.is_none(), "end_xlog"),
        (info.end_wal.is_none(), "end_wal"),
    ]
    .into_iter()
    .find_map(|(missing, name)| missing.then_some(name))
}

fn own_wal(info: &BackupInfo) -> Option<OwnWal> {
    let size = info.segment_size().ok()?;
    let begin = info.begin_wal.filter(|segment| segment.fits(size))?;
    let unended = OwnWal { begin, end: begin, lsn: info.begin_xlog.unwrap_or(begin.start(size)), size };
    match (info.end_xlog, info.needed_wal()) {
        (Some(lsn), Ok((_, end))) if end.fits(size) => Some(OwnWal { end, lsn, ..unended }),
        _ if info.is_done() => None,
        _ => Some(unended),
    }
}

/// Where the listing of an archive is divided, so that all that begins or ends a backup is a border of what is
/// counted: running numbers of segments. And the segment size, when all backups agree on one.
pub fn borders(backups: &[BackupFacts]) -> (BTreeSet<u64>, Option<SegmentSize>) {
    let mut borders = BTreeSet::new();
    let mut sizes = BTreeSet::new();
    for wal in backups.iter().filter_map(|backup| backup.wal) {
        sizes.insert(wal.size);
        borders.insert(wal.begin.number(wal.size));
        borders.insert(wal.end.number(wal.size) + 1);
    }
    let agreed = (sizes.len() == 1).then(|| sizes.first().copied()).flatten();
    (borders, agreed)
}
