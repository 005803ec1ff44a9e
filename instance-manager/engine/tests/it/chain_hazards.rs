//! Changes that the pages themselves do not tell of.

use crate::chain::World;
use barman_cloud::BackupType;
use rstest::rstest;

/// Another database under the same number, copied file by file: its pages are older than the parent, and of another
/// content.
#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_stands_for_another_database() {
    let mut world = World::new(15, "").await;
    let rows =
        |name: &str| format!("CREATE TABLE t AS SELECT '{name}' AS name, g FROM generate_series(1, 20000) g");
    for name in ["one", "two"] {
        world.primary.sql(&format!("CREATE DATABASE {name}"));
        world.primary.sql_in(name, &rows(name));
    }
    // The same files in both, so that a path alone says nothing.
    world.primary.sql("CREATE DATABASE twice OID 50000 TEMPLATE one STRATEGY file_copy");
    world.take(BackupType::Full).await;
    world.primary.sql("DROP DATABASE twice");
    world.primary.sql("CREATE DATABASE twice OID 50000 TEMPLATE two STRATEGY file_copy");
    world.take(BackupType::Incremental).await;
    assert_eq!(world.found_by(1).await, "page-lsn");
    world.check(1).await;
}

/// A database that is altered is still the same one, and not stored whole for it.
#[tokio::test(flavor = "multi_thread")]
async fn an_altered_database_is_not_stored_again() {
    let mut world = World::new(15, "").await;
    world.primary.sql("CREATE DATABASE other");
    world
        .primary
        .sql_in("other", "CREATE TABLE t AS SELECT g, md5(g::text) AS x FROM generate_series(1, 100000) g");
    let full = world.take(BackupType::Full).await.stored_bytes;
    world.primary.sql("CREATE TABLE little AS SELECT 1 AS x");
    let stored = world.take(BackupType::Incremental).await.stored_bytes;
    assert!(stored < full / 2, "{stored} of {full}");
    world.check(1).await;
}

/// What has no page checksums sets bits in pages without a trace; only WAL summaries tell.
#[rstest]
#[case::pages(17, "", Some("no checksums"))]
#[case::summaries(17, "summarize_wal = on", None)]
#[tokio::test(flavor = "multi_thread")]
async fn without_page_checksums(#[case] major: u32, #[case] settings: &str, #[case] instead: Option<&str>) {
    let mut world = World::new(major, settings).await;
    world.primary.stop();
    let mut disable = world.primary.user.command(world.primary.program("pg_ctl"));
    disable.arg("-D").arg(&world.primary.data).args(["-w", "start"]).stdout(std::process::Stdio::null());
    assert!(disable.stderr(std::process::Stdio::null()).status().expect("starts").success(), "recovers");
    let mut stop = world.primary.user.command(world.primary.program("pg_ctl"));
    crate::postgres::run(stop.arg("-D").arg(&world.primary.data).args(["-w", "-m", "fast", "stop"]));
    let mut checksums = world.primary.user.command(world.primary.program("pg_checksums"));
    crate::postgres::run(checksums.arg("--disable").arg("-D").arg(&world.primary.data));
    world.primary.start();
    world.primary.sql("CREATE TABLE t AS SELECT g FROM generate_series(1, 20000) g");
    world.take(BackupType::Full).await;
    world.primary.sql("VACUUM t");
    world.primary.sql("UPDATE t SET g = -g WHERE g < 30");
    let second = world.take(BackupType::Incremental).await;
    match instead {
        None => assert_eq!((second.kind, &second.instead), (BackupType::Incremental, &None)),
        Some(text) => {
            assert_eq!(second.kind, BackupType::Full);
            let why = second.instead.clone().unwrap_or_default();
            assert!(why.contains(text) && why.contains("summarize_wal"), "{why}");
        }
    }
    world.check(1).await;
}

/// PostgreSQL 14 to 16 write a GiST index that is being built without positions in its pages.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_without_positions() {
    let mut world = World::new(15, "").await;
    world.primary.sql("CREATE TABLE p AS SELECT point(g, g % 100) AS at FROM generate_series(1, 30000) g");
    world.take(BackupType::Full).await;
    world.primary.sql("CREATE INDEX points ON p USING gist (at)");
    world.take(BackupType::Incremental).await;
    world.primary.sql("INSERT INTO p SELECT point(g, 7) FROM generate_series(1, 500) g");
    world.take(BackupType::Incremental).await;
    for number in [1, 2] {
        let copy = world.check(number).await;
        let by_index =
            "SET enable_seqscan = off; SELECT count(*) FROM p WHERE at <@ box(point(0, 0), point(5000, 50))";
        let by_rows = "SET enable_indexscan = off; SET enable_bitmapscan = off; SET enable_indexonlyscan = off; \
                       SELECT count(*) FROM p WHERE at <@ box(point(0, 0), point(5000, 50))";
        assert_eq!(copy.sql(by_index), copy.sql(by_rows));
    }
}
