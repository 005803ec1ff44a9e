//! A repository in memory with a backup of each kind, for the tests of this module.

use super::build::{Facts, ServerFacts};
use super::gather::{Contents, gather};
use crate::backup_info::BackupInfo;
use crate::chain::{BackupType, Chain};
use crate::manifest::{ManifestFile, ManifestWriter};
use crate::wal_name::SegmentSize;
use crate::{BackupId, Destination, Repository, Store};
use chrono::{DateTime, FixedOffset, TimeDelta};

pub const SYSTEM: &str = "7710429130419897343";

pub fn repository() -> Repository {
    let store = Store::memory(&Destination::parse("s3://b/p").expect("valid"));
    Repository::new(store, "pg").expect("valid")
}

pub fn facts(name: &str) -> Facts {
    Facts {
        name: name.to_owned(),
        location: "s3://b/p/pg".to_owned(),
        server: Some(ServerFacts { system_id: SYSTEM.to_owned(), version: 150_014 }),
        ..Facts::default()
    }
}

fn id(text: &str) -> BackupId {
    text.parse().expect("an id")
}

fn time(id: &BackupId) -> DateTime<FixedOffset> {
    id.time().expect("a time").and_utc().fixed_offset()
}

fn started(name: &str, timeline: u32, lsn: &str) -> BackupInfo {
    let start = time(&id(name));
    let mut info =
        BackupInfo::started(timeline, lsn.parse().expect("a position"), SegmentSize::DEFAULT, start);
    info.systemid = Some(SYSTEM.to_owned());
    info.version = Some(150_014);
    info
}

fn done(name: &str, timeline: u32, lsns: [&str; 2], size: u64) -> BackupInfo {
    let mut info = started(name, timeline, lsns[0]);
    let stop = time(&id(name)) + TimeDelta::seconds(14);
    info.finish(timeline, lsns[1].parse().expect("a position"), SegmentSize::DEFAULT, stop);
    info.cluster_size = Some(35_127_296);
    info.size = Some(size);
    info
}

async fn chained(
    repository: &Repository,
    name: &str,
    kind: BackupType,
    ancestors: &[&str],
    info: BackupInfo,
) {
    let rest = repository.increments();
    let ancestors = ancestors.iter().map(|text| id(text)).collect();
    let since_lsn = "0/3000028".parse().expect("a position");
    let chain = Chain { kind, ancestors, since_lsn, found_by: "page-lsn".to_owned() };
    rest.put_chain(&id(name), &chain).await.expect("stored");
    rest.put_backup_info(&id(name), &info).await.expect("stored");
}

async fn manifest(repository: &Repository, name: &str, files: &[(&str, u64)]) {
    let mut writer = ManifestWriter::new(Vec::new(), None).expect("written");
    for (path, size) in files {
        let modified = time(&id(name)).to_utc();
        let file = ManifestFile { path: path.into(), size: *size, modified, checksum: None };
        writer.file(&file).expect("written");
    }
    let bytes = writer.finish(&[]).expect("written");
    repository.store().put(&repository.layout().manifest(&id(name)), bytes.into()).await.expect("stored");
}

/// A full backup with a differential and an incremental one on timeline 6, a failed full one, an incremental one that
/// has lost its full one, and WAL that goes on to timeline 7.
pub async fn fill(repository: &Repository) {
    let full = "20261121T012341";
    let info = done(full, 6, ["A1/3000028", "A1/4000000"], 4_299_162);
    repository.put_backup_info(&id(full), &info).await.expect("stored");
    let second = "20261121T020000";
    let info = done(second, 6, ["A1/5000028", "A1/5000138"], 1024);
    chained(repository, second, BackupType::Differential, &[full], info).await;
    let third = "20261121T030000";
    let info = done(third, 6, ["A1/7000028", "A1/7000138"], 2048);
    chained(repository, third, BackupType::Incremental, &[full, second], info).await;
    manifest(repository, third, &[("base/5/INCREMENTAL.1259", 8458)]).await;
    let mut failed = started("20261121T040000", 6, "A1/9000028");
    failed.fail("the volume is gone");
    repository.put_backup_info(&id("20261121T040000"), &failed).await.expect("stored");
    let last = "20261121T050000";
    let info = done(last, 6, ["A1/B000028", "A1/B000138"], 1024);
    chained(repository, last, BackupType::Incremental, &["20261120T000000"], info).await;
    for key in ["00000006000000A1/00000006000000A100000003", "00000007000000A2/00000007000000A20000001C"] {
        let key = format!("{}/{key}", repository.layout().wals_dir());
        repository.store().put(&key, "x".into()).await.expect("stored");
    }
}

/// What is in that repository.
pub async fn filled() -> Contents {
    let repository = repository();
    fill(&repository).await;
    gather(&repository).await.expect("read")
}
