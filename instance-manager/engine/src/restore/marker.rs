//! The note beside the data directory that says what a restore has done to it.
//!
//! It is written before the first file and outlives a crash, so that the next run knows the half-filled directories
//! as its own, keeps what is right in them and removes the rest. Without it, a directory that is not empty is somebody's data and is left alone.

use crate::error::{Error, ErrorKind, Result};
use barman_cloud::BackupId;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::{Path, PathBuf};

/// How far the restore got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Files are being written.
    Running,
    /// Every file is on disk.
    Complete,
}

/// The note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Marker {
    /// How far it got.
    pub state: State,
    /// Where the backup is.
    pub source: String,
    /// Which backup.
    #[serde(rename = "backupID")]
    pub backup_id: String,
    /// Directories that the restore fills, the data directory first.
    pub directories: Vec<PathBuf>,
}

impl Marker {
    /// Where the note lies: beside the data directory, on the same volume in every sane layout.
    pub fn path(pgdata: &Path) -> PathBuf {
        let mut name = pgdata.file_name().map(ToOwned::to_owned).unwrap_or_default();
        name.push(".howdah-restore.json");
        pgdata.with_file_name(name)
    }

    /// Reads the note; `None` when there is none.
    pub fn read(pgdata: &Path) -> Result<Option<Self>> {
        let path = Self::path(pgdata);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("cannot read", &path, error)),
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| {
            Error::new(ErrorKind::Corrupt, format!("{} is not a note of a restore", path.display()))
                .with_source(error)
                .with_remedy("empty the data directory and delete the file")
        })
    }

    /// Writes the note so that it is whole on disk, or not there.
    pub fn write(&self, pgdata: &Path) -> Result<()> {
        let path = Self::path(pgdata);
        let failed = |error| Error::io("cannot write", &path, error);
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| Error::new(ErrorKind::Invalid, "the note of the restore").with_source(error))?;
        let near = path.with_extension("json.tmp");
        let mut file = std::fs::File::create(&near).map_err(failed)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)?;
        std::fs::rename(&near, &path).map_err(failed)?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        std::fs::File::open(parent).and_then(|dir| dir.sync_all()).map_err(failed)
    }

    /// Whether this note is of the same restore.
    pub fn is_of(&self, source: &str, id: &BackupId) -> bool {
        self.source == source && self.backup_id == id.as_str()
    }
}

/// Makes the directories of a restore exist. `ours` are those that an interrupted restore was filling: they are
/// emptied. `used` are those whose content is dealt with later; any other that holds something is refused.
pub fn prepare(directories: &[PathBuf], ours: &[PathBuf], used: &[PathBuf]) -> Result<()> {
    for dir in ours.iter().filter(|dir| !used.contains(dir)) {
        empty(dir)?;
    }
    for dir in directories {
        std::fs::create_dir_all(dir).map_err(|error| Error::io("cannot make", dir, error))?;
        if used.contains(dir) {
            continue;
        }
        if let Some(name) = first_entry(dir)? {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("{} is not empty: it holds {:?}", dir.display(), name),
            )
            .with_remedy("restore into an empty directory; move away what is there"));
        }
    }
    Ok(())
}

/// Whether a directory holds nothing, or is not there.
pub fn is_empty(dir: &Path) -> Result<bool> {
    Ok(!dir.exists() || first_entry(dir)?.is_none())
}

fn first_entry(dir: &Path) -> Result<Option<std::ffi::OsString>> {
    let failed = |error| Error::io("cannot list", dir, error);
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if name != "lost+found" {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Removes everything in a directory.
pub fn empty(dir: &Path) -> Result<()> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("cannot list", dir, error)),
    };
    for entry in entries {
        let entry = entry.map_err(|error| Error::io("cannot list", dir, error))?;
        if entry.file_name() == "lost+found" {
            continue;
        }
        let path = entry.path();
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let removed = if is_dir { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.map_err(|error| Error::io("cannot remove", &path, error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::slice::from_ref;

    fn marker(state: State, dirs: &[&Path]) -> Marker {
        Marker {
            state,
            source: "s3://b/x".into(),
            backup_id: "20261121T012341".into(),
            directories: dirs.iter().map(|dir| dir.to_path_buf()).collect(),
        }
    }

    #[test]
    fn a_note_is_read_back() {
        let temp = tempfile::tempdir().expect("a directory");
        let pgdata = temp.path().join("pgdata");
        assert_eq!(Marker::read(&pgdata).expect("reads"), None);
        let note = marker(State::Running, &[&pgdata]);
        note.write(&pgdata).expect("writes");
        assert_eq!(Marker::read(&pgdata).expect("reads"), Some(note));
        std::fs::write(Marker::path(&pgdata), "{").expect("damages");
        assert_eq!(Marker::read(&pgdata).expect_err("damaged").kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn only_our_own_leftovers_are_removed() {
        let temp = tempfile::tempdir().expect("a directory");
        let (ours, theirs) = (temp.path().join("ours"), temp.path().join("theirs"));
        for dir in [&ours, &theirs] {
            std::fs::create_dir_all(dir.join("base/1")).expect("directories");
            std::fs::write(dir.join("PG_VERSION"), "15").expect("a file");
        }
        std::os::unix::fs::symlink(&theirs, ours.join("link")).expect("a link");
        prepare(from_ref(&ours), from_ref(&ours), &[]).expect("prepares");
        assert_eq!(std::fs::read_dir(&ours).expect("lists").count(), 0);
        prepare(from_ref(&theirs), from_ref(&theirs), from_ref(&theirs)).expect("left for later");
        let error = prepare(from_ref(&theirs), &[], &[]).expect_err("not empty");
        assert!(error.to_string().contains(&theirs.display().to_string()), "{error}");
        assert!(theirs.join("PG_VERSION").exists());
    }
}
