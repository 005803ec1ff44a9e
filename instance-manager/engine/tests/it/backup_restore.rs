//! Backups of a living server, restored, verified and started.

use crate::postgres::{Load, Postgres};
use crate::site::{Site, restored, verify};
use barman_cloud::Compression;
use howdah_engine::RestoreRequest;
use howdah_engine::backup::{ManifestChecksum, PartSize};
use rstest::rstest;

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_database_comes_back() {
    let site = Site::new().await;
    let primary = site.primary("idle");
    primary.sql("CREATE TABLE t AS SELECT g, md5(g::text) AS x FROM generate_series(1, 10000) g");
    let before = primary.digest("t");
    // Twice: the second time not a byte of WAL was written in between.
    for _ in 0..2 {
        let result = site.backup(&primary, site.backup_request(&primary, "idle")).await;
        let result = result.unwrap_or_else(|error| panic!("{}", error.report()));
        assert!(result.data_checksums && result.bad_pages.is_empty(), "{result:?}");
        assert!(result.stored_bytes > result.database_bytes, "tar adds, no codec takes away: {result:?}");
    }
    let data = site.path().join("restored");
    let back = restored(RestoreRequest::new(site.repository("idle"), &data)).await;
    assert!(back.verified && back.files > 900, "{back:?}");
    let mut copy = Postgres::adopt(site.path(), "restored", &data);
    verify(&copy);
    site.recover(&copy, "idle", "");
    copy.start_recovered();
    assert_eq!(copy.digest("t"), before);
}

/// Tables are made, filled, truncated and dropped all the while, so files vanish, shrink and grow under the backup.
#[rstest]
#[case::none(Compression::None)]
#[case::gzip(Compression::Gzip)]
#[case::bzip2(Compression::Bzip2)]
#[case::snappy(Compression::Snappy)]
#[case::lz4(Compression::Lz4)]
#[case::zstd(Compression::Zstd)]
#[tokio::test(flavor = "multi_thread")]
async fn a_busy_database_comes_back_with_every_codec(#[case] codec: Compression) {
    let site = Site::new().await;
    let server = codec.as_str();
    let primary = site.primary_with(server, 16, codec, 3);
    primary.sql("CREATE TABLE t AS SELECT g, md5(g::text) AS x FROM generate_series(1, 50000) g");
    let load = Load::start(&primary);
    let mut request = site.backup_request(&primary, server);
    request.compression = codec;
    request.manifest_checksum = ManifestChecksum::Sha256;
    request.part_size = PartSize { tar_bytes: Some(8 << 20), ..PartSize::default() };
    let result = site.backup(&primary, request).await.unwrap_or_else(|error| panic!("{}", error.report()));
    assert!(result.bad_pages.is_empty(), "{:?}", result.bad_pages);
    assert!(result.parts.len() > 2, "{:?}", result.parts);
    assert!(
        result.parts.iter().all(|part| part.name.ends_with(&format!(".tar{}", codec.suffix()))),
        "{result:?}"
    );
    load.stop();
    primary.sql("SELECT pg_create_restore_point('end'); SELECT pg_switch_wal()");
    let (t, counters) = (primary.digest("t"), primary.digest("counters"));

    let data = site.path().join("restored");
    let back = restored(RestoreRequest::new(site.repository(server), &data)).await;
    assert_eq!(back.plan.backup_id, result.backup_id);
    let mut copy = Postgres::adopt(site.path(), "restored", &data);
    verify(&copy);
    site.wait_archived(&primary);
    site.recover(&copy, server, "recovery_target_name = 'end'");
    copy.start_recovered();
    assert_eq!((copy.digest("t"), copy.digest("counters")), (t, counters));
}

