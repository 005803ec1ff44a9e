//! Telling the API server how a pod is.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use super::{PodRuntime, Stop};
use crate::error::is_not_found;
use crate::status::{self, Facts};

/// The status as it should be now.
fn current(pod: &PodRuntime) -> Value {
    let state = pod.state();
    let ip = state.address.as_ref().map(|lease| lease.address.to_string());
    let facts = Facts {
        init: &state.init,
        main: &state.main,
        pod_ip: ip.as_deref(),
        host_ip: &pod.shared.host_ip,
        started: state.started,
        verdict: state.verdict.as_ref().map(|(reason, message)| (reason.as_str(), message.as_str())),
    };
    let status = status::build(&state.pod, &facts, Timestamp::now());
    let mut value = serde_json::to_value(status).unwrap_or_default();
    // A merge patch keeps what it does not name.
    for field in ["reason", "message"] {
        if value.get(field).is_none() {
            value[field] = Value::Null;
        }
    }
    value
}

/// Patches once. False when there is no such pod any more.
async fn patch(pod: &PodRuntime, status: &Value) -> Result<bool, kube::Error> {
    let api: Api<Pod> = Api::namespaced(pod.shared.client.clone(), &pod.namespace);
    // The uid keeps a successor of the same name from getting this one's status.
    let body = json!({"metadata": {"uid": pod.uid}, "status": status});
    match api.patch_status(&pod.name, &PatchParams::default(), &Patch::Merge(&body)).await {
        Ok(newer) => {
            // Conditions are compared with what the server has, also before the watch says so.
            let mut state = pod.state();
            state.pod.status = newer.status;
            state.pod.metadata.resource_version = newer.metadata.resource_version;
            Ok(true)
        }
        Err(error) if is_not_found(&error) => Ok(false),
        // Either a passing conflict, or the name belongs to another pod by now.
        Err(error) => {
            if matches!(&error, kube::Error::Api(status) if matches!(status.code, 409 | 422))
                && !still_there(pod, &api).await?
            {
                return Ok(false);
            }
            Err(error)
        }
    }
}

/// Whether the API server still has this very pod.
pub(super) async fn still_there(pod: &PodRuntime, api: &Api<Pod>) -> Result<bool, kube::Error> {
    let found = api.get_opt(&pod.name).await?;
    Ok(found.is_some_and(|found| found.metadata.uid.as_deref() == Some(pod.uid.as_str())))
}

/// Publishes every change until the pod is gone.
pub(super) async fn run(pod: Arc<PodRuntime>) {
    let mut published = Value::Null;
    let mut retry = Duration::from_millis(50);
    loop {
        let wanted = current(&pod);
        if wanted != published {
            match patch(&pod, &wanted).await {
                Ok(true) => {
                    published = wanted;
                    retry = Duration::from_millis(50);
                    // What happened meanwhile is seen at once.
                    continue;
                }
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(pod = pod.name, %error, "cannot publish a pod's status, trying again");
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(Duration::from_secs(2));
                    continue;
                }
            }
        }
        pod.changed.notified().await;
        if *pod.stop.borrow() >= Stop::Gone {
            return;
        }
    }
}

/// Publishes the last word about a pod that is ending.
pub(super) async fn finally(pod: &PodRuntime) {
    let status = current(pod);
    if let Err(error) = patch(pod, &status).await {
        tracing::debug!(pod = pod.name, %error, "a pod's last status was not published");
    }
}
