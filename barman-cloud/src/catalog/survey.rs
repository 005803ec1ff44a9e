//! What WAL an archive holds, as ranges: millions of segments take no more room than the gaps between them.
//!
//! Ranges are divided at borders that the caller names (where backups begin and end, where timelines were left), so
//! that what lies between two borders can be counted and judged as a whole.

use crate::archive::WalObject;
use crate::error::Result;
use crate::lsn::Lsn;
use crate::repository::Repository;
use crate::wal_name::{Segment, SegmentSize, WalName};
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use std::collections::{BTreeMap, BTreeSet};

/// Directories listed at a time.
const PARALLEL: usize = 8;

/// Complete segments of one timeline without a gap, by running number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// When the last was stored.
    pub last_stored: DateTime<Utc>,
    /// The latest time at which any of them was stored.
    pub stored: DateTime<Utc>,
}

/// All objects between two borders on one timeline: segments, partial ones, backup labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// The lowest segment that an object belongs to.
    pub first: u64,
    /// The highest.
    pub last: u64,
    /// Objects.
    pub objects: u64,
    /// Stored bytes.
    pub bytes: u64,
}

#[derive(Debug, Clone, Default)]
struct Line {
    runs: BTreeMap<u64, Run>,
    tallies: BTreeMap<u64, Tally>,
}

/// The WAL of an archive.
#[derive(Debug, Clone)]
pub struct WalSurvey {
    size: SegmentSize,
    borders: BTreeSet<u64>,
    lines: BTreeMap<u32, Line>,
    histories: BTreeSet<u32>,
}

impl WalSurvey {
    /// An empty archive with segments of `size` bytes, divided before the segments with these numbers.
    pub fn new(size: SegmentSize, borders: BTreeSet<u64>) -> Self {
        Self { size, borders, lines: BTreeMap::new(), histories: BTreeSet::new() }
    }

    /// Counts an object; order does not matter, but that of the keys takes least room. A name that cannot exist with
    /// this segment size is left out: it is not known what it is.
    pub fn add(&mut self, object: &WalObject) {
        let Some(segment) = object.name.segment() else {
            self.histories.insert(object.name.timeline());
            return;
        };
        if !segment.fits(self.size) {
            return;
        }
        let number = segment.number(self.size);
        let border = self.borders.range(..=number).next_back().copied().unwrap_or(0);
        let line = self.lines.entry(segment.timeline).or_default();
        let (bytes, stored) = (object.object.size, object.object.last_modified);
        line.tallies
            .entry(border)
            .and_modify(|tally| {
                tally.first = tally.first.min(number);
                tally.last = tally.last.max(number);
                tally.objects += 1;
                tally.bytes += bytes;
            })
            .or_insert(Tally { first: number, last: number, objects: 1, bytes });
        // An empty object holds no segment, whatever its name.
        if matches!(object.name, WalName::Segment(_)) && bytes > 0 {
            insert(&mut line.runs, &self.borders, number, stored);
        }
    }

    /// Bytes in a segment.
    pub fn size(&self) -> SegmentSize {
        self.size
    }

