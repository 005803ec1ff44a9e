//! `backup_manifest`: PostgreSQL's own list of what a base backup holds.
//!
//! `pg_verifybackup` checks a restored directory against it. Version 1 is for servers up to 16, version 2 adds the
//! system identifier. The file is JSON with a checksum over its own text, so it is written in PostgreSQL's form
//! to the byte, and its checksum is checked over the bytes as they are.

mod read;
mod write;

pub use write::ManifestWriter;

use crate::lsn::Lsn;
use chrono::{DateTime, Utc};
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Name of the file in the data directory.
pub const FILE_NAME: &str = "backup_manifest";

/// A checksum over a file's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileChecksum {
    /// CRC-32C; PostgreSQL's default.
    Crc32c(u32),
    /// SHA-256.
    Sha256([u8; 32]),
    /// Another algorithm, by its name, as hexadecimal.
    Other(String, String),
}

impl FileChecksum {
    /// Name of the algorithm in the manifest.
    pub fn algorithm(&self) -> &str {
        match self {
            Self::Crc32c(_) => "CRC32C",
            Self::Sha256(_) => "SHA256",
            Self::Other(name, _) => name,
        }
    }

    /// The checksum in the manifest's form. PostgreSQL prints the CRC's bytes as they lie in memory.
    pub fn hex(&self) -> String {
        match self {
            Self::Crc32c(crc) => hex::encode(crc.to_le_bytes()),
            Self::Sha256(digest) => hex::encode(digest),
            Self::Other(_, text) => text.clone(),
        }
    }

    fn parse(algorithm: &str, text: &str) -> Option<Self> {
        let bytes = hex::decode(text).ok()?;
        Some(match algorithm {
            "CRC32C" => Self::Crc32c(u32::from_le_bytes(bytes.try_into().ok()?)),
            "SHA256" => Self::Sha256(bytes.try_into().ok()?),
            other => Self::Other(other.to_owned(), text.to_owned()),
        })
    }
}

/// A file of the backup. Its path is that in the data directory, also for tablespaces: `pg_tblspc/<oid>/…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestFile {
    /// Path relative to the data directory.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Modification time, to the second.
    pub modified: DateTime<Utc>,
    /// Checksum, when there is one.
    pub checksum: Option<FileChecksum>,
}

/// WAL that recovery of the backup needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalRange {
    /// Timeline.
    pub timeline: u32,
    /// First byte.
    pub start: Lsn,
    /// End.
    pub end: Lsn,
}

/// A manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// 1 or 2.
    pub version: u32,
    /// System identifier; version 2.
    pub system_identifier: Option<u64>,
    /// Files, in the order of the manifest.
    pub files: Vec<ManifestFile>,
    /// Needed WAL.
    pub wal_ranges: Vec<WalRange>,
}

/// The version that a server of this `server_version_num` writes and its `pg_verifybackup` reads.
pub fn version_for(server_version_num: u32) -> u32 {
    if server_version_num >= 170_000 { 2 } else { 1 }
}

/// A path as the manifest shows it.
enum PathText<'a> {
    /// `Path`.
    Plain(&'a str),
    /// `Encoded-Path`: hexadecimal, for what is not UTF-8.
    Encoded(String),
}

fn path_text(path: &Path) -> PathText<'_> {
    match path.to_str() {
        Some(text) => PathText::Plain(text),
        None => PathText::Encoded(hex::encode(path.as_os_str().as_bytes())),
    }
}

fn decode_path(text: &str) -> Option<PathBuf> {
    Some(PathBuf::from(OsString::from_vec(hex::decode(text).ok()?)))
}

impl fmt::Display for WalRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "timeline {} from {} to {}", self.timeline, self.start, self.end)
    }
}

#[cfg(test)]
mod tests;
