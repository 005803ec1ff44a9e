//! Takes one tar apart into a directory.
//!
//! Names were made safe by the reader. Links are made only after all parts were extracted, so no file can be
//! written through one, and parts may be extracted side by side in any order.

use super::apply::{self, Blocks, Onto};
use super::check::{Checker, FileCheck};
use super::place::PG_CONTROL;
use crate::error::{Error, ErrorKind, Result};
use crate::increment::plain_name;
use crate::progress::Progress;
use barman_cloud::tar::{Entry, EntryKind, TarReader};
use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tokio_util::sync::CancellationToken;

/// Where an archive goes.
#[derive(Debug, Clone)]
pub struct Target {
    /// Directory that the entries are relative to.
    pub root: PathBuf,
    /// What stands before them in the manifest: nothing for the data directory, `pg_tblspc/<oid>` for a tablespace.
    pub manifest_prefix: PathBuf,
}

impl Target {
    /// Where a file is written, by its path in the archive. The control file gets its own name last of all:
    /// PostgreSQL does not start on a directory without it, so never on half a restore.
    pub fn path(&self, entry: &Path) -> PathBuf {
        if self.manifest_prefix.as_os_str().is_empty() && entry == Path::new(PG_CONTROL) {
            self.root.join(unfinished(entry))
        } else {
            self.root.join(entry)
        }
    }

    /// Path in the manifest of what lies at a path below the root.
    pub fn manifest_name<'a>(&self, path: &'a Path) -> Cow<'a, Path> {
        if !self.manifest_prefix.as_os_str().is_empty() {
            Cow::Owned(self.manifest_prefix.join(path))
        } else if path == unfinished(Path::new(PG_CONTROL)) {
            Cow::Owned(PathBuf::from(PG_CONTROL))
        } else {
            Cow::Borrowed(path)
        }
    }
}

/// Name of a file while the restore is not finished.
pub fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".howdah-restore");
    PathBuf::from(name)
}

/// What of a part is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Everything, and its end is checked.
    All,
    /// So many of its files; the rest of the part is not read.
    Files(usize),
    /// Directories and links, which come before the first file.
    Structure,
}

/// What the backup of a part is to the result.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Whether its directories and links are those of the result.
    pub structure: bool,
    /// How files of changed blocks are applied, when it has such.
    pub blocks: Option<Blocks>,
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

/// Extracts one part. Files that are there already are replaced, unless they are known to be right: a part may be
/// tried again.
pub fn extract(
    input: impl BufRead,
    target: &Target,
    wanted: Wanted,
    layer: &Layer,
    checker: &Checker,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<Extracted> {
    let mut tar = TarReader::new(input);
    let mut extracted = Extracted::default();
    let owner = rustix::process::geteuid().is_root();
    while let Some(entry) = tar.next_entry()? {
        if cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        match &entry.kind {
            EntryKind::Directory | EntryKind::Symlink { .. } | EntryKind::Hardlink { .. }
                if !layer.structure => {}
            EntryKind::Directory => directory(&target.root.join(&entry.path), &entry, owner)?,
            EntryKind::File if wanted == Wanted::Structure => break,
            EntryKind::File => {
                let name = target.manifest_prefix.join(&entry.path);
                extracted.has_label |= name == Path::new("backup_label");
                let Some(check) = checker.begin(&name, entry.size)? else { continue };
                if let Some(blocks) = &layer.blocks
                    && let Some(plain) = plain_name(&name)
                {
                    let path =
                        target.root.join(entry.path.with_file_name(plain.file_name().unwrap_or_default()));
                    let onto = Onto { path: &path, plain: &plain, size: entry.size, blocks };
                    extracted.bytes += apply::apply(&mut tar, onto, check, progress, cancel)?;
                } else {
                    let path = target.path(&entry.path);
                    let file = Writing { file: create(&path, &entry, owner)?, path, check };
                    extracted.bytes += write(&mut tar, file, progress, cancel)?;
                }
                extracted.files += 1;
                if matches!(wanted, Wanted::Files(count) if extracted.files >= count as u64) {
                    break;
                }
            }
            EntryKind::Symlink { target: to } => {
                let path = target.root.join(&entry.path);
                extracted.links.push(Link::Symbolic { path, target: to.clone() });
            }
            EntryKind::Hardlink { target: to } => {
                let path = target.root.join(&entry.path);
                extracted.links.push(Link::Hard { path, target: target.root.join(to) });
            }
            EntryKind::Fifo => tracing::warn!(path = %entry.path.display(), "a named pipe is left out"),
        }
    }
    Ok(extracted)
}

/// Bytes of a file after which the kernel is told to write them to disk: the disk works while more is fetched, and
/// the sync at the end finds little left. Smaller files are left to that.
const WRITE_BACK: u64 = 8 << 20;

struct Writing<'a> {
    file: File,
    path: PathBuf,
    check: FileCheck<'a>,
}

/// Writes the current entry, straight from where it was decompressed.
fn write(
    tar: &mut TarReader<impl BufRead>,
    mut to: Writing<'_>,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<u64> {
    let (mut written, mut told) = (0, 0);
    loop {
        let data = tar.data()?;
        if data.is_empty() {
            break;
        }
        if cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        to.check.update(data);
        to.file.write_all(data).map_err(|error| Error::io("cannot write", &to.path, error))?;
        let count = data.len();
        progress.add_stored(count as u64);
        written += count as u64;
        tar.consume(count);
        if written - told >= WRITE_BACK {
            write_back(&to.file, told, written);
            told = written;
        }
    }
    if told > 0 {
        write_back(&to.file, told, written);
    }
    to.check.finish()?;
    Ok(written)
}

/// On Linux this advice starts the write-back of what is dirty and waits for nothing; pages still being written
/// stay in memory.
fn write_back(file: &File, from: u64, to: u64) {
    let length = std::num::NonZeroU64::new(to - from);
    // A hint that may be refused.
    let _ = rustix::fs::fadvise(file, from, length, rustix::fs::Advice::DontNeed);
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
    // Never into a file that is there: it may have other names, or be a link.
    let open = || std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let failed = |error| Error::io("cannot make", path, error);
    let file = match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            path.parent().map_or(Ok(()), make_dirs)?;
            open()
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            std::fs::remove_file(path).map_err(failed)?;
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
