//! `global/pg_control`, read by ourselves: no program of PostgreSQL's needs to run.

use crate::error::{Error, ErrorKind, Result};
use barman_cloud::{Lsn, SegmentSize};
use std::path::Path;

/// What the engine and the instance manager need of the control file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlData {
    /// System identifier.
    pub system_id: u64,
    /// `pg_control_version`, for example 1300.
    pub control_version: u32,
    /// Catalogue version.
    pub catalog_version: u32,
    /// Timeline of the latest checkpoint.
    pub timeline: u32,
    /// Position of the latest checkpoint.
    pub checkpoint: Lsn,
    /// Where redo from it begins.
    pub redo: Lsn,
    /// On a standby: replay had to get here before the data is consistent; 0 elsewhere.
    pub min_recovery_point: Lsn,
    /// Timeline of that position.
    pub min_recovery_timeline: u32,
    /// Bytes per data page.
    pub block_size: u32,
    /// Blocks per file of a relation.
    pub relation_segment_blocks: u32,
    /// WAL segment size.
    pub wal_segment_size: SegmentSize,
    /// Whether data pages carry checksums.
    pub data_checksums: bool,
    /// Whether the server was shut down cleanly.
    pub cleanly_shut_down: bool,
    /// Whether it was shut down while it replayed WAL: a standby, or a primary that was still recovering from a crash. Its
    /// latest checkpoint then does not tell how far its WAL goes.
    pub shut_down_in_recovery: bool,
    /// Settings that a server replaying this directory's WAL must not have lower.
    pub must_not_shrink: MustNotShrink,
}

/// The five settings that must be at least what they were where the WAL was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MustNotShrink {
    /// `max_connections`.
    pub max_connections: u32,
    /// `max_worker_processes`.
    pub max_worker_processes: u32,
    /// `max_wal_senders`.
    pub max_wal_senders: u32,
    /// `max_prepared_transactions`.
    pub max_prepared_transactions: u32,
    /// `max_locks_per_transaction`.
    pub max_locks_per_transaction: u32,
}

/// Versions of the control file and where their CRC is: PostgreSQL 13 to 16, 17, and 18. What is read here has the
/// same place in all of them; 18 has one more field before the CRC.
const LAYOUTS: [(u32, usize); 3] = [(1300, 288), (1700, 288), (1800, 292)];

/// `DB_SHUTDOWNED` and `DB_SHUTDOWNED_IN_RECOVERY`.
const SHUT_DOWN_STATES: [u32; 2] = [1, SHUT_DOWN_IN_RECOVERY];
/// `DB_SHUTDOWNED_IN_RECOVERY`.
const SHUT_DOWN_IN_RECOVERY: u32 = 2;

/// Offsets of the fields; the same in all layouts on every 64-bit little-endian platform.
mod at {
    pub const SYSTEM_ID: usize = 0;
    pub const CONTROL_VERSION: usize = 8;
    pub const CATALOG_VERSION: usize = 12;
    pub const STATE: usize = 16;
    pub const CHECKPOINT: usize = 32;
    pub const REDO: usize = 40;
    pub const TIMELINE: usize = 48;
    pub const MIN_RECOVERY_POINT: usize = 136;
    pub const MIN_RECOVERY_TIMELINE: usize = 144;
    pub const MAX_CONNECTIONS: usize = 180;
    pub const MAX_WORKER_PROCESSES: usize = 184;
    pub const MAX_WAL_SENDERS: usize = 188;
    pub const MAX_PREPARED: usize = 192;
    pub const MAX_LOCKS: usize = 196;
    pub const BLOCK_SIZE: usize = 216;
    pub const RELATION_SEGMENT: usize = 220;
    pub const WAL_SEGMENT: usize = 228;
    pub const CHECKSUM_VERSION: usize = 252;
}

