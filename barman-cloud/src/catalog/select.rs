//! Which backup to restore. Pure decisions over a catalogue.

use super::Catalog;
use crate::backup_id::BackupId;
use crate::backup_info::BackupInfo;
use crate::lsn::Lsn;
use crate::timeline::TimelineHistory;
use chrono::{DateTime, FixedOffset};

/// How far to recover, as far as the choice of a backup depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecoveryTarget {
    /// As far as the WAL goes.
    Latest,
    /// To a time: the backup must have ended by then.
    Time(DateTime<FixedOffset>),
    /// To a position: the backup must have ended by then.
    Lsn(Lsn),
}

/// The newest complete backup from which the target can be reached. With a `history`, only backups on the way to
/// that timeline are taken.
pub fn select_backup<'a>(
    catalog: &'a Catalog,
    target: RecoveryTarget,
    history: Option<&TimelineHistory>,
) -> Option<(&'a BackupId, &'a BackupInfo)> {
    catalog.done().rev().find(|(_, info)| {
        let in_time = match target {
            RecoveryTarget::Latest => true,
            RecoveryTarget::Time(time) => info.end_time.is_some_and(|end| end <= time),
            RecoveryTarget::Lsn(lsn) => info.end_xlog.is_some_and(|end| end <= lsn),
        };
        let on_the_way = history.is_none_or(|history| match (info.timeline, info.end_xlog) {
            (Some(timeline), Some(end)) => history.contains(timeline, end),
            _ => false,
        });
        in_time && on_the_way
    })
}

/// The earliest time that can be recovered to: the end of the oldest complete backup.
pub fn first_recoverability_point(catalog: &Catalog) -> Option<DateTime<FixedOffset>> {
    catalog.done().filter_map(|(_, info)| info.end_time).min()
}
