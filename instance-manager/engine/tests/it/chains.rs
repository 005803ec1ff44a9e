//! Differential and incremental backups of every version, restored and compared.

use crate::chain::World;
use crate::postgres::Load;
use crate::site::{Switch, restored, verify};
use barman_cloud::{BackupType, Compression};
use howdah_engine::backup::{ManifestChecksum, PartSize};
use howdah_engine::{Progress, RestoreRequest};
use rstest::rstest;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

const SUMMARIES: &str = "summarize_wal = on";

/// Tables that will be changed in every way.
fn fill(world: &World) {
    let rows = "SELECT g, md5(g::text) AS x FROM generate_series(1, 40000) g";
    let sql = |text: &str| world.primary.sql(text);
    for table in ["changed", "cut", "emptied", "dropped", "left_alone", "grown"] {
        sql(&format!("CREATE TABLE {table} AS {rows}"));
    }
    sql("CREATE INDEX ON changed (g)");
    sql(&format!("CREATE UNLOGGED TABLE unlogged AS {rows}"));
    sql("CREATE TABLE seen (id int PRIMARY KEY)");
    sql("INSERT INTO seen SELECT generate_series(1, 20000)");
    sql("VACUUM");
}

fn change(world: &World) {
    let sql = |text: &str| world.primary.sql(text);
    sql("UPDATE changed SET x = x || '!' WHERE g % 400 = 7");
    sql("INSERT INTO grown SELECT g, 'new' FROM generate_series(1, 30000) g");
    sql("DELETE FROM cut WHERE g > 10000");
    sql("VACUUM cut");
    sql("TRUNCATE emptied");
    sql("INSERT INTO emptied VALUES (1, 'again')");
    sql("DROP TABLE dropped");
    sql("CREATE TABLE made AS SELECT g FROM generate_series(1, 5000) g");
    let space = world.site.path().join("space");
    world.primary.user.make_dir(&space);
    sql(&format!("CREATE TABLESPACE ts LOCATION '{}'", space.display()));
    sql("CREATE TABLE apart TABLESPACE ts AS SELECT g, md5(g::text) AS x FROM generate_series(1, 20000) g");
    // Its pages are older than the database.
    let by_file = if world.major >= 15 { "STRATEGY file_copy" } else { "" };
    sql(&format!("CREATE DATABASE copied TEMPLATE template0 {by_file}"));
    world.primary.sql_in("copied", "CREATE TABLE inside AS SELECT g FROM generate_series(1, 3000) g");
    // The map of visible rows still says that all can be seen; nothing but the row's page is in WAL.
    sql("DELETE FROM seen WHERE id % 50 = 3");
}

fn change_again(world: &World) {
    let sql = |text: &str| world.primary.sql(text);
    sql("UPDATE changed SET x = x || '?' WHERE g % 500 = 1");
    sql("INSERT INTO cut SELECT g, 'back' FROM generate_series(1, 30000) g");
    sql("UPDATE apart SET x = 'y' WHERE g < 100");
    sql("ALTER TABLE left_alone SET TABLESPACE ts");
    world.primary.sql_in("copied", "UPDATE inside SET g = -g WHERE g < 50");
    sql("VACUUM FULL grown");
    sql("DELETE FROM seen WHERE id % 50 = 4");
}

/// S0.2, S0.3, S0.4, S0.36, S0.37, S1.34: a full backup, incrementals on it and on each other, a differential, an
/// incremental on that one.
#[rstest]
#[case::pg13(13, "")]
#[case::pg15(15, "")]
#[case::pg17(17, "")]
#[case::pg17_summaries(17, SUMMARIES)]
#[case::pg18(18, "")]
#[case::pg18_summaries(18, SUMMARIES)]
#[tokio::test(flavor = "multi_thread")]
async fn every_backup_of_a_chain_comes_back(#[case] major: u32, #[case] settings: &str) {
    let mut world = World::new(major, settings).await;
    fill(&world);
    let full = world.take(BackupType::Full).await.clone();
    change(&world);
    let first = world.take(BackupType::Incremental).await.clone();
    change_again(&world);
    let second = world.take(BackupType::Incremental).await.clone();
    world.primary.sql("UPDATE changed SET x = 'z' WHERE g = 5");
    let differential = world.take(BackupType::Differential).await.clone();
    world.primary.sql("DELETE FROM changed WHERE g % 3 = 0");
    let last = world.take(BackupType::Incremental).await.clone();

    assert_eq!(first.ancestors, std::slice::from_ref(&full.backup_id));
    assert_eq!(second.ancestors, [full.backup_id.clone(), first.backup_id.clone()]);
    assert_eq!(differential.ancestors, std::slice::from_ref(&full.backup_id));
    assert_eq!(last.ancestors, [full.backup_id.clone(), differential.backup_id.clone()]);
    let (f, i) = (full.backup_id.as_str().replace('T', "-"), first.backup_id.as_str().replace('T', "-"));
    assert_eq!((&full.label, &first.label), (&format!("{f}F"), &format!("{f}F_{i}I")));
    assert!(differential.label.ends_with('D'));
    assert_eq!(second.set_bytes, full.stored_bytes + first.stored_bytes + second.stored_bytes);
    assert!(second.stored_bytes < full.stored_bytes / 2, "{} of {}", second.stored_bytes, full.stored_bytes);
    assert!(second.database_bytes > full.database_bytes / 2);
    let expected = if settings == SUMMARIES { "wal-summaries" } else { "page-lsn" };
    for number in 1..5 {
        assert_eq!(world.found_by(number).await, expected, "backup {number}");
    }

    for number in 0..5 {
        let copy = world.check(number).await;
        // As the visibility map tells it, and as the rows are.
        let by_map = "SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT count(*) FROM seen";
        let by_rows = "SET enable_indexscan = off; SET enable_indexonlyscan = off; SELECT count(*) FROM seen";
        assert_eq!(copy.sql(by_map), copy.sql(by_rows), "backup {number}");
        assert_eq!(copy.sql("SELECT count(*) FROM unlogged"), "0");
    }
}

