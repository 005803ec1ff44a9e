//! Kill tests (acceptance 6). They ask the lab's node double to kill processes; everything else is as on any
//! ground. Afterwards: no WAL lost, no false `completed`, no Backup stuck, and the next try succeeds.

use anyhow::{Result, ensure};
use howdah_e2e::manifests::backup;
use howdah_e2e::wait;
use rstest::rstest;
use serde_json::json;

use crate::common::{Scene, checksum, phase, table};

/// The instance manager (and with it PostgreSQL) dies while a backup is in the given phase.
#[rstest]
#[case::started("started")]
#[case::running("running")]
#[case::finalizing("finalizing")]
#[tokio::test(flavor = "multi_thread")]
async fn the_manager_dies_during_a_backup(#[case] when: &str) -> Result<()> {
    let scene = Scene::new(&format!("kb-{when}")).await?;
    let lab = scene.ground.lab()?;
    scene.up("pg", json!({"backup": {"barmanObjectStore": {"data": {"compression": "gzip"}}}})).await?;
    let sql = scene.sql("pg");
    sql.run(&table("t", 60_000)).await?;
    let sum = sql.run(&checksum("t")).await?;
    // Slow store, so that each phase can be met.
    lab.slow_store(true)?;
    scene.apply(&backup("hit", "pg")).await?;
    scene
        .kubectl
        .wait_for("backup", "hit", when, wait::minutes(3), |b| {
            phase(b) == when || ["completed", "failed"].contains(&phase(b))
        })
        .await?;
    lab.kill(&scene.kubectl.namespace, "pg-1", "postgres").await?;
    lab.slow_store(false)?;
    let ended = scene.ended("hit").await?;
    // The manager that comes back goes on with it, and what it completes must restore.
    ensure!(phase(&ended) == "completed", "{:#}", ended["status"]);
    ensure!(ended["status"]["resumes"].as_i64().unwrap_or(0) <= 1, "{:#}", ended["status"]);
    scene.apply(&scene.restored("hit-again", "hit", json!(null))).await?;
    scene.healthy("hit-again").await?;
    ensure!(scene.sql("hit-again").run(&checksum("t")).await? == sum);
    ensure!(sql.run_when_up(&checksum("t"), wait::minutes(3)).await? == sum);
    scene.completed_backup("next", "pg").await?;
    // Nothing half-written is left beside the good one.
    let keys = scene.ground.keys("").await?;
    for key in keys.iter().filter(|k| k.contains("/base/") && k.contains(".tar")) {
        let dir = key.rsplit_once('/').map_or("", |(d, _)| d);
        ensure!(keys.contains(&format!("{dir}/backup.info")), "an orphan: {key}");
    }
    scene.apply(&scene.restored("again", "next", json!(null))).await?;
    scene.healthy("again").await?;
    ensure!(scene.sql("again").run(&checksum("t")).await? == sum);
    scene.ground.stop().await
}

/// The manager dies again and again under a write load; every segment reaches the archive.
#[tokio::test(flavor = "multi_thread")]
async fn the_manager_dies_while_it_archives() -> Result<()> {
    let scene = Scene::new("ka").await?;
    let lab = scene.ground.lab()?;
    scene.up("pg", json!({"backup": {"barmanObjectStore": {"wal": {"compression": "gzip"}}}})).await?;
    let sql = scene.sql("pg");
    sql.run("create table t (id serial primary key, body text)").await?;
    scene.completed_backup("base", "pg").await?;
    for round in 0..3 {
        lab.slow_store(true)?;
        sql.run_when_up(
            "insert into t (body) select repeat(md5(i::text), 30) from generate_series(1, 30000) i",
            wait::minutes(3),
        )
        .await?;
        sql.run("select pg_switch_wal()").await?;
        lab.kill(&scene.kubectl.namespace, "pg-1", "postgres").await?;
        lab.slow_store(false)?;
        let rows = sql.run_when_up("select count(*) from t", wait::minutes(3)).await?;
        ensure!(rows == format!("{}", (round + 1) * 30_000), "{rows} rows after round {round}");
    }
    let sum = sql.run(&checksum("t")).await?;
    scene.archive_all("pg").await?;
    scene.apply(&scene.restored("again", "base", json!(null))).await?;
    scene.healthy("again").await?;
    ensure!(scene.sql("again").run(&checksum("t")).await? == sum);
    scene.ground.stop().await
}

/// The recovery container dies while it fetches, then the manager while it replays.
#[tokio::test(flavor = "multi_thread")]
async fn the_manager_dies_during_restore_and_replay() -> Result<()> {
    let scene = Scene::new("kr").await?;
    let lab = scene.ground.lab()?;
    scene.up("pg", json!({"backup": {"barmanObjectStore": {"wal": {"compression": "zstd"}, "data": {"compression": "zstd"}}}})).await?;
    let sql = scene.sql("pg");
    sql.run(&table("t", 50_000)).await?;
    scene.completed_backup("b", "pg").await?;
    for _ in 0..4 {
        sql.run("update t set body = body || 'x'; select pg_switch_wal()").await?;
    }
    let sum = sql.run(&checksum("t")).await?;
    scene.archive_all("pg").await?;

    lab.slow_store(true)?;
    scene.apply(&scene.restored("again", "b", json!(null))).await?;
    wait::until("the recovery container at work", wait::minutes(3), || async {
        let pod = scene.kubectl.get("pod", "again-1").await?.unwrap_or_default();
        let running = pod["status"]["initContainerStatuses"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|c| c["name"] == "full-recovery" && c["state"]["running"].is_object());
        Ok(running.then_some(()))
    })
    .await?;
    lab.kill(&scene.kubectl.namespace, "again-1", "full-recovery").await?;
    wait::until("PostgreSQL at work", wait::minutes(4), || async {
        let pod = scene.kubectl.get("pod", "again-1").await?.unwrap_or_default();
        Ok((pod["status"]["containerStatuses"][0]["state"]["running"].is_object()).then_some(()))
    })
    .await?;
    lab.kill(&scene.kubectl.namespace, "again-1", "postgres").await?;
    lab.slow_store(false)?;
    scene.healthy("again").await?;
    ensure!(scene.sql("again").run(&checksum("t")).await? == sum);
    scene.ground.stop().await
}

