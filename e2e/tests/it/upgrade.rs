//! A new version of the operator: its instance manager reaches all instances while PostgreSQL runs on.

use std::time::Duration;

use anyhow::{Result, ensure};
use howdah_e2e::manifests::backup;
use howdah_e2e::wait;
use serde_json::json;

use crate::common::{Scene, checksum, phase, table};
use crate::standing::{WORKERS, complete, text, three};

/// How long the store takes over each object: a backup is under way for longer than an operator takes to be replaced.
const STALL: Duration = Duration::from_secs(12);

const STARTED: &str = "select pg_postmaster_start_time()::text";

impl Scene {
    /// Gives the operator another image.
    async fn upgrade_operator(&self, image: &str) -> Result<()> {
        let system = self.kubectl.in_namespace("howdah-system");
        let container = json!({
            "name": "operator", "image": image, "env": [{"name": "OPERATOR_IMAGE_NAME", "value": image}],
        });
        let patch = json!({"spec": {"template": {"spec": {"containers": [container]}}}}).to_string();
        system.run(&["patch", "deployment", "howdah-operator", "--type", "strategic", "-p", &patch]).await?;
        Ok(())
    }

    /// UIDs of the pods of a cluster, by name.
    async fn uids(&self, instances: &[&str]) -> Result<Vec<String>> {
        let mut uids = Vec::new();
        for instance in instances {
            uids.push(text(&self.pod(instance).await?, "/metadata/uid").to_owned());
        }
        Ok(uids)
    }

    /// Waits until the manager of an instance was replaced.
    async fn replaced(&self, instance: &str) -> Result<()> {
        self.event("InstanceManagerReplaced", &[&format!("{instance}: ")]).await.map(drop)
    }
}

/// Under load, with a backup on its way: pods, PostgreSQL and the primary stay what they are, and nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn postgresql_runs_on_under_a_new_operator() -> Result<()> {
    let scene = Scene::new("upgrade").await?;
    let lab = scene.ground.lab()?;
    let spec =
        json!({"backup": {"target": "primary", "barmanObjectStore": {"data": {"compression": "gzip"}}}});
    let (before, door, writer) = scene.loaded("pg", three(spec), WORKERS).await?;
    let sql = scene.sql("pg");
    sql.run(&table("t", 20_000)).await?;
    let started = sql.run(STARTED).await?;
    let instances = ["pg-1", "pg-2", "pg-3"];
    let uids = scene.uids(&instances).await?;

    let image = lab.next_operator()?;
    scene.upgrade_operator(image).await?;
    for instance in instances {
        scene.replaced(instance).await?;
    }
    writer.goes_on(wait::minutes(1)).await?;
    let after = scene.settled("pg", 3).await?;
    let ledger = writer.stop().await;
    ensure!(after.primary == before.primary && after.timeline == before.timeline, "{before:?} {after:?}");
    ensure!(scene.uids(&instances).await? == uids, "there are new pods");
    ensure!(sql.run(STARTED).await? == started, "PostgreSQL was restarted");
    complete(&ledger, &door).await?;
    scene.agreed("pg", &after).await?;
    scene.archive_all("pg").await?;
    scene.completed_backup("next", "pg").await?;
    scene.ground.stop().await
}

/// A backup is brought to its end first.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_operator_waits_for_a_backup() -> Result<()> {
    let scene = Scene::new("upgrade-backup").await?;
    let lab = scene.ground.lab()?;
    scene.up("pg", json!({"backup": {"barmanObjectStore": {"data": {"compression": "gzip"}}}})).await?;
    let sql = scene.sql("pg");
    sql.run(&table("t", 20_000)).await?;
    let (sum, started) = (sql.run(&checksum("t")).await?, sql.run(STARTED).await?);
    lab.stall_store(STALL)?;
    scene.apply(&backup("hit", "pg")).await?;
    scene
        .kubectl
        .wait_for("backup", "hit", "running", wait::minutes(3), |b| {
            ["running", "completed", "failed"].contains(&phase(b))
        })
        .await?;
    scene.upgrade_operator(lab.next_operator()?).await?;
    scene
        .kubectl
        .wait_for("cluster", "pg", "waiting for the backup", wait::minutes(2), |c| {
            text(c, "/status/phaseReason").contains("when Backup hit has ended")
        })
        .await?;
    lab.slow_store(false)?;
    let hit = scene.ended("hit").await?;
    ensure!(
        phase(&hit) == "completed" && hit["status"]["resumes"].as_i64().unwrap_or(0) == 0,
        "{:#}",
        hit["status"]
    );
    scene.replaced("pg-1").await?;
    ensure!(sql.run_when_up(&checksum("t"), wait::minutes(3)).await? == sum);
    ensure!(sql.run(STARTED).await? == started, "PostgreSQL was restarted");
    scene.ground.stop().await
}
