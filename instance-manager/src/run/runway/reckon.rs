//! How long the volume with `pg_wal` lasts, from looks at it over some minutes. Pure.
//!
//! What counts is WAL that PostgreSQL must keep, for the archive or for a slot. Files that it may use again are room as
//! good as free space: `pg_wal` grows and shrinks with every checkpoint, and that is nothing to be told.

use std::collections::VecDeque;
use std::time::Duration;

use howdah_api::wal_runway::WalRunway;

/// How far back looks count.
const WINDOW: Duration = Duration::from_secs(300);
/// Looks must reach over so much time before rates are told.
const ENOUGH: Duration = Duration::from_secs(25);
/// Looks that are needed for rates.
const LOOKS: usize = 3;
/// Growth in bytes a second below which nothing piles up.
const STEADY: f64 = 1024.0;
/// Segments that may be on their way to an archive that works.
const ON_THE_WAY: u64 = 4;

/// One look at `pg_wal`. Sizes in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Look {
    /// When, by a clock that only goes forward.
    pub at: Duration,
    /// Position up to which WAL is written; `None` on a replica.
    pub lsn: Option<u64>,
    /// Size of a segment.
    pub segment: u64,
    /// Size of the file system.
    pub size: u64,
    /// What is free of it.
    pub free: u64,
    /// Segment files in `pg_wal`.
    pub files: u64,
    /// Those of them that were made ready for WAL to come.
    pub spare: u64,
    /// WAL that waits for the archive.
    pub waiting: u64,
    /// WAL from the first byte that must be kept to the last that is written.
    pub held: u64,
    /// How much of it is kept in any case (`wal_keep_size`).
    pub kept_always: u64,
    /// WAL that was let go of without having been archived, since the manager started.
    pub dropped: u64,
}

impl Look {
    /// Room for new WAL, after a checkpoint.
    #[must_use]
    pub fn room(&self) -> u64 {
        self.free + self.spare + self.reusable()
    }

    /// Files that only wait for a checkpoint to be used again.
    #[must_use]
    pub fn reusable(&self) -> u64 {
        // The segment that is being written is held by nobody.
        self.files.saturating_sub(self.spare).saturating_sub(self.held.saturating_add(self.segment))
    }

    /// Whether more is kept than a working archive makes necessary.
    fn piles_up(&self) -> bool {
        self.held > self.kept_always.max(ON_THE_WAY * self.segment)
    }
}

/// The looks that count.
#[derive(Debug, Default)]
pub struct History(VecDeque<Look>);

impl History {
    /// Takes in another look.
    pub fn push(&mut self, look: Look) {
        // Another role, or another server: what was before says nothing.
        if self.0.back().is_some_and(|last| last.lsn.is_some() != look.lsn.is_some() || last.lsn > look.lsn) {
            self.0.clear();
        }
        self.0.push_back(look);
        while self.0.front().is_some_and(|first| first.at + WINDOW < look.at) {
            self.0.pop_front();
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Rate of growth of a quantity in bytes a second, by least squares; `None` until there are enough looks.
    fn rate(&self, of: impl Fn(&Look) -> Option<f64>) -> Option<f64> {
        let (first, last) = (self.0.front()?, self.0.back()?);
        if self.0.len() < LOOKS || last.at < first.at + ENOUGH {
            return None;
        }
        let points: Vec<(f64, f64)> = self
            .0
            .iter()
            .map(|look| Some(((look.at - first.at).as_secs_f64(), of(look)?)))
            .collect::<Option<_>>()?;
        #[allow(clippy::cast_precision_loss)]
        let count = points.len() as f64;
        let mean = |sum: f64| sum / count;
        let (x, y) = (mean(points.iter().map(|p| p.0).sum()), mean(points.iter().map(|p| p.1).sum()));
        let spread: f64 = points.iter().map(|p| (p.0 - x).powi(2)).sum();
        (spread > 0.0).then(|| points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum::<f64>() / spread)
    }

    /// What follows from the looks; `None` before the first.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn reckon(&self) -> Option<WalRunway> {
        let last = self.0.back()?;
        let write = self.rate(|look| look.lsn.map(|lsn| lsn as f64));
        // All that is written is archived, or waits, or was let go of.
        let archived =
            self.rate(|look| look.lsn.map(|lsn| lsn as f64 - look.waiting as f64 - look.dropped as f64));
        // As if nothing had been let go of: the pressure lasts while that goes on.
        let growth = self.rate(|look| look.lsn.map(|_| look.held as f64 + look.dropped as f64));
        let minutes = growth
            .filter(|growth| *growth >= STEADY && last.piles_up())
            .map(|growth| whole(last.room() as f64 / growth / 60.0));
        Some(WalRunway {
            minutes,
            volume_bytes: last.size,
            free_bytes: last.free,
            room_bytes: last.room(),
            held_bytes: last.held,
            waiting_bytes: last.waiting,
            write_rate: write.map(whole),
            archive_rate: archived.map(whole),
            growth_rate: growth.map(whole),
            ..WalRunway::default()
        })
    }
}

/// Down to a whole number, at least 0.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(number: f64) -> u64 {
    number.max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const SEGMENT: u64 = 16 * MIB;

