//! Repositories on volumes: the pod that serves them, WAL and Backups in them, recovery from them, and their loss.

use anyhow::{Result, ensure};
use howdah_e2e::{manifests, wait};
use serde_json::{Value, json};

use crate::common::{Scene, checksum, condition, phase, table};

/// A claim of a volume.
fn claim() -> Value {
    json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}})
}

/// A cluster with one repository, `repo1` on a volume.
fn cluster(scene: &Scene, spec: Value) -> Value {
    let repository = json!({
        "name": "repo1",
        "volume": {"volumeClaimSpec": claim()},
        "wal": {"compression": "zstd"},
        "data": {"compression": "lz4"},
    });
    let mut whole = json!({"backup": {"repositories": [repository], "target": "primary"}});
    manifests::merge(&mut whole, spec);
    manifests::cluster("pg", &scene.ground.images.postgres, None, whole)
}

/// Waits until the condition of the repository host has this reason.
async fn hosted(scene: &Scene, reason: &str) -> Result<Value> {
    let what = format!("RepositoryHostReady with the reason {reason}");
    scene
        .kubectl
        .wait_for("cluster", "pg", &what, wait::minutes(5), |cluster| {
            condition(cluster, "RepositoryHostReady").is_some_and(|c| c["reason"] == reason)
        })
        .await
}

async fn completed(scene: &Scene, name: &str) -> Result<Value> {
    let mut backup = manifests::backup(name, "pg");
    backup["spec"]["repository"] = "repo1".into();
    scene.apply(&backup).await?;
    let done = scene.ended(name).await?;
    ensure!(phase(&done) == "completed", "{name}: {:#}", done["status"]);
    Ok(done)
}

/// S0.8, S0.9, S0.10, S0.14, S1.15: WAL and a Backup in a repository on a volume; its pod is lost and comes back; new clusters
/// come from the Backup object, from the place alone, and from the volume when nothing else is left.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_comes_back_from_a_volume() -> Result<()> {
    let scene = Scene::new("volume").await?;
    scene.apply(&cluster(&scene, json!({}))).await?;
    scene.healthy("pg").await?;
    hosted(&scene, "Serving").await?;
    let sql = scene.sql("pg");
    sql.run(&table("t", 2000)).await?;
    let done = completed(&scene, "b1").await?;
    let place = format!("s3://repo1/{}/pg/repo1", scene.kubectl.namespace);
    ensure!(done["status"]["destinationPath"] == place.as_str(), "{:#}", done["status"]);
    ensure!(done["status"]["clientCertificate"]["name"] == "pg-replication", "{:#}", done["status"]);

    scene.kubectl.run(&["delete", "pod", "pg-repo-host-0"]).await?;
    hosted(&scene, "Serving").await?;
    sql.run("insert into t select i, 'late' from generate_series(2001, 2100) i").await?;
    let sum = sql.run(&checksum("t")).await?;
    scene.archive_all("pg").await?;
    let seen = scene
        .kubectl
        .wait_for("cluster", "pg", "the backup in the repository", wait::minutes(5), |cluster| {
            let one = &cluster["status"]["repositories"][0];
            one["name"] == "repo1" && one["backups"] == 1 && one["archiving"] == true
        })
        .await?;
    ensure!(seen["status"]["repositoryVolumes"]["repo1"].is_string(), "{:#}", seen["status"]);
    let argv = ["/controller/instance-manager", "info"];
    let told =
        scene.ground.exec(&scene.kubectl, "pg-repo-host-0", "repo-host", &argv, wait::minutes(2)).await?;
    let label = done["status"]["label"].as_str().unwrap_or_default();
    ensure!(told.code == Some(0) && told.stdout.contains(&format!("full backup: {label}\n")), "{told:?}");

    scene.apply(&scene.restored("again1", "b1", Value::Null)).await?;
    let member = |key: &str| json!({"name": "pg-replication", "key": key});
    let external = json!({
        "destinationPath": place,
        "serverName": "pg",
        "endpointURL": "https://pg-repo-host:8432",
        "endpointCA": member("ca.crt"),
        "clientCertificate": {"name": "pg-replication"},
    });
    let source = json!({
        "bootstrap": {"recovery": {"source": "origin"}},
        "externalClusters": [{"name": "origin", "barmanObjectStore": external}],
    });
    scene.apply(&manifests::cluster("again2", &scene.ground.images.postgres, None, source)).await?;
    for cluster in ["again1", "again2"] {
        scene.healthy(cluster).await?;
        ensure!(scene.sql(cluster).run(&checksum("t")).await? == sum, "{cluster} is not what pg was");
    }

    // The Cluster goes; its volume stays, and a new Cluster of that name takes it up, with a folder of its own there.
    scene.kubectl.run(&["delete", "cluster", "pg"]).await?;
    ensure!(scene.kubectl.get("pvc", "pg-repo-repo1").await?.is_some(), "the volume must stay");
    let mut again = cluster(&scene, json!({"bootstrap": {"recovery": {"backup": {"name": "b1"}}}}));
    again["spec"]["backup"]["repositories"][0]["path"] = "/second".into();
    scene.apply(&again).await?;
    scene.healthy("pg").await?;
    let sql = scene.sql("pg");
    ensure!(sql.run(&checksum("t")).await? == sum, "the second pg is not what the first was");
    sql.run("insert into t values (5000, 'on the new timeline')").await?;
    scene.archive_all("pg").await?;
    completed(&scene, "b2").await?;
    scene.ground.stop().await
}

