//! The last steps of a backup, and its undoing.

use super::part::FinishedPart;
use crate::error::{Error, ErrorKind, Result};
use barman_cloud::{BackupId, BackupInfo, Layout, Repository};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Largest list of parts that is read.
const MAX_LIST: u64 = 16 << 20;

/// Names and sizes of all parts, beside the manifest: tells a restore that the last part of an archive is missing,
/// which the names of the others cannot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartList {
    /// File names and sizes in the store.
    pub parts: BTreeMap<String, u64>,
}

impl PartList {
    /// A list of finished parts.
    pub fn new(parts: &[FinishedPart]) -> Self {
        Self { parts: parts.iter().map(|part| (part.name.to_string(), part.size)).collect() }
    }

    fn key(layout: &Layout, id: &BackupId) -> String {
        let manifest = layout.manifest(id);
        let dir = manifest.rsplit_once('/').map_or("", |(dir, _)| dir);
        format!("{dir}/parts.json")
    }

    /// Writes the list.
    pub async fn store(&self, repository: &Repository, id: &BackupId) -> Result<()> {
        let body = serde_json::to_vec_pretty(self)
            .map_err(|error| Error::new(ErrorKind::Invalid, "the list of parts").with_source(error))?;
        repository.store().put(&Self::key(repository.layout(), id), body.into()).await?;
        Ok(())
    }

    /// Reads the list; `None` when there is none, as in backups that Barman wrote.
    pub async fn load(repository: &Repository, id: &BackupId) -> Result<Option<Self>> {
        let key = Self::key(repository.layout(), id);
        let Some(body) = repository.store().get_if_exists(&key, MAX_LIST).await? else { return Ok(None) };
        serde_json::from_slice(&body).map(Some).map_err(|error| {
            Error::new(
                ErrorKind::Corrupt,
                format!("{}: not a list of parts", repository.store().url_of(&key)),
            )
            .with_source(error)
            .with_remedy("delete the object: the restore then does without it")
        })
    }

    /// Compares the list with what is in the store: the first difference is an error.
    pub fn compare(
        &self,
        id: &BackupId,
        repository: &Repository,
        stored: &BTreeMap<String, u64>,
    ) -> Result<()> {
        for (name, size) in &self.parts {
            let url = repository.store().url_of(&format!("{}/{name}", repository.layout().backup_dir(id)));
            match stored.get(name) {
                Some(found) if found == size => {}
                Some(found) => {
                    return Err(Error::new(
                        ErrorKind::Corrupt,
                        format!("{url}: {found} bytes are there, {size} were written"),
                    ));
                }
                None => return Err(Error::new(ErrorKind::Missing, format!("{url} is missing"))),
            }
        }
        Ok(())
    }
}

/// File names and sizes of the parts in the store.
pub async fn stored_parts(repository: &Repository, id: &BackupId) -> Result<BTreeMap<String, u64>> {
    let objects = repository.backup_objects(id).await?;
    Ok(objects.parts.iter().map(|part| (part.name.to_string(), part.object.size)).collect())
}

/// Removes the parts of a failed backup and marks its record. Problems are logged: the backup's own error is what
/// the caller needs to see, and the orphan sweep tries again.
pub async fn undo(repository: &Repository, id: &BackupId, info: Option<BackupInfo>, error: &Error) {
    if let Some(mut info) = info {
        info.fail(&error.report());
        if let Err(error) = repository.put_backup_info(id, &info).await {
            tracing::warn!(backup = %id, error = %error.report(), "the failed backup cannot be marked as such");
        }
    }
    if let Err(error) = remove_parts(repository, id).await {
        tracing::warn!(backup = %id, error = %error.report(), "parts of the failed backup stay in the store");
    }
}

/// Removes parts, manifest and list of a backup, not its record. Returns objects and bytes removed.
pub async fn remove_parts(repository: &Repository, id: &BackupId) -> Result<(u64, u64)> {
    let objects = repository.backup_objects(id).await?;
    let bytes = objects.stored_bytes();
    let mut keys: Vec<String> = objects.parts.into_iter().map(|part| part.object.key).collect();
    let count = keys.len() as u64;
    keys.push(repository.layout().manifest(id));
    keys.push(PartList::key(repository.layout(), id));
    repository.store().delete_many(&keys).await?;
    Ok((count, bytes))
}
