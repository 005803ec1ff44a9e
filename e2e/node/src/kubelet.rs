//! Watching the pods that are bound to this node, and running them.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt};
use tokio_util::sync::CancellationToken;

use crate::pod::{PodRuntime, Stop};
use crate::shared::Shared;
use crate::volumes::store;

/// Runs every pod bound to this node until `stop`. Then nothing runs any more.
pub(crate) async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    let api: Api<Pod> = Api::all(shared.client.clone());
    let config = watcher::Config::default().fields(&format!("spec.nodeName={}", shared.node));
    let mut events = watcher::watcher(api, config).boxed();
    let mut listed = BTreeSet::new();
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => break,
            event = events.try_next() => event,
        };
        match event {
            Ok(Some(Event::Apply(pod))) => see(&shared, pod),
            Ok(Some(Event::Delete(pod))) => gone(&shared, &pod.uid().unwrap_or_default()),
            Ok(Some(Event::Init)) => listed.clear(),
            Ok(Some(Event::InitApply(pod))) => {
                listed.insert(pod.uid().unwrap_or_default());
                see(&shared, pod);
            }
            Ok(Some(Event::InitDone)) => {
                for uid in known(&shared).into_iter().filter(|uid| !listed.contains(uid)) {
                    gone(&shared, &uid);
                }
                sweep(&shared, &listed).await;
            }
            Ok(None) => break,
            Err(error) => {
                tracing::debug!(%error, "the watch on pods was interrupted");
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            }
        }
    }
    let pods: Vec<Arc<PodRuntime>> =
        shared.pods.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
    for pod in &pods {
        pod.end(Stop::Lost);
    }
    for pod in pods {
        // The sender lives as long as the pod, which we hold.
        let _ = pod.done.subscribe().wait_for(|done| *done).await;
    }
}

fn known(shared: &Shared) -> Vec<String> {
    shared.pods.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
}

fn see(shared: &Arc<Shared>, pod: Pod) {
    let uid = pod.uid().unwrap_or_default();
    let mut pods = shared.pods.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = pods.entry(uid).or_insert_with(|| {
        let runtime = PodRuntime::new(shared.clone(), pod.clone());
        tokio::spawn(runtime.clone().run());
        runtime
    });
    let runtime = runtime.clone();
    drop(pods);
    runtime.seen(pod);
}

fn gone(shared: &Shared, uid: &str) {
    let runtime = shared.pods.lock().unwrap_or_else(PoisonError::into_inner).get(uid).cloned();
    if let Some(runtime) = runtime {
        runtime.end(Stop::Gone);
    }
}

/// Removes what an earlier incarnation left of pods that exist no more.
async fn sweep(shared: &Arc<Shared>, listed: &BTreeSet<String>) {
    let top = shared.root.join("pods");
    let running: BTreeSet<String> = known(shared).into_iter().collect();
    for entry in std::fs::read_dir(&top).into_iter().flatten().flatten() {
        let uid = entry.file_name().to_string_lossy().into_owned();
        if listed.contains(&uid) || running.contains(&uid) {
            continue;
        }
        let path = entry.path();
        let removed = tokio::task::spawn_blocking(move || store::remove(&path)).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(error = error.chain(), "cannot remove what a pod left");
        }
    }
}
