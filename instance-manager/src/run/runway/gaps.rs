//! The gaps that this instance made in the archive, noted beside PGDATA before they are made.

use std::path::Path;

use barman_cloud::catalog::RecoveryWindow;
use barman_cloud::dropped::Dropped;
use barman_cloud::{Segment, SegmentSize};
use chrono::{DateTime, Utc};
use howdah_api::wal_runway::DroppedWal;
use serde::{Deserialize, Serialize};

use crate::error::{Error, IoContext, Result};
use crate::install::write_atomically;
use crate::pg::files::read_optional;
use crate::time::{chrono as utc, kube};

/// Gaps that are remembered, the newest.
const KEPT: usize = 16;

/// One gap.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Gap {
    /// What is told of it.
    #[serde(flatten)]
    pub dropped: DroppedWal,
    /// Repositories that hold the record of it, as far as it goes now.
    #[serde(default)]
    pub told: Vec<String>,
    /// Repositories whose recovery window takes it into account.
    #[serde(default)]
    pub seen: Vec<String>,
}

/// All gaps, oldest first.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Gaps(Vec<Gap>);

/// Who lets go of what, and why.
pub struct Act<'a> {
    /// A run of segments on one timeline, not empty.
    pub run: &'a [Segment],
    /// Their size.
    pub size: SegmentSize,
    /// When.
    pub now: DateTime<Utc>,
    /// The instance.
    pub by: &'a str,
    /// Why.
    pub reason: &'a str,
}

fn ends(dropped: &DroppedWal) -> Option<(Segment, Segment)> {
    Some((dropped.first_wal.parse().ok()?, dropped.last_wal.parse().ok()?))
}

impl Gaps {
    /// What was noted; nothing when there is no file, or none that can be read.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        let text = read_optional(path).ok().flatten();
        text.and_then(|text| match serde_json::from_str(&text) {
            Ok(gaps) => Some(gaps),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the record of WAL that was let go of cannot be read");
                None
            }
        })
        .unwrap_or_default()
    }

    /// Notes them, durably.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| Error::permanent("gaps cannot be written as JSON").because(error))?;
        write_atomically(path, &text, 0o600).at("cannot write", path)
    }

    /// What is told of them.
    #[must_use]
    pub fn told(&self) -> Vec<DroppedWal> {
        self.0.iter().map(|gap| gap.dropped.clone()).collect()
    }

    /// Takes in what is about to be let go of: the gap before grows when it follows it.
    pub fn add(&mut self, act: &Act<'_>) {
        let (Some(first), Some(last)) = (act.run.first(), act.run.last()) else { return };
        let count = |first: &Segment, last: &Segment| last.number(act.size) - first.number(act.size) + 1;
        let now = kube(act.now);
        let known = self.0.iter_mut().find_map(|gap| {
            let (begin, end) = ends(&gap.dropped)?;
            let near = begin.timeline == first.timeline && begin <= *first && *first <= end.next(act.size);
            near.then_some((gap, begin, end))
        });
        if let Some((gap, begin, end)) = known {
            let end = end.max(*last);
            gap.dropped.last_wal = end.to_string();
            gap.dropped.segments = count(&begin, &end);
            gap.dropped.bytes = gap.dropped.segments * act.size.bytes();
            gap.dropped.until = now;
            act.reason.clone_into(&mut gap.dropped.reason);
            (gap.told, gap.seen) = (Vec::new(), Vec::new());
            return;
        }
        let segments = count(first, last);
        self.0.push(Gap {
            dropped: DroppedWal {
                timeline_id: first.timeline,
                first_wal: first.to_string(),
                last_wal: last.to_string(),
                segments,
                bytes: segments * act.size.bytes(),
                since: now.clone(),
                until: now,
                instance: act.by.to_owned(),
                reason: act.reason.to_owned(),
                backups: Vec::new(),
            },
            told: Vec::new(),
            seen: Vec::new(),
        });
        let excess = self.0.len().saturating_sub(KEPT);
        self.0.drain(..excess);
    }

    /// The records that a repository does not hold yet.
    #[must_use]
    pub fn untold(&self, repository: &str) -> Vec<Dropped> {
        let new = self.0.iter().filter(|gap| !gap.told.iter().any(|name| name == repository));
        new.filter_map(|gap| record(&gap.dropped)).collect()
    }

    /// A repository holds this record now. False when the gap has grown meanwhile.
    pub fn tell(&mut self, repository: &str, record: &Dropped) -> bool {
        let same = |gap: &&mut Gap| ends(&gap.dropped) == Some((record.first, record.last));
        let Some(gap) = self.0.iter_mut().find(same) else { return false };
        gap.told.push(repository.to_owned());
        true
    }

    /// Whether a repository's recovery window may still be told as longer than it is.
    #[must_use]
    pub fn unseen(&self, repository: &str) -> bool {
        self.0.iter().any(|gap| !gap.seen.iter().any(|name| name == repository))
    }

    /// A recovery window was computed anew. Returns whether that changed what is known.
    pub fn look(&mut self, repository: &str, window: &RecoveryWindow, size: SegmentSize) -> bool {
        let mut changed = false;
        for gap in self.0.iter_mut().filter(|gap| !gap.seen.iter().any(|name| name == repository)) {
            let told = gap.told.iter().any(|name| name == repository);
            if ends(&gap.dropped).is_none_or(|ends| accounts_for(window, ends, size, told)) {
                gap.seen.push(repository.to_owned());
                changed = true;
            }
        }
        changed
    }
}

