//! PostgreSQL's queue of WAL to archive: `pg_wal/archive_status/*.ready`.
//!
//! After a long outage it holds very many files, and PostgreSQL asks for one at a time. Only the first of them are
//! remembered; the directory is read again when these are used up, or old.

use barman_cloud::WalName;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// Files that are remembered.
const WINDOW: usize = 1024;
/// After this time the directory is read again.
const TRUST: Duration = Duration::from_secs(60);

/// The order in which PostgreSQL hands files out: history files first, because other servers wait for them, then by
/// name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(bool, u32, u32, u32, u8, u32);

impl Place {
    /// The place of a file.
    pub fn of(name: WalName) -> Self {
        let (kind, offset) = match name {
            WalName::History(timeline) => return Self(false, timeline, 0, 0, 0, 0),
            WalName::Segment(_) => (0, 0),
            // As the texts sort: a digit before a letter.
            WalName::BackupLabel { offset, .. } => (1, offset),
            WalName::Partial(_) => (2, 0),
        };
        let (log, seg) = name.segment().map_or((0, 0), |segment| (segment.log, segment.seg));
        Self(true, name.timeline(), log, seg, kind, offset)
    }
}

/// The beginning of the queue, as it was read last.
#[derive(Debug, Default)]
pub struct Queue {
    names: VecDeque<WalName>,
    /// The file that was asked for last.
    passed: Option<Place>,
    read: Option<Instant>,
}

impl Queue {
    /// Takes in what [`first`] read.
    pub fn fill(&mut self, names: Vec<WalName>) {
        self.names = names.into();
        self.read = Some(Instant::now());
    }

    /// Passes on to a requested file: it and what comes before leave the window. Whether the directory must be read
    /// to know what comes behind.
    pub fn pass(&mut self, requested: WalName, wanted: usize) -> bool {
        let place = Place::of(requested);
        let backwards = self.passed.replace(place).is_some_and(|passed| place < passed);
        while self.names.front().is_some_and(|name| Place::of(*name) <= place) {
            self.names.pop_front();
        }
        // The end of a window may be the end of the queue; only reading tells, and is cheap then.
        let used_up = self.names.len() < wanted.min(WINDOW / 2);
        backwards || used_up || self.read.is_none_or(|read| read.elapsed() > TRUST)
    }

    /// What comes behind.
    pub fn behind(&self) -> impl Iterator<Item = WalName> + '_ {
        self.names.iter().copied()
    }
}

/// The first files behind `requested`, in order. Reads the whole directory.
pub fn first(pgdata: &Path, requested: WalName) -> io::Result<Vec<WalName>> {
    let mut heap: BinaryHeap<(Place, WalName)> = BinaryHeap::new();
    ready(pgdata, |name| {
        let Ok(name) = name.parse::<WalName>() else { return };
        let place = Place::of(name);
        if place <= Place::of(requested) {
            return;
        }
        if heap.len() < WINDOW {
            heap.push((place, name));
        } else if heap.peek().is_some_and(|(last, _)| place < *last) {
            heap.pop();
            heap.push((place, name));
        }
    })?;
    Ok(heap.into_sorted_vec().into_iter().map(|(_, name)| name).collect())
}

/// Files that wait. Reads the whole directory.
pub fn count(pgdata: &Path) -> io::Result<u64> {
    let mut count = 0;
    ready(pgdata, |_| count += 1)?;
    Ok(count)
}

fn ready(pgdata: &Path, mut each: impl FnMut(&str)) -> io::Result<()> {
    for entry in std::fs::read_dir(pgdata.join("pg_wal/archive_status"))? {
        let file = entry?.file_name();
        if let Some(name) = file.to_str().and_then(|file| file.strip_suffix(".ready")) {
            each(name);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(files: &[&str]) -> tempfile::TempDir {
        let temp = tempfile::tempdir().expect("a directory");
        let status = temp.path().join("pg_wal/archive_status");
        std::fs::create_dir_all(&status).expect("directories");
        for file in files {
            std::fs::write(status.join(file), "").expect("a file");
        }
        temp
    }

    fn name(text: &str) -> WalName {
        text.parse().expect("a WAL name")
    }

    #[test]
    fn history_files_come_first_and_strangers_not_at_all() {
        let temp = queue(&[
            "000000020000000000000005.ready",
            "000000020000000000000004.partial.ready",
            "junk.ready",
            "000000020000000000000003.done",
            "00000002.history.ready",
            "00000003.history.ready",
            "000000020000000000000004.00000028.backup.ready",
        ]);
        let names: Vec<String> = first(temp.path(), name("00000002.history"))
            .expect("lists")
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            names,
            [
                "00000003.history",
                "000000020000000000000004.00000028.backup",
                "000000020000000000000004.partial",
                "000000020000000000000005"
            ]
        );
        assert_eq!(count(temp.path()).expect("counts"), 6);
    }

    #[test]
    fn of_a_long_queue_the_beginning_is_remembered() {
        let files: Vec<String> = (0..WINDOW as u32 + 500)
            .rev()
            .map(|number| format!("0000000100000000{number:08X}.ready"))
            .collect();
        let temp = queue(&files.iter().map(String::as_str).collect::<Vec<_>>());
        let names = first(temp.path(), name("000000010000000000000009")).expect("lists");
        assert_eq!((names.len(), names[0]), (WINDOW, name("00000001000000000000000A")));
        assert!(names.is_sorted_by_key(|name| Place::of(*name)));
    }

    #[test]
    fn places_sort_as_names_do() {
        let mut names = [
            "00000002.history",
            "000000010000000000000005",
            "000000010000000000000005.00000028.backup",
            "000000010000000000000005.00000030.backup",
            "000000010000000000000005.partial",
            "0000000100000001000000FF",
            "000000020000000000000001",
        ];
        let sorted = names;
        names.reverse();
        names.sort_by_key(|text| Place::of(name(text)));
        assert_eq!(names, sorted);
    }

    #[test]
    fn the_directory_is_read_when_the_window_is_used_up() {
        let segment = |number: u32| name(&format!("0000000100000000{number:08X}"));
        let mut queue = Queue::default();
        assert!(queue.pass(segment(1), 2), "nothing was read yet");
        queue.fill((2..7).map(segment).collect());
        assert!(!queue.pass(segment(1), 2));
        assert!(!queue.pass(segment(2), 2));
        assert_eq!(queue.behind().next(), Some(segment(3)));
        assert!(!queue.pass(segment(4), 2));
        assert!(queue.pass(segment(5), 2), "one is left, two are wanted");
        queue.fill((6..9).map(segment).collect());
        assert!(queue.pass(segment(2), 2), "PostgreSQL went back");
    }
}
