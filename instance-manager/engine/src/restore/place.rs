//! Where everything goes, and the last steps when all files are there.

use super::extract::{self, Target};
use super::request::RestoreRequest;
use super::run::Links;
use crate::error::{Error, ErrorKind, Result};
use crate::owner::Owner;
use barman_cloud::{Archive, BackupInfo, manifest};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// The control file, which appears last.
pub const PG_CONTROL: &str = "global/pg_control";

/// The directory of each archive: the data directory first.
pub fn targets(request: &RestoreRequest, info: &BackupInfo) -> Result<Vec<(Archive, Target)>> {
    let absolute = |what: &str, path: &Path| {
        if path.is_absolute() {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::Invalid, format!("{what} {} is not an absolute path", path.display())))
        }
    };
    absolute("data directory", &request.pgdata)?;
    if let Some(wal_dir) = &request.wal_dir {
        absolute("WAL directory", wal_dir)?;
    }
    let unknown =
        request.tablespaces.keys().find(|name| !info.tablespaces.iter().any(|space| space.name == **name));
    if let Some(name) = unknown {
        return Err(Error::new(ErrorKind::Invalid, format!("the backup has no tablespace {name:?}"))
            .with_remedy("correct the name in the tablespace map"));
    }
    let data = Target { root: request.pgdata.clone(), manifest_prefix: PathBuf::new() };
    let mut targets = vec![(Archive::Data, data)];
    for space in &info.tablespaces {
        let root =
            request.tablespaces.get(&space.name).cloned().unwrap_or_else(|| PathBuf::from(&space.location));
        absolute(&format!("location of tablespace {:?}", space.name), &root)?;
        if targets.iter().any(|(_, other)| other.root == root) {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("{} would take two archives", root.display()),
            )
            .with_remedy("give every tablespace a directory of its own"));
        }
        let manifest_prefix = PathBuf::from(format!("pg_tblspc/{}", space.oid));
        targets.push((Archive::Tablespace(space.oid), Target { root, manifest_prefix }));
    }
    Ok(targets)
}

/// The target that a path of the manifest belongs to.
pub fn of(targets: &[Target], path: &Path) -> Option<usize> {
    // Tablespaces come after the data directory, whose prefix fits everything.
    targets.iter().rposition(|target| path.starts_with(&target.manifest_prefix))
}

/// The links that `pg_tblspc` must have.
pub fn tablespace_links(targets: &[(Archive, Target)]) -> Vec<(u32, PathBuf)> {
    targets
        .iter()
        .filter_map(|(archive, target)| match archive {
            Archive::Tablespace(oid) => Some((*oid, target.root.clone())),
            Archive::Data => None,
        })
        .collect()
}

/// What is left to do.
pub struct Finish {
    pub pgdata: PathBuf,
    pub wal_dir: Option<PathBuf>,
    pub tablespaces: Vec<(u32, PathBuf)>,
    pub links: Links,
    pub manifest: Option<Bytes>,
    pub directories: Vec<PathBuf>,
    pub volumes: Volumes,
}

impl Finish {
    /// Makes links and `pg_wal`, writes the manifest, forces everything to disk, and lets the control file appear.
    pub fn run(self) -> Result<()> {
        let owner = Owner::of(&self.pgdata)?;
        share_root(&self.pgdata)?;
        extract::make_links(&self.pgdata, &self.links)?;
        for dir in &self.directories {
            owner.own(dir)?;
        }
        // Barman stores it as root's, which PostgreSQL could not remove after recovery.
        owner.own(&self.pgdata.join("backup_label"))?;
        let spaces = self.pgdata.join("pg_tblspc");
        make_dir(&spaces)?;
        for (oid, location) in &self.tablespaces {
            let link = spaces.join(oid.to_string());
            // In place of whatever a foreign writer stored under that name.
            let _ = std::fs::remove_dir(&link);
            symlink(location, &link).map_err(|error| Error::io("cannot make the link", &link, error))?;
            owner.own(&link)?;
        }
        owner.own(&spaces)?;
        self.wal(&owner)?;
        if let Some(manifest) = &self.manifest {
            let path = self.pgdata.join(manifest::FILE_NAME);
            std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&path)
                .and_then(|mut file| file.write_all(manifest))
                .map_err(|error| Error::io("cannot write", &path, error))?;
            owner.own(&path)?;
        }
        self.volumes.sync()?;
        self.control()
    }

    fn control(&self) -> Result<()> {
        let path = self.pgdata.join(PG_CONTROL);
        let failed = |error| Error::io("cannot put in place", &path, error);
        match std::fs::rename(extract::unfinished(&path), &path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::new(ErrorKind::Missing, format!("the backup has no {PG_CONTROL}"))
                    .with_remedy("use another backup"));
            }
            renamed => renamed.map_err(failed)?,
        }
        let dir = path.parent().unwrap_or(&self.pgdata);
        std::fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)
    }

    /// `pg_wal`, empty, as a directory or as a link to one elsewhere.
    fn wal(&self, owner: &Owner) -> Result<()> {
        let path = self.pgdata.join("pg_wal");
        let real = match &self.wal_dir {
            None => path,
            Some(wal_dir) => {
                make_dir(wal_dir)?;
                // Backups hold it as an empty directory.
                match std::fs::remove_dir(&path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(Error::io("cannot replace", &path, error));
                    }
                    _ => {}
                }
                symlink(wal_dir, &path).map_err(|error| Error::io("cannot make the link", &path, error))?;
                owner.own(&path)?;
                wal_dir.clone()
            }
        };
        for dir in [real.clone(), real.join("archive_status")] {
            make_dir(&dir)?;
            owner.own(&dir)?;
        }
        Ok(())
    }
}

fn make_dir(path: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Error::io("cannot make", path, error))
}

/// The root is stored with 0700, whatever it was, because Barman's readers take it as it is. A cluster that lets
/// its group read (`initdb -g`) shows in its files.
fn share_root(pgdata: &Path) -> Result<()> {
    let failed = |error| Error::io("cannot set the mode of", pgdata, error);
    let shared = std::fs::metadata(pgdata.join("PG_VERSION"))
        .is_ok_and(|version| version.permissions().mode() & 0o777 == 0o640);
    if shared {
        std::fs::set_permissions(pgdata, std::fs::Permissions::from_mode(0o750)).map_err(failed)?;
    }
    Ok(())
}

/// The file systems that a restore writes to, held open from before the first write: the kernel tells of a failed
/// write-back only those who were there.
pub struct Volumes(Vec<(PathBuf, std::fs::File)>);

impl Volumes {
    /// The file systems of these directories.
    pub fn open(directories: &[PathBuf]) -> Result<Self> {
        let mut seen = BTreeSet::new();
        let mut volumes = Vec::new();
        for dir in directories {
            let failed = |error| Error::io("cannot open", dir, error);
            let file = std::fs::File::open(dir).map_err(failed)?;
            if seen.insert(file.metadata().map_err(failed)?.dev()) {
                volumes.push((dir.clone(), file));
            }
        }
        Ok(Self(volumes))
    }

    /// One call for a whole file system: much faster than one for each file.
    fn sync(&self) -> Result<()> {
        for (dir, file) in &self.0 {
            rustix::fs::syncfs(file).map_err(|error| {
                Error::io("cannot force to disk what was written to the volume of", dir, error.into())
            })?;
        }
        Ok(())
    }
}
