//! Which timeline a recovery follows, as PostgreSQL will: known from history files before anything is fetched.

use super::request::TargetTimeline;
use crate::error::{Error, ErrorKind, Result};
use barman_cloud::catalog::all_readable;
use barman_cloud::{Lsn, Repository, TimelineHistory};
use std::collections::BTreeMap;

/// All histories of an archive by timeline.
pub type Histories = BTreeMap<u32, TimelineHistory>;

/// Reads every history file of the archive; there are few, and they are small.
pub async fn histories(repository: &Repository) -> Result<Histories> {
    Ok(all_readable(repository.read_histories().await?)?)
}

/// The history that a recovery of a backup follows. The backup was on `timeline` when it ended at `end`.
///
/// For `Latest` this is the newest timeline that grew out of the backup's after its end. PostgreSQL would take the
/// newest of all and stop when that is another branch, so the caller sets the number found here.
pub fn follow(
    wanted: TargetTimeline,
    timeline: u32,
    end: Lsn,
    histories: &Histories,
) -> Result<TimelineHistory> {
    let own = || histories.get(&timeline).cloned().unwrap_or_else(|| TimelineHistory::root(timeline));
    match wanted {
        TargetTimeline::Current => Ok(own()),
        TargetTimeline::Latest => Ok(histories
            .values()
            .rev()
            .find(|history| history.timeline() > timeline && history.contains(timeline, end))
            .cloned()
            .unwrap_or_else(own)),
        TargetTimeline::Id(id) if id == timeline => Ok(own()),
        TargetTimeline::Id(id) => {
            let Some(history) = histories.get(&id) else {
                return Err(Error::new(
                    ErrorKind::Unreachable,
                    format!("the archive has no history of timeline {id} ({id:08X}.history)"),
                )
                .with_remedy("choose a timeline whose history file is in the archive, or latest"));
            };
            if history.contains(timeline, end) {
                Ok(history.clone())
            } else {
                Err(Error::new(
                    ErrorKind::Unreachable,
                    format!("timeline {id} cannot be reached from a backup of timeline {timeline} that ended at {end}"),
                )
                .with_remedy("choose an older backup, or another timeline"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use barman_cloud::timeline::HistoryEntry;
    use rstest::rstest;

    /// 2 left 1 at 0/5000000; 3 left 2 at 0/9000000; 4 left 1 at 0/3000000.
    fn histories() -> Histories {
        let entry = |parent, lsn| HistoryEntry { parent, switch: Lsn(lsn), reason: String::new() };
        [
            (2, vec![entry(1, 0x500_0000)]),
            (3, vec![entry(1, 0x500_0000), entry(2, 0x900_0000)]),
            (4, vec![entry(1, 0x300_0000)]),
        ]
        .into_iter()
        .map(|(timeline, entries)| (timeline, TimelineHistory::new(timeline, entries).expect("a history")))
        .collect()
    }

    #[rstest]
    #[case::early_backup_follows_the_newest_branch(TargetTimeline::Latest, 1, 0x200_0000, Some(4))]
    #[case::later_backup_cannot_follow_that_branch(TargetTimeline::Latest, 1, 0x400_0000, Some(3))]
    #[case::backup_after_all_switches(TargetTimeline::Latest, 1, 0x600_0000, Some(1))]
    #[case::own(TargetTimeline::Current, 2, 0x600_0000, Some(2))]
    #[case::chosen(TargetTimeline::Id(2), 1, 0x400_0000, Some(2))]
    #[case::chosen_but_passed(TargetTimeline::Id(2), 1, 0x600_0000, None)]
    #[case::chosen_but_unknown(TargetTimeline::Id(9), 1, 0x400_0000, None)]
    #[case::older(TargetTimeline::Id(1), 2, 0x600_0000, None)]
    fn timelines(
        #[case] wanted: TargetTimeline,
        #[case] timeline: u32,
        #[case] end: u64,
        #[case] expected: Option<u32>,
    ) {
        let found = follow(wanted, timeline, Lsn(end), &histories()).map(|history| history.timeline());
        match (found, expected) {
            (Ok(found), Some(expected)) => assert_eq!(found, expected),
            (Err(error), None) => assert_eq!(error.kind(), ErrorKind::Unreachable),
            (found, expected) => panic!("{found:?} instead of {expected:?}"),
        }
    }
}
