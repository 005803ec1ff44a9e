//! PostgreSQL 13 to 18 under the shipped manager (acceptance 8): backup, archive and recovery on each.

use anyhow::{Result, ensure};
use howdah_e2e::manifests::merge;
use rstest::rstest;
use serde_json::json;

use crate::common::{Scene, checksum, table};

/// S1.35, S3.1: the image decides the version.
#[rstest]
#[case::postgresql_13(13)]
#[case::postgresql_17(17)]
#[case::postgresql_18(18)]
#[tokio::test(flavor = "multi_thread")]
async fn backup_archive_and_recovery(#[case] major: u32) -> Result<()> {
    let scene = Scene::new(&format!("v{major}")).await?;
    let image = scene.ground.postgres_image(major)?;
    scene.up("pg", json!({"imageName": image, "backup": {"barmanObjectStore": {"wal": {"compression": "zstd"}, "data": {"compression": "lz4"}}}})).await?;
    let sql = scene.sql("pg");
    ensure!(sql.run("show server_version").await?.starts_with(&format!("{major}.")));
    sql.run(&table("t", 5000)).await?;
    let backup = scene.completed_backup("b", "pg").await?;
    ensure!(backup["status"]["majorVersion"] == major, "{:#}", backup["status"]);
    sql.run("insert into t values (100000, 'behind the backup')").await?;
    let sum = sql.run(&checksum("t")).await?;
    scene.archive_all("pg").await?;
    let mut again = scene.restored("again", "b", json!(null));
    merge(&mut again["spec"], json!({"imageName": image}));
    scene.apply(&again).await?;
    scene.healthy("again").await?;
    ensure!(scene.sql("again").run(&checksum("t")).await? == sum);
    ensure!(scene.sql("again").run("show data_checksums").await? == "on");
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
        .wait_for("cluster", "again", "the refusal", howdah_e2e::wait::minutes(3), |c| {
            c["status"]["phaseReason"].as_str().is_some_and(|r| r.contains("15") && r.contains("17"))
        })
        .await?;
    ensure!(cluster["status"]["readyInstances"] == 0, "{:#}", cluster["status"]);
    scene.ground.stop().await
}
