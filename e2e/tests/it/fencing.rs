//! PostgreSQL kept down on purpose: one instance, the primary, or the whole cluster.

use std::time::Duration;

use anyhow::{Result, ensure};
use howdah_api::labels;
use howdah_e2e::direct::Door;
use howdah_e2e::wait;
use serde_json::{Value, json};

use crate::common::{Scene, checksum, table};
use crate::standing::{Standing, WORKERS, complete, text, three, three_synchronous};

/// Longer than the lease of a primary and everything that may follow its end.
const WATCHED: Duration = Duration::from_secs(30);

fn fenced(status: &Value, instance: &str) -> bool {
    status["instancesStatus"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|one| one["name"] == instance && one["fenced"] == true && one["ready"] == false)
}

/// Fences an instance and waits until PostgreSQL is down there and the status says so.
async fn fence(scene: &Scene, standing: &Standing, instance: &str, door: &Door) -> Result<()> {
    let there = door.at(&standing.addresses[instance])?;
    scene.annotate("pg", labels::FENCED, Some(&json!([instance]).to_string())).await?;
    wait::until(&format!("PostgreSQL down on {instance}"), wait::minutes(3), || async {
        let answers = there.open().await.is_ok();
        let status = scene.status("pg").await?;
        let told = fenced(&status, instance) && text(&status, "/phase") == "Instances are fenced";
        ensure!(!answers && told, "PostgreSQL answers: {answers}; {status:#}");
        Ok(Some(()))
    })
    .await
}

/// A fenced replica keeps its pod and its manager; PostgreSQL comes back when the fence is taken away.
#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_replica_is_down_and_comes_back() -> Result<()> {
    let scene = Scene::new("fence-replica").await?;
    let (before, door, writer) = scene.loaded("pg", three_synchronous(), WORKERS).await?;
    let replica = before.replicas()[0];
    let pod = scene.pod(replica).await?;
    fence(&scene, &before, replica, &door).await?;
    writer.goes_on(wait::minutes(1)).await?;
    let now = scene.pod(replica).await?;
    ensure!(now["metadata"]["uid"] == pod["metadata"]["uid"], "the pod was made anew");
    ensure!(text(&now, "/status/phase") == "Running", "{:#}", now["status"]);
    let restarts = |pod: &Value| pod.pointer("/status/containerStatuses/0/restartCount").cloned();
    ensure!(restarts(&now) == restarts(&pod), "the manager was restarted");
    let logs = scene.kubectl.logs(replica, "postgres").await?;
    ensure!(!logs.is_empty());

    scene.annotate("pg", labels::FENCED, None).await?;
    let after = scene.settled("pg", 3).await?;
    let ledger = writer.stop().await;
    ensure!(after.primary == before.primary && after.timeline == before.timeline, "{before:?} {after:?}");
    complete(&ledger, &door).await?;
    scene.agreed("pg", &after).await?;
    scene.ground.stop().await
}

/// A fenced primary takes no writes and nobody takes its place; without the fence it goes on where it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_primary_is_not_replaced() -> Result<()> {
    let scene = Scene::new("fence-primary").await?;
    let (before, door, writer) = scene.loaded("pg", three(json!({})), WORKERS).await?;
    fence(&scene, &before, &before.primary, &door).await?;
    let written = writer.acknowledged();
    wait::holds("a cluster without a primary", WATCHED, || async {
        let status = scene.status("pg").await?;
        for field in ["/currentPrimary", "/targetPrimary"] {
            ensure!(text(&status, field) == before.primary, "{status:#}");
        }
        ensure!(status["timelineID"] == before.timeline, "{status:#}");
        ensure!(writer.acknowledged() == written, "rows were taken");
        Ok(())
    })
    .await?;
    for replica in before.replicas() {
        let here = door.at(&before.addresses[replica])?;
        ensure!(here.ask("select pg_is_in_recovery()").await? == "t", "{replica} was promoted");
    }
    scene.annotate("pg", labels::FENCED, None).await?;
    writer.goes_on(wait::minutes(3)).await?;
    let after = scene.settled("pg", 3).await?;
    let ledger = writer.stop().await;
    ensure!(after.primary == before.primary && after.timeline == before.timeline, "{before:?} {after:?}");
    complete(&ledger, &door).await?;
    scene.agreed("pg", &after).await?;
    scene.ground.stop().await
}

/// Hibernation takes the pods and leaves the volumes; afterwards everything is there, under the same primary.
#[tokio::test(flavor = "multi_thread")]
async fn a_hibernated_cluster_wakes_up_as_it_was() -> Result<()> {
    let scene = Scene::new("hibernate").await?;
    scene.up("pg", three(json!({}))).await?;
    scene.settled("pg", 3).await?;
    // Not the first instance, so that nobody can hit on it by chance.
    scene.switch_over("pg", "pg-2").await?;
    let before = scene.settled("pg", 3).await?;
    let sql = scene.sql("pg");
    sql.run(&table("t", 2000)).await?;
    let sum = sql.run(&checksum("t")).await?;
    let claims = || async {
        let selector = format!("{}=pg", labels::CLUSTER);
        let claims = scene.kubectl.list("pvc", &selector).await?;
        let mut uids: Vec<String> =
            claims.iter().map(|claim| text(claim, "/metadata/uid").to_owned()).collect();
        uids.sort();
        anyhow::Ok(uids)
    };
    let volumes = claims().await?;
    ensure!(volumes.len() == 3, "{volumes:?}");

    scene.annotate("pg", labels::HIBERNATION, Some("on")).await?;
    wait::until("no pods", wait::minutes(5), || async {
        let pods = scene.kubectl.list("pod", &format!("{}=pg", labels::CLUSTER)).await?;
        let status = scene.status("pg").await?;
        ensure!(
            pods.is_empty() && text(&status, "/phase") == "Cluster is hibernated",
            "{} pods; {status:#}",
            pods.len()
        );
        Ok(Some(()))
    })
    .await?;
    wait::holds("a cluster that sleeps", WATCHED, || async {
        let pods = scene.kubectl.list("pod", &format!("{}=pg", labels::CLUSTER)).await?;
        ensure!(pods.is_empty(), "{} pods", pods.len());
        Ok(())
    })
    .await?;
    ensure!(claims().await? == volumes, "volumes went or came");

    scene.annotate("pg", labels::HIBERNATION, Some("off")).await?;
    let after = scene.settled("pg", 3).await?;
    ensure!(after.primary == before.primary && after.timeline == before.timeline, "{before:?} {after:?}");
    ensure!(claims().await? == volumes, "volumes went or came");
    ensure!(sql.run(&checksum("t")).await? == sum);
    sql.run("insert into t values (5000, 'awake')").await?;
    scene.ground.stop().await
}
