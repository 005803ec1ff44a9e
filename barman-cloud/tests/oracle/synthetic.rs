//! A directory tree as a data directory is, and a backup of it in several parts.

use barman_cloud::backup_info::Tablespace;
use barman_cloud::codec::Encoder;
use barman_cloud::store::Created;
use barman_cloud::tar::{Entry, EntryKind, TarWriter};
use barman_cloud::{Archive, BackupId, BackupInfo, Compression, Lsn, PartName, Repository, SegmentSize};
use chrono::{DateTime, TimeZone, Utc};
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What of a file must survive: kind, permissions and content.
pub type Tree = BTreeMap<PathBuf, String>;

fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761).max(1);
    (0..length)
        .map(|i| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            if i / 1024 % 2 == 0 { state as u8 } else { 0 }
        })
        .collect()
}

fn file(path: impl Into<PathBuf>, content: Vec<u8>) -> (Entry, Vec<u8>) {
    let mut entry = Entry::file(path, content.len() as u64);
    entry.mtime = 1_763_688_221;
    (entry, content)
}

fn dir(path: impl Into<PathBuf>) -> (Entry, Vec<u8>) {
    let mut entry = Entry::directory(path);
    entry.mtime = 1_763_688_221;
    (entry, Vec::new())
}

/// Entries of the data directory, in several parts.
fn data_parts() -> Vec<Vec<(Entry, Vec<u8>)>> {
    let long = format!("extension/{}/{}", "d".repeat(80), "f".repeat(120));
    let mut executable = file("script.sh", b"#!/bin/sh\n".to_vec());
    executable.0.mode = 0o750;
    let mut precise = file("postgresql.conf", b"port = 5432\n".to_vec());
    precise.0.mtime_nanos = 687_275_000;
    let first = vec![
        dir("."),
        file("PG_VERSION", b"15\n".to_vec()),
        precise,
        executable,
        (Entry::symlink("server.crt", "/etc/ssl/certs/server.crt"), Vec::new()),
        dir("base"),
        dir("base/1"),
        file("base/1/112", noise(1, 300_000)),
        file("base/1/empty", Vec::new()),
        dir("pg_notify"),
        dir("pg_tblspc"),
        dir("pg_wal"),
    ];
    let second =
        vec![dir("base/5"), file("base/5/16400", noise(2, 900_001)), file("base/5/16401", vec![0; 65_536])];
    let third = vec![
        dir("extension"),
        dir(format!("extension/{}", "d".repeat(80))),
        file(long, noise(3, 777)),
        dir("global"),
        file("global/pg_control", noise(4, 8192)),
        file("backup_label", label().into_bytes()),
    ];
    vec![first, second, third]
}

fn tablespace_parts() -> Vec<Vec<(Entry, Vec<u8>)>> {
    vec![
        vec![dir("PG_15_202209061"), dir("PG_15_202209061/5")],
        vec![file("PG_15_202209061/5/16500", noise(5, 400_000))],
    ]
}

fn label() -> String {
    "START WAL LOCATION: 0/4000028 (file 000000010000000000000004)\nSTART TIMELINE: 1\n".to_owned()
}

pub const OID: u32 = 16384;

pub fn info(begin: DateTime<Utc>) -> BackupInfo {
    let size = SegmentSize::DEFAULT;
    let mut info = BackupInfo::started(1, Lsn(0x400_0028), size, begin.fixed_offset());
    info.version = Some(150_018);
    info.pgdata = Some("/srv/pg/data".into());
    info.systemid = Some("7710429130419897343".into());
    info.backup_label = Some(label());
    info.tablespaces = vec![Tablespace { name: "Ts One".into(), oid: OID, location: "/srv/ts1".into() }];
    info.finish(1, Lsn(0x400_0138), size, (begin + chrono::Duration::seconds(3)).fixed_offset());
    info
}

pub fn start_time(day: u32) -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 11, day, 1, 23, 41).single().expect("a time")
}

fn own(mut entry: Entry) -> Entry {
    // Whoever runs the test owns the files, as the server's user owns those of a real backup.
    let me = std::fs::metadata(".").expect("the current directory");
    (entry.uid, entry.gid) = (u64::from(me.uid()), u64::from(me.gid()));
    entry
}

pub fn pack(codec: Compression, entries: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let mut writer = TarWriter::new(Encoder::new(codec, None, Vec::new()).expect("a codec"));
    for (entry, content) in entries {
        writer.append(&own(entry.clone()), &mut content.as_slice()).expect("memory");
    }
    writer.finish().expect("memory").finish().expect("memory")
}

/// Writes a complete backup.
pub async fn write_backup(repo: &Repository, codec: Compression, begin: DateTime<Utc>) -> BackupId {
    let id = BackupId::at(begin);
    for (archive, parts) in [(Archive::Data, data_parts()), (Archive::Tablespace(OID), tablespace_parts())] {
        for (index, entries) in parts.iter().enumerate() {
            let name = PartName { archive, index: index as u32, compression: codec };
            let upload = repo.store().upload(&repo.layout().part(&id, name)).await.expect("begun");
            let sent = upload.put_part(0, pack(codec, entries).into()).await.expect("sent");
            upload.complete(vec![sent]).await.expect("completed");
        }
    }
    repo.put_backup_info(&id, &info(begin)).await.expect("written");
    let manifest = repo.layout().manifest(&id);
    assert_eq!(repo.store().create(&manifest, "{}".into()).await.expect("written"), Created::Yes);
    id
}

fn describe(entry: &Entry, content: &[u8]) -> String {
    match &entry.kind {
        EntryKind::Directory => format!("directory {:o}", entry.mode),
        EntryKind::Symlink { target } => format!("link to {}", target.display()),
        _ => format!(
            "file {:o} of {} bytes, crc {:08x}, time {}",
            entry.mode,
            content.len(),
            crc32c::crc32c(content),
            entry.mtime
        ),
    }
}

fn tree_of(parts: Vec<Vec<(Entry, Vec<u8>)>>) -> Tree {
    parts
        .into_iter()
        .flatten()
        .map(|(entry, content)| (entry.path.clone(), describe(&entry, &content)))
        .collect()
}

/// What a restored data directory must be.
pub fn data_tree() -> Tree {
    tree_of(data_parts())
}

/// What a restored tablespace must be.
pub fn tablespace_tree() -> Tree {
    tree_of(tablespace_parts())
}

/// What is in a directory.
pub fn read_tree(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut open = vec![root.to_owned()];
    while let Some(path) = open.pop() {
        let metadata = std::fs::symlink_metadata(&path).expect("there");
        let relative = match path.strip_prefix(root).expect("below") {
            top if top.as_os_str().is_empty() => PathBuf::from("."),
            relative => relative.to_owned(),
        };
        let mode = metadata.permissions().mode() & 0o7777;
        let text = if metadata.is_dir() {
            open.extend(
                std::fs::read_dir(&path).expect("readable").map(|entry| entry.expect("readable").path()),
            );
            format!("directory {mode:o}")
        } else if metadata.is_symlink() {
            format!("link to {}", std::fs::read_link(&path).expect("a link").display())
        } else {
            let content = std::fs::read(&path).expect("readable");
            format!(
                "file {mode:o} of {} bytes, crc {:08x}, time {}",
                content.len(),
                crc32c::crc32c(&content),
                metadata.mtime()
            )
        };
        tree.insert(relative, text);
    }
    tree
}
