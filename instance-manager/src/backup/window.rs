//! The recovery window of each repository, remembered: it needs one listing of the whole archive, so it is computed anew
//! only when there are other backups, another place, or after an hour. In between its end moves with the archiver.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use barman_cloud::BackupId;
use barman_cloud::catalog::{Inventory, RecoveryWindow};
use howdah_api::repository::NamedStore;
use howdah_api::window::{self, GAPS_SHOWN, RecoveryGap};
use howdah_engine::Repository;
use tokio::time::{Duration, Instant};

use crate::error::Result;
use crate::time::kube;

/// How long a window is believed although nothing was backed up.
const EVERY: Duration = Duration::from_secs(3600);

#[derive(Clone)]
struct Seen {
    at: Instant,
    place: NamedStore,
    backups: Vec<BackupId>,
    window: RecoveryWindow,
}

impl Seen {
    fn still_holds(&self, place: &NamedStore, backups: &[BackupId], now: Instant) -> bool {
        now - self.at < EVERY && self.place == *place && self.backups == backups
    }
}

/// What was computed, by repository.
#[derive(Default)]
pub struct Windows(Mutex<BTreeMap<String, Seen>>);

impl Windows {
    /// The window of a repository that holds these backups; with `anew`, it is computed in any case.
    ///
    /// # Errors
    /// When it has to be computed and the store does not answer.
    pub async fn of(
        &self,
        named: &NamedStore,
        repository: &Repository,
        inventory: &Inventory,
        anew: bool,
    ) -> Result<RecoveryWindow> {
        let backups: Vec<BackupId> = inventory.restorable().map(|(member, _)| member.id.clone()).collect();
        let (now, known) = (Instant::now(), self.lock().get(&named.name).cloned());
        if let Some(seen) = known
            && !anew
            && seen.still_holds(named, &backups, now)
        {
            return Ok(seen.window);
        }
        let window = repository.recovery_window_of(inventory).await?;
        let seen = Seen { at: now, place: named.clone(), backups, window: window.clone() };
        self.lock().insert(named.name.clone(), seen);
        Ok(window)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The window in the words of the status.
#[must_use]
pub fn told(window: &RecoveryWindow) -> window::RecoveryWindow {
    let skipped = window.gaps.len().saturating_sub(GAPS_SHOWN);
    window::RecoveryWindow {
        earliest: window.earliest.as_ref().map(|earliest| kube(earliest.time)),
        latest: window.latest.as_ref().map(|latest| kube(latest.time)),
        gaps: window
            .gaps
            .iter()
            .skip(skipped)
            .map(|gap| RecoveryGap {
                timeline_id: gap.missing.timeline,
                missing_wal: gap.missing.to_string(),
                resumes_wal: gap.resumes.map(|segment| segment.to_string()),
                from: kube(gap.from),
                until: gap.until.as_ref().map(|(_, time)| kube(*time)),
                backup: gap.until.as_ref().map(|(backup, _)| backup.to_string()),
                dropped_at: gap.dropped.as_ref().map(|dropped| kube(dropped.until)),
            })
            .collect(),
        gap_count: u32::try_from(window.gaps.len()).unwrap_or(u32::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use barman_cloud::catalog::Gap;
    use barman_cloud::dropped::Dropped;
    use barman_cloud::{Segment, SegmentSize};
    use chrono::DateTime;

    #[test]
    fn the_newest_gaps_are_shown_and_all_are_counted() {
        let at = |second| DateTime::from_timestamp(second, 0).unwrap();
        let segment = |number| Segment::from_number(2, number, SegmentSize::DEFAULT);
        let gap = |number: u64| Gap {
            after: segment(number - 1),
            from: at(number as i64),
            missing: segment(number),
            resumes: Some(segment(number + 3)),
            until: Some(("20261121T010000".parse().unwrap(), at(number as i64 + 5))),
            dropped: None,
        };
        let mut window =
            RecoveryWindow { gaps: (1..=12).map(|n| gap(n * 10)).collect(), ..Default::default() };
        window.gaps[11].dropped = Some(Dropped {
            first: segment(120),
            last: segment(122),
            segments: 3,
            since: at(121),
            until: at(123),
            by: "pg-1".into(),
            reason: "full".into(),
        });
        let told = told(&window);
        assert_eq!((told.gaps.len(), told.gap_count), (GAPS_SHOWN, 12));
        let last = told.gaps.last().unwrap();
        assert_eq!((last.timeline_id, last.missing_wal.as_str()), (2, "000000020000000000000078"));
        assert_eq!(last.resumes_wal.as_deref(), Some("00000002000000000000007B"));
        assert_eq!((&last.until, last.backup.as_deref()), (&Some(kube(at(125))), Some("20261121T010000")));
        assert_eq!(last.dropped_at, Some(kube(at(123))));
        assert_eq!(told.gaps[8].dropped_at, None, "nobody meant it");
    }
}
