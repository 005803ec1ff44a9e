//! Which WAL is let go of when its volume fills and the archive does not take it. Pure.

use barman_cloud::{Segment, SegmentSize};
use howdah_api::instance::ArchiverStatus;
use howdah_api::wal_runway::WalRunway;

/// Segments that wait while an archive works as it should.
const A_FEW: usize = 8;

/// Why the archive does not keep up; `None` when it does, or may yet.
#[must_use]
pub fn obstacle(archiver: Option<&ArchiverStatus>, runway: &WalRunway, waiting: usize) -> Option<String> {
    if let Some(error) = archiver.and_then(|archiver| archiver.last_error.as_ref()) {
        return Some(format!("the archive does not take WAL: {error}"));
    }
    match (runway.write_rate, runway.archive_rate) {
        (Some(write), Some(archive)) if waiting > A_FEW && archive < write => Some(format!(
            "the archive takes {} of WAL a second, and {} are written",
            bytes(archive),
            bytes(write)
        )),
        _ => None,
    }
}

/// A number of bytes for people.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    barman_cloud::report::human(bytes)
}

/// What is known when it is decided.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    /// Size of a segment.
    pub size: SegmentSize,
    /// Position up to which WAL is written.
    pub lsn: u64,
    /// WAL from here on stays in any case: for a slot, or as `wal_keep_size` asks.
    pub stays_from: u64,
    /// Room for new WAL.
    pub room: u64,
    /// Room that shall stay.
    pub reserve: u64,
}

/// The segments to let go of: of those that wait the oldest, one after the other on one timeline, and as many as the
/// reserve lacks. Never the segment that is written to, and none of which PostgreSQL would keep the file all the same.
#[must_use]
pub fn plan(waiting: &[Segment], scene: &Scene) -> Vec<Segment> {
    let segment = scene.size.bytes();
    let wanted = scene.reserve.saturating_sub(scene.room).div_ceil(segment);
    let end = scene.lsn.min(scene.stays_from) / segment;
    let mut oldest: Vec<Segment> = waiting.to_vec();
    oldest.sort_by_key(|segment| (segment.number(scene.size), segment.timeline));
    let mut run: Vec<Segment> = Vec::new();
    for next in oldest {
        let follows = run.last().is_none_or(|last| last.next(scene.size) == next);
        let enough = u64::try_from(run.len()).unwrap_or(u64::MAX) >= wanted;
        if enough || !follows || next.number(scene.size) >= end {
            break;
        }
        run.push(next);
    }
    run
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const SEGMENT: u64 = 16 << 20;

    fn segment(timeline: u32, number: u64) -> Segment {
        Segment::from_number(timeline, number, SegmentSize::DEFAULT)
    }

    /// `room` and `reserve` in segments; WAL is written up to within segment 10.
    #[rstest]
    #[case::there_is_room(20, 10, 100, &[])]
    #[case::as_many_as_are_lacking(8, 10, 100, &[3, 4])]
    #[case::all_but_the_one_that_is_written(0, 900, 100, &[3, 4, 5, 6, 7, 8, 9])]
    #[case::a_slot_holds_the_rest(0, 900, 5, &[3, 4])]
    #[case::a_slot_holds_all(0, 900, 2, &[])]
    fn how_many(#[case] room: u64, #[case] reserve: u64, #[case] stays: u64, #[case] expected: &[u64]) {
        // The last one cannot be: it is not complete.
        let waiting: Vec<Segment> = (3..=10).rev().map(|number| segment(1, number)).collect();
        let scene = Scene {
            size: SegmentSize::DEFAULT,
            lsn: 10 * SEGMENT + 5,
            stays_from: stays * SEGMENT,
            room: room * SEGMENT,
            reserve: reserve * SEGMENT,
        };
        let expected: Vec<Segment> = expected.iter().map(|number| segment(1, *number)).collect();
        assert_eq!(plan(&waiting, &scene), expected);
    }

    #[test]
    fn a_run_ends_at_a_hole_and_at_a_change_of_timeline() {
        let scene = Scene {
            size: SegmentSize::DEFAULT,
            lsn: 90 * SEGMENT,
            stays_from: u64::MAX,
            room: 0,
            reserve: 900 * SEGMENT,
        };
        let all = [segment(2, 6), segment(1, 3), segment(1, 4), segment(2, 5)];
        assert_eq!(plan(&all, &scene), [segment(1, 3), segment(1, 4)]);
        assert_eq!(plan(&[all[0], all[1]], &scene), [segment(1, 3)]);
        assert_eq!(plan(&[all[0], all[3]], &scene), [segment(2, 5), segment(2, 6)]);
    }

    #[test]
    fn an_archive_that_works_is_waited_for() {
        let rates = |write, archive| WalRunway {
            write_rate: Some(write),
            archive_rate: Some(archive),
            ..WalRunway::default()
        };
        let working = ArchiverStatus { working: true, ..ArchiverStatus::default() };
        assert_eq!(obstacle(Some(&working), &rates(5 << 20, 6 << 20), 50), None);
        assert_eq!(obstacle(Some(&working), &rates(5 << 20, 1 << 20), 3), None);
        assert_eq!(obstacle(Some(&working), &WalRunway::default(), 50), None);
        let slow = obstacle(Some(&working), &rates(5 << 20, 1 << 20), 50).unwrap();
        assert_eq!(slow, "the archive takes 1MB of WAL a second, and 5MB are written");
        let failing = ArchiverStatus { last_error: Some("no bucket".into()), ..ArchiverStatus::default() };
        assert!(obstacle(Some(&failing), &rates(0, 0), 1).unwrap().ends_with("no bucket"));
    }
}
