//! Reads what a report is made of: metadata only, and no more than a few requests for the WAL.

use super::dropped::{self, Lacking};
use crate::backup_id::BackupId;
use crate::catalog::{Inventory, Member};
use crate::chain::BackupType;
use crate::error::{ErrorKind, Result};
use crate::manifest::Manifest;
use crate::repository::Repository;
use crate::wal_name::{Segment, WalName};
use chrono::{DateTime, Utc};
use futures::stream::{StreamExt, TryStreamExt};
use std::collections::BTreeMap;

/// Backups whose objects are listed at a time.
const PARALLEL: usize = 8;

/// The first and the last complete segment of an archive, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalEnds {
    /// First.
    pub min: Segment,
    /// Last.
    pub max: Segment,
    /// When the last one was stored.
    pub max_stored: DateTime<Utc>,
}

/// What is in a repository.
#[derive(Debug, Default)]
pub struct Contents {
    /// All backups.
    pub inventory: Inventory,
    /// System identifier that the archive was claimed for.
    pub owner: Option<String>,
    /// The ends of the WAL archive; `None` without WAL.
    pub wal: Option<WalEnds>,
    /// Gaps in it that were made on purpose.
    pub dropped: Vec<Lacking>,
    /// Stored bytes of each complete backup.
    pub stored: BTreeMap<BackupId, u64>,
    /// Bytes of database files in each complete differential and incremental backup, as far as known.
    pub held: BTreeMap<BackupId, u64>,
}

/// Manifests up to this size are read for what a differential or incremental backup holds of the database; those of
/// databases with more than some ten thousand files would make a report slow.
const MAX_MANIFEST: u64 = 2 << 20;

/// Reads everything. Fails only when the store does not answer.
pub async fn gather(repository: &Repository) -> Result<Contents> {
    let (inventory, owner, wal) =
        futures::try_join!(repository.inventory(), owner(repository), repository.wal_ends())?;
    let dropped = dropped::lacking(repository, wal).await?;
    let complete: Vec<&Member> = inventory.members.iter().filter(|member| member.done().is_some()).collect();
    // Made beforehand: a closure that borrows keeps callers from being spawned.
    let sizes: Vec<_> = complete
        .iter()
        .map(|member| {
            stored(repository.of(member), member.id.clone(), member.done().and_then(|info| info.size))
        })
        .collect();
    let stored =
        futures::stream::iter(sizes).buffer_unordered(PARALLEL).try_collect::<BTreeMap<_, _>>().await?;
    let sizes: Vec<_> = complete
        .iter()
        .filter(|member| member.chain.is_some())
        .map(|member| held(repository.of(member), member.id.clone()))
        .collect();
    let held = futures::stream::iter(sizes).buffer_unordered(PARALLEL).try_collect::<Vec<_>>().await?;
    let held = held.into_iter().filter_map(|(id, bytes)| Some((id, bytes?))).collect();
    Ok(Contents { inventory, owner, wal, dropped, stored, held })
}

/// Stored bytes of a backup: by its record, else by its objects.
async fn stored(repository: Repository, id: BackupId, known: Option<u64>) -> Result<(BackupId, u64)> {
    let bytes = match known {
        Some(bytes) => bytes,
        None => repository.backup_objects(&id).await?.stored_bytes(),
    };
    Ok((id, bytes))
}

/// Bytes of the files in a backup, by its manifest; `None` without one that can be read in a moment.
async fn held(repository: Repository, id: BackupId) -> Result<(BackupId, Option<u64>)> {
    let bytes = match repository.store().get(&repository.layout().manifest(&id), MAX_MANIFEST).await {
        Ok(bytes) => {
            Manifest::parse(&bytes).ok().map(|manifest| manifest.files.iter().map(|file| file.size).sum())
        }
        Err(error) if error.is_not_found() || error.kind() == ErrorKind::Corrupt => None,
        Err(error) => return Err(error),
    };
    Ok((id, bytes))
}

/// A record that cannot be read says nothing; `check` names it.
async fn owner(repository: &Repository) -> Result<Option<String>> {
    match repository.lineage().await {
        Ok(lineage) => Ok(lineage.map(|lineage| lineage.system_identifier)),
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(None),
        Err(error) => Err(error),
    }
}

impl Repository {
    /// The repository as it must be seen for the objects of this backup.
    #[must_use]
    pub fn of(&self, member: &Member) -> Self {
        match member.kind {
            BackupType::Full => self.clone(),
            BackupType::Differential | BackupType::Incremental => self.increments(),
        }
    }

    /// The first and the last complete segment of the archive: one listing of its directories, and one of a
    /// directory at each end.
    pub async fn wal_ends(&self) -> Result<Option<WalEnds>> {
        let dirs = self.list_wal_dirs().await?;
        let dirs: Vec<Segment> =
            dirs.iter().filter_map(|dir| format!("{dir}00000000").parse().ok()).collect();
        let mut min = None;
        for dir in &dirs {
            min = self.complete_in(*dir).await?.into_iter().next();
            if min.is_some() {
                break;
            }
        }
        let Some((min, _)) = min else { return Ok(None) };
        for dir in dirs.iter().rev() {
            if let Some((max, max_stored)) = self.complete_in(*dir).await?.into_iter().next_back() {
                return Ok(Some(WalEnds { min, max, max_stored }));
            }
        }
        Ok(None)
    }

    async fn complete_in(&self, dir: Segment) -> Result<BTreeMap<Segment, DateTime<Utc>>> {
        let objects = self.list_wal_dir(dir).await?;
        let whole = objects.into_iter().filter(|object| object.object.size > 0);
        Ok(whole
            .filter_map(|object| match object.name {
                WalName::Segment(segment) => Some((segment, object.object.last_modified)),
                _ => None,
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use crate::report::samples;

    /// S0.38: the archive goes from timeline 6 to timeline 7; partial and empty objects are no ends.
    #[tokio::test]
    async fn the_ends_of_an_archive_that_crosses_timelines() {
        let repository = samples::repository();
        assert_eq!(repository.wal_ends().await.expect("listed"), None);
        for key in [
            "00000006000000A1/00000006000000A100000003.gz",
            "00000006000000A1/00000006000000A1000000FF.gz",
            "00000007000000A2/00000007000000A20000001C.zst",
            "00000007000000A2/00000007000000A20000001D.partial",
            "00000007.history",
        ] {
            let key = format!("{}/{key}", repository.layout().wals_dir());
            repository.store().put(&key, "x".into()).await.expect("stored");
        }
        let empty = format!("{}/00000001000000A0/00000001000000A000000001", repository.layout().wals_dir());
        repository.store().put(&empty, "".into()).await.expect("stored");
        let ends = repository.wal_ends().await.expect("listed").expect("there");
        assert_eq!(ends.min.to_string(), "00000006000000A100000003");
        assert_eq!(ends.max.to_string(), "00000007000000A20000001C");
    }
}