/// Whether a window says what it must about a gap: that it ends there, or goes on behind. Without a backup there is none.
/// One that ends there says that it was meant only when the repository holds the record, so until then it is computed anew.
fn accounts_for(
    window: &RecoveryWindow,
    (first, last): (Segment, Segment),
    size: SegmentSize,
    told: bool,
) -> bool {
    let numbers = first.number(size)..=last.number(size);
    if window.gaps.iter().any(|gap| numbers.contains(&gap.missing.number(size))) {
        return told;
    }
    window.latest.as_ref().is_none_or(|latest| latest.segment.number(size) > *numbers.end())
}

fn record(dropped: &DroppedWal) -> Option<Dropped> {
    let (first, last) = ends(dropped)?;
    Some(Dropped {
        first,
        last,
        segments: dropped.segments,
        since: utc(&dropped.since),
        until: utc(&dropped.until),
        by: dropped.instance.clone(),
        reason: dropped.reason.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use barman_cloud::catalog::{Gap as Missing, Latest};

    const SIZE: SegmentSize = SegmentSize::DEFAULT;

    fn segment(number: u64) -> Segment {
        Segment::from_number(1, number, SIZE)
    }

    fn add(gaps: &mut Gaps, run: &[u64]) {
        let run: Vec<Segment> = run.iter().map(|number| segment(*number)).collect();
        let now = DateTime::from_timestamp(1_795_000_000, 0).unwrap();
        gaps.add(&Act { run: &run, size: SIZE, now, by: "pg-1", reason: "full" });
    }

    fn seen(gaps: &Gaps) -> Vec<(String, String, u64)> {
        gaps.told().into_iter().map(|gap| (gap.first_wal, gap.last_wal, gap.segments)).collect()
    }

    #[test]
    fn what_follows_is_the_same_gap_and_is_noted_durably() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gaps.json");
        assert_eq!(Gaps::read(&path), Gaps::default());
        let mut gaps = Gaps::default();
        add(&mut gaps, &[3, 4]);
        let record = gaps.untold("repo1").remove(0);
        assert!(gaps.tell("repo1", &record) && gaps.untold("repo1").is_empty());
        add(&mut gaps, &[5]);
        assert!(!gaps.tell("repo1", &record), "it has grown");
        let grown = [("000000010000000000000003".to_owned(), "000000010000000000000005".to_owned(), 3)];
        assert_eq!(seen(&gaps), grown);
        assert_eq!(gaps.untold("repo1")[0].last, segment(5));
        // The same once more, after a restart that made it wait again.
        add(&mut gaps, &[4]);
        assert_eq!(seen(&gaps), grown);
        add(&mut gaps, &[9]);
        assert_eq!(gaps.told().len(), 2);
        gaps.write(&path).unwrap();
        assert_eq!(Gaps::read(&path), gaps);
        std::fs::write(&path, "?").unwrap();
        assert_eq!(Gaps::read(&path), Gaps::default());
    }

    #[test]
    fn a_window_has_to_know_of_the_gap() {
        let mut gaps = Gaps::default();
        add(&mut gaps, &[3, 4]);
        let at = DateTime::from_timestamp(1_795_000_000, 0).unwrap();
        let latest = |number| {
            let lsn = segment(number).next(SIZE).start(SIZE);
            Some(Latest { segment: segment(number), lsn, time: at })
        };
        // Nothing came after it yet.
        let before = RecoveryWindow { latest: latest(2), ..RecoveryWindow::default() };
        assert!(!gaps.look("repo1", &before, SIZE) && gaps.unseen("repo1"));
        let mut after = before;
        // One of them was on its way, and arrived.
        after.gaps.push(Missing {
            after: segment(3),
            from: at,
            missing: segment(4),
            resumes: Some(segment(5)),
            until: None,
            dropped: None,
        });
        assert!(!gaps.look("repo1", &after, SIZE), "it does not say that it was meant");
        let record = gaps.untold("repo1").remove(0);
        assert!(gaps.tell("repo1", &record));
        assert!(gaps.look("repo1", &after, SIZE) && !gaps.unseen("repo1") && gaps.unseen("repo2"));
        // All came, or a later backup leads on.
        let filled = RecoveryWindow { latest: latest(6), ..RecoveryWindow::default() };
        assert!(gaps.look("repo2", &filled, SIZE) && !gaps.unseen("repo2"));
        assert!(gaps.look("repo3", &RecoveryWindow::default(), SIZE), "there is nothing to recover from");
    }
}
