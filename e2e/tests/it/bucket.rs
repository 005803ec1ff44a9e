//! What is in the bucket, and what happens when it was damaged: told before a byte is fetched where it can be
//! known, never taken for good; put right, the same recovery succeeds without further help.

use anyhow::{Context, Result, ensure};
use howdah_e2e::wait;
use rstest::rstest;
use serde_json::json;

use crate::common::{Scene, checksum, condition, table};

/// Damage to one object, and a word that the message must hold besides the object's name.
#[rstest]
#[case::tar_lost("tarlost", ".tar", Damage::Lose)]
#[case::tar_truncated("tarcut", ".tar", Damage::Truncate)]
#[case::tar_corrupt("tarbad", ".tar", Damage::Corrupt)]
#[case::info_lost("infolost", "backup.info", Damage::Lose)]
#[case::info_corrupt("infobad", "backup.info", Damage::Corrupt)]
#[case::end_wal_lost("wallost", "/wals/", Damage::Lose)]
#[case::end_wal_truncated("walcut", "/wals/", Damage::Truncate)]
#[case::end_wal_corrupt("walbad", "/wals/", Damage::Corrupt)]
#[tokio::test(flavor = "multi_thread")]
async fn damage_is_told_and_can_be_mended(
    #[case] name: &str,
    #[case] part: &str,
    #[case] damage: Damage,
) -> Result<()> {
    let scene = Scene::new(name).await?;
    scene.up("pg", json!({"backup": {"barmanObjectStore": {"wal": {"compression": "lz4"}, "data": {"compression": "gzip"}}}})).await?;
    let sql = scene.sql("pg");
    sql.run(&table("t", 2000)).await?;
    let sum = sql.run(&checksum("t")).await?;
    let backup = scene.completed_backup("b", "pg").await?;
    let end_wal = backup["status"]["endWal"].as_str().unwrap_or_default();
    let keys = scene.ground.keys("").await?;
    let key = keys
        .iter()
        .find(|k| {
            if part == "/wals/" {
                k.contains(end_wal) && !k.contains(".backup")
            } else {
                k.contains("/base/") && k.contains(part)
            }
        })
        .with_context(|| format!("no {part} among {keys:?}"))?
        .clone();
    let good = scene.ground.read_object(&key).await?;
    match damage {
        Damage::Lose => scene.ground.delete_object(&key).await?,
        Damage::Truncate => scene.ground.write_object(&key, good[..good.len() / 2].to_vec()).await?,
        Damage::Corrupt => {
            let mut bad = good.clone();
            let middle = bad.len() / 2;
            for byte in &mut bad[middle..] {
                *byte = byte.wrapping_add(97);
            }
            scene.ground.write_object(&key, bad).await?;
        }
    }
    scene.apply(&scene.restored("again", "b", json!(null))).await?;
    let file = key.rsplit('/').next().unwrap_or_default();
    let word = file.split('.').next().unwrap_or_default();
    let cluster = scene
        .kubectl
        .wait_for("cluster", "again", "the damage", wait::minutes(4), |c| {
            c["status"]["phaseReason"].as_str().is_some_and(|r| r.contains(word))
        })
        .await?;
    ensure!(condition(&cluster, "Ready").is_some_and(|c| c["status"] == "False"), "{:#}", cluster["status"]);
    scene.ground.write_object(&key, good).await?;
    scene.healthy("again").await?;
    ensure!(scene.sql("again").run(&checksum("t")).await? == sum);
    scene.ground.stop().await
}

#[derive(Clone, Copy, Debug)]
pub enum Damage {
    Lose,
    Truncate,
    Corrupt,
}