/// PostgreSQL alone dies; the instance comes back with everything that was committed.
#[tokio::test(flavor = "multi_thread")]
async fn postgresql_dies() -> Result<()> {
    let scene = Scene::new("kp").await?;
    let lab = scene.ground.lab()?;
    scene.up("pg", json!({})).await?;
    let sql = scene.sql("pg");
    sql.run(&table("t", 1000)).await?;
    let sum = sql.run(&checksum("t")).await?;
    let before = sql.run("select pg_postmaster_start_time()").await?;
    lab.kill_process(&scene.kubectl.namespace, "pg-1", "postgres", "postgres")?;
    wait::until("another postmaster", wait::minutes(3), || async {
        Ok((sql.run("select pg_postmaster_start_time()").await? != before).then_some(()))
    })
    .await?;
    ensure!(sql.run(&checksum("t")).await? == sum);
    scene.completed_backup("after", "pg").await?;
    scene.ground.stop().await
}

/// The operator dies while a Backup is in each phase; the backup goes on without it.
#[rstest]
#[case::pending("pending")]
#[case::started("started")]
#[case::running("running")]
#[case::finalizing("finalizing")]
#[tokio::test(flavor = "multi_thread")]
async fn the_operator_dies_during_a_backup(#[case] when: &str) -> Result<()> {
    let scene = Scene::new(&format!("ko-{when}")).await?;
    let lab = scene.ground.lab()?;
    scene.up("pg", json!({"backup": {"barmanObjectStore": {"data": {"compression": "gzip"}}}})).await?;
    let sql = scene.sql("pg");
    sql.run(&table("t", 30_000)).await?;
    lab.slow_store(true)?;
    if when == "pending" {
        lab.kill_operator().await?;
        scene.apply(&backup("hit", "pg")).await?;
    } else {
        scene.apply(&backup("hit", "pg")).await?;
        scene
            .kubectl
            .wait_for("backup", "hit", when, wait::minutes(3), |b| {
                phase(b) == when || ["completed", "failed"].contains(&phase(b))
            })
            .await?;
        lab.kill_operator().await?;
    }
    lab.slow_store(false)?;
    let ended = scene.ended("hit").await?;
    ensure!(phase(&ended) == "completed", "{:#}", ended["status"]);
    scene.completed_backup("next", "pg").await?;
    scene.ground.stop().await
}

/// The operator dies while a cluster comes up.
#[tokio::test(flavor = "multi_thread")]
async fn the_operator_dies_while_a_cluster_comes_up() -> Result<()> {
    let scene = Scene::new("koc").await?;
    let lab = scene.ground.lab()?;
    scene.apply(&scene.cluster("pg", json!({"instances": 2}))).await?;
    for pod in ["pg-1", "pg-2"] {
        scene.kubectl.wait_for("pod", pod, "made", wait::minutes(4), |_| true).await?;
        lab.kill_operator().await?;
    }
    let cluster = scene
        .kubectl
        .wait_for("cluster", "pg", "two ready instances", wait::minutes(5), |c| {
            c["status"]["readyInstances"] == 2
        })
        .await?;
    ensure!(cluster["status"]["currentPrimary"] == "pg-1", "{:#}", cluster["status"]);
    scene.sql("pg").run("select 1").await?;
    scene.ground.stop().await
}

/// The pod goes in the middle of a backup: failed within a minute or so, and the next succeeds.
#[tokio::test(flavor = "multi_thread")]
async fn the_pod_is_deleted_during_a_backup() -> Result<()> {
    let scene = Scene::new("kpod").await?;
    let lab = scene.ground.lab()?;
    scene
        .up("pg", json!({"stopDelay": 5, "backup": {"barmanObjectStore": {"data": {"compression": "gzip"}}}}))
        .await?;
    scene.sql("pg").run(&table("t", 30_000)).await?;
    lab.slow_store(true)?;
    scene.apply(&backup("hit", "pg")).await?;
    scene.kubectl.wait_for("backup", "hit", "running", wait::minutes(3), |b| phase(b) == "running").await?;
    scene.kubectl.run(&["delete", "pod", "pg-1", "--wait=false"]).await?;
    lab.slow_store(false)?;
    let ended = scene.ended("hit").await?;
    ensure!(
        phase(&ended) == "failed" && ended["status"]["error"].as_str().is_some_and(|e| !e.is_empty()),
        "{:#}",
        ended["status"]
    );
    scene.healthy("pg").await?;
    scene.completed_backup("next", "pg").await?;
    scene.ground.stop().await
}
