//! The store goes away in the middle of each job and comes back: nothing is lost, nothing is falsely complete.
//! These tests ask the S3 server for the outage.

use std::time::Duration;

use anyhow::{Result, ensure};
use howdah_e2e::manifests::backup;
use howdah_e2e::wait;
use serde_json::json;

use crate::common::{Scene, checksum, phase, table};

/// How long the store is away.
const AWAY: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn the_store_is_away_during_archive_and_backup() -> Result<()> {
    let scene = Scene::new("outage").await?;
    let lab = scene.ground.lab()?;
    scene.up("pg", json!({"backup": {"barmanObjectStore": {"data": {"compression": "gzip"}}}})).await?;
    let sql = scene.sql("pg");
    sql.run(&table("t", 30_000)).await?;
    lab.slow_store(true)?;
    scene.apply(&backup("hit", "pg")).await?;
    scene
        .kubectl
        .wait_for("backup", "hit", "running", wait::minutes(3), |b| {
            phase(b) == "running" || ["completed", "failed"].contains(&phase(b))
        })
        .await?;
    let back = lab.store_away(AWAY)?;
    sql.run("insert into t select i, 'while it was away' from generate_series(100001, 101000) i; select pg_switch_wal()").await?;
    let sum = sql.run(&checksum("t")).await?;
    back.await;
    lab.slow_store(false)?;
    let ended = scene.ended("hit").await?;
    ensure!(["completed", "failed"].contains(&phase(&ended)), "{:#}", ended["status"]);
    if phase(&ended) == "failed" {
        ensure!(ended["status"]["error"].as_str().is_some_and(|e| e.len() > 20), "{:#}", ended["status"]);
    }
    scene.archive_all("pg").await?;
    scene.completed_backup("next", "pg").await?;
    let from = if phase(&ended) == "completed" { "hit" } else { "next" };
    scene.apply(&scene.restored("again", from, json!(null))).await?;
    scene.healthy("again").await?;
    ensure!(scene.sql("again").run(&checksum("t")).await? == sum);
    scene.ground.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_is_away_during_restore_and_replay() -> Result<()> {
    let scene = Scene::new("outager").await?;
    let lab = scene.ground.lab()?;
    scene.up("pg", json!({"backup": {"barmanObjectStore": {"data": {"compression": "gzip"}}}})).await?;
    let sql = scene.sql("pg");
    sql.run(&table("t", 30_000)).await?;
    scene.completed_backup("b", "pg").await?;
    sql.run("update t set body = 'changed'").await?;
    let sum = sql.run(&checksum("t")).await?;
    scene.archive_all("pg").await?;
    lab.slow_store(true)?;
    scene.apply(&scene.restored("again", "b", json!(null))).await?;
    wait::until("the recovery container at work", wait::minutes(3), || async {
        let pod = scene.kubectl.get("pod", "again-1").await?.unwrap_or_default();
        Ok(pod["status"]["initContainerStatuses"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|c| c["name"] == "full-recovery" && c["state"]["running"].is_object())
            .then_some(()))
    })
    .await?;
    lab.store_away(AWAY)?.await;
    wait::until("PostgreSQL at work", wait::minutes(5), || async {
        let pod = scene.kubectl.get("pod", "again-1").await?.unwrap_or_default();
        Ok(pod["status"]["containerStatuses"][0]["state"]["running"].is_object().then_some(()))
    })
    .await?;
    // Replay must wait for the store, not take its silence for the end of the archive.
    lab.store_away(AWAY)?.await;
    lab.slow_store(false)?;
    scene.healthy("again").await?;
    ensure!(scene.sql("again").run(&checksum("t")).await? == sum);
    scene.ground.stop().await
}
