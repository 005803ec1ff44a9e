//! A stand-in for scheduler and kubelets: binds each pod to a node, gives it an address and an instance, and says that it
//! runs and is ready.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use futures::StreamExt;
use howdah_api::{labels, naming};
use k8s_openapi::api::core::v1::{Binding, Pod, Secret};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::instances::{Instances, address};
use crate::world::{World, node};

/// Pods that are started at the same time.
const JOBS: usize = 8;

/// Starts every pod that comes, until the task is aborted.
pub fn run(world: &World, instances: Arc<Instances>) -> JoinHandle<()> {
    let (client, nodes) = (world.admin.clone(), world.nodes);
    tokio::spawn(async move {
        let api: Api<Pod> = Api::all(client.clone());
        let config = watcher::Config::default().labels(labels::CLUSTER);
        let pods = watcher(api, config).default_backoff().applied_objects();
        let number = AtomicUsize::new(0);
        pods.for_each_concurrent(JOBS, |pod| async {
            let Ok(pod) = pod else { return };
            // Its own changes come along too.
            if pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()) {
                return;
            }
            let number = number.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = start(&client, &instances, &pod, number, &node(number % nodes)).await {
                eprintln!("howdah-scale: pod {} does not start: {error:#}", pod.name_any());
            }
        })
        .await;
    })
}

async fn start(client: &Client, instances: &Instances, pod: &Pod, number: usize, node: &str) -> Result<()> {
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let cluster = pod.labels().get(labels::CLUSTER).context("it has no cluster")?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let secret = secrets.get(&naming::server_secret(cluster)).await?;
    let primary = pod.labels().get(labels::ROLE).is_some_and(|role| role == labels::ROLE_PRIMARY);
    let ip = address(number);
    instances.add(ip, &name, cluster, primary, &secret)?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let binding: Binding = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    }))?;
    let bound: kube::Result<Value> =
        pods.create_subresource("binding", &name, &PostParams::default(), &binding).await;
    bound.context("it cannot be bound")?;
    let status = json!({"status": {
        "phase": "Running", "podIP": ip.to_string(),
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{
            "name": naming::CONTAINER_POSTGRES, "image": "postgres:17", "imageID": "sha256:0", "ready": true,
            "restartCount": 0, "state": {"running": {"startedAt": "2026-11-21T10:00:00Z"}},
        }],
    }});
    pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await?;
    Ok(())
}
