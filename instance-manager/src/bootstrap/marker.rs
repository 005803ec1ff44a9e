//! The marks beside PGDATA: `howdah-bootstrap.partial` while a bootstrap writes, `howdah-bootstrap.done` when it is
//! finished, and `howdah-rewind.partial` while a server that has data already is made a replica of another one.
//!
//! The last one goes before the others: as long as it is there nobody knows what PGDATA holds, whether the directory is
//! called finished or not. `run` then fills PGDATA anew, and the init containers, which may run again before it, leave
//! everything alone: an `initdb` there would begin another database.

use std::fs;
use std::path::{Path, PathBuf};

use crate::environment::Paths;
use crate::error::{Error, IoContext, Result};
use crate::install::write_atomically;
use crate::pg::files::{empty_dir, remove_optional};

/// Name of the mark of an unfinished bootstrap.
pub const PARTIAL: &str = "howdah-bootstrap.partial";
/// Name of the mark of a return as a replica that is not finished.
pub const REWIND_PARTIAL: &str = "howdah-rewind.partial";

/// What a volume holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A finished data directory.
    Done,
    /// What an interrupted bootstrap left.
    Partial,
    /// What an interrupted return as a replica left.
    Returning,
    /// Nothing.
    Empty,
}

fn partial(paths: &Paths) -> PathBuf {
    paths.data_volume().join(PARTIAL)
}

fn rewind_partial(paths: &Paths) -> PathBuf {
    paths.data_volume().join(REWIND_PARTIAL)
}

/// Looks at the volume.
///
/// # Errors
/// When it holds data without a mark: such data is never removed.
pub fn look(paths: &Paths) -> Result<Found> {
    if is_returning(paths)? {
        return Ok(Found::Returning);
    }
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

/// Whether a bootstrap has nothing to do here.
///
/// # Errors
/// As [`look`].
pub fn is_settled(paths: &Paths) -> Result<bool> {
    match look(paths)? {
        Found::Done => tracing::info!("the data directory is finished already"),
        Found::Returning => tracing::info!(
            "the data directory is on its way to a replica's ({REWIND_PARTIAL}): the instance goes on with that by itself"
        ),
        Found::Partial | Found::Empty => return Ok(false),
    }
    Ok(true)
}

/// Whether a return as a replica began and did not come to its end: PGDATA cannot be trusted.
///
/// # Errors
/// When the volume cannot be looked at.
pub fn is_returning(paths: &Paths) -> Result<bool> {
    let mark = rewind_partial(paths);
    mark.try_exists().at("cannot look for", &mark)
}

/// From here on PGDATA is not to be trusted; `step` is for people who look at the mark.
///
/// # Errors
/// When the mark cannot be written.
pub fn begin_return(paths: &Paths, step: &str) -> Result<()> {
    let mark = rewind_partial(paths);
    write_atomically(&mark, format!("{step}\n").as_bytes(), 0o600).at("cannot write", &mark)
}

/// Takes back that PGDATA is finished: it will be emptied. Only below the mark of [`begin_return`].
///
/// # Errors
/// When the mark cannot be removed.
pub fn unfinish(paths: &Paths) -> Result<()> {
    remove_optional(&paths.bootstrap_done())
}

/// PGDATA can be trusted again, and this is on disk when the call returns.
///
/// # Errors
/// When the mark cannot be removed.
pub fn end_return(paths: &Paths) -> Result<()> {
    remove_optional(&rewind_partial(paths))?;
    let volume = paths.data_volume();
    fs::File::open(volume).and_then(|dir| dir.sync_all()).at("cannot sync", volume)
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

    /// Each step of a return, as a crash after it leaves it: the init containers touch nothing, and `run` sees it.
    #[test]
    fn no_step_of_a_return_is_taken_for_anything_else() {
        let dir = tempfile::tempdir().unwrap();
        let p = paths(dir.path());
        begin(&p, "initdb").unwrap();
        clean(&p, None).unwrap();
        fs::write(p.pgdata.join("PG_VERSION"), "15\n").unwrap();
        finish(&p, "initdb").unwrap();
        let returning = || {
            assert_eq!(look(&p).unwrap(), Found::Returning);
            assert!(is_settled(&p).unwrap() && is_returning(&p).unwrap());
        };
        begin_return(&p, "copy").unwrap();
        returning();
        unfinish(&p).unwrap();
        returning();
        clean(&p, None).unwrap();
        returning();
        fs::write(p.pgdata.join("base"), "half").unwrap();
        returning();
        fs::write(p.pgdata.join("PG_VERSION"), "15\n").unwrap();
        finish(&p, "rejoin").unwrap();
        returning();
        end_return(&p).unwrap();
        assert_eq!(look(&p).unwrap(), Found::Done);
        end_return(&p).unwrap();
        assert!(!is_returning(&p).unwrap());
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
