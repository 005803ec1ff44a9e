//! Listing backups, and reading and writing their records.

use crate::backup_id::BackupId;
use crate::backup_info::{BackupInfo, MAX_SIZE};
use crate::error::{Error, Result};
use crate::repository::Repository;
use futures::{StreamExt, TryStreamExt};

/// Records read at a time.
const PARALLEL: usize = 8;

/// A backup in the catalogue.
#[derive(Debug)]
pub struct CatalogEntry {
    /// Id.
    pub id: BackupId,
    /// Its record, or why it cannot be read.
    pub info: Result<BackupInfo>,
}

impl CatalogEntry {
    /// The record, when it can be read and says that the backup is complete.
    pub fn done(&self) -> Option<&BackupInfo> {
        self.info.as_ref().ok().filter(|info| info.is_done())
    }
}

/// The base backups of a repository, oldest first.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Backups with a record.
    pub entries: Vec<CatalogEntry>,
    /// Ids under which there are objects but no record: what a killed run left. Barman does not see them.
    pub orphans: Vec<BackupId>,
}

impl Catalog {
    /// Complete backups, oldest first.
    pub fn done(&self) -> impl DoubleEndedIterator<Item = (&BackupId, &BackupInfo)> {
        self.entries.iter().filter_map(|entry| Some((&entry.id, entry.done()?)))
    }

    /// The entry with this id.
    pub fn get(&self, id: &BackupId) -> Option<&CatalogEntry> {
        self.entries.iter().find(|entry| entry.id == *id)
    }

    /// Whether an id is in use, with or without a record.
    pub fn contains(&self, id: &BackupId) -> bool {
        self.get(id).is_some() || self.orphans.contains(id)
    }
}

/// The annotation that keeps a backup from retention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// With all WAL after it.
    Full,
    /// With the WAL that it needs for itself.
    Standalone,
}

impl Keep {
    /// Body of the object, without a line end.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Standalone => "standalone",
        }
    }

    /// Anything but exactly `standalone` keeps everything.
    fn read(body: &[u8]) -> Self {
        if body == b"standalone" { Self::Standalone } else { Self::Full }
    }
}

impl Repository {
    /// All base backups. One that cannot be read is an entry with its error; only a store that cannot be listed
    /// or does not answer fails the whole.
    pub async fn catalog(&self) -> Result<Catalog> {
        let listing = self.store().list_dir(&self.layout().base_dir()).await?;
        // Names that are no ids cannot be named to Barman either.
        let ids: Vec<BackupId> = listing.dirs.iter().filter_map(|name| name.parse().ok()).collect();
        let mut found: Vec<(BackupId, Option<Result<BackupInfo>>)> = futures::stream::iter(ids)
            .map(|id| async move {
                match self.backup_info(&id).await {
                    Ok(info) => Ok((id, Some(Ok(info)))),
                    Err(error) if error.is_not_found() => Ok((id, None)),
                    Err(error) if error.kind() == crate::ErrorKind::Corrupt => Ok((id, Some(Err(error)))),
                    Err(error) => Err(error),
                }
            })
            .buffer_unordered(PARALLEL)
            .try_collect()
            .await?;
        found.sort_by(|a, b| a.0.cmp(&b.0));
        let mut catalog = Catalog::default();
        for (id, info) in found {
            match info {
                Some(info) => catalog.entries.push(CatalogEntry { id, info }),
                None => catalog.orphans.push(id),
            }
        }
        Ok(catalog)
    }

    /// The record of a backup. [`crate::ErrorKind::NotFound`] when there is none.
    pub async fn backup_info(&self, id: &BackupId) -> Result<BackupInfo> {
        let key = self.layout().backup_info(id);
        let bytes = self.store().get(&key, MAX_SIZE).await.map_err(|error| match error.is_not_found() {
            true => error.with_remedy("choose one of the backups that barman-cloud-backup-list shows"),
            false => error,
        })?;
        BackupInfo::parse_bytes(&bytes).map_err(|error| error.with_key(self.store().url_of(&key)))
    }

    /// Writes the record of a backup. With status `DONE` this is the commit: call it last.
    pub async fn put_backup_info(&self, id: &BackupId, info: &BackupInfo) -> Result<()> {
        self.store().put(&self.layout().backup_info(id), info.render().into()).await
    }

    /// Whether and how a backup is kept from retention.
    pub async fn keep(&self, id: &BackupId) -> Result<Option<Keep>> {
        let body = self.store().get_if_exists(&self.layout().keep(id), 4096).await?;
        Ok(body.map(|body| Keep::read(&body)))
    }

    /// Keeps a complete backup from retention, or lets go of it.
    pub async fn set_keep(&self, id: &BackupId, keep: Option<Keep>) -> Result<()> {
        let key = self.layout().keep(id);
        let Some(keep) = keep else { return self.store().delete(&key).await };
        if !self.backup_info(id).await?.is_done() {
            return Err(Error::invalid(format!("backup {id} is not complete"))
                .with_remedy("only complete backups can be kept"));
        }
        self.store().put(&key, keep.as_str().into()).await
    }
}
