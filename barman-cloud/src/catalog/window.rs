//! The recovery window: from when to when a repository can bring a server back, and where it cannot.
//!
//! Computed from what is in the store: records of backups, names of WAL, history files. Whether objects are intact
//! only reading them tells.

use super::facts::{BackupFacts, borders};
use super::faults::{Fault, faults};
use super::histories::{Histories, newest_from};
use super::inventory::Inventory;
use super::strays::Stray;
use super::survey::WalSurvey;
use crate::backup_id::BackupId;
use crate::dropped::Dropped;
use crate::error::Result;
use crate::lsn::Lsn;
use crate::repository::Repository;
use crate::timeline::TimelineHistory;
use crate::wal_name::{Segment, SegmentSize};
use chrono::{DateTime, Utc};
use std::collections::BTreeSet;

/// From where on recovery is possible: the end of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Earliest {
    /// The backup.
    pub backup: BackupId,
    /// When it ended, by the server's clock.
    pub time: DateTime<Utc>,
    /// Where it ended.
    pub lsn: Lsn,
    /// Its timeline.
    pub timeline: u32,
}

/// How far recovery can go: the end of the last segment after the newest backup without a gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latest {
    /// The last segment.
    pub segment: Segment,
    /// Its end.
    pub lsn: Lsn,
    /// When it was stored: an estimate of the time of the last transaction in it.
    pub time: DateTime<Utc>,
}

/// A stretch of time that cannot be recovered to, because WAL is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The last segment before.
    pub after: Segment,
    /// When that was stored: an estimate of when the gap begins.
    pub from: DateTime<Utc>,
    /// The first segment that is missing.
    pub missing: Segment,
    /// The first segment that is there again, if any is.
    pub resumes: Option<Segment>,
    /// The backup with whose end recovery is possible again, and that time. `None` when no backup was made since: what
    /// is in the archive after the gap is of no use.
    pub until: Option<(BackupId, DateTime<Utc>)>,
    /// The record of WAL in it that was let go of on purpose. `None` when nobody meant it.
    pub dropped: Option<Dropped>,
}

/// What a repository can bring back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryWindow {
    /// The timeline that a recovery from the newest backup follows.
    pub timeline: Option<u32>,
    /// Where the window begins.
    pub earliest: Option<Earliest>,
    /// Where it ends.
    pub latest: Option<Latest>,
    /// Where it is interrupted, oldest first.
    pub gaps: Vec<Gap>,
    /// End of the newest restorable backup.
    pub last_backup: Option<DateTime<Utc>>,
    /// Restorable backups, oldest first, on whatever timeline.
    pub restorable: Vec<BackupId>,
    /// Backups that cannot be restored, and why.
    pub broken: Vec<(BackupId, Fault)>,
    /// Timelines in the archive that do not lie on the way, and why.
    pub strays: Vec<Stray>,
}

/// A restorable backup on the way to the newest timeline.
struct Stop<'a> {
    id: &'a BackupId,
    end: DateTime<Utc>,
    from: Segment,
    lsn: Lsn,
}

impl RecoveryWindow {
    /// Computes the window; `dropped` are the gaps that were made on purpose.
    pub fn of(
        backups: &[BackupFacts],
        survey: &WalSurvey,
        histories: &Histories,
        dropped: &[Dropped],
    ) -> Self {
        let mut faults = faults(backups, survey, &BTreeSet::new());
        let mut sound: Vec<&BackupFacts> =
            backups.iter().filter(|backup| !faults.contains_key(&backup.id)).collect();
        sound.sort_by(|a, b| a.id.cmp(&b.id));
        let mut window = Self {
            restorable: sound.iter().map(|backup| backup.id.clone()).collect(),
            last_backup: sound.iter().filter_map(|backup| backup.end).max(),
            ..Self::default()
        };
        let newest = sound.last().and_then(|backup| backup.wal);
        let history = newest.and_then(|wal| newest_from(histories, wal.end.timeline, wal.lsn));
        if let Some(history) = &history {
            window.timeline = Some(history.timeline());
            window.follow(&stops(&sound, history), history, survey, dropped);
        }
        window.strays = super::strays::strays(history.as_ref(), survey, histories);
        for backup in backups {
            window.broken.extend(faults.remove(&backup.id).map(|fault| (backup.id.clone(), fault)));
        }
        window
    }

