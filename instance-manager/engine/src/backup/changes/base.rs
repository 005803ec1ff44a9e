//! What is known of the backup that a new one builds on: its files, and which databases there were.

use super::super::commit::{MAX_MANIFEST, PartList};
use crate::error::Result;
use crate::increment::{RelationFile, plain_name};
use barman_cloud::manifest::Manifest;
use barman_cloud::{BackupId, Repository};
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// In the directory of every database; made with it and never written again.
pub const VERSION_FILE: &str = "PG_VERSION";

/// The directory of a database as it is now.
#[derive(Debug, Clone, Copy)]
pub struct Directory<'a> {
    /// Oid of the database.
    pub database: u32,
    /// The transaction that wrote its row.
    pub row: Option<&'a String>,
    /// When the directory was made.
    pub made: Option<DateTime<Utc>>,
}

/// The parent's files.
#[derive(Debug, Default)]
pub struct Base {
    /// Files of main forks by their plain paths, with their size where the parent has them whole.
    files: HashMap<PathBuf, Option<u64>>,
    /// When the directory of each database was made, by its path.
    made: HashMap<PathBuf, DateTime<Utc>>,
    /// Databases at the parent's begin, each with the transaction that wrote its row; `None` when that was not noted.
    databases: Option<BTreeMap<u32, String>>,
}

impl Base {
    /// Reads the manifest of backup `id` of this repository; `None` when there is none to build on.
    pub async fn load(repository: &Repository, id: &BackupId) -> Result<Option<Self>> {
        let key = repository.layout().manifest(id);
        let bytes = match repository.store().get(&key, MAX_MANIFEST).await {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let Some(list) = PartList::load(repository, id).await? else { return Ok(None) };
        let manifest =
            Manifest::parse(&bytes).map_err(|error| error.with_key(repository.store().url_of(&key)))?;
        Ok(Some(Self::new(manifest, list.server.map(|server| server.databases))))
    }

    /// What a manifest says.
    pub fn new(manifest: Manifest, databases: Option<BTreeMap<u32, String>>) -> Self {
        let mut base = Self { databases, ..Self::default() };
        for file in manifest.files {
            if file.path.file_name() == Some(OsStr::new(VERSION_FILE)) {
                base.made.insert(dir(&file.path), file.modified);
            } else if let Some(plain) = plain_name(&file.path) {
                base.files.insert(plain, None);
            } else if RelationFile::parse(&file.path).is_some_and(|relation| relation.is_main) {
                base.files.insert(file.path, Some(file.size));
            }
        }
        base
    }

    /// Whether the parent has the file; with its size, when the parent has all of it.
    pub fn file(&self, path: &Path) -> Option<Option<u64>> {
        self.files.get(path).copied()
    }

    /// Whether it is known of each database of the parent which one it was.
    pub fn knows_databases(&self) -> bool {
        self.databases.is_some()
    }

    /// Whether the directory of a database holds what it held at the parent's begin, changed by nothing but records of
    /// WAL. A number may stand for another database since: one that was copied file by file has pages that are older
    /// than itself. Either of two things tells that it is the same: the row in `pg_database` is the one that was there
    /// at the parent's begin, or the directory was made when the parent says, which was before `begin`.
    pub fn is_same_database(&self, dir: &Path, now: &Directory<'_>, begin: DateTime<Utc>) -> bool {
        let old_row = self.databases.as_ref().and_then(|databases| databases.get(&now.database));
        let old_made = self.made.get(dir).filter(|made| **made < begin);
        old_row.is_some() && (old_row == now.row || (old_made.is_some() && old_made == now.made.as_ref()))
    }
}

fn dir(path: &Path) -> PathBuf {
    path.parent().map(Path::to_owned).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use barman_cloud::manifest::ManifestFile;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).expect("a time")
    }

    fn base() -> Base {
        let file =
            |path: &str, size| ManifestFile { path: path.into(), size, modified: at(100), checksum: None };
        let files = vec![
            file("PG_VERSION", 3),
            file("base/5/PG_VERSION", 3),
            file("base/5/7", 8192),
            file("base/5/INCREMENTAL.8", 12),
            file("base/5/7_vm", 8192),
            file("INCREMENTAL.conf", 5),
        ];
        let manifest = Manifest { version: 1, system_identifier: None, files, wal_ranges: Vec::new() };
        Base::new(manifest, Some(BTreeMap::from([(5, "731".to_owned())])))
    }

    #[test]
    fn only_main_forks_can_be_built_on() {
        let base = base();
        let file = |path: &str| base.file(Path::new(path));
        assert_eq!(file("base/5/7"), Some(Some(8192)));
        assert_eq!(file("base/5/8"), Some(None));
        for path in ["base/5/7_vm", "base/5/9", "conf", "PG_VERSION"] {
            assert_eq!(file(path), None, "{path}");
        }
    }

    #[test]
    fn a_database_is_known_again_by_its_row_or_its_directory() {
        let base = base();
        let same = |row: &str, seconds, begin| {
            let (row, made) = (row.to_owned(), Some(at(seconds)));
            base.is_same_database(
                Path::new("base/5"),
                &Directory { database: 5, row: Some(&row), made },
                at(begin),
            )
        };
        assert!(same("731", 100, 999) && same("731", 200, 999), "another instance has it from another time");
        assert!(same("800", 100, 999), "its owner was changed, say");
        assert!(!same("800", 100, 99), "it was made while the parent was taken");
        assert!(!same("800", 200, 999), "dropped, and made again under the same number");
        let unknown = Directory { database: 6, row: None, made: Some(at(100)) };
        assert!(!base.is_same_database(Path::new("base/6"), &unknown, at(999)));
    }
}
