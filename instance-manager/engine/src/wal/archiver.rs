//! `archive_command`: uploads what PostgreSQL asks for, and in parallel what is ready behind it.

use crate::error::Result;
use barman_cloud::Repository;
use barman_cloud::Compression;
use chrono::{DateTime, Utc};
use std::path::{Path, PathBuf};

/// How WAL is archived.
#[derive(Debug, Clone)]
pub struct ArchiverConfig {
    /// Data directory; relative paths are below it.
    pub pgdata: PathBuf,
    /// Where WAL goes.
    pub repository: Repository,
    /// Codec.
    pub compression: Compression,
    /// Level; `None` is the codec's usual one.
    pub compression_level: Option<i32>,
    /// Files uploaded at the same time, the requested one included; at least 1.
    pub max_parallel: usize,
}

/// Counters and the last outcome.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArchiverStats {
    /// Files archived since the service was made, look-ahead included.
    pub archived_count: u64,
    /// Requests answered with an error since then.
    pub failed_count: u64,
    /// Last file archived, and when.
    pub last_archived: Option<(String, DateTime<Utc>)>,
    /// Last file that failed, and when.
    pub last_failed: Option<(String, DateTime<Utc>)>,
    /// Why it failed and what to do; `None` once a later request succeeded.
    pub last_error: Option<String>,
    /// Files waiting (`.ready`) at the last look.
    pub waiting: u64,
}

/// The archiving service; one per process, shared by reference.
#[derive(Debug)]
pub struct Archiver {
    config: ArchiverConfig,
}

impl Archiver {
    /// A service that has not touched the store yet.
    pub fn new(config: ArchiverConfig) -> Self {
        Self { config }
    }

    /// Archives the file at `path` (`%p`: relative to the data directory, or absolute). Returns when the object
    /// is confirmed in the store. Any error means "not archived"; PostgreSQL calls again.
    pub async fn archive(&self, path: &Path) -> Result<()> {
        todo!()
    }

    /// Counters now; counts `.ready` files, so it reads a directory.
    pub fn stats(&self) -> ArchiverStats {
        todo!()
    }
}
