//! How far an archive leads without a gap.

use super::survey::{Run, WalSurvey};
use crate::error::Result;
use crate::repository::Repository;
use crate::timeline::TimelineHistory;
use crate::wal_name::{Segment, SegmentSize};
use chrono::{DateTime, Utc};
use std::collections::BTreeSet;

/// The unbroken run of WAL from a segment along one history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// The last segment of the run.
    pub last: Segment,
    /// When that was stored.
    pub last_stored: DateTime<Utc>,
    /// The latest time at which any of the run was stored: nothing later can be in it.
    pub stored: DateTime<Utc>,
    /// The first segment that is missing although later ones are there.
    pub gap: Option<Segment>,
    /// The first segment after the gap.
    pub resumes: Option<Segment>,
}

impl WalSurvey {
    /// Follows the archive from `from` along the history until a segment is missing; `None` when `from` is.
    pub fn reach(&self, history: &TimelineHistory, from: Segment) -> Option<Reach> {
        let mut reach: Option<Reach> = None;
        let mut number = from.number(self.size());
        loop {
            let names = self.names(history, from, number);
            let found = names.iter().find_map(|name| Some((*name, self.run_at(name.timeline, number)?)));
            let Some((name, run)) = found else { break };
            let last = self.usable(history, name.timeline, run, number);
            let last_stored = if last == run.last { run.last_stored } else { run.stored };
            let stored = reach.as_ref().map_or(run.stored, |reach| reach.stored.max(run.stored));
            let last = self.segment(name.timeline, last);
            reach = Some(Reach { last, last_stored, stored, gap: None, resumes: None });
            number = last.number(self.size()) + 1;
        }
        let mut reach = reach?;
        let missing = self.names(history, from, number).first().copied();
        reach.resumes = missing.and_then(|missing| self.resumes(history, missing));
        reach.gap = missing.filter(|_| reach.resumes.is_some());
        Some(reach)
    }

    /// The names under which a segment can be, in the order in which PostgreSQL asks; none of a timeline before that
    /// of `from`.
    fn names(&self, history: &TimelineHistory, from: Segment, number: u64) -> Vec<Segment> {
        let mut names = history.segments_at(self.segment(0, number).start(self.size()), self.size());
        names.retain(|segment| segment.timeline >= from.timeline);
        names
    }

    /// The last segment of a run for which its timeline is the one that PostgreSQL takes.
    fn usable(&self, history: &TimelineHistory, timeline: u32, run: &Run, number: u64) -> u64 {
        let next = history.path().into_iter().skip_while(|span| span.timeline != timeline).nth(1);
        match next {
            // In the segment in which it was left, the next timeline is asked first.
            Some(next) => run.last.min(self.number(next.begin).saturating_sub(1).max(number)),
            None => run.last,
        }
    }

    /// Where the archive goes on after a missing segment, on the way of the history.
    fn resumes(&self, history: &TimelineHistory, missing: Segment) -> Option<Segment> {
        let number = missing.number(self.size());
        let path = history.path();
        let later = path.iter().filter(|span| span.timeline >= missing.timeline);
        later
            .filter_map(|span| Some((self.next_after(span.timeline, number)?, span.timeline)))
            .min()
            .map(|(number, timeline)| self.segment(timeline, number))
    }
}

impl Repository {
    /// Follows the archive from `from` (which is there) along a history until a segment is missing. Lists only what
    /// lies on the way.
    pub async fn reach(
        &self,
        history: &TimelineHistory,
        from: Segment,
        size: SegmentSize,
    ) -> Result<Option<Reach>> {
        let path = history.path();
        let timelines = path.iter().map(|span| span.timeline).filter(|t| *t >= from.timeline).collect();
        let mut borders: BTreeSet<u64> = BTreeSet::from([from.number(size)]);
        for span in &path {
            let number = span.begin.0 / size.bytes();
            borders.extend([number, number + 1]);
        }
        Ok(self.survey_wal_from(from, &timelines, size, borders).await?.reach(history, from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::WalObject;
    use crate::store::ObjectInfo;
    use rstest::rstest;

    /// 2 left 1 inside of segment 5, 3 left 2 at the beginning of segment 9.
    const HISTORY: &str = "1\t0/5800000\tx\n2\t0/9000000\tx\n";

    fn survey(names: &[(u32, std::ops::RangeInclusive<u64>)]) -> WalSurvey {
        let mut survey = WalSurvey::new(SegmentSize::DEFAULT, BTreeSet::from([5, 6, 9, 10]));
        for (timeline, range) in names {
            for number in range.clone() {
                let segment = Segment::from_number(*timeline, number, SegmentSize::DEFAULT);
                let last_modified = DateTime::from_timestamp(number as i64, 0).expect("a time");
                let key = format!("srv/wals/{}/{segment}", segment.hash_dir());
                let object = ObjectInfo { key, size: 1, last_modified, etag: None };
                survey.add(&WalObject::recognise(object).expect("WAL"));
            }
        }
        survey
    }

    #[rstest]
    #[case::to_the_end(&[(1, 2..=5), (2, 5..=8), (3, 9..=20)], Some((3, 20)), None)]
    #[case::the_last_of_the_old_timeline_is_partial(&[(1, 2..=4), (2, 5..=8), (3, 9..=12)], Some((3, 12)), None)]
    #[case::left_behind(&[(1, 2..=30), (2, 5..=8)], Some((2, 8)), None)]
    #[case::gap(&[(1, 2..=4), (2, 5..=6), (2, 8..=8), (3, 9..=9)], Some((2, 6)), Some((2, 7, 2, 8)))]
    #[case::gap_before_the_next(&[(1, 2..=4), (2, 5..=7), (3, 10..=11)], Some((2, 7)), Some((2, 8, 3, 10)))]
    #[case::wal_of_the_old_timeline_is_no_way_on(&[(1, 2..=4), (1, 8..=40)], Some((1, 4)), None)]
    #[case::begin_is_missing(&[(1, 3..=40)], None, None)]
    fn the_way_along_a_history(
        #[case] there: &[(u32, std::ops::RangeInclusive<u64>)],
        #[case] last: Option<(u32, u64)>,
        #[case] gap: Option<(u32, u64, u32, u64)>,
    ) {
        let (survey, size) = (survey(there), SegmentSize::DEFAULT);
        let history = TimelineHistory::parse(3, HISTORY).expect("valid");
        let reach = survey.reach(&history, Segment::from_number(1, 2, size));
        let found = reach.as_ref().map(|reach| (reach.last.timeline, reach.last.number(size)));
        assert_eq!(found, last);
        let found = reach.as_ref().and_then(|reach| {
            let (gap, on) = (reach.gap?, reach.resumes?);
            Some((gap.timeline, gap.number(size), on.timeline, on.number(size)))
        });
        assert_eq!(found, gap);
        if let Some((_, number)) = last {
            let reach = reach.expect("found");
            assert_eq!(reach.last_stored.timestamp(), number as i64);
            assert_eq!(reach.stored.timestamp(), number as i64, "abandoned WAL does not count");
        }
    }
}