#[tokio::test(flavor = "multi_thread")]
async fn tablespaces_links_and_unlogged_tables() {
    let site = Site::new().await;
    let mut primary = Postgres::init(site.path(), "spaces", 16);
    // WAL on another volume, a linked log directory, and a linked directory of somebody's.
    let outside = site.path().join("outside");
    for dir in ["", "wal", "log", "notes"] {
        primary.user.make_dir(&outside.join(dir));
    }
    std::fs::rename(primary.data.join("pg_wal"), outside.join("wal/pg_wal")).expect("moves");
    for (link, target) in [("pg_wal", "wal/pg_wal"), ("log", "log"), ("notes", "notes")] {
        std::os::unix::fs::symlink(outside.join(target), primary.data.join(link)).expect("a link");
    }
    std::fs::write(outside.join("notes/note"), "keep me").expect("a file");
    std::fs::write(outside.join("log/today"), "not me").expect("a file");
    let space = site.path().join("space one");
    primary.user.make_dir(&space);
    site.archive_from(&primary, "spaces", Compression::Lz4, 2);
    primary.start();
    primary.sql(&format!("CREATE TABLESPACE \"Ts One\" LOCATION '{}'", space.display()));
    primary.configure("allow_in_place_tablespaces = on\n");
    primary.sql("SELECT pg_reload_conf()");
    primary.wait("SELECT current_setting('allow_in_place_tablespaces')::bool");
    primary.sql("CREATE TABLESPACE inside LOCATION ''");
    primary.sql("CREATE TABLE a TABLESPACE \"Ts One\" AS SELECT g FROM generate_series(1, 300000) g");
    primary.sql("CREATE TABLE a2 TABLESPACE \"Ts One\" AS SELECT g FROM generate_series(1, 100000) g");
    primary.sql("CREATE TABLE b TABLESPACE inside AS SELECT g FROM generate_series(1, 1000) g");
    primary.sql("CREATE UNLOGGED TABLE u AS SELECT g FROM generate_series(1, 300000) g");
    primary.sql("CHECKPOINT");
    let unlogged = primary.sql("SELECT pg_relation_filepath('u')");
    let (a, b) = (primary.digest("a"), primary.digest("b"));

    let mut request = site.backup_request(&primary, "spaces");
    request.compression = Compression::Lz4;
    request.name = Some("with-spaces".into());
    request.part_size = PartSize { tar_bytes: Some(2 << 20), ..PartSize::default() };
    let result = site.backup(&primary, request).await.unwrap_or_else(|error| panic!("{}", error.report()));
    assert_eq!(
        result.tablespaces.len(),
        1,
        "an in-place tablespace travels with the data: {:?}",
        result.tablespaces
    );
    let oid = result.tablespaces[0].oid;
    let names: Vec<&str> = result.parts.iter().map(|part| part.name.as_str()).collect();
    let second = format!("{oid}_0001.tar.lz4");
    assert!(names.contains(&"data_0001.tar.lz4") && names.contains(&second.as_str()), "{names:?}");

    let data = site.path().join("restored");
    let mut request = RestoreRequest::new(site.repository("spaces"), &data);
    let (moved, wal) = (site.path().join("moved"), site.path().join("walvolume/pg_wal"));
    request.tablespaces.insert("Ts One".into(), moved.clone());
    request.wal_dir = Some(wal.clone());
    let back = restored(request).await;
    assert_eq!(back.plan.backup_name.as_deref(), Some("with-spaces"));
    let mut copy = Postgres::adopt(site.path(), "restored", &data);
    verify(&copy);
    assert_eq!(std::fs::read_link(data.join("pg_wal")).expect("a link"), wal);
    assert_eq!(std::fs::read_link(data.join(format!("pg_tblspc/{oid}"))).expect("a link"), moved);
    assert_eq!(std::fs::read_to_string(data.join("notes/note")).expect("followed"), "keep me");
    assert!(!data.join("log/today").exists());
    assert!(!data.join(&unlogged).exists() && data.join(format!("{unlogged}_init")).exists());
    site.recover(&copy, "spaces", "");
    copy.start_recovered();
    assert_eq!((copy.digest("a"), copy.digest("b")), (a, b));
    assert_eq!(copy.sql("SELECT count(*) FROM u"), "0");
    assert_eq!(
        copy.sql("SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'Ts One'"),
        moved.display().to_string()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_ascend_and_names_are_checked() {
    let site = Site::new().await;
    let primary = site.primary("ids");
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(
            site.backup(&primary, site.backup_request(&primary, "ids")).await.expect("a backup").backup_id,
        );
    }
    assert!(ids.is_sorted() && ids[0] != ids[1] && ids[1] != ids[2], "{ids:?}");
    for (name, level, codec) in [
        (Some("latest"), None, Compression::None),
        (None, Some(99), Compression::Gzip),
        (None, None, Compression::Xz),
    ] {
        let mut request = site.backup_request(&primary, "ids");
        request.name = name.map(str::to_owned);
        (request.compression, request.compression_level) = (codec, level);
        let error = site.backup(&primary, request).await.expect_err("refused");
        assert_eq!(error.exit_code(), 3, "{}", error.report());
    }
}
