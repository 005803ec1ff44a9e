//! Input and output of a base backup.

use super::bad_pages::{BadPagePolicy, BadPages};
use super::borrowed::BorrowedWal;
use super::priority::Priority;
use super::resume::Resume;
use super::throttle::{Clock, SystemClock};
use crate::error::Result;
use async_trait::async_trait;
use barman_cloud::Repository;
use barman_cloud::{BackupId, BackupType, Compression, Lsn, Segment};
use chrono::{DateTime, Utc};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How to reach the local PostgreSQL: always by its Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAccess {
    /// Directory of the socket.
    pub socket_dir: PathBuf,
    /// Port, part of the socket's name.
    pub port: u16,
    /// Role; needs `pg_backup_start`, so a superuser or a role with that grant and `pg_read_all_settings`.
    pub user: String,
    /// Database to connect to.
    pub database: String,
}

/// What the primary is asked for after the backup ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SwitchRequest {
    /// Timeline of the backup.
    pub timeline: u32,
    /// WAL up to here must leave the current segment.
    pub lsn: Lsn,
}

/// What only the caller can do: act on the primary, and tell why archiving fails.
#[async_trait]
pub trait PrimaryWal: Send + Sync {
    /// Closes the segment that holds `request.lsn` on the primary (`pg_switch_wal()`, after a checkpoint when
    /// nothing was written since the last switch). Called again while segments are missing, so it must be
    /// harmless when there is nothing to close. An error is retried until the backup's WAL timeout.
    async fn close_segment(&self, request: SwitchRequest) -> Result<()>;

    /// The archiver's last failure, when archiving fails at present; goes into the error of a backup whose WAL
    /// does not arrive.
    fn archive_failure(&self) -> Option<String> {
        None
    }
}

/// Which checksums the manifest carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ManifestChecksum {
    /// Sizes only.
    None,
    /// PostgreSQL's default: finds accidents, nearly free.
    #[default]
    Crc32c,
    /// Finds tampering too, costs a core about 0.5 GB/s to 2 GB/s.
    Sha256,
}

/// How fast a backup may read and upload.
#[derive(Debug, Clone)]
pub struct RateLimits {
    /// Bytes of database files read per second by all jobs together.
    pub read: Option<NonZeroU64>,
    /// Bytes sent to the store per second by all jobs together; what a retry sends again is not counted.
    pub upload: Option<NonZeroU64>,
    /// The time that counts.
    pub clock: Arc<dyn Clock>,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self { read: None, upload: None, clock: Arc::new(SystemClock::default()) }
    }
}

/// How large the objects of a backup become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PartSize {
    /// Bytes of files in one tar, before compression; `None` plans from the size of the database. A file is
    /// never split, so a part may exceed this by one file (1 GiB at most in PostgreSQL's own layout).
    pub tar_bytes: Option<u64>,
    /// Bytes of one request of a multipart upload; `None` plans from `tar_bytes`. At least 5 MiB.
    pub upload_bytes: Option<u64>,
    /// Most requests of one multipart upload that the store takes; 10 000 unless said otherwise.
    pub max_upload_parts: Option<u32>,
}

/// A base backup to take.
#[derive(Debug, Clone)]
pub struct BackupRequest {
    /// The local server.
    pub server: ServerAccess,
    /// Its data directory as this process sees it.
    pub pgdata: PathBuf,
    /// Where the backup goes: the repository of full backups, whatever the type.
    pub repository: Repository,
    /// Full, or what changed since another backup.
    pub kind: BackupType,
    /// When there is nothing to build on, take a full backup and say so in the result; otherwise that is an error.
    pub fallback_full: bool,
    /// Codec of the parts; xz is refused.
    pub compression: Compression,
    /// Level; `None` is the codec's usual one.
    pub compression_level: Option<i32>,
    /// Parts filled at the same time; at least 1.
    pub jobs: usize,
    /// Ask for an immediate checkpoint instead of a spread one.
    pub immediate_checkpoint: bool,
    /// `backup_name` in the catalogue.
    pub name: Option<String>,
    /// Checksums of the manifest.
    pub manifest_checksum: ManifestChecksum,
    /// What to do about bad pages.
    pub bad_pages: BadPagePolicy,
    /// Object sizes.
    pub part_size: PartSize,
    /// How fast it may be.
    pub limits: RateLimits,
    /// How urgent its threads are.
    pub priority: Priority,
    /// Longest wait for the backup's WAL to reach the archive after the data is stored; `None` waits until
    /// cancelled.
    pub wal_timeout: Option<Duration>,
    /// The interrupted backup to go on from. A differential or incremental one whose data was not complete begins
    /// again under its id.
    pub resume: Option<Resume>,
    /// Where the backup's WAL comes from when its repository archives none by itself.
    pub borrowed_wal: Option<BorrowedWal>,
}