impl ControlData {
    /// Reads `<pgdata>/global/pg_control` and checks its CRC. A running server rewrites the file in place, so a
    /// torn read is possible: it is read again a few times before it is called damaged.
    pub fn read(pgdata: &Path) -> Result<Self> {
        let path = pgdata.join("global/pg_control");
        let mut tries = 0;
        loop {
            let bytes = std::fs::read(&path).map_err(|error| Error::io("cannot read", &path, error))?;
            match Self::parse(&bytes) {
                Err(error) if error.kind() == ErrorKind::Corrupt && tries < 5 => tries += 1,
                Err(error) => {
                    return Err(Error::new(error.kind(), format!("{}: {error}", path.display())));
                }
                Ok(control) => return Ok(control),
            }
        }
    }

    /// Reads the content of the file and checks its CRC.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let corrupt = |what: String| Error::new(ErrorKind::Corrupt, what);
        let u32_at = |offset: usize| {
            bytes
                .get(offset..offset + 4)
                .and_then(|b| b.try_into().ok())
                .map(u32::from_le_bytes)
                .ok_or_else(|| corrupt(format!("the control file has only {} bytes", bytes.len())))
        };
        let u64_at = |offset: usize| {
            Ok::<u64, Error>(u64::from(u32_at(offset)?) | u64::from(u32_at(offset + 4)?) << 32)
        };

        let control_version = u32_at(at::CONTROL_VERSION)?;
        let Some((_, crc_at)) = LAYOUTS.into_iter().find(|(version, _)| *version == control_version) else {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "the control file has version {control_version}, which is not one of PostgreSQL 13 to 18"
                ),
            )
            .with_remedy("use PostgreSQL 13 to 18"));
        };
        let stored = u32_at(crc_at)?;
        let computed = crc_fast::crc32_iscsi(&bytes[..crc_at]);
        if stored != computed {
            return Err(corrupt(format!(
                "the control file's CRC is {stored:08X}, its content's is {computed:08X}"
            )));
        }
        Ok(Self {
            system_id: u64_at(at::SYSTEM_ID)?,
            control_version,
            catalog_version: u32_at(at::CATALOG_VERSION)?,
            timeline: u32_at(at::TIMELINE)?,
            checkpoint: Lsn(u64_at(at::CHECKPOINT)?),
            redo: Lsn(u64_at(at::REDO)?),
            min_recovery_point: Lsn(u64_at(at::MIN_RECOVERY_POINT)?),
            min_recovery_timeline: u32_at(at::MIN_RECOVERY_TIMELINE)?,
            block_size: u32_at(at::BLOCK_SIZE)?,
            relation_segment_blocks: u32_at(at::RELATION_SEGMENT)?,
            wal_segment_size: SegmentSize::new(u64::from(u32_at(at::WAL_SEGMENT)?))?,
            data_checksums: u32_at(at::CHECKSUM_VERSION)? != 0,
            cleanly_shut_down: SHUT_DOWN_STATES.contains(&u32_at(at::STATE)?),
            shut_down_in_recovery: u32_at(at::STATE)? == SHUT_DOWN_IN_RECOVERY,
            must_not_shrink: MustNotShrink {
                max_connections: u32_at(at::MAX_CONNECTIONS)?,
                max_worker_processes: u32_at(at::MAX_WORKER_PROCESSES)?,
                max_wal_senders: u32_at(at::MAX_WAL_SENDERS)?,
                max_prepared_transactions: u32_at(at::MAX_PREPARED)?,
                max_locks_per_transaction: u32_at(at::MAX_LOCKS)?,
            },
        })
    }
}

/// The major version of the data directory, from its `PG_VERSION`.
pub fn major_version(pgdata: &Path) -> Result<u32> {
    let path = pgdata.join("PG_VERSION");
    let text = std::fs::read_to_string(&path).map_err(|error| Error::io("cannot read", &path, error))?;
    text.trim().parse().map_err(|error| {
        Error::new(ErrorKind::Corrupt, format!("{} is not a version number", path.display()))
            .with_source(error)
    })
}

#[cfg(test)]
mod tests;
