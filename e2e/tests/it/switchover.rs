//! A change of primary that somebody asked for: nothing is lost, and backups and the archive go on across it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use howdah_api::labels;
use howdah_e2e::ledger::Writer;
use howdah_e2e::manifests::backup;
use howdah_e2e::{paths, wait};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::common::{Scene, checksum, error, phase, table};
use crate::standing::{WORKERS, complete, text, three};

/// A switchover to a replica by name, under load, without synchronous replication.
#[tokio::test(flavor = "multi_thread")]
async fn a_switchover_by_annotation_loses_nothing() -> Result<()> {
    let scene = Scene::new("so-name").await?;
    let (before, door, writer) = scene.loaded("pg", three(json!({})), WORKERS).await?;
    let chosen = *before.replicas().last().context("no replica")?;
    scene.switch_over("pg", chosen).await?;
    writer.goes_on(wait::minutes(2)).await?;
    let after = scene.settled("pg", 3).await?;
    writer.goes_on(wait::minutes(1)).await?;
    let ledger = writer.stop().await;
    eprintln!("switchover: longest time without a row {:.1} s", ledger.longest_gap.as_secs_f64());
    ensure!(after.primary == chosen && after.timeline == before.timeline + 1, "{before:?} {after:?}");
    ensure!(scene.annotation("pg", labels::SWITCHOVER).await?.is_none(), "the annotation is still there");
    ensure!(ledger.longest_gap < Duration::from_secs(60), "no writes for {:?}", ledger.longest_gap);
    complete(&ledger, &door).await?;
    scene.agreed("pg", &after).await?;
    // The former primary followed without a copy of everything: it kept its pod.
    let pod = scene.pod(&before.primary).await?;
    ensure!(text(&pod, "/status/podIP") == before.addresses[&before.primary], "another pod: {pod:#}");
    scene.ground.stop().await
}

/// Whom it cannot be given to does not become the primary; the reason is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_switchover_to_nobody_is_refused() -> Result<()> {
    let scene = Scene::new("so-refused").await?;
    scene.up("pg", json!({"instances": 2})).await?;
    let before = scene.settled("pg", 2).await?;
    scene.annotate("pg", labels::SWITCHOVER, Some("pg-9")).await?;
    scene.event("SwitchoverRefused", &["pg-9"]).await?;
    wait::until("the annotation taken away", wait::minutes(2), || async {
        Ok(scene.annotation("pg", labels::SWITCHOVER).await?.is_none().then_some(()))
    })
    .await?;
    let after = scene.settled("pg", 2).await?;
    ensure!(after.primary == before.primary && after.timeline == before.timeline, "{before:?} {after:?}");
    scene.sql("pg").run("create table t (id int)").await?;
    scene.ground.stop().await
}

