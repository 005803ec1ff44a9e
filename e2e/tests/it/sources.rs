//! Recovery from several repositories of an external cluster, and clones beside their source.

use anyhow::{Result, ensure};
use howdah_e2e::{manifests, wait};
use serde_json::{Value, json};

use crate::common::{Scene, checksum, condition, phase, repository, table};

fn backup(name: &str, repository: &str, kind: &str) -> Value {
    let mut manifest = manifests::backup(name, "pg");
    manifest["spec"]["repository"] = repository.into();
    manifest["spec"]["type"] = kind.into();
    manifest
}

/// The near repository lost its backup: the far one is used, by its chain, to an exact time; the reason is in events and
/// status, the clone archives to its own place, and the window of each repository is in the status of the source.
#[tokio::test(flavor = "multi_thread")]
async fn the_nearest_healthy_repository_is_taken() -> Result<()> {
    let scene = Scene::new("sources").await?;
    let namespace = scene.kubectl.namespace.clone();
    let [near, far] = ["near", "far"].map(|name| repository(&scene, name, &format!("/{namespace}/{name}")));
    let places = json!([near, far]);
    let manifest = manifests::cluster(
        "pg",
        &scene.ground.images.postgres,
        None,
        json!({"backup": {"repositories": places}}),
    );
    scene.apply(&manifest).await?;
    scene.healthy("pg").await?;
    let sql = scene.sql("pg");
    sql.run(&table("t", 500)).await?;
    for (name, repository, kind) in
        [("n1", "near", "full"), ("f1", "far", "full"), ("f2", "far", "incremental")]
    {
        scene.apply(&backup(name, repository, kind)).await?;
        let done = scene.ended(name).await?;
        ensure!(phase(&done) == "completed", "{name}: {:#}", done["status"]);
    }
    sql.run("insert into t values (5000, 'late')").await?;
    let sum = sql.run(&checksum("t")).await?;
    let time = sql
        .run("select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
        .await?;
    sql.run("insert into t values (5001, 'too late')").await?;
    scene.archive_all("pg").await?;
    scene
        .kubectl
        .wait_for("cluster", "pg", "the window of each repository", wait::minutes(7), |cluster| {
            let all = cluster["status"]["repositories"].as_array().cloned().unwrap_or_default();
            all.len() == 2 && all.iter().all(|one| one["earliest"].is_string() && one["latest"].is_string())
        })
        .await?;
    for key in scene.ground.keys(&format!("{namespace}/near/pg/base/")).await? {
        if key.contains("/data") {
            scene.ground.delete_object(&key).await?;
        }
    }
    let own = repository(&scene, "mine", &format!("/{namespace}/mine"));
    let clone = |name: &str, target: Value, own: &Value| {
        manifests::cluster(
            name,
            &scene.ground.images.postgres,
            None,
            json!({
                "bootstrap": {"recovery": {"source": "origin", "recoveryTarget": target}},
                "externalClusters": [{"name": "origin", "serverName": "pg", "repositories": places}],
                "backup": {"repositories": [own]},
            }),
        )
    };
    scene.apply(&clone("again", json!({"targetTime": time}), &own)).await?;
    let cluster = scene.healthy("again").await?;
    ensure!(scene.sql("again").run(&checksum("t")).await? == sum);
    let from = &cluster["status"]["recovery"];
    ensure!(from["repository"] == "far" && from["passedOver"][0]["repository"] == "near", "{from:#}");

    // Into its source: refused before there is a pod.
    let into = json!({
        "bootstrap": {"recovery": {"source": "origin"}},
        "externalClusters": [{"name": "origin", "serverName": "into", "repositories": [places[1]]}],
        "backup": {"repositories": [places[1]]},
    });
    scene.apply(&manifests::cluster("into", &scene.ground.images.postgres, None, into)).await?;
    let refused = scene
        .kubectl
        .wait_for("cluster", "into", "the refusal", wait::minutes(2), |cluster| {
            cluster["status"]["phaseReason"]
                .as_str()
                .is_some_and(|r| r.contains("where this cluster recovers from"))
        })
        .await?;
    ensure!(condition(&refused, "Ready").is_some_and(|c| c["status"] == "False"), "{refused:#}");

    // Out of reach of both: each says from when to when.
    scene.apply(&clone("never", json!({"targetTime": "2099-01-01T00:00:00Z"}), &own)).await?;
    scene
        .kubectl
        .wait_for("cluster", "never", "the windows", wait::minutes(4), |cluster| {
            cluster["status"]["phaseReason"].as_str().is_some_and(|r| {
                r.contains("repository near")
                    && r.contains("repository far")
                    && r.contains("it can restore from")
            })
        })
        .await?;
    scene.ground.stop().await
}
