//! The volume with `pg_wal`: what is on it, and how WAL is let go of that waits for an archive which does not take it.

use super::hold::Marks;
use crate::error::{Error, Result};
use barman_cloud::{Segment, WalName};
use std::path::Path;

/// What is in `pg_wal` and on its file system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WalVolume {
    /// Files that bear the name of a segment, those made ready for later use included; in the order of their names.
    pub segments: Vec<Segment>,
    /// Segments that wait for the archive, likewise.
    pub waiting: Vec<Segment>,
    /// Size of the file system in bytes.
    pub size: u64,
    /// What PostgreSQL may still use of it.
    pub free: u64,
}

impl WalVolume {
    /// Looks. Reads two directories and nothing of the files.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn look(pgdata: &Path) -> Result<Self> {
        let wal = pgdata.join("pg_wal");
        let space = rustix::fs::statvfs(&wal)
            .map_err(|error| Error::io("cannot ask for the free space of", &wal, error.into()))?;
        Ok(Self {
            segments: segments(&wal, "")?,
            waiting: segments(&wal.join("archive_status"), ".ready")?,
            size: space.f_blocks.saturating_mul(space.f_frsize),
            free: space.f_bavail.saturating_mul(space.f_frsize),
        })
    }
}

fn segments(dir: &Path, suffix: &str) -> Result<Vec<Segment>> {
    let unreadable = |error| Error::io("cannot list", dir, error);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.file_name();
        let name = file.to_str().and_then(|file| file.strip_suffix(suffix)?.parse::<WalName>().ok());
        if let Some(WalName::Segment(segment)) = name {
            found.push(segment);
        }
    }
    found.sort();
    Ok(found)
}

/// Marks waiting segments as archived though they are not, so that the next checkpoint lets PostgreSQL use their files
/// again. Returns those that still waited. Note them down first: nothing else remembers.
///
/// # Errors
/// When a mark cannot be renamed; those before it are let go of.
pub fn let_go(pgdata: &Path, segments: &[Segment]) -> Result<Vec<Segment>> {
    let marks = Marks::of(pgdata)?;
    let mut gone = Vec::new();
    for segment in segments {
        if marks.make_done(WalName::Segment(*segment))? {
            gone.push(*segment);
        }
    }
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_seen_and_let_go_of() {
        let temp = tempfile::tempdir().expect("a directory");
        let status = temp.path().join("pg_wal/archive_status");
        std::fs::create_dir_all(&status).expect("directories");
        let name = |number: u32| format!("0000000100000000000000{number:02X}");
        for number in [5, 3, 4] {
            std::fs::write(temp.path().join("pg_wal").join(name(number)), "").expect("a file");
        }
        let mark = |file: String| std::fs::write(status.join(file), "").expect("a mark");
        mark(format!("{}.ready", name(3)));
        mark(format!("{}.ready", name(4)));
        mark(format!("{}.done", name(2)));
        mark("00000002.history.ready".to_owned());
        mark(format!("{}.00000028.backup.ready", name(3)));
        let volume = WalVolume::look(temp.path()).expect("read");
        let texts = |all: &[Segment]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(texts(&volume.segments), [name(3), name(4), name(5)]);
        assert_eq!(texts(&volume.waiting), [name(3), name(4)]);
        assert!(volume.size > volume.free && volume.free > 0);

        let gone = let_go(temp.path(), &volume.segments).expect("renamed");
        assert_eq!(texts(&gone), [name(3), name(4)], "only what waits");
        assert!(status.join(format!("{}.done", name(4))).exists());
        assert!(WalVolume::look(temp.path()).expect("read").waiting.is_empty());
        assert!(status.join("00000002.history.ready").exists());
    }
}
