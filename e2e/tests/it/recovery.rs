//! Recovery: targets, sources without a Backup object, verification by PostgreSQL's own tools.

use anyhow::{Result, ensure};
use howdah_e2e::wait;
use serde_json::json;

use crate::common::{Scene, checksum, condition, table};

/// S0.5, S1.5, S3.11: time, LSN, name, transaction and "immediate" each bring back exactly the rows of that moment.
#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_target() -> Result<()> {
    let scene = Scene::new("targets").await?;
    scene.up("pg", json!({})).await?;
    let sql = scene.sql("pg");
    sql.run("create table t (id int primary key); insert into t values (1)").await?;
    scene.completed_backup("base", "pg").await?;
    sql.run("insert into t values (2)").await?;
    sql.run("select pg_create_restore_point('two')").await?;
    let lsn = sql.run("select pg_current_wal_insert_lsn()").await?;
    // The clock of the server itself: a commit before it and a commit behind it.
    let time = sql
        .run("select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
        .await?;
    let xid = sql.run("insert into t values (3) returning pg_current_xact_id()::text").await?;
    sql.run("insert into t values (4)").await?;
    scene.archive_all("pg").await?;

    let cases = [
        ("time", json!({"targetTime": time}), "1,2"),
        ("lsn", json!({"targetLSN": lsn}), "1,2"),
        ("name", json!({"targetName": "two"}), "1,2"),
        ("xid", json!({"targetXID": xid}), "1,2,3"),
        ("xid-exclusive", json!({"targetXID": xid, "exclusive": true}), "1,2"),
        ("immediate", json!({"targetImmediate": true}), "1"),
        ("end", json!(null), "1,2,3,4"),
    ];
    for (name, target, rows) in cases {
        scene.apply(&scene.restored(name, "base", target)).await?;
        scene.healthy(name).await?;
        let got = scene.sql(name).run("select string_agg(id::text, ',' order by id) from t").await?;
        ensure!(got == rows, "target {name}: rows {got}, expected {rows}");
        scene.kubectl.run(&["delete", "cluster", name, "--wait=false"]).await?;
    }
    scene.ground.stop().await
}

/// S1.6, S2.25: from an object store alone (`externalClusters`), and the restored cluster archives to a store of its
/// own and can be backed up and restored in its turn.
#[tokio::test(flavor = "multi_thread")]
async fn from_a_store_without_a_backup_object_and_on_again() -> Result<()> {
    let scene = Scene::new("source").await?;
    scene.up("pg", json!({})).await?;
    let sql = scene.sql("pg");
    sql.run(&table("t", 1000)).await?;
    scene.completed_backup("b", "pg").await?;
    sql.run("insert into t values (5000, 'late')").await?;
    scene.archive_all("pg").await?;
    let sum = sql.run(&checksum("t")).await?;
    scene.kubectl.run(&["delete", "backup", "b"]).await?;

    let mut external = scene.store.section();
    external["serverName"] = json!(scene.server("pg"));
    let second = scene.cluster(
        "second",
        json!({
            "bootstrap": {"recovery": {"source": "origin"}},
            "externalClusters": [{"name": "origin", "barmanObjectStore": external}],
        }),
    );
    scene.apply(&second).await?;
    scene.healthy("second").await?;
    let sql = scene.sql("second");
    ensure!(sql.run(&checksum("t")).await? == sum);
    ensure!(sql.run("select timeline_id > 1 from pg_control_checkpoint()").await? == "t");
    sql.run("insert into t values (5001, 'later still')").await?;
    let sum = sql.run(&checksum("t")).await?;
    scene.completed_backup("b2", "second").await?;
    scene.apply(&scene.restored("third", "b2", json!(null))).await?;
    scene.healthy("third").await?;
    ensure!(scene.sql("third").run(&checksum("t")).await? == sum);
    let keys = scene.ground.keys("").await?;
    ensure!(keys.iter().any(|k| k.contains("-second/wals/00000002.history")), "no history file: {keys:?}");
    scene.ground.stop().await
}

/// A target that lies beyond the archive is told, with what can be reached.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_out_of_reach_is_told() -> Result<()> {
    let scene = Scene::new("reach").await?;
    scene.up("pg", json!({})).await?;
    scene.sql("pg").run(&table("t", 10)).await?;
    let backup = scene.completed_backup("b", "pg").await?;
    scene.archive_all("pg").await?;
    let early = json!({"targetTime": "2020-01-01T00:00:00Z"});
    scene.apply(&scene.restored("early", "b", early)).await?;
    let cluster = scene
        .kubectl
        .wait_for("cluster", "early", "the refusal", wait::minutes(3), |c| {
            c["status"]["phaseReason"].as_str().is_some_and(|r| r.contains("2020-01-01"))
        })
        .await?;
    ensure!(condition(&cluster, "Ready").is_some_and(|c| c["status"] == "False"), "{:#}", cluster["status"]);
    let late = json!({"targetTime": "2099-01-01T00:00:00Z"});
    scene.apply(&scene.restored("late", "b", late)).await?;
    let cluster = scene
        .kubectl
        .wait_for("cluster", "late", "the refusal", wait::minutes(4), |c| {
            c["status"]["phaseReason"].as_str().is_some_and(|r| r.contains("2099-01-01"))
        })
        .await?;
    ensure!(condition(&cluster, "Ready").is_some_and(|c| c["status"] == "False"), "{:#}", cluster["status"]);
    ensure!(backup["status"]["phase"] == "completed");
    scene.ground.stop().await
}