/// Bad input: a volume is deleted. Nothing is made in its place, the condition says what to do, and the error of the
/// repository says why it is away; an empty volume under its name begins anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_volume_is_told_and_can_be_given_back() -> Result<()> {
    let scene = Scene::new("vollost").await?;
    scene.apply(&cluster(&scene, json!({}))).await?;
    scene.healthy("pg").await?;
    hosted(&scene, "Serving").await?;
    let sql = scene.sql("pg");
    sql.run(&table("t", 100)).await?;
    scene.archive_all("pg").await?;
    scene.kubectl.run(&["delete", "pvc", "pg-repo-repo1", "--wait=false"]).await?;
    let held = hosted(&scene, "VolumeIsBeingDeleted").await?;
    let said = condition(&held, "RepositoryHostReady").cloned().unwrap_or_default();
    ensure!(said["message"].as_str().is_some_and(|m| m.contains("of repository repo1")), "{said:#}");
    scene.kubectl.run(&["delete", "pod", "pg-repo-host-0"]).await?;
    hosted(&scene, "VolumeLost").await?;
    sql.run("select pg_switch_wal()").await?;
    let lost = scene
        .kubectl
        .wait_for("cluster", "pg", "what the repository lacks", wait::minutes(4), |cluster| {
            let error = cluster["status"]["repositories"][0]["error"].as_str().unwrap_or_default();
            error.contains(
                "RepositoryHostReady: PersistentVolumeClaim pg-repo-repo1 of repository repo1 is gone",
            )
        })
        .await?;
    let archiving = condition(&lost, "ContinuousArchiving").cloned().unwrap_or_default();
    ensure!(archiving["status"] == "False", "{archiving:#}");
    ensure!(scene.kubectl.get("pvc", "pg-repo-repo1").await?.is_none(), "no empty volume may take its place");

    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "pg-repo-repo1"}, "spec": claim(),
    });
    scene.apply(&volume).await?;
    hosted(&scene, "Serving").await?;
    scene.archive_all("pg").await?;
    completed(&scene, "b1").await?;
    scene.ground.stop().await
}

/// What cannot work is refused, with the reason.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_volume_cannot_be_is_refused() -> Result<()> {
    let scene = Scene::new("volbad").await?;
    let on_volume = |patch: Value| {
        let mut repository = json!({"name": "repo1", "volume": {"volumeClaimSpec": claim()}});
        manifests::merge(&mut repository, patch);
        let spec = json!({"backup": {"repositories": [repository]}});
        manifests::cluster("pg", &scene.ground.images.postgres, None, spec)
    };
    for (patch, words) in [
        (json!({"volume": null}), "exactly one of"),
        (json!({"s3": {"bucket": "backups"}}), "exactly one of"),
        (json!({"credentials": {"inheritFromIAMRole": true}}), "has no credentials"),
        (json!({"data": {"encryption": "AES256"}}), "a storage class that encrypts"),
        (json!({"name": "r1"}), "at least three characters"),
        (json!({"volume": {"volumeClaimSpec": {"resources": null}}}), "needs a size"),
    ] {
        let refused = scene.kubectl.apply_refused(&on_volume(patch).to_string()).await?;
        ensure!(refused.contains(words), "{words} in {refused}");
    }
    scene.ground.stop().await
}
