//! The result of a backup, from what is in the store: the same whoever finished it.

use super::bad_pages::BadPages;
use super::commit::PartList;
use super::request::{BackupResult, StoredPart, TablespaceInfo};
use crate::error::{Error, ErrorKind, Result};
use barman_cloud::{BackupId, BackupInfo, BackupType, PartName};
use chrono::{DateTime, FixedOffset, Utc};

/// The result of the backup with this record and these parts, as of a full one.
pub fn result(
    id: &BackupId,
    info: &BackupInfo,
    list: &PartList,
    bad_pages: BadPages,
) -> Result<BackupResult> {
    let lacks = |what: &str| {
        Error::new(ErrorKind::Corrupt, format!("backup {id}: its record has no {what}"))
            .with_remedy("take another backup")
    };
    let utc = |time: Option<DateTime<FixedOffset>>| time.map(|time| time.with_timezone(&Utc));
    let (begin_wal, end_wal) = info.needed_wal()?;
    let mut parts: Vec<(PartName, u64)> =
        list.parts.iter().filter_map(|(name, size)| Some((PartName::parse(name)?, *size))).collect();
    parts.sort_unstable();
    let compression = parts.first().map(|(name, _)| name.compression).ok_or_else(|| lacks("parts"))?;
    Ok(BackupResult {
        backup_id: id.clone(),
        name: info.backup_name.clone(),
        kind: BackupType::Full,
        ancestors: Vec::new(),
        label: barman_cloud::chain::label(BackupType::Full, id, None),
        instead: None,
        system_id: info
            .systemid
            .as_deref()
            .and_then(|id| id.parse().ok())
            .ok_or_else(|| lacks("system identifier"))?,
        server_version: info.version.ok_or_else(|| lacks("version"))?,
        timeline: begin_wal.timeline,
        begin_wal,
        end_wal,
        begin_lsn: info.begin_xlog.ok_or_else(|| lacks("begin"))?,
        end_lsn: info.end_xlog.ok_or_else(|| lacks("end"))?,
        started_at: utc(info.begin_time).ok_or_else(|| lacks("begin time"))?,
        stopped_at: utc(info.end_time).ok_or_else(|| lacks("end time"))?,
        database_bytes: info.cluster_size.unwrap_or(0),
        stored_bytes: list.bytes(),
        set_bytes: list.bytes(),
        parts: parts.into_iter().map(|(name, size)| StoredPart { name: name.to_string(), size }).collect(),
        compression,
        tablespaces: info
            .tablespaces
            .iter()
            .map(|space| TablespaceInfo {
                name: space.name.clone(),
                oid: space.oid,
                location: space.location.clone().into(),
            })
            .collect(),
        data_checksums: info.data_checksums.as_deref() == Some("on"),
        bad_pages,
    })
}
