//! The WAL that a recovery reads, segment by segment: pure.

use barman_cloud::{Segment, SegmentSize, TimelineHistory};

/// The way of a recovery: from a segment along a history to the end of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Course {
    /// The history that is followed.
    pub history: TimelineHistory,
    /// Where it begins.
    pub from: Segment,
    /// Bytes in a segment.
    pub size: SegmentSize,
    /// The backups that recoveries along this way begin with.
    pub backups: Vec<Need>,
}

/// What a backup cannot be restored without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// Its label.
    pub label: String,
    /// Running numbers of its first and last segment.
    pub numbers: (u64, u64),
}

impl Course {
    /// The names under which a segment can be, in the order in which PostgreSQL asks; none of a timeline before that
    /// of the backup.
    pub fn names(&self, number: u64) -> Vec<Segment> {
        let at = Segment::from_number(0, number, self.size).start(self.size);
        let mut names = self.history.segments_at(at, self.size);
        names.retain(|segment| segment.timeline >= self.from.timeline);
        names
    }

    /// Timelines on the way, the newest first.
    pub fn timelines(&self) -> Vec<u32> {
        let path = self.history.path();
        let mut timelines: Vec<u32> = path.iter().map(|span| span.timeline).collect();
        timelines.retain(|timeline| *timeline >= self.from.timeline);
        timelines.reverse();
        timelines
    }

    /// Labels of the backups that need a segment of this stretch to be restored at all.
    pub fn needed_by(&self, stretch: Stretch) -> Vec<String> {
        let needs = self.backups.iter();
        needs
            .filter(|need| need.numbers.0 <= stretch.last && stretch.first <= need.numbers.1)
            .map(|need| need.label.clone())
            .collect()
    }

    /// The name of a segment on the newest timeline that it can be on.
    pub fn name(&self, number: u64) -> String {
        let own = || Segment::from_number(self.history.timeline(), number, self.size);
        self.names(number).first().copied().unwrap_or_else(own).to_string()
    }
}

/// Segments that follow each other, by running number, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    pub first: u64,
    pub last: u64,
}

impl Stretch {
    /// How many there are.
    pub fn count(self) -> u64 {
        self.last - self.first + 1
    }
}

/// Adds a number to stretches that are in order.
pub fn push(stretches: &mut Vec<Stretch>, number: u64) {
    match stretches.last_mut() {
        Some(stretch) if stretch.last + 1 == number => stretch.last = number,
        _ => stretches.push(Stretch { first: number, last: number }),
    }
}

/// Puts backups together whose recoveries follow the same history: one way from the first of them on.
pub fn courses(backups: Vec<(TimelineHistory, Segment, SegmentSize, Need)>) -> Vec<Course> {
    let mut courses: Vec<Course> = Vec::new();
    for (history, from, size, need) in backups {
        match courses.iter_mut().find(|course| course.history == history && course.size == size) {
            Some(course) => {
                if need.numbers.0 < course.from.number(size) {
                    course.from = from;
                }
                course.backups.push(need);
            }
            None => courses.push(Course { history, from, size, backups: vec![need] }),
        }
    }
    courses
}

#[cfg(test)]
mod tests {
    use super::*;
    use barman_cloud::Lsn;
    use barman_cloud::timeline::HistoryEntry;

    const SIZE: SegmentSize = SegmentSize::DEFAULT;

    /// Timeline 2 left 1 within segment 5.
    fn second() -> TimelineHistory {
        let entry = HistoryEntry { parent: 1, switch: Lsn(0x500_0060), reason: String::new() };
        TimelineHistory::new(2, vec![entry]).expect("a history")
    }

    fn need(label: &str, first: u64, last: u64) -> (TimelineHistory, Segment, SegmentSize, Need) {
        let need = Need { label: label.to_owned(), numbers: (first, last) };
        (second(), Segment::from_number(1, first, SIZE), SIZE, need)
    }

    #[test]
    fn backups_on_one_history_share_a_way() {
        let courses = courses(vec![need("late", 4, 4), need("early", 2, 3)]);
        assert_eq!(courses.len(), 1);
        let course = &courses[0];
        assert_eq!(course.from, Segment::from_number(1, 2, SIZE));
        assert_eq!(course.timelines(), [2, 1]);
        let names: Vec<String> = course.names(5).iter().map(ToString::to_string).collect();
        assert_eq!(names, ["000000020000000000000005", "000000010000000000000005"]);
        assert_eq!(course.name(4), "000000010000000000000004");
        assert_eq!(course.needed_by(Stretch { first: 3, last: 4 }), ["late", "early"]);
        assert!(course.needed_by(Stretch { first: 5, last: 9 }).is_empty());
    }

    #[test]
    fn stretches_grow_while_numbers_follow_each_other() {
        let mut stretches = Vec::new();
        [3, 4, 7].into_iter().for_each(|number| push(&mut stretches, number));
        assert_eq!(stretches, [Stretch { first: 3, last: 4 }, Stretch { first: 7, last: 7 }]);
        assert_eq!(stretches[0].count(), 2);
    }
}
