//! Marks in `pg_wal/archive_status`, and WAL that is kept for the archive by them.
//!
//! A replica marks what it receives as archived (`.done`): that is its primary's task. When the primary is lost before
//! it was done, the WAL is in `pg_wal` of the replica that becomes the next primary, and its first checkpoint removes it.
//! Marked as waiting (`.ready`) it stays, and PostgreSQL hands it to `archive_command`, the oldest first.

use super::ancestry::is_before;
use crate::control::ControlData;
use crate::error::{Error, ErrorKind, Result};
use crate::owner::Owner;
use barman_cloud::wal_header::{LONG_HEADER, WalHeader};
use barman_cloud::{Segment, TimelineHistory, WalName};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Files that wait although they may be archived, until it is known whether they are. Losing it costs requests, not WAL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held(pub(super) BTreeSet<WalName>);

impl Held {
    /// Takes in others.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// How a file is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Not at all.
    None,
    /// It waits to be archived.
    Ready,
    /// It is archived, or somebody else's task.
    Done,
}

/// `pg_wal` and its marks.
pub struct Marks {
    wal: PathBuf,
    owner: Owner,
}

impl Marks {
    /// Of this data directory.
    pub fn of(pgdata: &Path) -> Result<Self> {
        Ok(Self { wal: pgdata.join("pg_wal"), owner: Owner::of(pgdata)? })
    }

    fn path(&self, name: WalName, mark: &str) -> PathBuf {
        self.wal.join("archive_status").join(format!("{name}.{mark}"))
    }

    /// How a file is marked.
    pub fn get(&self, name: WalName) -> Mark {
        if self.path(name, "ready").exists() {
            Mark::Ready
        } else if self.path(name, "done").exists() {
            Mark::Done
        } else {
            Mark::None
        }
    }

    /// Makes a file wait. False when it is not there any more.
    pub fn make_ready(&self, name: WalName) -> Result<bool> {
        let ready = self.path(name, "ready");
        if !move_mark(&self.path(name, "done"), &ready)? && self.file(name).exists() {
            match File::create_new(&ready) {
                Ok(_) => self.owner.own(&ready)?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io("cannot make", &ready, error)),
            }
        }
        // A mark without a file PostgreSQL removes itself.
        Ok(self.file(name).exists())
    }

    /// Takes that back. False when it does not wait.
    pub fn make_done(&self, name: WalName) -> Result<bool> {
        move_mark(&self.path(name, "ready"), &self.path(name, "done"))
    }

    fn file(&self, name: WalName) -> PathBuf {
        self.wal.join(name.to_string())
    }
}

/// False when there is no such mark.
fn move_mark(from: &Path, to: &Path) -> Result<bool> {
    match std::fs::rename(from, to) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("cannot rename", from, error)),
    }
}

/// Makes everything wait that a replica has marked as archived, right before it is promoted: it cannot ask the archives
/// in that moment. [`super::Group::tail`] finds out later what they have. Quick: it renames files.
///
/// Never on a primary, whose marks are true.
pub fn hold(pgdata: &Path) -> Result<Held> {
    hold_some(pgdata, |_| true)
}

/// The same of some.
pub(super) fn hold_some(pgdata: &Path, which: impl Fn(WalName) -> bool) -> Result<Held> {
    let marks = Marks::of(pgdata)?;
    let dir = pgdata.join("pg_wal/archive_status");
    let unreadable = |error| Error::io("cannot list", &dir, error);
    let mut held = Held::default();
    for entry in std::fs::read_dir(&dir).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.file_name();
        let name = file.to_str().and_then(|file| file.strip_suffix(".done")?.parse().ok());
        let Some(name) = name.filter(|name| which(*name)) else { continue };
        if matches!(name, WalName::Segment(_) | WalName::History(_)) && marks.make_ready(name)? {
            held.0.insert(name);
        }
    }
    Ok(held)
}

