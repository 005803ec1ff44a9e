//! The clusters and their Backups, and what becomes of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Result;
use futures::{StreamExt, TryStreamExt, stream};
use howdah_api::{Backup, Cluster, conditions};
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::world::{World, namespace};

/// Instances of each cluster.
pub const INSTANCES: i32 = 3;
/// Requests at the same time.
const JOBS: usize = 8;

/// Name of a cluster; no two namespaces share one, so that a TLS server name says which cluster is meant.
pub fn name(number: usize) -> String {
    format!("pg{number:04}")
}

fn spec(name: &str) -> Value {
    json!({
        "instances": INSTANCES, "storage": {"size": "10Gi"},
        "backup": {"barmanObjectStore": {
            "destinationPath": format!("s3://bucket/{name}"),
            "s3Credentials": {
                "accessKeyId": {"name": "store", "key": "ID"}, "secretAccessKey": {"name": "store", "key": "KEY"},
            },
        }},
    })
}

/// Makes clusters `0..clusters`, each with so many completed Backups.
pub async fn create(world: &World, clusters: usize, backups: usize) -> Result<()> {
    let made = stream::iter(0..clusters).map(|number| async move {
        let api: Api<Backup> = Api::namespaced(world.admin.clone(), &namespace(number));
        let cluster = name(number);
        for backup in 0..backups {
            let name = format!("{cluster}-{backup}");
            let object = json!({
                "apiVersion": "postgresql.k8s.enterprisedb.io/v1alpha1", "kind": "Backup",
                "metadata": {"name": name}, "spec": {"cluster": {"name": cluster}},
            });
            api.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
            let status = json!({"status": done(&cluster, backup)});
            api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await?;
        }
        let api: Api<Cluster> = Api::namespaced(world.admin.clone(), &namespace(number));
        let object = json!({
            "apiVersion": "postgresql.k8s.enterprisedb.io/v1alpha1", "kind": "Cluster",
            "metadata": {"name": cluster}, "spec": spec(&cluster),
        });
        api.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
        anyhow::Ok(())
    });
    made.buffer_unordered(JOBS).try_collect().await
}

/// The status of a Backup that an instance has completed, as full as a real one.
fn done(cluster: &str, backup: usize) -> Value {
    let day = backup % 28 + 1;
    let condition = |type_: &str, reason: &str| {
        json!({
            "type": type_, "status": "True", "reason": reason, "message": "the backup is completed and can be restored",
            "lastTransitionTime": format!("2026-10-{day:02}T02:31:00Z"),
        })
    };
    json!({
        "phase": "completed", "backupId": format!("202610{day:02}T023000"), "backupName": format!("backup-{backup}"),
        "destinationPath": format!("s3://bucket/{cluster}"), "serverName": cluster,
        "s3Credentials": {
            "accessKeyId": {"name": "store", "key": "ID"}, "secretAccessKey": {"name": "store", "key": "KEY"},
        },
        "startedAt": format!("2026-10-{day:02}T02:30:00Z"), "stoppedAt": format!("2026-10-{day:02}T02:31:00Z"),
        "beginLSN": "0/2000028", "endLSN": "0/2000100",
        "beginWal": "000000010000000000000002", "endWal": "000000010000000000000002",
        "instanceID": {"podName": format!("{cluster}-1"), "sessionID": "0b6c1c1e-5d3f-4b52-9f57-1f5f7f2f3b11"},
        "conditions": [condition("Scheduled", "Assigned"), condition("Completed", "BackupCompleted")],
    })
}

/// What the statuses of the clusters say, as soon as they say it.
#[derive(Clone, Default)]
pub struct Board {
    seen: Arc<Mutex<HashMap<String, Progress>>>,
    changed: Arc<Notify>,
}

#[derive(Clone, Copy, Default)]
struct Progress {
    ready: bool,
    observed: i64,
}

impl Board {
    /// Watches all clusters until the task is aborted.
    pub fn watch(&self, world: &World) -> JoinHandle<()> {
        let board = self.clone();
        let api: Api<Cluster> = Api::all(world.admin.clone());
        tokio::spawn(async move {
            let events = watcher(api, watcher::Config::default()).default_backoff().applied_objects();
            events
                .for_each(|event| {
                    board.note(event.ok());
                    std::future::ready(())
                })
                .await;
        })
    }

    fn note(&self, cluster: Option<Cluster>) {
        let Some(cluster) = cluster else { return };
        let status = cluster.status.clone().unwrap_or_default();
        let ready = conditions::get(&status.conditions, conditions::READY)
            .is_some_and(|c| c.status == "True")
            && status.ready_instances == INSTANCES
            && status.observed_generation == cluster.metadata.generation;
        let progress = Progress { ready, observed: status.observed_generation.unwrap_or(0) };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(cluster.name_any(), progress);
        drop(seen);
        self.changed.notify_waiters();
    }

    async fn until(&self, fits: impl Fn(&HashMap<String, Progress>) -> bool) -> Instant {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if fits(&self.seen.lock().unwrap_or_else(PoisonError::into_inner)) {
                return Instant::now();
            }
            changed.await;
        }
    }

    /// Number of clusters that are ready.
    pub fn ready(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).values().filter(|p| p.ready).count()
    }

    /// Returns when so many clusters are ready.
    pub async fn all_ready(&self, clusters: usize) -> Instant {
        self.until(|seen| seen.values().filter(|p| p.ready).count() >= clusters).await
    }

    /// Returns when the status was made from this generation of the cluster.
    pub async fn observes(&self, cluster: &str, generation: i64) -> Instant {
        self.until(|seen| seen.get(cluster).is_some_and(|p| p.observed >= generation)).await
    }
}
