//! The way to this server's timeline, as `pg_wal` tells it.

use crate::error::{Error, Result};
use barman_cloud::{Lsn, Segment, SegmentSize, TimelineHistory, WalName};
use std::path::Path;

/// The history of a timeline in `pg_wal`; `None` when there is no such file. Timeline 1 has none and needs none.
pub fn local_history(pgdata: &Path, timeline: u32) -> Result<Option<TimelineHistory>> {
    if timeline < 2 {
        return Ok(Some(TimelineHistory::root(timeline)));
    }
    let path = pgdata.join("pg_wal").join(WalName::History(timeline).to_string());
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(TimelineHistory::parse(timeline, &text)?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("cannot read", &path, error)),
    }
}

/// Where a timeline begins. Pure.
pub fn begin_of(history: &TimelineHistory) -> Lsn {
    history.entries().last().map_or(Lsn::INVALID, |entry| entry.switch)
}

/// Whether a segment lies on the way to the timeline of the history and ends before that begins. The segment within which
/// a timeline was left does not: under the old name it never becomes complete. Pure.
pub fn is_before(history: &TimelineHistory, segment: Segment, size: SegmentSize) -> bool {
    let end = segment.next(size).start(size);
    history.path().iter().any(|span| {
        span.timeline == segment.timeline && span.begin < end && span.end.is_some_and(|left| end <= left)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::early("000000010000000000000001", true)]
    #[case::the_last_whole_one("000000010000000000000004", true)]
    #[case::left_within_it("000000010000000000000005", false)]
    #[case::behind("000000010000000000000006", false)]
    #[case::begun_within_it("000000020000000000000005", true)]
    #[case::left_at_its_end("000000020000000000000008", true)]
    #[case::left_at_its_begin("000000020000000000000009", false)]
    #[case::before_it_began("000000020000000000000004", false)]
    #[case::its_own("000000030000000000000009", false)]
    #[case::strange("000000040000000000000002", false)]
    fn what_lies_before_the_timeline(#[case] name: &str, #[case] expected: bool) {
        let history = TimelineHistory::parse(3, "1\t0/5000060\tx\n2\t0/9000000\tx\n").expect("valid");
        let segment = name.parse().expect("a segment");
        assert_eq!(is_before(&history, segment, SegmentSize::DEFAULT), expected);
        assert_eq!(begin_of(&history), "0/9000000".parse().expect("an LSN"));
    }

    #[test]
    fn the_first_timeline_needs_no_file() {
        let temp = tempfile::tempdir().expect("a directory");
        let first = local_history(temp.path(), 1).expect("read").expect("known");
        assert_eq!((first.timeline(), begin_of(&first)), (1, Lsn::INVALID));
        assert_eq!(local_history(temp.path(), 2).expect("read"), None);
        std::fs::create_dir(temp.path().join("pg_wal")).expect("a directory");
        std::fs::write(temp.path().join("pg_wal/00000002.history"), "1\t0/5000060\tx\n").expect("a file");
        let second = local_history(temp.path(), 2).expect("read").expect("known");
        assert_eq!(begin_of(&second), "0/5000060".parse().expect("an LSN"));
    }
}
