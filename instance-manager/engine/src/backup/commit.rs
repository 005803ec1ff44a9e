//! The last steps of a backup, and its undoing.

use super::part::FinishedPart;
use super::record::FileRecord;
use super::resume::Shelf;
use crate::error::{Error, ErrorKind, Result};
use barman_cloud::{BackupId, BackupInfo, Layout, Repository};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Largest manifest that is read: some ten million files.
pub(crate) const MAX_MANIFEST: u64 = 4 << 30;

/// Largest list of parts that is read.
const MAX_LIST: u64 = 16 << 20;

/// Names and sizes of all parts, beside the manifest: tells a restore that the last part of an archive is missing,
/// which the names of the others cannot, and which part holds which file of the manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartList {
    /// File names and sizes in the store.
    pub parts: BTreeMap<String, u64>,
    /// Files of each part: index of the first in the manifest's list, and how many follow each other there. Empty
    /// when not known, as in backups of earlier versions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, (usize, usize)>,
    /// What backups that build on this one must know of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerNote>,
}

/// What the server was like.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerNote {
    /// Bytes in a block.
    pub block_size: u32,
    /// Most blocks in a file of a relation.
    pub segment_blocks: u32,
    /// Databases when the backup began, by oid, each with the transaction that wrote its row in `pg_database`.
    pub databases: BTreeMap<u32, String>,
}

impl PartList {
    /// A list of finished parts. `records` are in the order of the parts and of the manifest.
    pub fn new(parts: &[FinishedPart], records: &[FileRecord]) -> Self {
        let mut files = BTreeMap::new();
        let mut first = 0;
        for run in records.chunk_by(|one, next| one.part == next.part) {
            files.insert(run[0].part.to_string(), (first, run.len()));
            first += run.len();
        }
        let parts = parts.iter().map(|part| (part.name.to_string(), part.size)).collect();
        Self { parts, files, server: None }
    }

    /// The same with what is known of the server.
    #[must_use]
    pub fn with_server(mut self, server: ServerNote) -> Self {
        self.server = Some(server);
        self
    }

    /// Bytes of all parts.
    pub fn bytes(&self) -> u64 {
        self.parts.values().sum()
    }

    /// The part of every file of a manifest with `count` files, by index; `None` when the list does not say it of
    /// each file exactly once.
    pub fn part_of_files(&self, count: usize) -> Option<Vec<&str>> {
        let mut runs: Vec<(usize, usize, &str)> =
            self.files.iter().map(|(name, (first, length))| (*first, *length, name.as_str())).collect();
        runs.sort_unstable();
        let mut owners = Vec::with_capacity(count.min(1 << 20));
        for (first, length, name) in runs {
            if first != owners.len() || length > count - first || !self.parts.contains_key(name) {
                return None;
            }
            owners.resize(first + length, name);
        }
        (owners.len() == count).then_some(owners)
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
        let (key, size) = (Self::key(repository.layout(), id), body.len() as u64);
        repository.store().put(&key, body.into()).await?;
        super::part::confirm(repository.store(), &key, repository.store().stored_size(&key, size)).await
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
    Shelf::new(repository, id).clear().await?;
    Ok((count, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use barman_cloud::PartName;
    use barman_cloud::manifest::ManifestFile;

    fn list(records: &[&str]) -> PartList {
        let records: Vec<FileRecord> = records
            .iter()
            .enumerate()
            .map(|(index, part)| FileRecord {
                part: PartName::parse(part).expect("a part"),
                file: ManifestFile {
                    path: format!("base/5/{index}").into(),
                    size: 1,
                    modified: chrono::DateTime::UNIX_EPOCH,
                    checksum: None,
                },
                identity: Default::default(),
            })
            .collect();
        let parts: Vec<FinishedPart> = ["16400.tar", "data.tar", "data_0001.tar"]
            .iter()
            .map(|name| FinishedPart { name: PartName::parse(name).expect("a part"), size: 9 })
            .collect();
        PartList::new(&parts, &records)
    }

    #[test]
    fn every_file_is_in_one_part() {
        let list = list(&["16400.tar", "data.tar", "data.tar", "data_0001.tar"]);
        let text = serde_json::to_string(&list).expect("json");
        assert_eq!(
            text,
            r#"{"parts":{"16400.tar":9,"data.tar":9,"data_0001.tar":9},"files":{"16400.tar":[0,1],"data.tar":[1,2],"data_0001.tar":[3,1]}}"#
        );
        let back: PartList = serde_json::from_str(&text).expect("a list");
        let parts = back.part_of_files(4).expect("known");
        assert_eq!(parts, ["16400.tar", "data.tar", "data.tar", "data_0001.tar"]);
    }

    #[test]
    fn a_list_that_does_not_fit_the_manifest_says_nothing() {
        let list = list(&["16400.tar", "data.tar", "data.tar"]);
        assert!(list.part_of_files(2).is_none() && list.part_of_files(4).is_none());
        for wrong in [
            r#"{"parts":{"a":1}}"#,
            r#"{"parts":{"a":1,"b":1},"files":{"a":[0,2],"b":[1,2]}}"#,
            r#"{"parts":{"a":1},"files":{"a":[0,1],"b":[1,2]}}"#,
            r#"{"parts":{"a":1},"files":{"a":[3,18446744073709551615]}}"#,
            r#"{"parts":{"a":1},"files":{"a":[0,18446744073709551615]}}"#,
        ] {
            let list: PartList = serde_json::from_str(wrong).expect("a list");
            assert!(list.part_of_files(3).is_none(), "{wrong}");
        }
    }
}