/// Files come and go, grow and shrink while each backup is read.
#[rstest]
#[case::pg15(15, "")]
#[case::pg18_summaries(18, SUMMARIES)]
#[tokio::test(flavor = "multi_thread")]
async fn a_busy_chain_comes_back(#[case] major: u32, #[case] settings: &str) {
    let mut world = World::with_arguments(major, settings, &[]).await;
    fill(&world);
    let load = Load::start(&world.primary);
    for kind in [BackupType::Full, BackupType::Incremental, BackupType::Incremental, BackupType::Differential]
    {
        let mut request = world.request(kind);
        request.compression = Compression::Lz4;
        request.manifest_checksum = ManifestChecksum::Sha256;
        request.part_size = PartSize { tar_bytes: Some(4 << 20), ..PartSize::default() };
        // Nobody can say what the tables are while they change.
        let result = world.site.backup(&world.primary, request).await;
        let result = result.unwrap_or_else(|error| panic!("{}", error.report()));
        assert!(result.bad_pages.is_empty(), "{:?}", result.bad_pages);
        assert_eq!(result.kind, kind);
        world.taken.push((result, Default::default()));
    }
    load.stop();
    world.primary.sql("SELECT pg_create_restore_point('end'); SELECT pg_switch_wal()");
    let tables = ["changed", "grown", "counters"];
    let expected = tables.map(|table| world.primary.digest(table));
    world.site.wait_archived(&world.primary);
    for number in 0..4 {
        let name = format!("busy-{number}");
        let data = world.site.path().join(&name);
        restored(world.restore_request(number, &data)).await;
        let mut copy = crate::postgres::Postgres::adopt(world.site.path(), &name, &data).of_version(major);
        verify(&copy);
        world.site.recover(&copy, crate::chain::SERVER, "recovery_target_name = 'end'");
        copy.start_recovered();
        assert_eq!(tables.map(|table| copy.digest(table)), expected, "backup {number}");
    }
}

/// The newest restorable backup of any type is chosen, and the way to a later target leads on from it.
#[tokio::test(flavor = "multi_thread")]
async fn the_newest_backup_of_any_type_is_chosen() {
    let mut world = World::new(15, "").await;
    fill(&world);
    world.take(BackupType::Full).await;
    world.primary.sql("UPDATE changed SET x = '1' WHERE g = 1");
    let id = world.take(BackupType::Incremental).await.backup_id.clone();
    let repository = world.site.repository(crate::chain::SERVER);
    let request = RestoreRequest::new(repository, world.site.path().join("nowhere"));
    let plan = howdah_engine::restore::plan(&request);
    assert_eq!(plan.await.unwrap_or_else(|error| panic!("{}", error.report())).backup_id, id);
}

/// A standby whose primary is idle begins every backup at the same restart point, before the end of the last one.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_standby_builds_on_its_own_backups() {
    let mut world = World::new(15, "hot_standby = on").await;
    fill(&world);
    let data = world.site.path().join("standby");
    world.primary.user.make_dir(&data);
    let mut copy = world.primary.user.command(crate::postgres::program("pg_basebackup"));
    copy.arg("-h").arg(&world.primary.socket).args(["-U", "postgres", "-c", "fast", "-R", "-D"]).arg(&data);
    crate::postgres::run(&mut copy);
    let mut standby = crate::postgres::Postgres::adopt(world.site.path(), "standby", &data);
    standby.configure("hot_standby = on\n");
    standby.start();
    standby.wait("SELECT count(*) > 0 FROM pg_stat_wal_receiver WHERE status = 'streaming'");
    let mut results = Vec::new();
    for kind in [BackupType::Full, BackupType::Incremental] {
        let mut request = world.site.backup_request(&standby, crate::chain::SERVER);
        request.kind = kind;
        let close = Arc::new(Switch::of(&world.primary));
        let (progress, cancel) = (Arc::new(Progress::new()), CancellationToken::new());
        let result = howdah_engine::backup::run(request, close, progress, cancel).await;
        results.push(result.unwrap_or_else(|error| panic!("{}", error.report())));
    }
    assert_eq!((results[1].kind, results[1].instead.as_deref()), (BackupType::Incremental, None));
    // And the primary builds on what the standby took.
    world.primary.sql("UPDATE changed SET x = 'p' WHERE g < 10");
    let third = world.take(BackupType::Incremental).await;
    assert_eq!(third.ancestors, [results[0].backup_id.clone(), results[1].backup_id.clone()]);
    world.check(0).await;
}
