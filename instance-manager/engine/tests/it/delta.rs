//! Restores onto what is there already: only what differs is fetched, and nothing wrong stays.

use crate::postgres::Postgres;
use crate::site::{BUCKET, Site, restored, try_restore, verify};
use barman_cloud::Compression;
use howdah_engine::backup::PartSize;
use howdah_engine::{BackupResult, ErrorKind, Progress, RecoveryTarget, RestoreRequest};
use howdah_s3::{Action, Operation, Rule};
use rstest::rstest;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// A running server with a tablespace and two tables of some ten megabytes, and a backup of it in small parts.
struct Scene {
    site: Site,
    primary: Postgres,
    backup: BackupResult,
    space: PathBuf,
    oid: u32,
}

impl Scene {
    async fn new(major: u32, codec: Compression) -> Self {
        let site = Site::new().await;
        let mut primary = Postgres::init_version(site.path(), "p", major, &[]);
        site.archive_from(&primary, "p", Compression::None, 2);
        primary.start();
        let space = site.path().join("space");
        primary.user.make_dir(&space);
        primary.sql(&format!("CREATE TABLESPACE space LOCATION '{}'", space.display()));
        primary.sql("CREATE TABLE a AS SELECT g, md5(g::text) AS x FROM generate_series(1, 150000) g");
        primary.sql(
            "CREATE TABLE b TABLESPACE space AS SELECT g, md5(g::text) AS x FROM generate_series(1, 50000) g",
        );
        primary.sql("CREATE TABLE gone AS SELECT g FROM generate_series(1, 1000) g");
        primary.sql("CHECKPOINT");
        let mut request = site.backup_request(&primary, "p");
        request.compression = codec;
        request.part_size = PartSize { tar_bytes: Some(3 << 20), ..PartSize::default() };
        let backup =
            site.backup(&primary, request).await.unwrap_or_else(|error| panic!("{}", error.report()));
        assert!(backup.parts.len() > 5, "{:?}", backup.parts);
        let oid = backup.tablespaces[0].oid;
        Self { site, primary, backup, space, oid }
    }

    /// A restore into a directory of its own, the tablespace beside it.
    fn request(&self, data: &Path) -> RestoreRequest {
        let mut request = RestoreRequest::new(self.site.repository("p"), data);
        request.tablespaces.insert("space".into(), data.with_extension("space"));
        request.wal_dir = Some(data.with_extension("wal"));
        request
    }

    fn delta(&self, data: &Path) -> RestoreRequest {
        RestoreRequest { delta: true, ..self.request(data) }
    }

    /// File of a table in a data directory.
    fn file(&self, data: &Path, table: &str) -> PathBuf {
        data.join(self.primary.sql(&format!("SELECT pg_relation_filepath('{table}')")))
    }

    /// How often a part was asked for.
    fn gets(&self, part: &str) -> usize {
        let (requests, end) = (self.site.s3.requests(), format!("/{part}"));
        requests.iter().filter(|r| r.operation == Operation::GetObject && r.key.ends_with(&end)).count()
    }

    /// How often parts were asked for.
    fn all_gets(&self) -> usize {
        self.backup.parts.iter().map(|part| self.gets(&part.name)).sum()
    }
}

/// Changes one byte in the middle; size and time stay.
fn flip(path: &Path) {
    let times = fs::metadata(path).expect("a file").modified().expect("a time");
    let file = fs::OpenOptions::new().read(true).write(true).open(path).expect("a file");
    let at = file.metadata().expect("metadata").len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("reads");
    file.write_all_at(&[byte[0] ^ 1], at).expect("writes");
    file.set_modified(times).expect("sets the time");
}

