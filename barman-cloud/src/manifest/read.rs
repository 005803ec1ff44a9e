//! Reading a manifest.

use super::{FileChecksum, Manifest, ManifestFile, WalRange, decode_path};
use crate::error::{Error, Result};
use chrono::NaiveDateTime;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::path::{Component, PathBuf};

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "PostgreSQL-Backup-Manifest-Version")]
    version: u32,
    #[serde(rename = "System-Identifier")]
    system_identifier: Option<u64>,
    #[serde(rename = "Files")]
    files: Vec<File>,
    #[serde(rename = "WAL-Ranges")]
    ranges: Vec<Range>,
    #[serde(rename = "Manifest-Checksum")]
    checksum: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct File {
    path: Option<String>,
    #[serde(rename = "Encoded-Path")]
    encoded_path: Option<String>,
    size: u64,
    #[serde(rename = "Last-Modified")]
    last_modified: Option<String>,
    #[serde(rename = "Checksum-Algorithm")]
    algorithm: Option<String>,
    checksum: Option<String>,
}

#[derive(Deserialize)]
struct Range {
    #[serde(rename = "Timeline")]
    timeline: u32,
    #[serde(rename = "Start-LSN")]
    start: crate::Lsn,
    #[serde(rename = "End-LSN")]
    end: crate::Lsn,
}

impl Manifest {
    /// Reads a manifest and checks its checksum, which covers every byte before its last line.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let wrong = |what: &str| Error::corrupt(format!("the backup manifest {what}"));
        let body_end = last_line(bytes).ok_or_else(|| wrong("has no line of its own for its checksum"))?;
        let document: Document = serde_json::from_slice(bytes).map_err(|error| {
            let line = error.line();
            wrong(&format!("is not valid at line {line}")).with_source(error)
        })?;
        let digest = hex::encode(Sha256::digest(&bytes[..body_end]));
        if !digest.eq_ignore_ascii_case(&document.checksum) {
            return Err(wrong("does not match its own checksum: it was changed or damaged"));
        }
        if !(1..=2).contains(&document.version) {
            return Err(wrong(&format!("has version {}, which is not known", document.version)));
        }
        if document.version == 2 && document.system_identifier.is_none() {
            return Err(wrong("lacks its system identifier"));
        }
        let files = document.files.into_iter().map(file).collect::<Result<Vec<_>>>()?;
        let wal_ranges = document
            .ranges
            .into_iter()
            .map(|range| WalRange { timeline: range.timeline, start: range.start, end: range.end })
            .collect();
        Ok(Self {
            version: document.version,
            system_identifier: document.system_identifier,
            files,
            wal_ranges,
        })
    }
}

/// Where the last line begins.
fn last_line(bytes: &[u8]) -> Option<usize> {
    let trimmed = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    trimmed.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1)
}

fn file(file: File) -> Result<ManifestFile> {
    let wrong = |what: String| Error::corrupt(format!("the backup manifest has {what}"));
    let path = match (file.path, file.encoded_path) {
        (Some(path), None) => PathBuf::from(path),
        (None, Some(hex)) => {
            decode_path(&hex).ok_or_else(|| wrong(format!("the unreadable path {hex:?}")))?
        }
        _ => return Err(wrong("a file without one path".to_owned())),
    };
    let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
    if !inside || path.as_os_str().is_empty() {
        return Err(wrong(format!("the path {path:?}, which leads out of the data directory")));
    }
    let modified = match &file.last_modified {
        None => return Err(wrong(format!("no time for {path:?}"))),
        Some(text) => NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S GMT")
            .map_err(|error| wrong(format!("the time {text:?} for {path:?}")).with_source(error))?
            .and_utc(),
    };
    let checksum = match (&file.algorithm, &file.checksum) {
        (None, None) => None,
        (Some(algorithm), Some(text)) => Some(
            FileChecksum::parse(algorithm, text)
                .ok_or_else(|| wrong(format!("the checksum {text:?} for {path:?}")))?,
        ),
        _ => return Err(wrong(format!("half a checksum for {path:?}"))),
    };
    Ok(ManifestFile { path, size: file.size, modified, checksum })
}
