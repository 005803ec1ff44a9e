//! Shows what changes while one waits.

use std::cell::RefCell;

use anyhow::{Context, Result, bail};
use futures::TryStreamExt;
use howdah_e2e::{Kubectl, wait};
use object_store::ObjectStore;
use object_store::aws::AmazonS3Builder;
use serde_json::Value;

use crate::report::Stored;

/// Prints each change of a cluster's phase and instances until `done`.
pub async fn cluster(kubectl: &Kubectl, name: &str, done: impl Fn(&Value) -> bool) -> Result<()> {
    let last = RefCell::new(String::new());
    wait::until(&format!("cluster {name}"), wait::minutes(8), || {
        let seen = kubectl.get("cluster", name);
        let (last, done) = (&last, &done);
        async move {
            let Some(cluster) = seen.await? else { return Ok(None) };
            let status = &cluster["status"];
            let line = format!(
                "cluster {name}: {} ({}/{} ready){}",
                status["phase"].as_str().unwrap_or("-"),
                status["readyInstances"],
                cluster["spec"]["instances"],
                status["phaseReason"].as_str().map(|r| format!(": {r}")).unwrap_or_default()
            );
            if line != *last.borrow() {
                println!("    {line}");
                last.replace(line);
            }
            Ok(done(&cluster).then_some(()))
        }
    })
    .await
}

/// Prints each change of a Backup until it ends.
pub async fn backup(kubectl: &Kubectl, name: &str) -> Result<Value> {
    let last = RefCell::new(String::new());
    wait::until(&format!("backup {name}"), wait::minutes(8), || {
        let seen = kubectl.get("backup", name);
        let last = &last;
        async move {
            let Some(backup) = seen.await? else { return Ok(None) };
            let status = &backup["status"];
            let phase = status["phase"].as_str().unwrap_or("-").to_owned();
            let progress = &status["progress"];
            let line = format!(
                "backup {name}: {phase} {} {}",
                progress["percent"].as_str().unwrap_or(""),
                progress["bytesPerSecond"]
                    .as_i64()
                    .filter(|r| *r > 0)
                    .map(|r| format!("{} MiB/s", r >> 20))
                    .unwrap_or_default()
            );
            if line != *last.borrow() {
                println!("    {}", line.trim_end());
                last.replace(line);
            }
            Ok(["completed", "failed"].contains(&phase.as_str()).then_some(backup))
        }
    })
    .await
}

/// What is in the bucket of the seed's MinIO service.
pub async fn bucket(kubectl: &Kubectl) -> Result<Vec<Stored>> {
    let service =
        kubectl.get("service", "minio-gateway-service").await?.context("no service minio-gateway-service")?;
    let Some(address) = service["spec"]["clusterIP"].as_str() else {
        bail!("minio-gateway-service has no address")
    };
    let store = AmazonS3Builder::new()
        .with_endpoint(format!("http://{address}:9000"))
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_bucket_name("backups")
        .with_access_key_id("minio")
        .with_secret_access_key("minio-secret")
        .build()?;
    let mut objects: Vec<Stored> = store
        .list(None)
        .map_ok(|o| Stored { key: o.location.to_string(), bytes: o.size })
        .try_collect()
        .await
        .context("the bucket cannot be listed")?;
    objects.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(objects)
}