/// A hole in the archive behind the backup is not taken for its end: what lies behind it would be lost in silence.
#[tokio::test(flavor = "multi_thread")]
async fn a_hole_in_the_archive_is_told() -> Result<()> {
    let scene = Scene::new("hole").await?;
    scene.up("pg", json!({})).await?;
    let sql = scene.sql("pg");
    sql.run(&table("t", 10)).await?;
    let backup = scene.completed_backup("b", "pg").await?;
    let end_wal = backup["status"]["endWal"].as_str().unwrap_or_default();
    for id in 100..103 {
        sql.run(&format!("insert into t values ({id}, 'behind the backup'); select pg_switch_wal()")).await?;
    }
    scene.archive_all("pg").await?;
    let sum = sql.run(&checksum("t")).await?;
    let name = |key: &String| key.rsplit('/').next().unwrap_or_default().to_owned();
    let mut behind: Vec<String> = scene.ground.keys("/wals/").await?;
    behind.retain(|k| name(k).len() == 24 && name(k).as_str() > end_wal);
    behind.sort();
    ensure!(behind.len() >= 3, "{behind:?}");
    let (key, segment) = (behind[1].clone(), name(&behind[1]));
    let good = scene.ground.read_object(&key).await?;
    scene.ground.delete_object(&key).await?;
    scene.apply(&scene.restored("again", "b", json!(null))).await?;
    let cluster = scene
        .kubectl
        .wait_for("cluster", "again", "the hole", wait::minutes(4), |c| {
            c["status"]["phaseReason"].as_str().is_some_and(|r| r.contains(&segment))
        })
        .await?;
    ensure!(cluster["status"]["readyInstances"] == 0, "{:#}", cluster["status"]);
    // What lies before the hole can be had.
    scene.apply(&scene.restored("before", "b", json!({"targetImmediate": true}))).await?;
    scene.healthy("before").await?;
    ensure!(scene.sql("before").run("select count(*) from t").await? == "10");
    scene.ground.write_object(&key, good).await?;
    scene.healthy("again").await?;
    ensure!(scene.sql("again").run(&checksum("t")).await? == sum);
    scene.ground.stop().await
}

/// The same WAL name with other content in the archive: refused, nothing overwritten; taken away, archiving goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_segment_of_other_content_is_not_overwritten() -> Result<()> {
    let scene = Scene::new("other").await?;
    scene.up("pg", json!({})).await?;
    let sql = scene.sql("pg");
    sql.run(&table("t", 10)).await?;
    scene.archive_all("pg").await?;
    // A write first: exactly between two segments PostgreSQL names the one before.
    let current = sql
        .run("insert into t values (99, 'x'); select pg_walfile_name(pg_current_wal_insert_lsn())")
        .await?;
    let wal = scene
        .ground
        .keys("")
        .await?
        .into_iter()
        .find(|k| k.contains("/wals/"))
        .context("no WAL in the bucket")?;
    let prefix = wal.split("/wals/").next().unwrap_or_default().to_owned();
    let key = format!("{prefix}/wals/{}/{current}", &current[..16]);
    let foreign = vec![7_u8; 16 * 1024 * 1024];
    scene.ground.write_object(&key, foreign.clone()).await?;
    sql.run("insert into t values (100, 'x'); select pg_switch_wal()").await?;
    scene
        .kubectl
        .wait_for("cluster", "pg", "the refusal", wait::minutes(3), |c| {
            condition(c, "ContinuousArchiving").is_some_and(|c| {
                c["status"] == "False" && c["message"].as_str().is_some_and(|m| m.contains(&current))
            })
        })
        .await?;
    ensure!(scene.ground.read_object(&key).await? == foreign, "{key} was overwritten");
    scene.ground.delete_object(&key).await?;
    scene
        .kubectl
        .wait_for("cluster", "pg", "archiving works", wait::minutes(4), |c| {
            condition(c, "ContinuousArchiving").is_some_and(|c| c["status"] == "True")
        })
        .await?;
    let archived = scene.ground.read_object(&key).await?;
    ensure!(archived.len() == 16 * 1024 * 1024 && archived != foreign);
    scene.ground.stop().await
}
