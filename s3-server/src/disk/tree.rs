//! Directories that are on the disk before anything in them is acknowledged.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Makes, fills and empties directories durably.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// Whoever sees a directory while holding this sees one that is on the disk.
    making: Mutex<()>,
}

/// Flushes a directory: the names in it.
pub(super) fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

impl Tree {
    /// Makes a directory and its parents, as far as they are missing.
    pub fn ensure(&self, dir: &Path) -> io::Result<()> {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let mut missing = Vec::new();
        let mut at = dir;
        while !at.is_dir() {
            missing.push(at);
            at = at.parent().ok_or(io::ErrorKind::NotFound)?;
        }
        for dir in missing.into_iter().rev() {
            fs::create_dir(dir)?;
            if let Some(parent) = dir.parent() {
                sync(parent)?;
            }
        }
        Ok(())
    }

    /// Moves a finished file to its place, over what is there.
    pub fn place(&self, from: &Path, to: &Path) -> io::Result<()> {
        let parent = to.parent().ok_or(io::ErrorKind::NotFound)?;
        let mut outcome = Ok(());
        // The directory may be pruned between the two steps, because it was empty.
        for _ in 0..16 {
            self.ensure(parent)?;
            outcome = fs::rename(from, to);
            match &outcome {
                Ok(()) => return sync(parent),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => break,
            }
        }
        outcome
    }

    /// Removes a file, and the directories below `top` that it leaves empty.
    pub fn remove(&self, file: &Path, top: &Path) -> io::Result<()> {
        fs::remove_file(file)?;
        let mut dir = file.parent();
        if let Some(parent) = dir {
            sync(parent)?;
        }
        while let Some(parent) = dir.filter(|dir| *dir != top && dir.starts_with(top)) {
            // Not empty, most of the time. An empty directory that comes back after a crash harms nobody.
            if fs::remove_dir(parent).is_err() {
                break;
            }
            dir = parent.parent();
        }
        Ok(())
    }
}