    /// Every ten seconds: `written` and `waiting` by the number of the look.
    fn history(looks: u64, written: impl Fn(u64) -> u64, waiting: impl Fn(u64) -> u64) -> History {
        let mut history = History::default();
        for n in 0..looks {
            history.push(Look {
                at: Duration::from_secs(n * 10),
                lsn: Some(1000 * SEGMENT + written(n)),
                segment: SEGMENT,
                size: 10_000 * MIB,
                free: 6000 * MIB - waiting(n),
                files: 1000 * MIB + waiting(n),
                held: waiting(n),
                waiting: waiting(n),
                ..Look::default()
            });
        }
        history
    }

    #[test]
    fn nothing_is_known_before_there_are_some_looks() {
        assert_eq!(History::default().reckon(), None);
        let young = history(2, |n| n * SEGMENT, |n| n * SEGMENT).reckon().unwrap();
        assert_eq!((young.minutes, young.write_rate, young.volume_bytes), (None, None, 10_000 * MIB));
    }

    #[test]
    fn an_archive_that_is_away_is_a_matter_of_time() {
        // 16 MiB every ten seconds.
        let runway = history(40, |n| n * SEGMENT, |n| n * SEGMENT).reckon().unwrap();
        let rate = SEGMENT / 10;
        let near = |known: Option<u64>, wanted: u64| known.unwrap().abs_diff(wanted) <= 1;
        assert!(near(runway.write_rate, rate) && near(runway.growth_rate, rate), "{runway:?}");
        assert!(near(runway.archive_rate, 0), "{runway:?}");
        // Room: what is free, and the files that a checkpoint sets free, but for the segment in use.
        let room = 7000 * MIB - 2 * 39 * SEGMENT + 39 * SEGMENT - SEGMENT;
        assert_eq!(runway.room_bytes, room);
        assert_eq!(runway.minutes, Some(room / rate / 60));
    }

    #[test]
    fn an_archive_that_keeps_up_lasts_for_ever() {
        // What waits goes up and down.
        let runway = history(40, |n| n * SEGMENT, |n| n % 3 * SEGMENT).reckon().unwrap();
        assert_eq!(runway.minutes, None);
        assert!(runway.archive_rate.unwrap().abs_diff(SEGMENT / 10) < MIB / 10, "{runway:?}");
    }

    #[test]
    fn an_archive_that_is_too_slow_takes_its_part() {
        let runway = history(31, |n| n * 2 * SEGMENT, |n| n * SEGMENT).reckon().unwrap();
        let (write, archive) = (runway.write_rate.unwrap(), runway.archive_rate.unwrap());
        assert!(write.abs_diff(2 * archive) <= 3 && runway.minutes.is_some(), "{runway:?}");
    }

    #[test]
    fn letting_go_does_not_hide_the_pressure() {
        let mut history = history(20, |n| n * SEGMENT, |n| n * SEGMENT);
        let mut look = *history.0.back().unwrap();
        for n in 20..40 {
            look.at = Duration::from_secs(n * 10);
            look.lsn = look.lsn.map(|lsn| lsn + SEGMENT);
            look.dropped += SEGMENT;
            history.push(look);
        }
        let runway = history.reckon().unwrap();
        assert!(runway.growth_rate.unwrap().abs_diff(SEGMENT / 10) <= 1 && runway.minutes.is_some());
        assert!(runway.archive_rate.unwrap() <= 1, "{runway:?}");
    }

    #[test]
    fn what_is_kept_anyway_does_not_pile_up() {
        let mut history = History::default();
        for n in 0..30 {
            history.push(Look {
                at: Duration::from_secs(n * 10),
                lsn: Some(n * SEGMENT),
                segment: SEGMENT,
                size: 10_000 * MIB,
                free: 6000 * MIB,
                held: n * SEGMENT,
                kept_always: 32 * SEGMENT,
                ..Look::default()
            });
        }
        assert_eq!(history.reckon().unwrap().minutes, None);
    }

    #[test]
    fn another_server_begins_anew() {
        let mut history = history(40, |n| n * SEGMENT, |n| n * SEGMENT);
        history.push(Look { at: Duration::from_secs(400), lsn: Some(1), ..Look::default() });
        assert_eq!(history.reckon().unwrap().write_rate, None);
    }
}
