//! The report as data.

use crate::chain::BackupType;
use crate::lsn::Lsn;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// All repositories of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterReport {
    /// Name of the cluster; pgBackRest's word for it.
    pub stanza: String,
    /// In the order in which they are configured.
    pub repositories: Vec<RepositoryReport>,
}

/// One repository.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryReport {
    /// Name, as the Cluster gives it.
    pub name: String,
    /// Destination and server, as a URL.
    pub location: String,
    /// Whether there is anything to restore from, and if not, why.
    pub status: RepositoryStatus,
    /// Cipher of client-side encryption, `none` without.
    pub cipher: String,
    /// The backup that is being taken into it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<RunningBackup>,
    /// Database systems whose backups or WAL it holds, the current one last.
    pub databases: Vec<DatabaseReport>,
    /// All backups with a record, oldest first, failed ones among them.
    pub backups: Vec<BackupReport>,
    /// Gaps in its WAL that were made on purpose, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<DroppedReport>,
    /// Ids under which there are objects but no record: a backup under way, or what a killed one left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orphans: Vec<String>,
    /// Earliest moment to which a restore is possible: the end of the oldest restorable backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earliest: Option<DateTime<Utc>>,
}

/// State of a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryStatus {
    /// What it is.
    pub code: StatusCode,
    /// What went wrong and what to do, for `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// States of a repository, with pgBackRest's numbers in its JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StatusCode {
    /// There is a backup to restore from.
    Ok,
    /// Nothing was ever written there.
    #[default]
    MissingPath,
    /// No backup that can be restored.
    NoBackups,
    /// It could not be read.
    Failed,
}

impl StatusCode {
    /// pgBackRest's number.
    pub fn number(self) -> u32 {
        match self {
            Self::Ok => 0,
            Self::MissingPath => 1,
            Self::NoBackups => 2,
            Self::Failed => 99,
        }
    }

    /// pgBackRest's words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::MissingPath => "missing stanza path",
            Self::NoBackups => "no valid backups",
            Self::Failed => "other",
        }
    }
}

/// A backup under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunningBackup {
    /// Bytes of the database that were read.
    pub bytes_done: u64,
    /// Bytes in all, as far as known; 0 while not.
    pub bytes_total: u64,
}

/// A database system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseReport {
    /// System identifier.
    #[serde(default, rename = "systemID", skip_serializing_if = "Option::is_none")]
    pub system_id: Option<String>,
    /// Major version, as `15`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Whether this is the system that archives there now.
    pub current: bool,
    /// First and last segment of its WAL; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wal: Option<WalReport>,
}

/// The ends of a WAL archive. They may be on different timelines; gaps in between that nobody meant are what `verify` is
/// for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WalReport {
    /// First segment.
    pub min: String,
    /// Last segment.
    pub max: String,
    /// When the last one was stored.
    pub max_stored: DateTime<Utc>,
}

/// WAL that an instance let go of on purpose before it was archived (`walOverflow`), and that the archive lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DroppedReport {
    /// First segment.
    pub first: String,
    /// Last segment.
    pub last: String,
    /// How many were let go of.
    pub segments: u64,
    /// How many of them the archive lacks.
    pub missing: u64,
    /// When the first was let go of.
    pub since: DateTime<Utc>,
    /// When the last was.
    pub until: DateTime<Utc>,
    /// The instance that did it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Label of the first backup that began behind the gap; absent while there is none: take one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub followed_by: Option<String>,
}

/// What became of a backup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackupState {
    /// Complete.
    Done,
    /// Being taken, or left by a process that was killed.
    #[default]
    Incomplete,
    /// Given up.
    Failed,
    /// Its record or its chain cannot be read.
    Unreadable,
}

impl BackupState {
    /// The word in lists.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed",
            Self::Unreadable => "unreadable",
        }
    }
}

/// One backup. What its record does not say is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupReport {
    /// Id: the name of its directory.
    pub id: String,
    /// Label, as pgBackRest spells it.
    pub label: String,
    /// `full`, `differential` or `incremental`.
    #[serde(rename = "type")]
    pub kind: BackupType,
    /// What became of it.
    pub state: BackupState,
    /// Whether it and everything that it builds on is complete. Only `verify` looks into the objects.
    pub restorable: bool,
    /// Why it is not restorable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Name given by the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// System identifier.
    #[serde(default, rename = "systemID", skip_serializing_if = "Option::is_none")]
    pub system_id: Option<String>,
    /// Major version, as `15`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Start, by the server's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<DateTime<Utc>>,
    /// End, by the server's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<DateTime<Utc>>,
    /// Timeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<u32>,
    /// First segment that a restore needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wal_start: Option<String>,
    /// Last segment that a restore needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wal_stop: Option<String>,
    /// Start position.
    #[serde(default, rename = "startLSN", skip_serializing_if = "Option::is_none")]
    pub start_lsn: Option<Lsn>,
    /// End position.
    #[serde(default, rename = "stopLSN", skip_serializing_if = "Option::is_none")]
    pub stop_lsn: Option<Lsn>,
    /// Bytes of the database when it was backed up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_size: Option<u64>,
    /// Bytes of it that this backup holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_backup_size: Option<u64>,
    /// Stored bytes that a restore reads: of this backup and of all that it builds on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_set_size: Option<u64>,
    /// Stored bytes of this backup alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_size: Option<u64>,
    /// Labels of all backups that it builds on, the full one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<String>,
    /// How it is kept from retention: `full` or `standalone`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<String>,
}

/// The major version of a `server_version_num`, as PostgreSQL's users say it.
pub fn major(version: u32) -> String {
    match version {
        100_000.. => (version / 10_000).to_string(),
        _ => format!("{}.{}", version / 10_000, version / 100 % 100),
    }
}
