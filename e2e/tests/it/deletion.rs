//! Backups whose data goes with them.

use anyhow::{Result, ensure};
use howdah_e2e::{manifests, wait};
use serde_json::{Value, json};

use crate::common::{Scene, condition, phase, table};

fn going(name: &str, kind: &str) -> Value {
    let mut manifest = manifests::backup(name, "pg");
    manifest["spec"]["type"] = kind.into();
    manifest["spec"]["deletionPolicy"] = "Delete".into();
    manifest
}

async fn gone(scene: &Scene, name: &str) -> Result<()> {
    wait::until(&format!("Backup {name} is gone"), wait::minutes(3), || async {
        let left = scene.kubectl.run(&["get", "backup", name, "--ignore-not-found", "-o", "name"]).await?;
        Ok(left.trim().is_empty().then_some(()))
    })
    .await
}

/// What a Backup with `deletionPolicy: Delete` stored goes with it, children before parents; the last full one stays with
/// the reason until its policy says otherwise or its cluster is gone.
#[tokio::test(flavor = "multi_thread")]
async fn data_goes_with_its_backup() -> Result<()> {
    let scene = Scene::new("deletion").await?;
    scene.up("pg", json!({})).await?;
    scene.sql("pg").run(&table("t", 500)).await?;
    let mut ids = Vec::new();
    for (name, kind) in [("full", "full"), ("incr", "incremental"), ("last", "full"), ("more", "incremental")]
    {
        scene.apply(&going(name, kind)).await?;
        let done = scene.ended(name).await?;
        ensure!(phase(&done) == "completed", "{name}: {:#}", done["status"]);
        ids.push(done["status"]["backupId"].as_str().unwrap_or_default().to_owned());
    }
    scene.kubectl.run(&["delete", "backup", "full", "incr", "--wait=false"]).await?;
    gone(&scene, "incr").await?;
    gone(&scene, "full").await?;
    let keys = scene.ground.keys("").await?;
    ensure!(!keys.iter().any(|key| key.contains(&ids[0]) || key.contains(&ids[1])), "{keys:?}");

    scene.kubectl.run(&["delete", "backup", "last", "--wait=false"]).await?;
    let held = scene
        .kubectl
        .wait_for("backup", "last", "the reason why its data stays", wait::minutes(2), |backup| {
            condition(backup, "DataDeleted").is_some()
        })
        .await?;
    let said = condition(&held, "DataDeleted").cloned().unwrap_or_default();
    ensure!(said["status"] == "False" && said["reason"] == "BuiltUpon", "{said:#}");
    let retain = r#"{"spec":{"deletionPolicy":"Retain"}}"#;
    scene.kubectl.run(&["patch", "backup", "last", "--type", "merge", "-p", retain]).await?;
    gone(&scene, "last").await?;
    let keys = scene.ground.keys("").await?;
    ensure!(keys.iter().any(|key| key.contains(&ids[2])), "{keys:?}");

    // Nobody is left who could delete the data: the object does not hang.
    scene.kubectl.run(&["delete", "cluster", "pg"]).await?;
    scene.kubectl.run(&["delete", "backup", "more", "--wait=false"]).await?;
    gone(&scene, "more").await?;
    let keys = scene.ground.keys("").await?;
    ensure!(keys.iter().any(|key| key.contains(&ids[3])), "{keys:?}");
    scene.ground.stop().await
}
