//! The end of a pod: its containers, its directories, its object.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Preconditions};
use tokio::task::JoinHandle;

use super::{PodRuntime, Stop, publish};
use crate::error::{is_conflict, is_not_found};
use crate::volumes::store;

/// Removes all traces of a pod whose containers have ended.
pub(super) async fn run(pod: &Arc<PodRuntime>, publisher: JoinHandle<()>) {
    publisher.abort();
    let order = *pod.stop.borrow();
    if matches!(order, Stop::Graceful(_)) {
        publish::finally(pod).await;
    }
    pod.shared.names.remove(&pod.uid);
    pod.update(|state| state.address = None);
    if order == Stop::Lost {
        // A node that comes back finds what it left, as after a power failure.
        store::unmount_below(&pod.shared.pod_dir(&pod.uid));
        return;
    }
    let dir = pod.shared.pod_dir(&pod.uid);
    match tokio::task::spawn_blocking(move || store::remove(&dir)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(pod = pod.name, error = error.chain(), "a pod's directory stays"),
        Err(error) => tracing::warn!(pod = pod.name, %error, "a pod's directory stays"),
    }
    if matches!(order, Stop::Graceful(_)) {
        remove_object(pod).await;
    }
}

/// Removes the pod from the API server, now that nothing of it is left.
async fn remove_object(pod: &PodRuntime) {
    let api: Api<Pod> = Api::namespaced(pod.shared.client.clone(), &pod.namespace);
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: Some(pod.uid.clone()), resource_version: None }),
        ..Default::default()
    };
    let mut retry = Duration::from_millis(50);
    loop {
        match api.delete(&pod.name, &params).await {
            Ok(_) => return,
            Err(error) if is_not_found(&error) => return,
            Err(error) => {
                // Another pod may have the name by now: then this one is gone.
                if is_conflict(&error) && matches!(publish::still_there(pod, &api).await, Ok(false)) {
                    return;
                }
                tracing::warn!(pod = pod.name, %error, "cannot remove a pod, trying again");
                tokio::select! {
                    () = tokio::time::sleep(retry) => {}
                    () = pod.shared.stop.cancelled() => return,
                }
                retry = (retry * 2).min(Duration::from_secs(2));
            }
        }
    }
}
