//! `restore_command`: fetches what PostgreSQL asks for and runs ahead of it.

use crate::error::Result;
use barman_cloud::Repository;
use std::path::{Path, PathBuf};

/// How WAL is fetched.
#[derive(Debug, Clone)]
pub struct RestorerConfig {
    /// Where WAL comes from.
    pub repository: Repository,
    /// Data directory; relative destinations are below it, and its `pg_control` tells the segment size.
    pub pgdata: PathBuf,
    /// Directory for segments fetched ahead; each source gets one of its own below it.
    pub spool: PathBuf,
    /// Files fetched at the same time, the requested one included; 1 switches prefetching off.
    pub max_parallel: usize,
    /// Whether a `.partial` segment may be delivered when no complete one is there: only for a recovery that
    /// ends in promotion, never for a standby.
    pub allow_partial: bool,
}

/// Answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalFetch {
    /// The file is at the destination, complete.
    Restored,
    /// The archive has no such file. PostgreSQL takes this as the end of the archive.
    NotThere,
}

/// The fetching service; one per source.
#[derive(Debug)]
pub struct Restorer {
    config: RestorerConfig,
}

impl Restorer {
    /// A service that has not touched the store yet.
    pub fn new(config: RestorerConfig) -> Self {
        Self { config }
    }

    /// Fetches `name` (`%f`) to `dest` (`%p`: relative to the data directory, or absolute). Transient failures
    /// are retried inside until they pass, so an error is one that must stop recovery; dropping the future
    /// cancels.
    pub async fn restore(&self, name: &str, dest: &Path) -> Result<WalFetch> {
        todo!()
    }

    /// Removes the spool and stops prefetching.
    pub async fn shutdown(&self) {
        todo!()
    }
}
