//! Takes one tar apart into a directory.
//!
//! Names were made safe by the reader. Links are made only after all parts were extracted, so no file can be
//! written through one, and parts may be extracted side by side in any order.

use super::check::Checker;
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Progress;
use barman_cloud::tar::{Entry, EntryKind, TarReader};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tokio_util::sync::CancellationToken;

const BUFFER: usize = 256 << 10;

/// Where an archive goes.
#[derive(Debug, Clone)]
pub struct Target {
    /// Directory that the entries are relative to.
    pub root: PathBuf,
    /// What stands before them in the manifest: nothing for the data directory, `pg_tblspc/<oid>` for a tablespace.
    pub manifest_prefix: PathBuf,
}

/// A link to be made when everything else is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    Symbolic { path: PathBuf, target: PathBuf },
    Hard { path: PathBuf, target: PathBuf },
}

/// What a part held.
#[derive(Debug, Default)]
pub struct Extracted {
    pub files: u64,
    pub bytes: u64,
    pub links: Vec<Link>,
    pub has_label: bool,
}

/// Extracts one part. Files that are there already are replaced: a part may be tried again.
pub fn extract(
    input: impl Read,
    target: &Target,
    checker: &Checker,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<Extracted> {
    let mut tar = TarReader::new(input);
    let mut extracted = Extracted::default();
    let mut buffer = vec![0; BUFFER];
    let owner = rustix::process::geteuid().is_root();
    while let Some(entry) = tar.next_entry()? {
        if cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        let path = target.root.join(&entry.path);
        match &entry.kind {
            EntryKind::Directory => directory(&path, &entry, owner)?,
            EntryKind::File => {
                let name = target.manifest_prefix.join(&entry.path);
                let mut check = checker.begin(&name, entry.size)?;
                let mut file = create(&path, &entry, owner)?;
                loop {
                    let count = tar.read_data(&mut buffer)?;
                    if count == 0 {
                        break;
                    }
                    if cancel.is_cancelled() {
                        return Err(Error::cancelled());
                    }
                    check.update(&buffer[..count]);
                    file.write_all(&buffer[..count])
                        .map_err(|error| Error::io("cannot write", &path, error))?;
                    progress.add_stored(count as u64);
                    extracted.bytes += count as u64;
                }
                check.finish()?;
                extracted.files += 1;
                extracted.has_label |= name == Path::new("backup_label");
            }
            EntryKind::Symlink { target: to } => {
                extracted.links.push(Link::Symbolic { path, target: to.clone() });
            }
            EntryKind::Hardlink { target: to } => {
                extracted.links.push(Link::Hard { path, target: target.root.join(to) });
            }
            EntryKind::Fifo => tracing::warn!(path = %path.display(), "a named pipe is left out"),
        }
    }
    Ok(extracted)
}

fn directory(path: &Path, entry: &Entry, owner: bool) -> Result<()> {
    let failed = |error| Error::io("cannot make", path, error);
    make_dirs(path)?;
    let mut mode = entry.mode & 0o777;
    if entry.path == Path::new(".") {
        // PostgreSQL starts only on 0700 and 0750.
        mode = if mode & 0o050 == 0o050 { 0o750 } else { 0o700 };
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode | 0o700)).map_err(failed)?;
    if owner {
        chown(path, entry).map_err(failed)?;
    }
    Ok(())
}

/// The entry of a directory may lie in another part than its files.
fn make_dirs(path: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Error::io("cannot make", path, error))
}

fn create(path: &Path, entry: &Entry, owner: bool) -> Result<File> {
    let open = || {
        std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
            .open(path)
    };
    let failed = |error| Error::io("cannot make", path, error);
    let file = match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            path.parent().map_or(Ok(()), make_dirs)?;
            open()
        }
        other => other,
    }
    .map_err(failed)?;
    // The process's umask must not take anything away.
    file.set_permissions(std::fs::Permissions::from_mode(entry.mode & 0o777 | 0o600)).map_err(failed)?;
    if owner {
        chown(path, entry).map_err(failed)?;
    }
    Ok(file)
}

/// As root the owner of the backup is kept, as tar does.
fn chown(path: &Path, entry: &Entry) -> io::Result<()> {
    let id = |id: u64| u32::try_from(id).ok();
    std::os::unix::fs::lchown(path, id(entry.uid), id(entry.gid))
}

/// Makes the links that the parts held. `pg_tblspc` and `pg_wal` are not theirs to make.
pub fn make_links(root: &Path, links: &[Link]) -> Result<()> {
    for link in links {
        let (path, made) = match link {
            Link::Symbolic { path, .. } if path.strip_prefix(root).is_ok_and(is_managed) => continue,
            Link::Symbolic { path, target } => {
                path.parent().map_or(Ok(()), make_dirs)?;
                (path, std::os::unix::fs::symlink(target, path))
            }
            Link::Hard { path, target } => {
                path.parent().map_or(Ok(()), make_dirs)?;
                (path, std::fs::hard_link(target, path))
            }
        };
        match made {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Error::new(
                    ErrorKind::Corrupt,
                    format!("the backup holds {} twice, once as a link", path.display()),
                ));
            }
            made => made.map_err(|error| Error::io("cannot make the link", path, error))?,
        }
    }
    Ok(())
}

fn is_managed(path: &Path) -> bool {
    path == Path::new("pg_wal") || path.parent() == Some(Path::new("pg_tblspc"))
}
