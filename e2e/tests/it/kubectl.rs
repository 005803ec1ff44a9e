//! Stock `kubectl` verbs on our resources.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::common::Scene;

#[tokio::test(flavor = "multi_thread")]
async fn the_verbs_of_kubectl() -> Result<()> {
    let scene = Scene::new("verbs").await?;
    scene.up("pg", json!({})).await?;
    let k = &scene.kubectl;
    k.run(&["wait", "--for=condition=Ready", "cluster/pg", "--timeout=60s"]).await?;
    let table = k.run(&["get", "clusters"]).await?;
    ensure!(table.contains("Cluster in healthy state") && table.contains("pg-1"), "{table}");
    let pods =
        k.run(&["get", "pods", "-o", "wide", "-l", "postgresql.k8s.enterprisedb.io/role=primary"]).await?;
    ensure!(pods.contains("pg-1") && pods.contains("1/1") && pods.contains("Running"), "{pods}");
    let logs = k.logs("pg-1", "postgres").await?;
    ensure!(logs.contains("database system is ready to accept connections"), "{logs}");
    let text = k.run(&["explain", "cluster.spec.backup.barmanObjectStore.destinationPath"]).await?;
    ensure!(text.contains("s3://BUCKET_NAME"), "{text}");
    let text = k.run(&["explain", "backup.status"]).await?;
    ensure!(text.contains("backupId") && text.contains("endWal"), "{text}");
    let text = k.run(&["describe", "cluster", "pg"]).await?;
    ensure!(text.contains("Current Primary") && text.contains("Events:"), "{text}");
    k.run(&["delete", "cluster", "pg"]).await?;
    howdah_e2e::wait::until("everything of the cluster gone", howdah_e2e::wait::minutes(3), || async {
        let mut left = 0;
        for kind in ["pods", "services", "secrets", "persistentvolumeclaims", "roles", "serviceaccounts"] {
            left += k.list(kind, "postgresql.k8s.enterprisedb.io/cluster=pg").await?.len();
        }
        Ok((left == 0).then_some(()))
    })
    .await?;
    scene.ground.stop().await
}
