//! A replica cluster: it follows the archive of another Cluster through the loss of its pod, and takes its place.

use anyhow::{Result, ensure};
use howdah_e2e::{manifests, wait};
use serde_json::{Value, json};

use crate::common::{Scene, checksum, condition, phase, table};

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_follows_another_one_and_takes_its_place() -> Result<()> {
    let scene = Scene::new("replica-cluster").await?;
    scene.up("pg", json!({})).await?;
    let sql = scene.sql("pg");
    sql.run(&table("t", 500)).await?;
    scene.completed_backup("base", "pg").await?;

    let source = scene.cluster("pg", json!({}))["spec"]["backup"]["barmanObjectStore"].clone();
    let manifest = scene.cluster(
        "dr",
        json!({
            "instances": 2,
            "bootstrap": {"fullRecovery": {"source": "origin", "database": "app"}},
            "externalClusters": [{"name": "origin", "barmanObjectStore": source}],
            "replica": {"enabled": true, "source": "origin"},
        }),
    );
    scene.apply(&manifest).await?;
    let follows = |cluster: &Value| {
        phase(cluster) == "Following another cluster"
            && condition(cluster, "Ready").is_some_and(|c| c["status"] == "True")
    };
    scene.kubectl.wait_for("cluster", "dr", "that it follows", wait::minutes(4), follows).await?;
    ensure!(scene.kubectl.get("pod", "dr-2").await?.is_none(), "the others join after the promotion");

    // Whatever is archived comes, also through the loss of the pod.
    // Its passwords are the source's until it is promoted.
    let reader = sql.at("dr-ro");
    for round in 0..2 {
        sql.run(&format!("insert into t values ({}, 'later')", 1000 + round)).await?;
        let sum = sql.run(&checksum("t")).await?;
        scene.archive_all("pg").await?;
        wait::until("the row comes", wait::minutes(3), || async {
            Ok((reader.run(&checksum("t")).await? == sum).then_some(()))
        })
        .await?;
        if round == 0 {
            scene.kubectl.run(&["delete", "pod", "dr-1", "--wait=false"]).await?;
        }
    }
    ensure!(reader.run("insert into t values (1, 'no')").await.is_err(), "it takes no writes");
    scene.apply(&manifests::backup("early", "dr")).await?;
    scene
        .kubectl
        .wait_for("backup", "early", "that it waits for the promotion", wait::minutes(2), |backup| {
            backup.to_string().contains("Following another cluster")
        })
        .await?;

    // The command in the reason promotes it.
    let cluster = scene.kubectl.get("cluster", "dr").await?.unwrap_or_default();
    let reason = cluster["status"]["phaseReason"].as_str().unwrap_or_default();
    let command = reason.split("any more: ").nth(1).unwrap_or_default();
    ensure!(command.starts_with("kubectl -n ") && command.contains("--type=merge -p "), "{reason}");
    let sum = sql.run(&checksum("t")).await?;
    let args: Vec<&str> = command.split_whitespace().skip(3).map(|arg| arg.trim_matches('\'')).collect();
    scene.kubectl.run(&args).await?;
    let cluster = scene
        .kubectl
        .wait_for("cluster", "dr", "both instances", wait::minutes(4), |cluster| {
            phase(cluster) == "Cluster in healthy state" && cluster["status"]["readyInstances"] == 2
        })
        .await?;
    ensure!(cluster["status"]["currentPrimary"] == "dr-1", "{:#}", cluster["status"]);
    ensure!(cluster["status"]["timelineID"] == 2, "{:#}", cluster["status"]);
    let promoted = scene.sql("dr");
    ensure!(promoted.run(&checksum("t")).await? == sum);
    promoted.run("insert into t values (5000, 'own')").await?;
    let early = scene.ended("early").await?;
    ensure!(phase(&early) == "completed", "{:#}", early["status"]);
    let refused = scene.change("dr", json!({"replica": {"enabled": true}})).await;
    ensure!(refused.is_err_and(|error| format!("{error:#}").contains("cannot become true later")));
    ensure!(sql.run(&checksum("t")).await? == sum, "the source goes on by itself");
    scene.ground.stop().await
}
