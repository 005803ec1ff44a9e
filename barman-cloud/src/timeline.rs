//! Timelines: history files, and the way from one timeline to another.
//!
//! A history file lists, oldest first, the timelines that its own timeline grew out of and where each was left.
//! One line is parent timeline, switch position and a reason, separated by white space; `#` starts a comment.

use crate::error::{Error, Result};
use crate::lsn::Lsn;
use crate::wal_name::{Segment, SegmentSize};
use std::fmt::Write as _;

/// One ancestor: `parent` was left at `switch`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The timeline that was left.
    pub parent: u32,
    /// Where it was left; the next timeline begins here.
    pub switch: Lsn,
    /// Free text, may be empty.
    pub reason: String,
}

/// The history of one timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelineHistory {
    timeline: u32,
    entries: Vec<HistoryEntry>,
}

/// A stretch of one timeline on the way to a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimelineSpan {
    /// Timeline.
    pub timeline: u32,
    /// Where the stretch begins: 0 on the oldest ancestor.
    pub begin: Lsn,
    /// Where it was left; `None` on the target itself.
    pub end: Option<Lsn>,
}

impl TimelineHistory {
    /// The history of a timeline without ancestors; such a timeline has no history file.
    pub fn root(timeline: u32) -> Self {
        Self { timeline, entries: Vec::new() }
    }

    /// Checks and builds a history; `entries` are oldest first.
    pub fn new(timeline: u32, entries: Vec<HistoryEntry>) -> Result<Self> {
        let mut previous: Option<&HistoryEntry> = None;
        for entry in &entries {
            if entry.parent == 0 || entry.parent >= timeline {
                return Err(Error::corrupt(format!(
                    "history of timeline {timeline} names timeline {} as an ancestor",
                    entry.parent
                )));
            }
            if let Some(previous) = previous
                && (entry.parent <= previous.parent || entry.switch < previous.switch)
            {
                return Err(Error::corrupt(format!(
                    "history of timeline {timeline} is out of order at timeline {}",
                    entry.parent
                )));
            }
            previous = Some(entry);
        }
        Ok(Self { timeline, entries })
    }

    /// Reads the content of `<timeline>.history`. Errors name the line.
    pub fn parse(timeline: u32, text: &str) -> Result<Self> {
        let mut entries = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let entry = parse_line(line).ok_or_else(|| {
                Error::corrupt(format!(
                    "line {} of {timeline:08X}.history is not \"<timeline> <LSN> <reason>\"",
                    index + 1
                ))
            })?;
            entries.push(entry);
        }
        if entries.is_empty() {
            // PostgreSQL writes at least the parent's line; an empty file is a broken upload.
            return Err(Error::corrupt(format!("{timeline:08X}.history names no parent timeline")));
        }
        Self::new(timeline, entries)
    }

    /// The text that PostgreSQL would write.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for entry in &self.entries {
            if !text.is_empty() {
                text.push('\n');
            }
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}\t{}\t{}", entry.parent, entry.switch, entry.reason);
        }
        text
    }

    /// The timeline that this is the history of.
    pub fn timeline(&self) -> u32 {
        self.timeline
    }

    /// The ancestors, oldest first.
    pub fn entries(&self) -> &[HistoryEntry] {
        &self.entries
    }

    /// The way from the oldest ancestor to the timeline itself.
    pub fn path(&self) -> Vec<TimelineSpan> {
        let mut begin = Lsn::INVALID;
        let mut path = Vec::with_capacity(self.entries.len() + 1);
        for entry in &self.entries {
            path.push(TimelineSpan { timeline: entry.parent, begin, end: Some(entry.switch) });
            begin = entry.switch;
        }
        path.push(TimelineSpan { timeline: self.timeline, begin, end: None });
        path
    }

    /// Whether a server that was on `timeline` at `lsn` can follow this history: the point was not passed by.
    /// A point exactly at a switch belongs to both timelines.
    pub fn contains(&self, timeline: u32, lsn: Lsn) -> bool {
        self.path().iter().any(|span| {
            span.timeline == timeline && span.begin <= lsn && span.end.is_none_or(|end| lsn <= end)
        })
    }

    /// Where `timeline` was left, when it is an ancestor.
    pub fn switch_point(&self, timeline: u32) -> Option<Lsn> {
        self.entries.iter().find(|entry| entry.parent == timeline).map(|entry| entry.switch)
    }

    /// The timeline that the byte at `lsn` belongs to.
    pub fn timeline_at(&self, lsn: Lsn) -> u32 {
        self.path()
            .iter()
            .find(|span| span.end.is_none_or(|end| lsn < end))
            .map_or(self.timeline, |span| span.timeline)
    }

    /// The names under which the segment at `lsn` can be in an archive that follows this history: a segment
    /// within which timelines change exists under each of them. Newest first, the order PostgreSQL asks in.
    pub fn segments_at(&self, lsn: Lsn, size: SegmentSize) -> Vec<Segment> {
        let number = lsn.0 / size.bytes();
        let (first, last) = (number * size.bytes(), number * size.bytes() + (size.bytes() - 1));
        self.path()
            .iter()
            .rev()
            .filter(|span| span.begin.0 <= last && span.end.is_none_or(|end| end.0 > first))
            .map(|span| Segment::from_number(span.timeline, number, size))
            .collect()
    }
}

