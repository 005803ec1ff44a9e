//! The WAL archive and backups as a user sees them.

use anyhow::{Result, ensure};
use howdah_e2e::wait;
use serde_json::json;

use crate::common::{Scene, checksum, condition, phase, table};

/// S2.23, S3.2, S3.3, S3.15: archiving begins once a store is given, also on a cluster that is already there.
#[tokio::test(flavor = "multi_thread")]
async fn archiving_begins_when_the_store_is_given() -> Result<()> {
    let scene = Scene::new("begin").await?;
    let mut plain = scene.cluster("pg", json!({}));
    let backup = plain["spec"]["backup"].take();
    if let Some(spec) = plain["spec"].as_object_mut() {
        spec.remove("backup");
    }
    scene.apply(&plain).await?;
    scene.healthy("pg").await?;
    let sql = scene.sql("pg");
    sql.run(&table("t", 100)).await?;
    sql.run("select pg_switch_wal()").await?;
    wait::until("the first segment answered", wait::minutes(1), || async {
        Ok((sql.run("select archived_count > 0 from pg_stat_archiver").await? == "t").then_some(()))
    })
    .await?;
    ensure!(sql.run("select failed_count from pg_stat_archiver").await? == "0");
    ensure!(scene.ground.keys("").await?.is_empty(), "nothing may be written before a store is given");

    plain["spec"]["backup"] = backup;
    scene.apply(&plain).await?;
    wait::until("a segment in the bucket", wait::minutes(2), || async {
        sql.run(
            "create table if not exists tick (i int); insert into tick values (1); select pg_switch_wal()",
        )
        .await?;
        Ok(scene.ground.keys("").await?.iter().any(|k| k.contains("/wals/")).then_some(()))
    })
    .await?;
    scene.completed_backup("first", "pg").await?;
    scene.ground.stop().await
}

/// S2.3, S2.24, S3.16: compression by suffix, server-side encryption by header, and the user's own check.
#[tokio::test(flavor = "multi_thread")]
async fn wal_is_compressed_and_encryption_is_asked_for() -> Result<()> {
    let scene = Scene::new("codec").await?;
    let section = json!({"backup": {"barmanObjectStore": {
        "wal": {"compression": "gzip", "encryption": "AES256"},
        "data": {"compression": "zstd", "jobs": 2, "encryption": "AES256"},
        "tags": {"team": "db"},
    }}});
    scene.up("pg", section).await?;
    let sql = scene.sql("pg");
    sql.run(&table("t", 1000)).await?;
    scene.archive_all("pg").await?;
    ensure!(sql.run("select archived_count > 0, failed_count from pg_stat_archiver").await? == "t|0");
    let backup = scene.completed_backup("first", "pg").await?;
    ensure!(backup["status"]["compression"] == "zstd", "{:#}", backup["status"]);
    let objects = scene.ground.objects("").await?;
    let wals: Vec<_> = objects.iter().filter(|o| o.key.contains("/wals/")).collect();
    ensure!(!wals.is_empty() && wals.iter().all(|o| o.key.ends_with(".gz")), "{wals:?}");
    ensure!(wals.iter().all(|o| o.encryption.as_deref() == Some("AES256")), "{wals:?}");
    ensure!(wals.iter().all(|o| o.tags.as_deref() == Some("team=db")), "{wals:?}");
    let tars: Vec<_> = objects.iter().filter(|o| o.key.contains(".tar")).collect();
    ensure!(!tars.is_empty() && tars.iter().all(|o| o.key.ends_with(".tar.zst")), "{tars:?}");
    scene.ground.stop().await
}

/// S0.1, S2.26: the backup of an idle database is restorable at once, from its Backup object alone.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_databases_backup_is_restorable_at_once() -> Result<()> {
    let scene = Scene::new("idle").await?;
    // No archive_timeout: nothing but the backup itself may bring the last segment into the archive.
    scene.up("pg", json!({"postgresql": {"parameters": {"archive_timeout": "0"}}})).await?;
    let sql = scene.sql("pg");
    sql.run(&table("t", 2000)).await?;
    let sum = sql.run(&checksum("t")).await?;
    let backup = scene.completed_backup("idle", "pg").await?;
    let end_wal = backup["status"]["endWal"].as_str().unwrap_or_default().to_owned();
    ensure!(end_wal.len() == 24, "endWal {end_wal}");
    ensure!(
        scene.ground.keys("").await?.iter().any(|k| k.contains(&end_wal)),
        "{end_wal} is not in the archive"
    );
    // The cluster goes, and takes its pods with it: the Backup object alone must do.
    scene.kubectl.run(&["delete", "cluster", "pg"]).await?;
    scene.apply(&scene.restored("again", "idle", json!({"targetImmediate": true}))).await?;
    scene.healthy("again").await?;
    ensure!(scene.sql("again").run(&checksum("t")).await? == sum);
    scene.ground.stop().await
}

