//! PostgreSQL 13 to 18 under the shipped manager (acceptance 8): backup, archive and recovery on each, and a change of the
//! primary on each.

use anyhow::{Result, ensure};
use howdah_e2e::manifests::merge;
use howdah_e2e::wait;
use rstest::rstest;
use serde_json::json;

use crate::common::{Scene, checksum, table};
use crate::standing::{WORKERS, complete, two_synchronous};

/// S1.35, S3.1: the image decides the version.
#[rstest]
#[case::postgresql_13(13)]
#[case::postgresql_17(17)]
#[case::postgresql_18(18)]
#[tokio::test(flavor = "multi_thread")]
async fn backup_archive_and_recovery(#[case] major: u32) -> Result<()> {
    let scene = Scene::on(major, &format!("v{major}")).await?;
    scene.up("pg", json!({"backup": {"barmanObjectStore": {"wal": {"compression": "zstd"}, "data": {"compression": "lz4"}}}})).await?;
    let sql = scene.sql("pg");
    ensure!(sql.run("show server_version").await?.starts_with(&format!("{major}.")));
    sql.run(&table("t", 5000)).await?;
    let backup = scene.completed_backup("b", "pg").await?;
    ensure!(backup["status"]["majorVersion"] == major, "{:#}", backup["status"]);
    sql.run("insert into t values (100000, 'behind the backup')").await?;
    let sum = sql.run(&checksum("t")).await?;
    scene.archive_all("pg").await?;
    scene.apply(&scene.restored("again", "b", json!(null))).await?;
    scene.healthy("again").await?;
    ensure!(scene.sql("again").run(&checksum("t")).await? == sum);
    ensure!(scene.sql("again").run("show data_checksums").await? == "on");
    scene.ground.stop().await
}

/// The primary is lost, comes back as a replica of its successor, and is handed the cluster again. What was acknowledged is
/// there, and a Backup from in between restores to the end of an archive without a hole. Not on 18: the registries have no
/// `pg_basebackup` of it that knows TLS. On 15 the other modules do it.
#[rstest]
#[case::postgresql_13(13)]
#[case::postgresql_14(14)]
#[case::postgresql_16(16)]
#[case::postgresql_17(17)]
#[tokio::test(flavor = "multi_thread")]
async fn high_availability(#[case] major: u32) -> Result<()> {
    let scene = Scene::on(major, &format!("ha{major}")).await?;
    let (before, door, writer) = scene.loaded("pg", two_synchronous(), WORKERS).await?;
    let version = door.ask("show server_version").await?;
    ensure!(version.starts_with(&format!("{major}.")), "{version}");
    let lost = before.primary.as_str();
    scene.delete_by_force(lost).await?;
    scene.succeeded("pg", lost).await?;
    // Commits wait for a replica, and nobody else can be one.
    writer.goes_on(wait::minutes(3)).await?;
    let back = scene.event("Rejoined", &[&format!("{lost}: came back as a replica")]).await?;
    ensure!(!back.contains("by a new copy"), "{back}");
    let between = scene.settled("pg", 2).await?;
    ensure!(between.primary != lost && between.timeline > before.timeline, "{before:?} {between:?}");
    let backup = scene.completed_backup("between", "pg").await?;
    ensure!(backup["status"]["majorVersion"] == major, "{:#}", backup["status"]);

    scene.switch_over("pg", lost).await?;
    writer.goes_on(wait::minutes(2)).await?;
    let after = scene.settled("pg", 2).await?;
    writer.goes_on(wait::minutes(1)).await?;
    let ledger = writer.stop().await;
    ensure!(after.primary == lost && after.timeline == between.timeline + 1, "{between:?} {after:?}");
    complete(&ledger, &door).await?;
    let sum = scene.agreed("pg", &after).await?;
    scene.restores_to_the_end("pg", "between", &ledger, &sum).await?;
    scene.archive_is_whole("pg", after.timeline).await?;
    scene.ground.stop().await
}

/// An image of another major version is refused before anything is fetched.
#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_another_major_version_is_refused() -> Result<()> {
    let scene = Scene::new("major").await?;
    scene.up("pg", json!({})).await?;
    scene.completed_backup("b", "pg").await?;
    let mut again = scene.restored("again", "b", json!(null));
    merge(&mut again["spec"], json!({"imageName": scene.ground.postgres_image(17)?}));
    scene.apply(&again).await?;
    let cluster = scene
        .kubectl
        .wait_for("cluster", "again", "the refusal", wait::minutes(3), |c| {
            c["status"]["phaseReason"].as_str().is_some_and(|r| r.contains("15") && r.contains("17"))
        })
        .await?;
    ensure!(cluster["status"]["readyInstances"] == 0, "{:#}", cluster["status"]);
    scene.ground.stop().await
}
