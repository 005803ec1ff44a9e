//! Files of a data directory that the manager writes, and what it reads there.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::config::parameters::without_managed;
use crate::environment::Paths;
use crate::error::{IoContext, Result};
use crate::install::write_atomically;

/// `standby.signal`: start as a replica.
pub const STANDBY_SIGNAL: &str = "standby.signal";
/// `recovery.signal`: replay an archive, then take writes.
pub const RECOVERY_SIGNAL: &str = "recovery.signal";

/// The configuration files of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFiles {
    /// `postgresql.conf`.
    pub conf: String,
    /// `pg_hba.conf`.
    pub hba: String,
    /// `pg_ident.conf`.
    pub ident: String,
}

impl ServerFiles {
    /// Writes what differs; returns whether anything did.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, pgdata: &Path) -> Result<bool> {
        let mut changed = false;
        for (name, content) in
            [("postgresql.conf", &self.conf), ("pg_hba.conf", &self.hba), ("pg_ident.conf", &self.ident)]
        {
            changed |= write_if_changed(&pgdata.join(name), content.as_bytes(), 0o600)?;
        }
        let auto = pgdata.join("postgresql.auto.conf");
        if let Some(clean) = read_optional(&auto)?.as_deref().and_then(without_managed) {
            tracing::warn!("removed settings from postgresql.auto.conf that the operator manages");
            write_atomically(&auto, clean.as_bytes(), 0o600).at("cannot write", &auto)?;
            changed = true;
        }
        Ok(changed)
    }
}

/// Writes `content` to `path` unless it is there already; returns whether it was written.
///
/// # Errors
/// When the file cannot be written.
pub fn write_if_changed(path: &Path, content: &[u8], mode: u32) -> Result<bool> {
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(false);
    }
    write_atomically(path, content, mode).at("cannot write", path)?;
    Ok(true)
}

/// The content of a text file, `None` when there is none.
///
/// # Errors
/// When it is there and cannot be read.
pub fn read_optional(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).at("cannot read", path),
    }
}

/// Removes a file if it is there.
///
/// # Errors
/// When it is there and cannot be removed.
pub fn remove_optional(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e).at("cannot remove", path),
        _ => Ok(()),
    }
}

/// Makes PGDATA private: Kubernetes opens volumes to the pod's group, and PostgreSQL then refuses to start.
///
/// # Errors
/// When the directory is not this user's.
pub fn make_private(pgdata: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(pgdata).at("cannot look at", pgdata)?.permissions().mode() & 0o7777;
    if mode == 0o700 || mode == 0o750 {
        return Ok(());
    }
    fs::set_permissions(pgdata, fs::Permissions::from_mode(0o700)).at("cannot set the mode of", pgdata)
}

/// Makes exactly the signal file that is wanted exist.
///
/// # Errors
/// When a file cannot be written or removed.
pub fn set_signal(paths: &Paths, wanted: Option<&str>) -> Result<()> {
    for name in [STANDBY_SIGNAL, RECOVERY_SIGNAL] {
        let path = paths.pgdata.join(name);
        if wanted == Some(name) {
            write_if_changed(&path, b"", 0o600)?;
            if !path.exists() {
                write_atomically(&path, b"", 0o600).at("cannot write", &path)?;
            }
        } else {
            remove_optional(&path)?;
        }
    }
    Ok(())
}

/// Moves `pg_wal` to the WAL volume and links to it; done already is fine.
///
/// # Errors
/// When files cannot be moved.
pub fn move_wal_to_volume(pgdata: &Path, volume: &Path) -> Result<()> {
    let inside = pgdata.join("pg_wal");
    if fs::read_link(&inside).is_ok_and(|target| target == volume) {
        return Ok(());
    }
    fs::create_dir_all(volume).at("cannot make", volume)?;
    if inside.is_dir() && !inside.is_symlink() {
        copy_tree(&inside, volume)?;
        fs::remove_dir_all(&inside).at("cannot remove", &inside)?;
    } else {
        remove_optional(&inside)?;
    }
    std::os::unix::fs::symlink(volume, &inside).at("cannot link", &inside)
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).at("cannot read", from)? {
        let entry = entry.at("cannot read", from)?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            fs::create_dir_all(&target).at("cannot make", &target)?;
            copy_tree(&source, &target)?;
        } else {
            fs::copy(&source, &target).at("cannot write", &target)?;
            fs::File::open(&target).and_then(|f| f.sync_all()).at("cannot write", &target)?;
        }
    }
    fs::File::open(to).and_then(|d| d.sync_all()).at("cannot write", to)
}

/// Empties a directory but keeps it (it may be a mount point, or on one).
///
/// # Errors
/// When something cannot be removed.
pub fn empty_dir(dir: &Path) -> Result<()> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e).at("cannot read", dir),
    };
    for entry in entries {
        let path = entry.at("cannot read", dir)?.path();
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(&path).at("cannot remove", &path)?;
        } else {
            fs::remove_file(&path).at("cannot remove", &path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wal_moves_once_and_stays_moved() {
        let dir = tempfile::tempdir().unwrap();
        let (pgdata, volume) = (dir.path().join("pgdata"), dir.path().join("wal/pg_wal"));
        fs::create_dir_all(pgdata.join("pg_wal/archive_status")).unwrap();
        fs::write(pgdata.join("pg_wal/000000010000000000000001"), "w").unwrap();
        for _ in 0..2 {
            move_wal_to_volume(&pgdata, &volume).unwrap();
        }
        assert_eq!(fs::read_link(pgdata.join("pg_wal")).unwrap(), volume);
        assert_eq!(fs::read(pgdata.join("pg_wal/000000010000000000000001")).unwrap(), b"w");
        assert!(volume.join("archive_status").is_dir());
    }

    #[test]
    fn a_directory_opened_to_the_group_is_closed_again() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o2770)).unwrap();
        make_private(dir.path()).unwrap();
        assert_eq!(fs::metadata(dir.path()).unwrap().permissions().mode() & 0o7777, 0o700);
    }

    #[test]
    fn exactly_one_signal() {
        let dir = tempfile::tempdir().unwrap();
        let paths =
            Paths { controller: dir.path().into(), pgdata: dir.path().into(), wal_mount: dir.path().into() };
        let seen = || (dir.path().join(STANDBY_SIGNAL).exists(), dir.path().join(RECOVERY_SIGNAL).exists());
        set_signal(&paths, Some(STANDBY_SIGNAL)).unwrap();
        assert_eq!(seen(), (true, false));
        set_signal(&paths, Some(RECOVERY_SIGNAL)).unwrap();
        assert_eq!(seen(), (false, true));
        set_signal(&paths, None).unwrap();
        assert_eq!(seen(), (false, false));
    }

    #[test]
    fn files_are_written_when_they_differ() {
        let dir = tempfile::tempdir().unwrap();
        let files = ServerFiles { conf: "a = 1\n".into(), hba: "h\n".into(), ident: "i\n".into() };
        fs::write(dir.path().join("postgresql.auto.conf"), "archive_mode = off\nwork_mem = 1MB\n").unwrap();
        assert!(files.write(dir.path()).unwrap());
        assert!(!files.write(dir.path()).unwrap());
        assert_eq!(fs::read_to_string(dir.path().join("postgresql.auto.conf")).unwrap(), "work_mem = 1MB\n");
    }
}