/// What `pg_wal` has of the way to a timeline: the histories on it, and the complete segments before the timeline begins.
/// In the order of their names, histories last.
pub fn on_the_way(pgdata: &Path, history: &TimelineHistory, control: &ControlData) -> Result<Vec<WalName>> {
    let dir = pgdata.join("pg_wal");
    let unreadable = |error| Error::io("cannot list", &dir, error);
    let ancestors: BTreeSet<u32> = history.path().iter().map(|span| span.timeline).collect();
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(&dir).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.file_name();
        let Some(name) = file.to_str().and_then(|file| file.parse::<WalName>().ok()) else { continue };
        let wanted = match name {
            WalName::History(timeline) => ancestors.contains(&timeline),
            WalName::Segment(segment) => {
                is_before(history, segment, control.wal_segment_size)
                    // PostgreSQL may take it away at any time.
                    && holds_segment(&dir.join(&file), segment, control).unwrap_or(false)
            }
            _ => false,
        };
        if wanted {
            found.insert(name);
        }
    }
    Ok(found.into_iter().collect())
}

/// Whether a file is the segment of its name, and not another one that bears the name ahead of its time.
pub fn holds_segment(path: &Path, segment: Segment, control: &ControlData) -> Result<bool> {
    let wal = control.wal_segment_size;
    let mut file = File::open(path).map_err(|error| Error::io("cannot open", path, error))?;
    let size = file.metadata().map_err(|error| Error::io("cannot look at", path, error))?.len();
    if size != wal.bytes() {
        return Ok(false);
    }
    let mut head = [0; LONG_HEADER];
    file.read_exact(&mut head).map_err(|error| Error::io("cannot read", path, error))?;
    Ok(WalHeader::parse(&head)
        .is_none_or(|header| header.system_id == control.system_id && header.address == segment.start(wal)))
}

/// The history of a timeline that was promoted to must be in `pg_wal`.
pub fn no_history(pgdata: &Path, timeline: u32) -> Error {
    let path = pgdata.join("pg_wal").join(WalName::History(timeline).to_string());
    Error::new(
        ErrorKind::Missing,
        format!("{} is missing, so it is not known where timeline {timeline} began", path.display()),
    )
    .with_remedy("take a backup of this server: it needs nothing of the timelines before")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pgdata(files: &[&str], marks: &[&str]) -> tempfile::TempDir {
        let temp = tempfile::tempdir().expect("a directory");
        let wal = temp.path().join("pg_wal");
        std::fs::create_dir_all(wal.join("archive_status")).expect("directories");
        for file in files {
            std::fs::write(wal.join(file), "").expect("a file");
        }
        for mark in marks {
            std::fs::write(wal.join("archive_status").join(mark), "").expect("a mark");
        }
        temp
    }

    fn marks(temp: &tempfile::TempDir) -> Vec<String> {
        let files = std::fs::read_dir(temp.path().join("pg_wal/archive_status")).expect("a directory");
        let mut names: Vec<String> =
            files.map(|file| file.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_a_replica_received_waits_and_goes_back() {
        let segment = "000000010000000000000003";
        let temp = pgdata(
            &[segment, "00000001000000000000000A", "00000002.history", "000000010000000000000002.partial"],
            &[
                "000000010000000000000003.done",
                // Its file is gone.
                "000000010000000000000001.done",
                "00000002.history.done",
                "000000010000000000000002.partial.done",
                "00000001000000000000000A.ready",
            ],
        );
        let mut held = hold(temp.path()).expect("held");
        assert_eq!(held.len(), 2);
        let first = marks(&temp);
        assert!(
            first.contains(&format!("{segment}.ready")) && first.contains(&"00000002.history.ready".into())
        );
        assert!(first.contains(&"000000010000000000000002.partial.done".into()), "{first:?}");
        held.extend(hold(temp.path()).expect("again"));
        assert_eq!((held.len(), marks(&temp)), (2, first));

        let of = Marks::of(temp.path()).expect("there");
        let name: WalName = segment.parse().expect("a name");
        assert_eq!(of.get(name), Mark::Ready);
        assert!(of.make_done(name).expect("renamed") && !of.make_done(name).expect("nothing to do"));
        assert_eq!(of.get(name), Mark::Done);
        assert!(of.make_ready(name).expect("renamed") && of.make_ready(name).expect("nothing to do"));
        // Nobody has marked it.
        std::fs::remove_file(temp.path().join(format!("pg_wal/archive_status/{segment}.ready")))
            .expect("gone");
        assert_eq!(of.get(name), Mark::None);
        assert!(of.make_ready(name).expect("made") && of.get(name) == Mark::Ready);
        let gone = "000000010000000000000007".parse().expect("a name");
        assert!(!of.make_ready(gone).expect("nothing to do") && of.get(gone) == Mark::None);
    }
}
