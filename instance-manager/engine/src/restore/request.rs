//! Input and output of a restore.

use barman_cloud::Repository;
use barman_cloud::{BackupId, BackupType, Lsn, Segment};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Which backup to restore.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum BackupChoice {
    /// This one.
    Id(BackupId),
    /// The newest completed one of any type from which the target can be reached.
    #[default]
    Best,
}

/// How far to recover.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum RecoveryTarget {
    /// To the end of the archive.
    #[default]
    Latest,
    /// To the end of the backup.
    Immediate,
    /// To a time.
    Time(DateTime<Utc>),
    /// To a position.
    Lsn(Lsn),
    /// To a named restore point.
    Name(String),
    /// To a transaction.
    Xid(u64),
}

/// Along which timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TargetTimeline {
    /// The newest in the archive that grew out of the backup's.
    #[default]
    Latest,
    /// The backup's own.
    Current,
    /// This one.
    Id(u32),
}

/// A restore to make.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    /// Where the backup is: the repository of full backups, whatever the type.
    pub repository: Repository,
    /// Which backup.
    pub choice: BackupChoice,
    /// How far recovery will go; decides which backups serve and which WAL must be there.
    pub target: RecoveryTarget,
    /// Along which timeline.
    pub timeline: TargetTimeline,
    /// Data directory: absent, empty, or left by an interrupted restore, from which goes on what is right by the
    /// manifest; with `delta` also one of the same database system.
    pub pgdata: PathBuf,
    /// Where `pg_wal` lives when not in the data directory; the link is made.
    pub wal_dir: Option<PathBuf>,
    /// New locations of tablespaces, by name; others go where they were.
    pub tablespaces: BTreeMap<String, PathBuf>,
    /// Parts fetched at the same time; at least 1.
    pub jobs: usize,
    /// Turns a data directory of the same database system into the backup: files with the size and checksum that
    /// the manifest says stay, everything else in it is removed or replaced, its WAL included. Of a backup that builds
    /// on another the manifest does not say what a file of changed blocks becomes: such files are all fetched. No server
    /// may run on it.
    pub delta: bool,
}

impl RestoreRequest {
    /// The best backup to the end of the archive, two jobs, tablespaces where they were.
    pub fn new(repository: Repository, pgdata: impl Into<PathBuf>) -> Self {
        Self {
            repository,
            choice: BackupChoice::default(),
            target: RecoveryTarget::default(),
            timeline: TargetTimeline::default(),
            pgdata: pgdata.into(),
            wal_dir: None,
            tablespaces: BTreeMap::new(),
            jobs: 2,
            delta: false,
        }
    }
}

/// What a restore will do; made from the store alone, before a byte is fetched.
#[derive(Debug, Clone)]
pub struct RestorePlan {
    /// The backup.
    pub backup_id: BackupId,
    /// What it holds.
    pub kind: BackupType,
    /// Its label as pgBackRest spells it.
    pub label: String,
    /// What is restored before it: the full backup first. Empty for a full one.
    pub ancestors: Vec<BackupId>,
    /// Name in the catalogue.
    pub backup_name: Option<String>,
    /// System identifier, when the catalogue has it.
    pub system_id: Option<u64>,
    /// `server_version_num`.
    pub server_version: Option<u32>,
    /// Timeline of the backup.
    pub backup_timeline: u32,
    /// First segment that recovery reads.
    pub begin_wal: Segment,
    /// Last segment that makes the data consistent.
    pub end_wal: Segment,
    /// End position of the backup.
    pub end_lsn: Lsn,
    /// End time of the backup.
    pub end_time: DateTime<Utc>,
    /// The timeline that recovery will follow: set it as `recovery_target_timeline`. PostgreSQL's own `latest`
    /// would also take a branch that this backup is not on, and stop.
    pub target_timeline: u32,
    /// Last segment that recovery will find without a gap.
    pub last_wal: Option<Segment>,
    /// When it was stored: an upper bound of the times that can be recovered to.
    pub last_wal_stored: Option<DateTime<Utc>>,
    /// A segment that is missing although later ones are there: recovery ends before it.
    pub wal_gap: Option<Segment>,
    /// Bytes of the parts in the store, of the backup and all that it builds on.
    pub stored_bytes: u64,
    /// Objects of these backups.
    pub parts: usize,
    /// Whether a manifest of every file is there.
    pub has_manifest: bool,
}

/// A restored data directory.
#[derive(Debug, Clone)]
pub struct RestoreResult {
    /// What was restored.
    pub plan: RestorePlan,
    /// Files written.
    pub files: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Files that were on disk already, as the manifest says.
    pub kept_files: u64,
    /// Their bytes.
    pub kept_bytes: u64,
    /// Bytes of parts that came from the store, repeated ones included.
    pub fetched_bytes: u64,
    /// Whether every file was compared with the manifest.
    pub verified: bool,
    /// The directory was complete already, from an earlier run.
    pub already_done: bool,
}