#[rstest]
#[case::none(Compression::None)]
#[case::gzip(Compression::Gzip)]
#[case::bzip2(Compression::Bzip2)]
#[case::snappy(Compression::Snappy)]
#[case::lz4(Compression::Lz4)]
#[case::zstd(Compression::Zstd)]
#[tokio::test(flavor = "multi_thread")]
async fn only_what_differs_is_fetched(#[case] codec: Compression) {
    let scene = Scene::new(15, codec).await;
    let data = scene.site.path().join("restored");
    let whole = restored(scene.request(&data)).await;
    assert_eq!((whole.kept_files, whole.kept_bytes), (0, 0));
    assert_eq!(whole.fetched_bytes, scene.backup.stored_bytes);
    let copy = Postgres::adopt(scene.site.path(), "restored", &data);
    verify(&copy);
    // Nothing differs: of each archive the beginning is read, for its directories.
    let progress = Arc::new(Progress::new());
    let again =
        howdah_engine::restore::run(scene.delta(&data), Arc::clone(&progress), CancellationToken::new())
            .await
            .unwrap_or_else(|error| panic!("{}", error.report()));
    assert_eq!((again.files, again.kept_files, again.kept_bytes), (0, whole.files, whole.bytes));
    assert!(!again.already_done && progress.bytes_total() == 0 && progress.bytes_done() == 0, "{progress:?}");

    flip(&scene.file(&data, "a"));
    fs::remove_file(scene.file(&data, "gone")).expect("removes");
    flip(&scene.file(&data, "b"));
    fs::write(data.join("base/1/99999"), "extra").expect("writes");
    fs::write(data.join("standby.signal"), "").expect("writes");
    fs::write(data.join("tablespace_map"), "16384 /nowhere\n").expect("writes");
    fs::write(data.with_extension("wal").join("000000010000000000000001"), "old").expect("writes");
    let before = scene.all_gets();
    let progress = Arc::new(Progress::new());
    let back =
        howdah_engine::restore::run(scene.delta(&data), Arc::clone(&progress), CancellationToken::new())
            .await
            .unwrap_or_else(|error| panic!("{}", error.report()));
    assert_eq!((back.files, back.kept_files), (3, whole.files - 3), "{back:?}");
    assert_eq!(back.bytes + back.kept_bytes, whole.bytes);
    assert!(
        back.fetched_bytes < scene.backup.stored_bytes / 4 * 3,
        "{back:?} of {}",
        scene.backup.stored_bytes
    );
    assert!(progress.bytes_total() > 0 && progress.bytes_total() < scene.backup.stored_bytes, "{progress:?}");
    assert_eq!(progress.bytes_done(), progress.bytes_total());
    let fetched = scene.all_gets() - before;
    assert!(fetched < scene.backup.parts.len(), "{fetched} of {}", scene.backup.parts.len());
    for gone in ["base/1/99999", "standby.signal", "tablespace_map", "pg_wal/000000010000000000000001"] {
        assert!(!data.join(gone).exists(), "{gone}");
    }
    verify(&copy);
    assert!(restored(scene.request(&data)).await.already_done);
}