impl BackupRequest {
    /// A full backup with the usual settings: no compression, two jobs, spread checkpoint, CRC-32C in the manifest,
    /// bad pages warned about, no limits, WAL awaited for an hour.
    pub fn new(server: ServerAccess, pgdata: impl Into<PathBuf>, repository: Repository) -> Self {
        Self {
            server,
            pgdata: pgdata.into(),
            repository,
            kind: BackupType::Full,
            fallback_full: true,
            compression: Compression::None,
            compression_level: None,
            jobs: 2,
            immediate_checkpoint: false,
            name: None,
            manifest_checksum: ManifestChecksum::default(),
            bad_pages: BadPagePolicy::default(),
            part_size: PartSize::default(),
            limits: RateLimits::default(),
            priority: Priority::default(),
            wal_timeout: Some(Duration::from_secs(3600)),
            resume: None,
            borrowed_wal: None,
        }
    }
}

/// One stored object of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPart {
    /// File name, for example `data_0001.tar.gz`.
    pub name: String,
    /// Bytes in the store.
    pub size: u64,
}

/// A tablespace in a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablespaceInfo {
    /// Name.
    pub name: String,
    /// Oid.
    pub oid: u32,
    /// Location on the server; absolute.
    pub location: PathBuf,
}

/// A completed backup: everything it needs was confirmed in the repository.
#[derive(Debug, Clone)]
pub struct BackupResult {
    /// Id in the store.
    pub backup_id: BackupId,
    /// Name in the store.
    pub name: Option<String>,
    /// What it holds.
    pub kind: BackupType,
    /// What a restore needs before it: the full backup first, the parent last. Empty for a full one.
    pub ancestors: Vec<BackupId>,
    /// Its label as pgBackRest spells it, such as `20261121-012341F_20261122-020000I`.
    pub label: String,
    /// Why it is a full backup although another type was asked for.
    pub instead: Option<String>,
    /// System identifier.
    pub system_id: u64,
    /// `server_version_num`, for example 150018.
    pub server_version: u32,
    /// Timeline.
    pub timeline: u32,
    /// First segment a restore needs.
    pub begin_wal: Segment,
    /// Last segment a restore needs.
    pub end_wal: Segment,
    /// Start position.
    pub begin_lsn: Lsn,
    /// End position.
    pub end_lsn: Lsn,
    /// Start by the server's clock.
    pub started_at: DateTime<Utc>,
    /// End by the server's clock; from here on a point in time can be recovered.
    pub stopped_at: DateTime<Utc>,
    /// Bytes of all files of the database, stored or not.
    pub database_bytes: u64,
    /// Bytes of the parts in the store.
    pub stored_bytes: u64,
    /// The same of this backup and all that it builds on: what a restore fetches.
    pub set_bytes: u64,
    /// The parts, in reading order.
    pub parts: Vec<StoredPart>,
    /// Codec.
    pub compression: Compression,
    /// Tablespaces with a location of their own.
    pub tablespaces: Vec<TablespaceInfo>,
    /// Whether the server has page checksums, so whether pages were verified.
    pub data_checksums: bool,
    /// Pages whose checksum is wrong.
    pub bad_pages: BadPages,
}