    /// Timelines with anything but a history, in order.
    pub fn timelines(&self) -> impl DoubleEndedIterator<Item = u32> + '_ {
        self.lines.keys().copied()
    }

    /// Timelines with a history file, in order, whether it can be read or not.
    pub fn histories(&self) -> impl DoubleEndedIterator<Item = u32> + '_ {
        self.histories.iter().copied()
    }

    /// The highest timeline of which there is anything; 0 when there is nothing.
    pub fn newest_timeline(&self) -> u32 {
        self.lines.keys().chain(&self.histories).copied().max().unwrap_or(0)
    }

    /// The runs of a timeline, in order; two of them touch where a border is.
    pub fn runs(&self, timeline: u32) -> impl DoubleEndedIterator<Item = &Run> {
        self.lines.get(&timeline).into_iter().flat_map(|line| line.runs.values())
    }

    /// What lies between the borders of a timeline, in order.
    pub fn tallies(&self, timeline: u32) -> impl DoubleEndedIterator<Item = &Tally> {
        self.lines.get(&timeline).into_iter().flat_map(|line| line.tallies.values())
    }

    /// The run that holds a complete segment.
    pub fn run_at(&self, timeline: u32, number: u64) -> Option<&Run> {
        let (_, run) = self.lines.get(&timeline)?.runs.range(..=number).next_back()?;
        (number <= run.last).then_some(run)
    }

    /// The first segment from `begin` to `end` on one timeline that is not there.
    pub fn first_missing(&self, begin: Segment, end: Segment) -> Option<Segment> {
        let (mut number, last) = (begin.number(self.size), end.number(self.size));
        while number <= last {
            match self.run_at(begin.timeline, number) {
                Some(run) => number = run.last + 1,
                None => return Some(self.segment(begin.timeline, number)),
            }
        }
        None
    }

    /// The first complete segment after a number on a timeline.
    pub fn next_after(&self, timeline: u32, number: u64) -> Option<u64> {
        let runs = &self.lines.get(&timeline)?.runs;
        match self.run_at(timeline, number + 1) {
            Some(_) => Some(number + 1),
            None => runs.range(number + 1..).next().map(|(first, _)| *first),
        }
    }

    /// The name of a segment.
    pub fn segment(&self, timeline: u32, number: u64) -> Segment {
        Segment::from_number(timeline, number, self.size)
    }

    /// The number of the segment that holds a position.
    pub fn number(&self, lsn: Lsn) -> u64 {
        lsn.0 / self.size.bytes()
    }
}

/// Adds a segment to the runs; those that touch become one unless a border is between them.
fn insert(runs: &mut BTreeMap<u64, Run>, borders: &BTreeSet<u64>, number: u64, stored: DateTime<Utc>) {
    let mut run = Run { first: number, last: number, last_stored: stored, stored };
    if let Some((_, before)) = runs.range_mut(..=number).next_back() {
        if number <= before.last {
            before.stored = before.stored.max(stored);
            if number == before.last {
                before.last_stored = before.last_stored.max(stored);
            }
            return;
        }
        if before.last + 1 == number && !borders.contains(&number) {
            run = Run { first: before.first, stored: before.stored.max(stored), ..run };
        }
    }
    if !borders.contains(&(number + 1))
        && let Some(after) = runs.remove(&(number + 1))
    {
        run = Run {
            last: after.last,
            last_stored: after.last_stored,
            stored: run.stored.max(after.stored),
            ..run
        };
    }
    runs.insert(run.first, run);
}

impl Repository {
    /// Looks at the whole archive: one request per thousand objects, and no more memory than there are gaps.
    pub async fn survey_wal(&self, size: SegmentSize, borders: BTreeSet<u64>) -> Result<WalSurvey> {
        let mut survey = WalSurvey::new(size, borders);
        let mut objects = self.store().stream(&self.layout().wals_dir())?;
        while let Some(object) = objects.next().await {
            if let Some(object) = WalObject::recognise(object?) {
                survey.add(&object);
            }
        }
        Ok(survey)
    }

    /// Looks at the part of the archive from a segment's directory on, of some timelines.
    pub async fn survey_wal_from(
        &self,
        from: Segment,
        timelines: &BTreeSet<u32>,
        size: SegmentSize,
        borders: BTreeSet<u64>,
    ) -> Result<WalSurvey> {
        let dirs = self.list_wal_dirs().await?;
        let mut wanted: Vec<Segment> = dirs.iter().filter_map(|dir| directory(dir)).collect();
        wanted.retain(|first| timelines.contains(&first.timeline) && first.log >= from.log);
        let mut survey = WalSurvey::new(size, borders);
        let mut listings =
            futures::stream::iter(wanted).map(|first| self.list_wal_dir(first)).buffered(PARALLEL);
        while let Some(objects) = listings.try_next().await? {
            objects.iter().for_each(|object| survey.add(object));
        }
        Ok(survey)
    }
}