#[rstest]
#[case::postgresql_15(15)]
#[case::postgresql_17(17)]
#[case::postgresql_18(18)]
#[tokio::test(flavor = "multi_thread")]
async fn a_server_goes_back_to_its_backup(#[case] major: u32) {
    let mut scene = Scene::new(major, Compression::Zstd).await;
    let data = scene.primary.data.clone();
    let (a, b) = (scene.primary.digest("a"), scene.primary.digest("b"));
    scene.primary.sql("ALTER SYSTEM SET work_mem = '77MB'");
    scene.primary.sql(
        "DELETE FROM a WHERE g % 3 = 0; DROP TABLE gone; UPDATE b SET x = ''; CREATE TABLE c AS SELECT 1",
    );
    scene.primary.sql("CREATE DATABASE later");
    scene.primary.sql("CHECKPOINT");
    let request = || RestoreRequest {
        delta: true,
        target: RecoveryTarget::Immediate,
        ..RestoreRequest::new(scene.site.repository("p"), &data)
    };
    let error = try_restore(request()).await.expect_err("in use");
    assert_eq!(error.kind(), ErrorKind::Precondition, "{}", error.report());
    assert!(error.to_string().contains("a server runs on"), "{}", error.report());
    let (space, oid) = (scene.space.clone(), scene.oid);
    scene.primary.stop();
    let error = try_restore(RestoreRequest { delta: false, ..request() }).await.expect_err("not asked for");
    assert!(error.to_string().contains("is not empty"), "{}", error.report());

    let back = restored(request()).await;
    assert!(back.kept_files > 500 && back.files > 5 && back.verified, "{back:?}");
    assert!(back.fetched_bytes < scene.backup.stored_bytes, "{back:?}");
    assert_eq!(fs::read_link(data.join(format!("pg_tblspc/{oid}"))).expect("a link"), space);
    verify(&scene.primary);
    let text = fs::read_to_string(data.join("postgresql.auto.conf")).expect("settings");
    assert!(!text.contains("77MB"), "{text}");
    scene.site.recover(&scene.primary, "p", "recovery_target = 'immediate'");
    scene.primary.start_recovered();
    assert_eq!((scene.primary.digest("a"), scene.primary.digest("b")), (a, b));
    assert_eq!(scene.primary.sql("SELECT count(*) FROM pg_database WHERE datname = 'later'"), "0");
    assert_eq!(scene.primary.sql("SELECT count(*) FROM gone"), "1000");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_of_the_system_is_refused_untouched() {
    let scene = Scene::new(15, Compression::Lz4).await;
    let other = Postgres::init(scene.site.path(), "other", 16);
    let error = try_restore(scene.delta(&other.data)).await.expect_err("another system");
    assert_eq!(error.kind(), ErrorKind::Lineage, "{}", error.report());
    assert!(other.data.join("global/pg_control").exists() && other.data.join("pg_wal").is_dir());

    let notes = scene.site.path().join("notes");
    fs::create_dir(&notes).expect("a directory");
    fs::write(notes.join("precious"), "x").expect("a file");
    let error = try_restore(scene.delta(&notes)).await.expect_err("no data directory");
    assert_eq!(error.kind(), ErrorKind::Invalid, "{}", error.report());
    assert!(notes.join("precious").exists());

    // A tablespace's new place that the data directory does not lead to is nobody's to sweep.
    let data = scene.site.path().join("restored");
    restored(scene.request(&data)).await;
    let mut request = scene.delta(&data);
    request.tablespaces.insert("space".into(), notes.clone());
    let error = try_restore(request).await.expect_err("not its own");
    assert!(error.to_string().contains("notes is not empty"), "{}", error.report());
    assert!(notes.join("precious").exists() && data.join("global/pg_control").exists());

    let key = format!("some/path/p/howdah/manifests/{}/backup_manifest", scene.backup.backup_id);
    scene.site.s3.delete(BUCKET, &key).await.expect("deletes");
    let error = try_restore(scene.delta(&data)).await.expect_err("nothing to compare with");
    assert_eq!(error.kind(), ErrorKind::Precondition, "{}", error.report());
    assert!(data.join("global/pg_control").exists());
    // Into an empty directory the same request is a plain restore.
    let empty = scene.site.path().join("empty");
    assert!(!restored(scene.delta(&empty)).await.verified);
}

/// Lists of earlier versions do not say which file is where: everything is fetched, what is right still stays.
#[tokio::test(flavor = "multi_thread")]
async fn without_lists_of_files_every_part_is_read() {
    let scene = Scene::new(15, Compression::Zstd).await;
    let data = scene.site.path().join("restored");
    let whole = restored(scene.request(&data)).await;
    let key = format!("some/path/p/howdah/manifests/{}/parts.json", scene.backup.backup_id);
    let text = scene.site.s3.get(BUCKET, &key).await.expect("the list");
    let mut list: serde_json::Value = serde_json::from_slice(&text).expect("json");
    assert!(list["files"].is_object(), "{list}");
    list.as_object_mut().expect("an object").remove("files");
    scene.site.s3.put(BUCKET, &key, list.to_string()).await.expect("puts");
    flip(&scene.file(&data, "a"));
    let back = restored(scene.delta(&data)).await;
    assert_eq!((back.files, back.kept_files), (1, whole.files - 1));
    assert_eq!(back.fetched_bytes, scene.backup.stored_bytes);
    verify(&Postgres::adopt(scene.site.path(), "restored", &data));
}

/// Cut at one part after the other. PostgreSQL refuses what is there each time, and each time less is left to do.
#[rstest]
#[case::into_an_empty_directory(false)]
#[case::onto_a_changed_directory(true)]
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_restore_goes_on_where_it_was(#[case] delta: bool) {
    let scene = Scene::new(15, Compression::Lz4).await;
    let data = scene.site.path().join("restored");
    if delta {
        restored(scene.request(&data)).await;
        for part in ["base", "global", "pg_xact"] {
            for entry in fs::read_dir(data.join(part)).expect("lists") {
                let entry = entry.expect("an entry");
                // Without a control file that can be read nobody knows whose directory it is.
                let meta = entry.metadata().expect("metadata");
                if meta.is_file() && meta.len() > 0 && entry.file_name() != "pg_control" {
                    flip(&entry.path());
                }
            }
        }
        flip(&scene.file(&data, "a"));
        flip(&scene.file(&data, "b"));
    }
    let wanted = |delta| RestoreRequest { jobs: 1, delta, ..scene.request(&data) };
    let mut cuts = 0;
    loop {
        // Two parts come through, the third hangs in the middle.
        let rule = Rule::new(Action::StallBody { after_bytes: 20_000, millis: 600_000 })
            .operation(Operation::GetObject)
            .key("**/*.tar*")
            .skip(2);
        let rule = scene.site.s3.faults().add(rule);
        let (seen, progress) = (scene.all_gets(), Arc::new(Progress::new()));
        let run = howdah_engine::restore::run(wanted(delta), progress, CancellationToken::new());
        let hangs = async {
            while scene.all_gets() < seen + 3 {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            // Dropped where it is: no code of the restore runs any more, as if the process had been killed.
            () = hangs => cuts += 1,
            outcome = run => {
                outcome.unwrap_or_else(|error| panic!("{}", error.report()));
                break;
            }
        }
        scene.site.s3.faults().remove(rule);
        assert!(!data.join("global/pg_control").exists(), "PostgreSQL would start on half a restore");
        assert!(cuts < scene.backup.parts.len(), "no run gets further than the one before");
    }
    scene.site.s3.faults().clear();
    assert!(cuts > 0);
    assert!(restored(wanted(false)).await.already_done);
    let mut copy = Postgres::adopt(scene.site.path(), "restored", &data);
    verify(&copy);
    scene.site.recover(&copy, "p", "recovery_target = 'immediate'");
    copy.start_recovered();
    assert_eq!(copy.digest("b"), scene.primary.digest("b"));
}
