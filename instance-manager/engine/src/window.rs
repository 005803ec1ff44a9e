//! What can be recovered: read from the catalogue and the WAL that is there.

use crate::error::Result;
use barman_cloud::catalog::Catalog;
use barman_cloud::{BackupId, Repository, Segment, SegmentRange};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;

/// What a repository can bring back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryWindow {
    /// End of the oldest restorable backup: the earliest point in time.
    pub first: Option<DateTime<Utc>>,
    /// End of the newest restorable backup.
    pub last_backup: Option<DateTime<Utc>>,
    /// Restorable backups, oldest first.
    pub restorable: Vec<BackupId>,
    /// Backups that say DONE and cannot be restored, and why.
    pub broken: Vec<(BackupId, String)>,
}

/// Reads the catalogue, and looks for the WAL of every completed backup.
pub async fn recovery_window(repository: &Repository) -> Result<RecoveryWindow> {
    let catalog = repository.catalog().await?;
    let mut missing = BTreeMap::new();
    for (id, info) in catalog.done() {
        let Ok((begin, end)) = info.needed_wal() else { continue };
        let Ok(range) = info.segment_size().and_then(|size| SegmentRange::new(begin, end, size)) else {
            continue;
        };
        if let Some(first) = repository.missing_wal(range).await?.into_iter().next() {
            missing.insert(id.clone(), first);
        }
    }
    Ok(assess(&catalog, &missing))
}

/// Judges the completed backups; `missing` names the first segment that each lacks.
pub fn assess(catalog: &Catalog, missing: &BTreeMap<BackupId, Segment>) -> RecoveryWindow {
    let mut window = RecoveryWindow::default();
    let mut ends = Vec::new();
    for (id, info) in catalog.done() {
        let fault = match (missing.get(id), info.needed_wal(), info.end_time) {
            (Some(segment), ..) => Some(format!("WAL segment {segment} is missing")),
            (None, Err(error), _) => Some(error.to_string()),
            (None, Ok(_), None) => Some("backup.info has no end_time".to_owned()),
            (None, Ok(_), Some(end)) => {
                ends.push(end.to_utc());
                None
            }
        };
        match fault {
            None => window.restorable.push(id.clone()),
            Some(why) => window.broken.push((id.clone(), why)),
        }
    }
    window.first = ends.iter().min().copied();
    window.last_backup = ends.iter().max().copied();
    window
}

#[cfg(test)]
mod tests {
    use super::*;
    use barman_cloud::catalog::CatalogEntry;
    use barman_cloud::{BackupInfo, Lsn, SegmentSize};
    use chrono::TimeZone;

    fn at(hour: u32) -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2026, 11, 21, hour, 0, 0).single().expect("a time")
    }

    fn entry(id: &str, hour: u32, done: bool) -> CatalogEntry {
        let mut info = BackupInfo::started(1, Lsn(0x200_0028), SegmentSize::DEFAULT, at(hour).fixed_offset());
        if done {
            info.finish(1, Lsn(0x200_0100), SegmentSize::DEFAULT, at(hour).fixed_offset());
        }
        CatalogEntry { id: id.parse().expect("an id"), info: Ok(info) }
    }

    #[test]
    fn only_backups_with_their_wal_count() {
        let catalog = Catalog {
            entries: vec![
                entry("20261121T010000", 1, true),
                entry("20261121T020000", 2, true),
                entry("20261121T030000", 3, false),
                entry("20261121T040000", 4, true),
            ],
            orphans: Vec::new(),
        };
        let segment = "000000010000000000000002".parse().expect("a segment");
        let missing = BTreeMap::from([("20261121T010000".parse().expect("an id"), segment)]);
        let window = assess(&catalog, &missing);
        assert_eq!((window.first, window.last_backup), (Some(at(2)), Some(at(4))));
        assert_eq!(window.restorable.len(), 2);
        assert_eq!(window.broken[0].1, "WAL segment 000000010000000000000002 is missing");
        assert_eq!(assess(&Catalog::default(), &missing), RecoveryWindow::default());
    }
}
