//! Whom files belong to that are made for PostgreSQL.

use crate::error::{Error, Result};
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::Path;

/// The owner of a data directory. Only root gives files away; anybody else owns what it makes.
#[derive(Debug, Clone, Copy)]
pub struct Owner(Option<(u32, u32)>);

impl Owner {
    /// The owner of this data directory.
    pub fn of(pgdata: &Path) -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self(None));
        }
        let meta = std::fs::metadata(pgdata).map_err(|error| Error::io("cannot look at", pgdata, error))?;
        Ok(Self(Some((meta.uid(), meta.gid()))))
    }

    /// Makes a file, directory or link the owner's.
    pub fn own(&self, path: &Path) -> Result<()> {
        let Some((uid, gid)) = self.0 else { return Ok(()) };
        lchown(path, Some(uid), Some(gid)).map_err(|error| Error::io("cannot give away", path, error))
    }
}
