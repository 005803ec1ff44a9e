//! Fewer instances, and more again, while commits wait for replicas: who goes, and what is left of it.

use anyhow::{Result, ensure};
use howdah_e2e::wait;
use serde_json::{Value, json};

use crate::common::Scene;
use crate::standing::{WORKERS, complete, summary, text, three_synchronous};

/// Waits until nothing is left of an instance: no pod and no volume, no slot, and no commit that waits for it.
async fn is_gone(scene: &Scene, instance: &str) -> Result<()> {
    let door = scene.door("pg").await?;
    wait::until(&format!("nothing left of {instance}"), wait::minutes(3), || async {
        for kind in ["pod", "pvc"] {
            ensure!(scene.kubectl.get(kind, instance).await?.is_none(), "there is a {kind} {instance}");
        }
        let status = scene.status("pg").await?;
        ensure!(summary(&status, instance).is_none(), "{status:#}");
        for field in ["/synchronousStandbyNames", "/synchronousStandbyNamesInEffect"] {
            let names = text(&status, field);
            ensure!(!names.contains(instance), "{field}: {names}");
        }
        let names = door.ask("show synchronous_standby_names").await?;
        ensure!(!names.contains(instance), "the primary waits for {names}");
        let slots = door.ask("select slot_name from pg_replication_slots").await?;
        ensure!(slots.is_empty(), "replication slots: {slots}");
        Ok(Some(()))
    })
    .await
}

/// Waits until commits wait for these and for nobody else.
async fn waits_for(scene: &Scene, names: &str) -> Result<()> {
    scene
        .kubectl
        .wait_for("cluster", "pg", &format!("commits wait for {names}"), wait::minutes(2), |cluster| {
            text(cluster, "/status/synchronousStandbyNamesInEffect") == names
        })
        .await
        .map(drop)
}

/// The replica with the highest number goes, with its volume. No commit fails, and none waits for it in vain.
#[tokio::test(flavor = "multi_thread")]
async fn the_replica_with_the_highest_number_goes() -> Result<()> {
    let scene = Scene::new("fewer").await?;
    let (before, door, writer) = scene.loaded("pg", three_synchronous(), WORKERS).await?;
    waits_for(&scene, r#"ANY 1 ("pg-2","pg-3")"#).await?;
    scene.change("pg", json!({"instances": 2})).await?;
    is_gone(&scene, "pg-3").await?;
    waits_for(&scene, r#"ANY 1 ("pg-2")"#).await?;
    let after = scene.settled("pg", 2).await?;
    writer.goes_on(wait::minutes(1)).await?;
    let ledger = writer.stop().await;
    ensure!(after.primary == before.primary && after.timeline == before.timeline, "{before:?} {after:?}");
    // The others kept their pods.
    let mut stayed = before.addresses.clone();
    stayed.remove("pg-3");
    ensure!(after.addresses == stayed, "{before:?} {after:?}");
    ensure!(ledger.unknown.is_empty(), "commits without an answer: {:?}", ledger.unknown);
    complete(&ledger, &door).await?;
    scene.agreed("pg", &after).await?;
    scene.archive_all("pg").await?;
    scene.archive_is_whole("pg", after.timeline).await?;
    scene.ground.stop().await
}

/// The primary stays although its number is the highest; another instance gets a number that nobody had. A Backup from the
/// time when there were three restores to the end.
#[tokio::test(flavor = "multi_thread")]
async fn the_primary_stays_although_its_number_is_the_highest() -> Result<()> {
    let scene = Scene::new("alone").await?;
    let (_, door, writer) = scene.loaded("pg", three_synchronous(), WORKERS).await?;
    scene.completed_backup("before", "pg").await?;
    scene.switch_over("pg", "pg-3").await?;
    let three = scene.settled("pg", 3).await?;
    ensure!(three.primary == "pg-3", "{three:?}");

    // One instance alone has nobody to wait for.
    scene.change("pg", json!({"instances": 1, "postgresql": {"synchronous": Value::Null}})).await?;
    for instance in ["pg-1", "pg-2"] {
        is_gone(&scene, instance).await?;
    }
    let one = scene.settled("pg", 1).await?;
    waits_for(&scene, "").await?;
    writer.goes_on(wait::minutes(1)).await?;
    ensure!(one.primary == "pg-3" && one.timeline == three.timeline, "{three:?} {one:?}");
    ensure!(one.addresses["pg-3"] == three.addresses["pg-3"], "the primary has another pod: {one:?}");

    scene.change("pg", json!({"instances": 2, "postgresql": {"synchronous": {"number": 1}}})).await?;
    let after = scene.settled("pg", 2).await?;
    waits_for(&scene, r#"ANY 1 ("pg-4")"#).await?;
    writer.goes_on(wait::minutes(1)).await?;
    let ledger = writer.stop().await;
    ensure!(after.primary == "pg-3" && after.timeline == three.timeline, "{after:?}");
    ensure!(after.addresses.keys().eq(["pg-3", "pg-4"]), "{after:?}");
    ensure!(scene.status("pg").await?["latestGeneratedSerial"] == 4);
    complete(&ledger, &door).await?;
    let sum = scene.agreed("pg", &after).await?;
    scene.restores_to_the_end("pg", "before", &ledger, &sum).await?;
    scene.archive_is_whole("pg", after.timeline).await?;
    scene.ground.stop().await
}
