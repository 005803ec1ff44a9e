//! What a backup notes in the store while it runs, for the one that goes on after it: one object for each finished
//! part, and one when PostgreSQL was told the end. All of it is removed with the last step of the backup.

use super::super::bad_pages::BadPages;
use super::super::record::FileRecord;
use super::super::request::ManifestChecksum;
use crate::error::{Error, ErrorKind, Result};
use crate::identity::Identity;
use barman_cloud::{BackupId, Compression, PartName, Repository};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};

/// Largest note that is read: the list of some hundred thousand files.
const MAX_NOTE: u64 = 128 << 20;
const ORIGIN: &str = "origin.json";
const SEALED: &str = "sealed.json";
const PART: &str = ".part.json";

/// Where a backup comes from and how it is written: parts of another origin do not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// System identifier.
    pub system_id: String,
    /// `server_version_num`.
    pub version: u32,
    /// Codec of the parts.
    pub compression: String,
    /// Its level, when one was asked for.
    pub level: Option<i32>,
    /// Checksum of the manifest.
    pub checksum: String,
}

impl Origin {
    /// The origin of a backup.
    pub fn new(
        system_id: u64,
        version: u32,
        compression: Compression,
        level: Option<i32>,
        checksum: ManifestChecksum,
    ) -> Self {
        Self {
            system_id: system_id.to_string(),
            version,
            compression: compression.to_string(),
            level,
            checksum: format!("{checksum:?}"),
        }
    }
}

/// A finished part and the files in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRecord {
    /// Bytes in the store.
    pub size: u64,
    /// Its files, in the order in which they lie in it.
    pub files: Vec<PartFile>,
}

/// A file in a finished part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartFile {
    /// Path in the manifest.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// What the file system said when it was read.
    pub identity: Identity,
    /// Checksum of the manifest, hexadecimal.
    pub checksum: String,
}

impl PartRecord {
    /// The note of a part. `None` when there is nothing in it that could be checked again: no files, no checksums, or
    /// names that JSON has not.
    pub fn new(size: u64, records: &[FileRecord]) -> Option<Self> {
        if records.is_empty() {
            return None;
        }
        let files = records.iter().map(|record| {
            Some(PartFile {
                path: record.file.path.to_str()?.to_owned(),
                size: record.file.size,
                identity: record.identity,
                checksum: record.file.checksum.as_ref()?.hex(),
            })
        });
        Some(Self { size, files: files.collect::<Option<_>>()? })
    }
}

/// A backup whose end PostgreSQL was told: its data, manifest and list of parts are in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sealed {
    /// `backup.info` as it will be.
    pub info: String,
    /// Bytes of the manifest.
    pub manifest_bytes: u64,
    /// Pages with a wrong checksum that were found.
    pub bad_pages: BadPages,
}

/// The notes of one backup.
#[derive(Debug, Clone)]
pub struct Shelf {
    repository: Repository,
    id: BackupId,
}

impl Shelf {
    /// The notes of backup `id`.
    pub fn new(repository: &Repository, id: &BackupId) -> Self {
        Self { repository: repository.clone(), id: id.clone() }
    }

    fn key(&self, file: &str) -> String {
        format!("{}/{file}", self.repository.layout().resume_dir(&self.id))
    }

    async fn put<T: Serialize>(&self, file: &str, note: &T) -> Result<()> {
        let body = serde_json::to_vec(note)
            .map_err(|error| Error::new(ErrorKind::Invalid, "a note of the backup").with_source(error))?;
        self.repository.store().put(&self.key(file), Bytes::from(body)).await?;
        Ok(())
    }

    /// A note; `None` when it is not there or not readable: the backup then begins anew.
    async fn get<T: for<'a> Deserialize<'a>>(&self, key: &str) -> Result<Option<T>> {
        let Some(body) = self.repository.store().get_if_exists(key, MAX_NOTE).await? else { return Ok(None) };
        let note = serde_json::from_slice(&body);
        if let Err(error) = &note {
            tracing::warn!(key, %error, "a note of the interrupted backup is not readable; it is not used");
        }
        Ok(note.ok())
    }

    /// Notes the origin.
    pub async fn put_origin(&self, origin: &Origin) -> Result<()> {
        self.put(ORIGIN, origin).await
    }

    /// Notes a finished part.
    pub async fn put_part(&self, name: PartName, record: &PartRecord) -> Result<()> {
        self.put(&format!("{name}{PART}"), record).await
    }

    /// Notes the end.
    pub async fn put_sealed(&self, sealed: &Sealed) -> Result<()> {
        self.put(SEALED, sealed).await
    }

    /// The origin.
    pub async fn origin(&self) -> Result<Option<Origin>> {
        self.get(&self.key(ORIGIN)).await
    }

    /// The end.
    pub async fn sealed(&self) -> Result<Option<Sealed>> {
        self.get(&self.key(SEALED)).await
    }

    /// All finished parts.
    pub async fn parts(&self) -> Result<BTreeMap<PartName, PartRecord>> {
        let mut parts = BTreeMap::new();
        for object in self.repository.store().list_prefix(&self.key("")).await? {
            let Some(name) = object.file_name().strip_suffix(PART).and_then(PartName::parse) else {
                continue;
            };
            if let Some(record) = self.get(&object.key).await? {
                parts.insert(name, record);
            }
        }
        Ok(parts)
    }

    /// Removes the notes of all parts but these.
    pub async fn retain(&self, parts: &HashSet<String>) -> Result<()> {
        self.remove(|file| file.strip_suffix(PART).is_some_and(|part| !parts.contains(part))).await
    }

    /// Removes all notes.
    pub async fn clear(&self) -> Result<()> {
        self.remove(|_| true).await
    }

    async fn remove(&self, which: impl Fn(&str) -> bool) -> Result<()> {
        let objects = self.repository.store().list_prefix(&self.key("")).await?;
        let gone = objects.into_iter().filter(|object| which(object.file_name()));
        let keys: Vec<String> = gone.map(|object| object.key).collect();
        if !keys.is_empty() {
            self.repository.store().delete_many(&keys).await?;
        }
        Ok(())
    }
}
