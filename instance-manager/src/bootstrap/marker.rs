//! The two marks beside PGDATA: `howdah-bootstrap.partial` while a bootstrap writes, `howdah-bootstrap.done`
//! when it is finished.

use std::fs;
use std::path::{Path, PathBuf};

use crate::environment::Paths;
use crate::error::{Error, IoContext, Result};
use crate::install::write_atomically;
use crate::pg::files::{empty_dir, remove_optional};

/// Name of the mark of an unfinished bootstrap.
pub const PARTIAL: &str = "howdah-bootstrap.partial";

/// What a volume holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A finished data directory.
    Done,
    /// What an interrupted bootstrap left.
    Partial,
    /// Nothing.
    Empty,
}

fn partial(paths: &Paths) -> PathBuf {
    paths.data_volume().join(PARTIAL)
}

/// Looks at the volume.
///
/// # Errors
/// When it holds data without a mark: such data is never removed.
pub fn look(paths: &Paths) -> Result<Found> {
    if paths.bootstrap_done().exists() {
        if paths.pgdata.join("PG_VERSION").exists() {
            return Ok(Found::Done);
        }
        return Err(Error::permanent(format!(
            "{} says that the data directory is finished, but {} holds none: restore the volume, or remove the mark to begin anew",
            paths.bootstrap_done().display(),
            paths.pgdata.display()
        )));
    }
    if partial(paths).exists() {
        return Ok(Found::Partial);
    }
    match fs::read_dir(&paths.pgdata).map(|mut entries| entries.next().is_some()) {
        Ok(true) => Err(Error::permanent(format!(
            "{} is not empty and holds no mark of a bootstrap: it is somebody's data and stays untouched; empty the volume or use another",
            paths.pgdata.display()
        ))),
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).at("cannot read", &paths.pgdata),
        _ => Ok(Found::Empty),
    }
}

/// Marks the volume as unfinished; `kind` is for people who look at it.
///
/// # Errors
/// When the mark cannot be written.
pub fn begin(paths: &Paths, kind: &str) -> Result<()> {
    fs::create_dir_all(paths.data_volume()).at("cannot make", paths.data_volume())?;
    let mark = partial(paths);
    write_atomically(&mark, format!("{kind}\n").as_bytes(), 0o600).at("cannot write", &mark)
}

/// Removes what an interrupted bootstrap left and makes an empty PGDATA.
///
/// # Errors
/// When something cannot be removed.
pub fn clean(paths: &Paths, wal_dir: Option<&Path>) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    empty_dir(&paths.pgdata)?;
    if let Some(wal) = wal_dir {
        empty_dir(wal)?;
    }
    fs::create_dir_all(&paths.pgdata).at("cannot make", &paths.pgdata)?;
    fs::set_permissions(&paths.pgdata, fs::Permissions::from_mode(0o700))
        .at("cannot set the mode of", &paths.pgdata)
}

/// Marks the volume as finished. The data is on disk already (initdb, pg_basebackup and the restore sync).
///
/// # Errors
/// When the mark cannot be written.
pub fn finish(paths: &Paths, kind: &str) -> Result<()> {
    let mark = paths.bootstrap_done();
    write_atomically(&mark, format!("{kind}\n").as_bytes(), 0o600).at("cannot write", &mark)?;
    remove_optional(&partial(paths))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(dir: &Path) -> Paths {
        Paths { controller: dir.join("c"), pgdata: dir.join("data/pgdata"), wal_mount: dir.join("wal") }
    }

    #[test]
    fn a_volume_goes_from_empty_over_partial_to_done() {
        let dir = tempfile::tempdir().unwrap();
        let p = paths(dir.path());
        assert_eq!(look(&p).unwrap(), Found::Empty);
        begin(&p, "initdb").unwrap();
        clean(&p, Some(&p.wal_on_volume())).unwrap();
        fs::write(p.pgdata.join("PG_VERSION"), "15\n").unwrap();
        assert_eq!(look(&p).unwrap(), Found::Partial);
        clean(&p, None).unwrap();
        assert!(!p.pgdata.join("PG_VERSION").exists());
        fs::write(p.pgdata.join("PG_VERSION"), "15\n").unwrap();
        finish(&p, "initdb").unwrap();
        assert_eq!(look(&p).unwrap(), Found::Done);
        assert!(!dir.path().join("data").join(PARTIAL).exists());
    }

    #[test]
    fn data_without_a_mark_is_never_touched() {
        let dir = tempfile::tempdir().unwrap();
        let p = paths(dir.path());
        fs::create_dir_all(&p.pgdata).unwrap();
        fs::write(p.pgdata.join("precious"), "x").unwrap();
        let text = look(&p).unwrap_err().to_string();
        assert!(text.contains("stays untouched"), "{text}");
        assert!(p.pgdata.join("precious").exists());
    }

    #[test]
    fn a_mark_without_data_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let p = paths(dir.path());
        begin(&p, "initdb").unwrap();
        finish(&p, "initdb").unwrap();
        assert!(look(&p).unwrap_err().is_permanent());
    }
}