fn parse_line(line: &str) -> Option<HistoryEntry> {
    let mut rest = line.splitn(2, char::is_whitespace);
    let parent = rest.next()?.parse().ok()?;
    let rest = rest.next()?.trim_start();
    let (switch, reason) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    Some(HistoryEntry { parent, switch: switch.parse().ok()?, reason: reason.trim().to_owned() })
}

/// The newest timeline as PostgreSQL finds it for `recovery_target_timeline = 'latest'`: counted up from `start`
/// as long as a history file exists.
pub fn newest_timeline(start: u32, has_history: impl Fn(u32) -> bool) -> u32 {
    let mut newest = start;
    while let Some(next) = newest.checked_add(1) {
        if !has_history(next) {
            break;
        }
        newest = next;
    }
    newest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    const THIRD: &str =
        "1\t0/5000000\tno recovery target specified\n\n# note\n2\t0/9000060\tbefore 2026-11-21 01:00:00+00\n";

    fn third() -> TimelineHistory {
        TimelineHistory::parse(3, THIRD).expect("valid")
    }

    fn lsn(text: &str) -> Lsn {
        text.parse().expect("valid")
    }

    #[test]
    fn reads_what_postgresql_writes() {
        let history = third();
        assert_eq!(history.entries().len(), 2);
        assert_eq!(history.entries()[1].reason, "before 2026-11-21 01:00:00+00");
        assert_eq!(
            history.path(),
            [
                TimelineSpan { timeline: 1, begin: Lsn(0), end: Some(lsn("0/5000000")) },
                TimelineSpan { timeline: 2, begin: lsn("0/5000000"), end: Some(lsn("0/9000060")) },
                TimelineSpan { timeline: 3, begin: lsn("0/9000060"), end: None },
            ]
        );
        assert_eq!(TimelineHistory::parse(3, &history.render()).expect("own text"), history);
    }

    #[rstest]
    #[case::on_the_first(1, "0/4000000", true)]
    #[case::at_the_switch(1, "0/5000000", true)]
    #[case::past_the_switch(1, "0/5000001", false)]
    #[case::start_of_the_second(2, "0/5000000", true)]
    #[case::before_the_second(2, "0/4FFFFFF", false)]
    #[case::far_on_the_last(3, "10/0", true)]
    #[case::stranger(4, "0/4000000", false)]
    fn a_point_is_on_the_way_or_not(#[case] timeline: u32, #[case] at: &str, #[case] on: bool) {
        assert_eq!(third().contains(timeline, lsn(at)), on);
    }

    #[rstest]
    #[case::before_any("0/1000000", &["000000010000000000000001"])]
    #[case::switch_on_a_boundary("0/5000000", &["000000020000000000000005"])]
    #[case::switch_inside("0/9000000", &["000000030000000000000009", "000000020000000000000009"])]
    #[case::after_all("0/A000000", &["00000003000000000000000A"])]
    fn segment_names_along_the_way(#[case] at: &str, #[case] names: &[&str]) {
        let found: Vec<String> =
            third().segments_at(lsn(at), SegmentSize::DEFAULT).iter().map(ToString::to_string).collect();
        assert_eq!(found, names);
    }

    #[rstest]
    #[case::empty("")]
    #[case::only_comments("# nothing\n")]
    #[case::no_position("1\n")]
    #[case::bad_position("1\tx/y\treason")]
    #[case::bad_timeline("one\t0/1\treason")]
    #[case::itself("3\t0/1\treason")]
    #[case::zero("0\t0/1\treason")]
    #[case::descending("2\t0/1\ta\n1\t0/2\tb")]
    #[case::twice("1\t0/1\ta\n1\t0/2\tb")]
    #[case::backwards("1\t0/2\ta\n2\t0/1\tb")]
    #[case::truncated("1\t0/5000000\tx\n2\t0/")]
    fn refuses(#[case] text: &str) {
        assert!(TimelineHistory::parse(3, text).is_err());
    }

    #[test]
    fn the_newest_timeline_ends_at_the_first_gap() {
        let known = [2, 3, 5];
        assert_eq!(newest_timeline(1, |t| known.contains(&t)), 3);
        assert_eq!(newest_timeline(4, |t| known.contains(&t)), 5);
        assert_eq!(newest_timeline(7, |t| known.contains(&t)), 7);
    }

    proptest! {
        #[test]
        fn own_text_round_trips(
            steps in proptest::collection::vec((1u32..5, 0u64..1 << 40, "[ -~]{0,20}"), 1..6)
        ) {
            let (mut parent, mut at) = (0, 0);
            let entries: Vec<HistoryEntry> = steps
                .into_iter()
                .map(|(up, on, reason)| {
                    parent += up;
                    at += on;
                    HistoryEntry { parent, switch: Lsn(at), reason: reason.trim().to_owned() }
                })
                .collect();
            let history = TimelineHistory::new(parent + 1, entries).expect("ascending");
            prop_assert_eq!(TimelineHistory::parse(parent + 1, &history.render()).expect("own text"), history);
        }

        #[test]
        fn any_text_is_read_without_panic(text in "[0-9a-f/\\t\\n #]{0,80}") {
            let _ = TimelineHistory::parse(9, &text);
        }
    }
}