/// The first segment of a hash directory, by its name.
pub(crate) fn directory(name: &str) -> Option<Segment> {
    let first = format!("{name}00000000").parse().ok()?;
    (name.len() == 16).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ObjectInfo;
    use proptest::prelude::*;
    use rstest::rstest;

    fn object(name: &str, size: u64, second: i64) -> WalObject {
        let key = format!("srv/wals/{}/{name}", &name[..16.min(name.len())]);
        let last_modified = DateTime::from_timestamp(second, 0).expect("a time");
        WalObject::recognise(ObjectInfo { key, size, last_modified, etag: None }).expect("WAL")
    }

    fn segment(number: u64) -> Segment {
        Segment::from_number(1, number, SegmentSize::DEFAULT)
    }

    #[test]
    fn borders_divide_what_is_counted_and_gaps_what_is_there() {
        let mut survey = WalSurvey::new(SegmentSize::DEFAULT, BTreeSet::from([0x102]));
        for name in [
            "0000000100000000000000FE",
            "0000000100000000000000FF.gz",
            "000000010000000100000000",
            "000000010000000100000002",
            "000000010000000100000002.00000028.backup",
            "000000010000000100000004.partial",
            "0000000100000001FFFFFFFF",
            "00000002.history",
        ] {
            survey.add(&object(name, 10, 5));
        }
        survey.add(&object("000000010000000100000003", 0, 5));
        let runs: Vec<(u64, u64)> = survey.runs(1).map(|run| (run.first, run.last)).collect();
        assert_eq!(runs, [(0xFE, 0x100), (0x102, 0x102)]);
        let tallies: Vec<_> = survey.tallies(1).map(|t| (t.first, t.last, t.objects, t.bytes)).collect();
        assert_eq!(tallies, [(0xFE, 0x100, 3, 30), (0x102, 0x104, 4, 30)]);
        assert_eq!(survey.first_missing(segment(0xFE), segment(0x102)), Some(segment(0x101)));
        assert_eq!(survey.first_missing(segment(0xFF), segment(0x100)), None);
        assert_eq!((survey.next_after(1, 0x100), survey.next_after(1, 0xFE)), (Some(0x102), Some(0xFF)));
        assert_eq!((survey.newest_timeline(), survey.timelines().collect::<Vec<_>>()), (2, vec![1]));
    }

    #[rstest]
    #[case("000000010000000A", Some("000000010000000A00000000"))]
    #[case("000000010000000", None)]
    #[case("0000000100000000000000", None)]
    #[case("not-a-directory!", None)]
    fn directories_are_known_by_name(#[case] name: &str, #[case] first: Option<&str>) {
        assert_eq!(directory(name).map(|segment| segment.to_string()).as_deref(), first);
    }

    proptest! {
        #[test]
        fn ranges_say_the_same_as_names_in_any_order(
            mut numbers in proptest::collection::vec(0u64..60, 0..80),
            borders in proptest::collection::btree_set(0u64..60, 0..6),
        ) {
            let mut survey = WalSurvey::new(SegmentSize::DEFAULT, borders.clone());
            for (second, number) in numbers.iter().enumerate() {
                survey.add(&object(&segment(*number).to_string(), 1, second as i64));
            }
            for number in 0..60 {
                prop_assert_eq!(survey.run_at(1, number).is_some(), numbers.contains(&number));
            }
            for run in survey.runs(1) {
                prop_assert!((run.first + 1..=run.last).all(|number| !borders.contains(&number)));
                let times = |wanted: &dyn Fn(u64) -> bool| {
                    numbers.iter().enumerate().filter(|(_, n)| wanted(**n)).map(|(s, _)| s as i64).max()
                };
                prop_assert_eq!(Some(run.last_stored.timestamp()), times(&|n| n == run.last));
                prop_assert_eq!(
                    Some(run.stored.timestamp()),
                    times(&|n| (run.first..=run.last).contains(&n))
                );
            }
            let counted: u64 = survey.tallies(1).map(|tally| tally.objects).sum();
            prop_assert_eq!(counted, numbers.len() as u64);
            numbers.sort_unstable();
            numbers.dedup();
            let gaps = numbers.windows(2).filter(|pair| pair[0] + 1 < pair[1]).count();
            prop_assert!(survey.runs(1).count() <= gaps + borders.len() + 1, "no more room than gaps and borders");
        }
    }
}
