//! Segments fetched ahead, in a directory of their own for each source.

use crate::error::{Error, Result};
use crate::owner::Owner;
use barman_cloud::{Repository, Segment};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The directory. Files appear under their names only when they are complete.
#[derive(Debug, Clone)]
pub struct Spool {
    dir: PathBuf,
}

impl Spool {
    /// The spool of a source below `base`. Two sources never share one: the same name stands for different WAL.
    pub fn new(base: &Path, repository: &Repository) -> Self {
        let digest = hex::encode(Sha256::digest(repository.url().as_bytes()));
        Self { dir: base.join(&digest[..16]) }
    }

    /// Empties the spool: what an earlier process left may be half a file.
    pub fn prepare(&self) -> Result<()> {
        self.remove()?;
        std::fs::create_dir_all(&self.dir).map_err(|error| Error::io("cannot make", &self.dir, error))
    }

    /// Removes the spool.
    pub fn remove(&self) -> Result<()> {
        match std::fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("cannot remove", &self.dir, error))
            }
            _ => Ok(()),
        }
    }

    /// Where a segment lies when it is complete.
    pub fn path(&self, segment: Segment) -> PathBuf {
        self.dir.join(segment.to_string())
    }

    /// Where it is written: a file of its own for each try, since a try that was given up may still end.
    pub fn unfinished(&self, segment: Segment) -> Unfinished {
        static TRY: AtomicU64 = AtomicU64::new(0);
        let number = TRY.fetch_add(1, Ordering::Relaxed);
        Unfinished(self.dir.join(format!("{segment}.{number}.tmp")))
    }

    /// Free bytes on the volume.
    pub fn free(&self) -> u64 {
        rustix::fs::statvfs(&self.dir).map_or(0, |volume| volume.f_bavail.saturating_mul(volume.f_frsize))
    }

    /// Drops a segment that nobody will ask for.
    pub fn discard(&self, segment: Segment) {
        // A file that is not there is as good as removed; anything else shows when the spool is removed.
        let _ = std::fs::remove_file(self.path(segment));
    }
}

/// A file that is being written; removed when dropped, unless it was renamed.
pub struct Unfinished(PathBuf);

impl Unfinished {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Renamed, or never made: nothing to do.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Where a file is written before it is renamed to `dest`: beside it, so that the rename is one step.
pub fn beside(dest: &Path) -> PathBuf {
    let mut name = dest.file_name().map(ToOwned::to_owned).unwrap_or_default();
    name.push(".howdah");
    dest.with_file_name(name)
}

/// Moves a complete file to its destination, across file systems too; `dest` is never seen half written.
pub fn deliver(from: &Path, dest: &Path, owner: Owner) -> Result<()> {
    match std::fs::rename(from, dest) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::CrossesDevices => {
            let near = beside(dest);
            let copied = std::fs::copy(from, &near)
                .map_err(|error| Error::io("cannot write", &near, error))
                .and_then(|_| owner.own(&near))
                .and_then(|()| {
                    std::fs::rename(&near, dest).map_err(|error| Error::io("cannot make", dest, error))
                });
            if copied.is_err() {
                // Best effort; the error below is what matters.
                let _ = std::fs::remove_file(&near);
            }
            copied?;
            std::fs::remove_file(from).map_err(|error| Error::io("cannot remove", from, error))
        }
        Err(error) => Err(Error::io("cannot make", dest, error)),
    }
}
