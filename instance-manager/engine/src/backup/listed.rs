//! What there is to read, and how much of it will be read and stored.

use super::changes::{CLOCKS, Directory, Finder, Increment, VERSION_FILE};
use super::fill::Group;
use super::resume::manifest_path;
use super::rules;
use crate::increment::RelationFile;
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// All trees of a backup, listed.
pub struct Listed {
    pub groups: Vec<Group>,
    /// What the backup builds on, ready to judge files.
    pub increment: Option<Increment>,
    /// Bytes that will be read.
    pub read: u64,
    /// Bytes that will be stored, before compression.
    pub stored: u64,
}

impl Listed {
    /// Adds up the trees. With what the backup builds on come the databases that there are.
    pub fn new(groups: Vec<Group>, increment: Option<(Increment, BTreeMap<u32, String>)>) -> Self {
        let Some((mut increment, databases)) = increment else {
            let bytes = groups.iter().map(|group| group.tree().bytes).sum();
            return Self { groups, increment: None, read: bytes, stored: bytes };
        };
        if matches!(increment.finder, Finder::PageLsn(_)) {
            increment.fresh = fresh(&groups, &increment, &databases);
        }
        let files = groups.iter().flat_map(Group::files);
        let (read, stored) = files.fold((0, 0), |(read, stored), (path, file)| {
            let (more_read, more_stored) = increment.estimate(&path, file.size);
            (read + more_read, stored + more_stored)
        });
        Self { groups, increment: Some(increment), read, stored }
    }
}

/// Directories of databases that are not what they were in the parent.
fn fresh(groups: &[Group], increment: &Increment, databases: &BTreeMap<u32, String>) -> HashSet<PathBuf> {
    // Well before the parent began, whatever clock said so.
    let begin = increment.parent.begin_time - CLOCKS;
    let mut fresh = HashSet::new();
    for group in groups {
        for dir in group.tree().dirs.iter().filter(|dir| rules::is_database_dir(&dir.path)) {
            let path = manifest_path(group.archive(), dir.path.clone());
            let Some(database) = database(&path) else { continue };
            let made = made(&dir.source);
            let now = Directory { database, row: databases.get(&database), made };
            if !increment.base.is_same_database(&path, &now, begin) {
                fresh.insert(path);
            }
        }
    }
    fresh
}

/// Oid of the database whose directory this is.
fn database(dir: &Path) -> Option<u32> {
    Some(RelationFile::parse(&dir.join("1"))?.database)
}

fn made(dir: &Path) -> Option<DateTime<Utc>> {
    let meta = std::fs::metadata(dir.join(VERSION_FILE)).ok()?;
    DateTime::from_timestamp(meta.mtime(), 0)
}