    /// Goes along the history from backup to backup; what the WAL after one does not reach is a gap.
    fn follow(
        &mut self,
        stops: &[Stop<'_>],
        history: &TimelineHistory,
        survey: &WalSurvey,
        dropped: &[Dropped],
    ) {
        self.earliest = stops.first().map(|stop| Earliest {
            backup: stop.id.clone(),
            time: stop.end,
            lsn: stop.lsn,
            timeline: stop.from.timeline,
        });
        let mut next = stops.first();
        while let Some(stop) = next.take() {
            let Some(reach) = survey.reach(history, stop.from) else { return };
            let last = reach.last.number(survey.size());
            // Replay of this one leads to every backup whose end it reaches.
            next = stops.iter().find(|later| later.from.number(survey.size()) > last);
            let lsn = reach.last.next(survey.size()).start(survey.size());
            self.latest = Some(Latest { segment: reach.last, lsn, time: reach.last_stored });
            if next.is_some() || reach.gap.is_some() {
                let missing = reach.gap.unwrap_or_else(|| reach.last.next(survey.size()));
                let end = reach.resumes.or(next.map(|stop| stop.from));
                let made = |dropped: &&Dropped| touches(dropped, missing, end, history, survey.size());
                self.gaps.push(Gap {
                    after: reach.last,
                    from: reach.last_stored,
                    missing,
                    resumes: reach.resumes,
                    until: next.map(|stop| (stop.id.clone(), stop.end)),
                    dropped: dropped.iter().find(made).cloned(),
                });
            }
        }
    }
}

/// Whether WAL that was let go of is WAL of this way that a gap, from one segment to before another, lacks.
fn touches(
    dropped: &Dropped,
    missing: Segment,
    end: Option<Segment>,
    history: &TimelineHistory,
    size: SegmentSize,
) -> bool {
    let first = dropped.first.number(size).max(missing.number(size));
    let behind = end.map_or(u64::MAX, |end| end.number(size));
    if first > dropped.last.number(size) || first >= behind {
        return false;
    }
    let segment = Segment::from_number(dropped.first.timeline, first, size);
    // The segment of a switch begins on the one timeline and ends on the other.
    [segment.start(size), segment.next(size).start(size)]
        .iter()
        .any(|lsn| history.contains(segment.timeline, *lsn))
}

/// The backups from which the history can be followed, in the order of their ends.
fn stops<'a>(sound: &[&'a BackupFacts], history: &TimelineHistory) -> Vec<Stop<'a>> {
    let on_the_way = sound.iter().filter_map(|backup| {
        let wal = backup.wal.filter(|wal| history.contains(wal.end.timeline, wal.lsn))?;
        Some(Stop { id: &backup.id, end: backup.end?, from: wal.end, lsn: wal.lsn })
    });
    let mut stops: Vec<Stop<'_>> = on_the_way.collect();
    stops.sort_by_key(|stop| stop.lsn);
    stops
}

impl Repository {
    /// Computes the recovery window from what is in the store: all records, one listing of the whole archive, all
    /// history files, and what was let go of on purpose.
    pub async fn recovery_window(&self) -> Result<RecoveryWindow> {
        self.recovery_window_of(&self.inventory().await?).await
    }

    /// The same with an inventory that was read just now.
    pub async fn recovery_window_of(&self, inventory: &Inventory) -> Result<RecoveryWindow> {
        let backups = BackupFacts::all(inventory);
        let (borders, size) = borders(&backups);
        let survey = self.survey_wal(size.unwrap_or_default(), borders).await?;
        let (histories, dropped) = futures::try_join!(self.read_histories(), self.dropped())?;
        Ok(RecoveryWindow::of(&backups, &survey, &histories, &dropped))
    }
}