/// S1.28: one at a time in a cluster, the oldest first; one that cannot start does not hold up the others.
#[tokio::test(flavor = "multi_thread")]
async fn backups_queue_and_a_stuck_one_does_not_block() -> Result<()> {
    let scene = Scene::new("queue").await?;
    scene.up("pg", json!({})).await?;
    scene.apply(&howdah_e2e::manifests::backup("a-nowhere", "no-such-cluster")).await?;
    for name in ["b1", "b2", "b3"] {
        scene.apply(&howdah_e2e::manifests::backup(name, "pg")).await?;
    }
    let mut spans = Vec::new();
    for name in ["b1", "b2", "b3"] {
        let backup = scene.ended(name).await?;
        ensure!(phase(&backup) == "completed", "{name}: {:#}", backup["status"]);
        let at = |field: &str| backup["status"][field].as_str().unwrap_or_default().to_owned();
        spans.push((at("startedAt"), at("stoppedAt"), at("backupId")));
    }
    spans.sort();
    for pair in spans.windows(2) {
        ensure!(pair[0].1 <= pair[1].0, "backups overlap: {pair:?}");
        ensure!(pair[0].2 < pair[1].2, "ids do not ascend: {pair:?}");
    }
    let stuck = scene.kubectl.get("backup", "a-nowhere").await?.unwrap_or_default();
    ensure!(phase(&stuck) == "pending", "{:#}", stuck["status"]);
    let why = condition(&stuck, "Scheduled").cloned().unwrap_or_default();
    ensure!(
        why["reason"] == "ClusterNotFound"
            && why["message"].as_str().is_some_and(|m| m.contains("no-such-cluster")),
        "{why}"
    );
    // It starts by itself when its cluster appears.
    scene.apply(&scene.cluster("no-such-cluster", json!({}))).await?;
    let late = scene.ended("a-nowhere").await?;
    ensure!(phase(&late) == "completed", "{:#}", late["status"]);
    scene.ground.stop().await
}

/// S0.28, S0.36, S2.17: progress, sizes and the columns of `kubectl get backups`.
#[tokio::test(flavor = "multi_thread")]
async fn a_completed_backup_tells_everything() -> Result<()> {
    let scene = Scene::new("tells").await?;
    scene.up("pg", json!({"backup": {"barmanObjectStore": {"data": {"compression": "lz4"}}}})).await?;
    scene.sql("pg").run(&table("t", 50_000)).await?;
    let backup = scene.completed_backup("full", "pg").await?;
    let status = &backup["status"];
    for field in [
        "backupId",
        "backupName",
        "destinationPath",
        "endpointURL",
        "serverName",
        "startedAt",
        "stoppedAt",
        "beginWal",
        "endWal",
        "beginLSN",
        "endLSN",
        "size",
        "duration",
        "systemID",
    ] {
        ensure!(status[field].as_str().is_some_and(|s| !s.is_empty()), "{field}: {status:#}");
    }
    ensure!(
        status["instanceID"]["podName"] == "pg-1"
            && status["instanceID"]["sessionID"].as_str().is_some_and(|s| !s.is_empty()),
        "{status:#}"
    );
    ensure!(status["sizeBytes"].as_i64().is_some_and(|n| n > 100_000), "{status:#}");
    ensure!(status["databaseSizeBytes"].as_i64() > status["sizeBytes"].as_i64(), "{status:#}");
    ensure!(status["progress"]["percent"] == "100%", "{status:#}");
    ensure!(status["progress"]["bytesDone"] == status["progress"]["bytesTotal"], "{status:#}");
    ensure!(condition(&backup, "Completed").is_some_and(|c| c["status"] == "True"), "{status:#}");
    let table = scene.kubectl.run(&["get", "backups"]).await?;
    let header: Vec<&str> = table.lines().next().unwrap_or_default().split_whitespace().collect();
    ensure!(
        header
            == [
                "NAME",
                "CLUSTER",
                "REPOSITORY",
                "TYPE",
                "PHASE",
                "PROGRESS",
                "SIZE",
                "AGE",
                "DURATION",
                "ERROR"
            ],
        "{table}"
    );
    ensure!(table.contains("completed") && table.contains("100%"), "{table}");
    let cluster = scene
        .kubectl
        .wait_for("cluster", "pg", "the backup in its status", wait::minutes(2), |c| {
            c["status"]["lastSuccessfulBackupName"] == "full"
                && c["status"]["firstRecoverabilityPoint"].is_string()
        })
        .await?;
    ensure!(condition(&cluster, "LastBackupSucceeded").is_some_and(|c| c["status"] == "True"));
    // The spec of a Backup cannot be changed.
    let mut changed = howdah_e2e::manifests::backup("full", "pg");
    changed["spec"]["target"] = json!("primary");
    let refused = scene.kubectl.apply_refused(&changed.to_string()).await?;
    ensure!(refused.contains("create another Backup"), "{refused}");
    scene.ground.stop().await
}

/// A backup taken from a standby, with the end segment closed on the primary.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_from_a_standby() -> Result<()> {
    let scene = Scene::new("standby").await?;
    scene.up("pg", json!({"instances": 2, "backup": {"target": "prefer-standby"}, "postgresql": {"parameters": {"archive_timeout": "0"}}})).await?;
    let sql = scene.sql("pg");
    sql.run(&table("t", 3000)).await?;
    let sum = sql.run(&checksum("t")).await?;
    let backup = scene.completed_backup("standby", "pg").await?;
    ensure!(backup["status"]["instanceID"]["podName"] == "pg-2", "{:#}", backup["status"]);
    scene.apply(&scene.restored("again", "standby", json!(null))).await?;
    scene.healthy("again").await?;
    ensure!(scene.sql("again").run(&checksum("t")).await? == sum);
    scene.ground.stop().await
}
