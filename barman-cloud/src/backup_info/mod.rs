//! `backup.info`: the record of a base backup. `status=DONE` in it is what makes a backup one.
//!
//! One `key=value` per line. Written are only keys that Barman knows, and only those with a value: an unknown key
//! ends the whole process of newer readers, and a null key that an older reader does not know hides the backup
//! from it. Read is everything; what is not known is kept in [`BackupInfo::other`].

mod literal;
mod read;
mod time;
mod write;

pub use literal::{Literal, quote};

use crate::lsn::Lsn;
use crate::wal_name::{Segment, SegmentSize};
use chrono::{DateTime, FixedOffset};
use std::collections::BTreeMap;
use std::fmt;

/// Largest `backup.info` that is read: thousands of tablespaces fit.
pub const MAX_SIZE: u64 = 16 << 20;

/// What became of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BackupStatus {
    /// Nothing yet.
    #[default]
    Empty,
    /// Begun; also what a killed run leaves for ever.
    Started,
    /// Given up.
    Failed,
    /// Copied, its WAL not confirmed.
    WaitingForWals,
    /// Complete.
    Done,
    /// Being copied to another place.
    Syncing,
}

impl BackupStatus {
    const ALL: [Self; 6] =
        [Self::Empty, Self::Started, Self::Failed, Self::WaitingForWals, Self::Done, Self::Syncing];

    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "EMPTY",
            Self::Started => "STARTED",
            Self::Failed => "FAILED",
            Self::WaitingForWals => "WAITING_FOR_WALS",
            Self::Done => "DONE",
            Self::Syncing => "SYNCING",
        }
    }

    /// The status of a word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

impl fmt::Display for BackupStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A tablespace outside of the data directory; each has a tar of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tablespace {
    /// Name.
    pub name: String,
    /// Oid: the name of its tar and of its link in `pg_tblspc`.
    pub oid: u32,
    /// Absolute path of the directory.
    pub location: String,
}

/// The record of a base backup. `None` is what the file calls `None` or leaves out.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BackupInfo {
    /// Text of the backup label file.
    pub backup_label: Option<String>,
    /// Name given by the user.
    pub backup_name: Option<String>,
    /// Start, by the server's clock.
    pub begin_time: Option<DateTime<FixedOffset>>,
    /// End, by the server's clock.
    pub end_time: Option<DateTime<FixedOffset>>,
    /// Where replay begins.
    pub begin_xlog: Option<Lsn>,
    /// Where the backup becomes consistent.
    pub end_xlog: Option<Lsn>,
    /// Segment of `begin_xlog`.
    pub begin_wal: Option<Segment>,
    /// Segment of `end_xlog`; on a boundary the one that begins there.
    pub end_wal: Option<Segment>,
    /// `begin_xlog` modulo the segment size.
    pub begin_offset: Option<u64>,
    /// `end_xlog` modulo the segment size.
    pub end_offset: Option<u64>,
    /// Timeline of the backup.
    pub timeline: Option<u32>,
    /// `server_version_num`.
    pub version: Option<u32>,
    /// Data directory.
    pub pgdata: Option<String>,
    /// Tablespaces outside of the data directory.
    pub tablespaces: Vec<Tablespace>,
    /// What became of the backup.
    pub status: BackupStatus,
    /// Why it failed.
    pub error: Option<String>,
    /// Barman writes the literal `cloud`.
    pub server_name: Option<String>,
    /// System identifier.
    pub systemid: Option<String>,
    /// Bytes in a WAL segment.
    pub xlog_segment_size: Option<u64>,
    /// `on` or `off`.
    pub data_checksums: Option<String>,
    /// `on` or `off`, from PostgreSQL 17 on.
    pub summarize_wal: Option<String>,
    /// Bytes in all tablespaces.
    pub cluster_size: Option<u64>,
    /// Path of `postgresql.conf`.
    pub config_file: Option<String>,
    /// Path of `pg_hba.conf`.
    pub hba_file: Option<String>,
    /// Path of `pg_ident.conf`.
    pub ident_file: Option<String>,
    /// Other files that settings come from.
    pub included_files: Vec<String>,
    /// Stored bytes.
    pub size: Option<u64>,
    /// Whatever else the file says, as it is there: `copy_stats`, `snapshots_info` and the like. Never written.
    pub other: BTreeMap<String, String>,
}

impl BackupInfo {
    /// A record with what is known when a backup begins; `status` is `STARTED`.
    pub fn started(timeline: u32, begin: Lsn, size: SegmentSize, begin_time: DateTime<FixedOffset>) -> Self {
        Self {
            status: BackupStatus::Started,
            server_name: Some("cloud".to_owned()),
            timeline: Some(timeline),
            begin_xlog: Some(begin),
            begin_wal: Some(Segment::containing(timeline, begin, size)),
            begin_offset: Some(begin.0 % size.bytes()),
            begin_time: Some(begin_time),
            xlog_segment_size: Some(size.bytes()),
            ..Self::default()
        }
    }

    /// Adds what is known when the backup ends; `status` is `DONE`.
    pub fn finish(&mut self, timeline: u32, end: Lsn, size: SegmentSize, end_time: DateTime<FixedOffset>) {
        self.status = BackupStatus::Done;
        self.error = None;
        self.end_xlog = Some(end);
        self.end_wal = Some(Segment::containing(timeline, end, size));
        self.end_offset = Some(end.0 % size.bytes());
        self.end_time = Some(end_time);
    }

    /// Marks the backup as failed, with one line of explanation.
    pub fn fail(&mut self, error: &str) {
        self.status = BackupStatus::Failed;
        self.error = Some(error.split_whitespace().collect::<Vec<_>>().join(" "));
    }

    /// Whether the backup is complete.
    pub fn is_done(&self) -> bool {
        self.status == BackupStatus::Done
    }

    /// Bytes in a WAL segment; 16 MiB when the file does not say.
    pub fn segment_size(&self) -> crate::Result<SegmentSize> {
        self.xlog_segment_size.map_or(Ok(SegmentSize::DEFAULT), SegmentSize::new)
    }

    /// First and last segment that a recovery to the end of the backup needs. On a boundary the last one is the
    /// segment before `end_wal`: it holds the last byte.
    pub fn needed_wal(&self) -> crate::Result<(Segment, Segment)> {
        let missing = |what| crate::Error::corrupt(format!("backup.info has no {what}"));
        let size = self.segment_size()?;
        let begin = self.begin_wal.ok_or_else(|| missing("begin_wal"))?;
        let end = match (self.end_xlog, self.end_wal) {
            (Some(lsn), Some(segment)) => Segment::ending_at(segment.timeline, lsn, size),
            (None, Some(segment)) => segment,
            _ => return Err(missing("end_wal")),
        };
        Ok((begin, end))
    }
}

#[cfg(test)]
mod tests;
