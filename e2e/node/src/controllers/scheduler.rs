//! Binding pods to nodes: the first ready node that suits the pod, the emptiest among those.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Binding, Node, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ListParams, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher;
use kube::{Client, ResourceExt};
use tokio_util::sync::CancellationToken;

use crate::error::{is_conflict, is_not_found};
use crate::events::{self, Events};

/// Whether a node can take pods at all.
fn is_ready(node: &Node) -> bool {
    let blocked = node.spec.as_ref().is_some_and(|spec| {
        spec.unschedulable == Some(true)
            || spec.taints.iter().flatten().any(|t| matches!(t.effect.as_str(), "NoSchedule" | "NoExecute"))
    });
    let ready = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    ready && !blocked
}

/// The node for a pod, or why there is none. `load` counts the pods of each node, `peers` those that this
/// pod would rather not share a node with.
pub(crate) fn choose<'a>(
    pod: &Pod,
    nodes: &'a [Node],
    load: &BTreeMap<String, usize>,
) -> Result<&'a Node, String> {
    let selector = pod.spec.as_ref().and_then(|spec| spec.node_selector.clone()).unwrap_or_default();
    let ready: Vec<&Node> = nodes.iter().filter(|node| is_ready(node)).collect();
    let chosen = ready
        .iter()
        .filter(|node| selector.iter().all(|(key, value)| node.labels().get(key) == Some(value)))
        .min_by_key(|node| (load.get(&node.name_any()).copied().unwrap_or(0), node.name_any()));
    chosen.copied().ok_or_else(|| {
        format!(
            "0/{} nodes are available: {} not ready, {} did not match the node selector",
            nodes.len(),
            nodes.len() - ready.len(),
            ready.len()
        )
    })
}

fn is_waiting(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    let ours = spec.and_then(|spec| spec.scheduler_name.as_deref()).unwrap_or("default-scheduler");
    spec.is_some_and(|spec| spec.node_name.as_deref().unwrap_or_default().is_empty())
        && pod.metadata.deletion_timestamp.is_none()
        && spec.and_then(|spec| spec.scheduling_gates.as_ref()).is_none_or(Vec::is_empty)
        && ours == "default-scheduler"
}

async fn bind(client: &Client, events: &Events, pod: &Pod) -> Result<(), kube::Error> {
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await?.items;
    let pods = Api::<Pod>::all(client.clone()).list(&ListParams::default()).await?.items;
    let mut load = BTreeMap::new();
    for other in &pods {
        if let Some(node) = other.spec.as_ref().and_then(|spec| spec.node_name.clone()) {
            *load.entry(node).or_insert(0) += 1;
        }
    }
    let about = events::about(pod);
    let (name, namespace) = (pod.name_any(), pod.namespace().unwrap_or_default());
    let node = match choose(pod, &nodes, &load) {
        Ok(node) => node.name_any(),
        Err(why) => {
            events.warning(&about, "FailedScheduling", why);
            return Ok(());
        }
    };
    let binding = Binding {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(namespace.clone()),
            uid: pod.uid(),
            ..Default::default()
        },
        target: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(node.clone()),
            ..Default::default()
        },
    };
    let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let bound: Result<serde_json::Value, kube::Error> =
        api.create_subresource("binding", &name, &PostParams::default(), &binding).await;
    match bound {
        Ok(_) => {
            let text = format!("Successfully assigned {namespace}/{name} to {node}");
            events.normal(&about, "Scheduled", text);
            Ok(())
        }
        // Bound by somebody else, or gone.
        Err(error) if is_conflict(&error) || is_not_found(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Binds pods until `stop`.
pub(crate) async fn run(client: Client, events: Events, stop: CancellationToken) {
    let api: Api<Pod> = Api::all(client.clone());
    let config = watcher::Config::default().fields("spec.nodeName=");
    let mut stream = watcher::watcher(api, config).default_backoff().applied_objects().boxed();
    // Pods for which there was no node, or no answer.
    let mut again: BTreeMap<String, Pod> = BTreeMap::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(500));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let pod = tokio::select! {
            () = stop.cancelled() => return,
            next = stream.try_next() => match next {
                Ok(Some(pod)) => pod,
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(%error, "the watch on unbound pods was interrupted");
                    continue;
                }
            },
            _ = ticks.tick(), if !again.is_empty() => {
                let api: Api<Pod> = Api::all(client.clone());
                let listed = api.list(&ListParams::default().fields("spec.nodeName=")).await;
                again.clear();
                for pod in listed.map(|list| list.items).unwrap_or_default() {
                    if is_waiting(&pod) {
                        try_bind(&client, &events, pod, &mut again).await;
                    }
                }
                continue;
            }
        };
        if is_waiting(&pod) {
            try_bind(&client, &events, pod, &mut again).await;
        }
    }
}

async fn try_bind(client: &Client, events: &Events, pod: Pod, again: &mut BTreeMap<String, Pod>) {
    if let Err(error) = bind(client, events, &pod).await {
        tracing::debug!(pod = pod.name_any(), %error, "cannot bind a pod, trying again");
    }
    // Looked at once more: when it was bound the list will not have it.
    again.insert(pod.uid().unwrap_or_default(), pod);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, ready: &str, disk: &str) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {"disk": disk}},
            "status": {"conditions": [{"type": "Ready", "status": ready}]}}))
        .unwrap()
    }

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    #[test]
    fn the_emptiest_ready_node_is_chosen() {
        let nodes = [node("a", "True", "ssd"), node("b", "True", "hdd"), node("c", "Unknown", "ssd")];
        let load: BTreeMap<String, usize> = [("a".to_owned(), 3), ("b".to_owned(), 1)].into();
        let any = pod(json!({"containers": []}));
        assert_eq!(choose(&any, &nodes, &load).unwrap().name_any(), "b");
        let ssd = pod(json!({"containers": [], "nodeSelector": {"disk": "ssd"}}));
        assert_eq!(choose(&ssd, &nodes, &load).unwrap().name_any(), "a");
        let none = pod(json!({"containers": [], "nodeSelector": {"disk": "none"}}));
        assert!(choose(&none, &nodes, &load).unwrap_err().starts_with("0/3 nodes are available"));
    }

    #[test]
    fn only_unbound_ungated_pods_wait() {
        assert!(is_waiting(&pod(json!({"containers": []}))));
        assert!(!is_waiting(&pod(json!({"containers": [], "nodeName": "a"}))));
        assert!(!is_waiting(&pod(json!({"containers": [], "schedulerName": "mine"}))));
        assert!(!is_waiting(&pod(json!({"containers": [], "schedulingGates": [{"name": "x"}]}))));
    }
}
