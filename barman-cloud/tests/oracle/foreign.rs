//! Base backups of a real server that Barman wrote, read by us: every codec, a tablespace, several parts.

use crate::barman::World;
use crate::postgres::{Postgres, files_below};
use barman_cloud::catalog::{PartObject, RecoveryTarget, select_backup};
use barman_cloud::codec::Decoder;
use barman_cloud::store::blocking::BlockingReader;
use barman_cloud::tar::{EntryKind, TarReader};
use barman_cloud::{Archive, Compression, Repository, Segment};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Files by name, and the names in order.
#[derive(Default)]
struct Content {
    files: BTreeMap<PathBuf, Vec<u8>>,
    order: Vec<(PathBuf, EntryKind, u32)>,
}

async fn read(repo: &Repository, parts: &[PartObject]) -> Content {
    let mut content = Content::default();
    for part in parts {
        let (_, stream) = repo.store().open(&part.object.key, None).await.expect("opened");
        let (reader, codec) = (BlockingReader::new(stream), part.name.compression);
        content = tokio::task::spawn_blocking(move || {
            let mut tar = TarReader::new(Decoder::new(codec, reader).expect("a decoder"));
            while let Some(entry) = tar.next_entry().expect("a whole tar") {
                let mut bytes = Vec::new();
                let mut buffer = vec![0; 65_536];
                loop {
                    match tar.read_data(&mut buffer).expect("whole content") {
                        0 => break,
                        count => bytes.extend_from_slice(&buffer[..count]),
                    }
                }
                content.order.push((entry.path.clone(), entry.kind.clone(), entry.mode));
                if entry.kind == EntryKind::File {
                    content.files.insert(entry.path, bytes);
                }
            }
            content
        })
        .await
        .expect("no panic");
    }
    content
}

#[tokio::test(flavor = "multi_thread")]
async fn we_read_barmans_backups() {
    let world = World::new().await;
    let postgres = Postgres::start();
    let tablespace = format!("create tablespace \"Ts One\" location '{}'", postgres.text("ts"));
    postgres.sql(&[
        &tablespace,
        "create table big as select i, md5(i::text) || repeat('x', 100) as t from generate_series(1, 60000) i",
        "create table far tablespace \"Ts One\" as select i, md5(i::text) as t from generate_series(1, 60000) i",
        "checkpoint",
    ]);
    let codecs = [
        (None, Compression::None),
        (Some("--gzip"), Compression::Gzip),
        (Some("--bzip2"), Compression::Bzip2),
        (Some("--snappy"), Compression::Snappy),
        (Some("--lz4"), Compression::Lz4),
    ];
    let connection = postgres.connection();
    for (option, _) in codecs {
        // Small parts, so that there are several of each.
        let mut options = vec!["--immediate-checkpoint", "-J", "2", "-S", "5MB"];
        options.extend(option);
        options.extend(connection.iter().map(String::as_str));
        world.ok("barman-cloud-backup", &options, &[]).await;
    }
    postgres.stop();
    // What is in `base` and in the tablespace did not change after the checkpoint, apart from what start-up and
    // shutdown write anew.
    let stable =
        |(path, _): &(PathBuf, Vec<u8>)| path.file_name().is_some_and(|name| name != "pg_internal.init");
    let base: Vec<_> = files_below(&postgres.path("data/base")).into_iter().filter(stable).collect();
    let far: Vec<_> = files_below(&postgres.path("ts")).into_iter().filter(stable).collect();
    assert!(base.len() > 500 && !far.is_empty());

    let catalog = world.repo.catalog().await.expect("listed");
    assert_eq!((catalog.done().count(), catalog.orphans.len()), (codecs.len(), 0));
    let (newest, _) = select_backup(&catalog, RecoveryTarget::Latest, None).expect("there is one");
    assert_eq!(*newest, catalog.entries[codecs.len() - 1].id);
    for ((_, codec), (id, info)) in codecs.into_iter().zip(catalog.done()) {
        let objects = world.repo.backup_objects(id).await.expect("listed");
        let archives = objects.complete(id, info).expect("complete");
        let oid = info.tablespaces[0].oid;
        assert_eq!(info.tablespaces[0].name, "Ts One");
        let data = &archives[&Archive::Data];
        assert!(data.iter().all(|part| part.name.compression == codec), "{codec}");
        assert!(codec != Compression::None || data.len() > 2, "{} parts", data.len());

        let content = read(&world.repo, data).await;
        let (first, kind, mode) = &content.order[0];
        assert_eq!((first.as_path(), kind, *mode), (Path::new("."), &EntryKind::Directory, 0o700));
        let last = &content.order[content.order.len() - 1].0;
        assert_eq!(last, Path::new("backup_label"));
        assert_eq!(content.files[last], info.backup_label.as_deref().expect("a label").as_bytes());
        for (path, bytes) in &base {
            assert!(
                content.files[&Path::new("base").join(path)] == *bytes,
                "{codec}: base/{}",
                path.display()
            );
        }
        let content = read(&world.repo, &archives[&Archive::Tablespace(oid)]).await;
        for (path, bytes) in &far {
            assert!(content.files[path] == *bytes, "{codec}: {}", path.display());
        }

        let size = info.segment_size().expect("valid");
        let begin = info.begin_xlog.expect("known");
        assert_eq!(info.begin_wal, Some(Segment::containing(1, begin, size)));
        assert_eq!(info.begin_offset, Some(begin.0 % size.bytes()));
        world.repo.delete_backup(id).await.expect("deleted");
    }
    assert!(world.keys().is_empty(), "{:?}", world.keys());
}