/// `operator switchover`, as a user runs it from outside of the cluster.
async fn subcommand(scene: &Scene, words: &[&str]) -> Result<std::process::Output> {
    Command::new(paths::program("operator")?)
        .arg("switchover")
        .args(words)
        .arg("--namespace")
        .arg(&scene.kubectl.namespace)
        .env("KUBECONFIG", &scene.kubectl.kubeconfig)
        .kill_on_drop(true)
        .output()
        .await
        .context("the operator's program does not start")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switchover_by_the_subcommand() -> Result<()> {
    let scene = Scene::new("so-cli").await?;
    scene.up("pg", json!({"instances": 2})).await?;
    let before = scene.settled("pg", 2).await?;
    let writer = Writer::start(&scene.door("pg").await?, WORKERS).await?;
    writer.goes_on(wait::minutes(1)).await?;
    let out = subcommand(&scene, &["no-such-cluster", "pg-2"]).await?;
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    ensure!(!out.status.success() && said.contains("no-such-cluster"), "{said}");
    let out = subcommand(&scene, &["pg", "pg-2"]).await?;
    ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    scene.succeeded("pg", &before.primary).await?;
    writer.goes_on(wait::minutes(2)).await?;
    let after = scene.settled("pg", 2).await?;
    let ledger = writer.stop().await;
    ensure!(after.primary == "pg-2" && after.timeline == before.timeline + 1, "{before:?} {after:?}");
    complete(&ledger, &scene.door("pg").await?).await?;
    scene.ground.stop().await
}

/// The instance that a backup is taken from becomes the primary meanwhile: the backup completes or fails with a reason,
/// what is completed restores, and the next one completes.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_meets_a_switchover() -> Result<()> {
    let scene = Scene::new("so-backup").await?;
    let lab = scene.ground.lab()?;
    let spec = json!({"backup": {"target": "prefer-standby", "barmanObjectStore": {"data": {"compression": "gzip"}}}});
    scene.up("pg", three(spec)).await?;
    scene.settled("pg", 3).await?;
    let sql = scene.sql("pg");
    sql.run(&table("t", 60_000)).await?;
    lab.slow_store(true)?;
    scene.apply(&backup("hit", "pg")).await?;
    let running = scene
        .kubectl
        .wait_for("backup", "hit", "running", wait::minutes(3), |b| {
            ["running", "completed", "failed"].contains(&phase(b))
        })
        .await?;
    ensure!(phase(&running) == "running", "{:#}", running["status"]);
    let source = text(&running, "/status/instanceID/podName").to_owned();
    ensure!(source != "pg-1", "a replica was to be preferred: {:#}", running["status"]);
    let asked = scene.switch_over("pg", &source).await;
    lab.slow_store(false)?;
    asked?;
    let standing = scene.settled("pg", 3).await?;
    ensure!(standing.primary == source, "{standing:?}");
    let hit = scene.ended("hit").await?;
    ensure!(phase(&hit) == "completed" || error(&hit).len() > 20, "{:#}", hit["status"]);
    scene.completed_backup("next", "pg").await?;
    sql.run("insert into t values (100000, 'behind both')").await?;
    let sum = sql.run(&checksum("t")).await?;
    scene.archive_all("pg").await?;
    for name in ["hit", "next"] {
        if name == "hit" && phase(&hit) != "completed" {
            continue;
        }
        let cluster = format!("again-{name}");
        scene.apply(&scene.restored(&cluster, name, Value::Null)).await?;
        scene.healthy(&cluster).await?;
        let restored = scene.sql(&cluster).run(&checksum("t")).await?;
        ensure!(restored == sum, "{cluster} has {restored}, pg has {sum}");
    }
    scene.ground.stop().await
}

/// S0.5: a Backup from before two switchovers, there and back, restores to what was written behind them: the path leads
/// over three timelines.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_reaches_what_was_written_behind_a_switchover() -> Result<()> {
    let scene = Scene::new("so-path").await?;
    scene.up("pg", json!({"instances": 2})).await?;
    let before = scene.settled("pg", 2).await?;
    let sql = scene.sql("pg");
    sql.run(&table("t", 1000)).await?;
    scene.completed_backup("before", "pg").await?;
    for (round, to) in ["pg-2", "pg-1"].into_iter().enumerate() {
        sql.run(&format!("insert into t values ({}, 'on the way to {to}')", 2000 + round)).await?;
        scene.switch_over("pg", to).await?;
        let standing = scene.settled("pg", 2).await?;
        ensure!(standing.primary == to, "{standing:?}");
        sql.run(&format!("insert into t values ({}, 'on {to}')", 3000 + round)).await?;
    }
    let after = scene.settled("pg", 2).await?;
    ensure!(after.timeline == before.timeline + 2, "{before:?} {after:?}");
    let sum = sql.run(&checksum("t")).await?;
    scene.archive_all("pg").await?;
    scene.apply(&scene.restored("again", "before", Value::Null)).await?;
    scene.healthy("again").await?;
    let restored = scene.sql("again").run(&checksum("t")).await?;
    ensure!(restored == sum, "again has {restored}, pg has {sum}");
    scene.ground.stop().await
}
