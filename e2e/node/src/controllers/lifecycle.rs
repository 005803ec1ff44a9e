//! Nodes that give no sign of life: their conditions become Unknown, their pods unready, and after a while their
//! pods are evicted.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, is_not_found};
use crate::events::{self, Events};

/// What a node that nobody hears of is tainted with.
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// How long pods stay on such a node when they do not say themselves, in seconds.
const TOLERATED: i64 = 300;

/// Sees to nodes that are lost.
pub(crate) struct Lifecycle {
    pub client: Client,
    pub events: Events,
    /// How long a node may be silent.
    pub grace: Duration,
}

/// Whether a node gave a sign of life recently enough.
fn is_alive(lease: Option<&Lease>, grace: Duration, now: Timestamp) -> bool {
    let renewed = lease.and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref());
    renewed.is_some_and(|time| now.duration_since(time.0).as_secs_f64() <= grace.as_secs_f64())
}

fn ready_status(node: &Node) -> Option<&NodeCondition> {
    node.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == "Ready")
}

/// The conditions of a node that nobody hears of.
fn unknown(node: &Node, now: Timestamp) -> Vec<NodeCondition> {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    conditions
        .into_iter()
        .map(|condition| NodeCondition {
            status: "Unknown".to_owned(),
            reason: Some("NodeStatusUnknown".to_owned()),
            message: Some("Kubelet stopped posting node status.".to_owned()),
            last_transition_time: Some(Time(now)),
            ..condition
        })
        .collect()
}

/// The conditions of a pod on such a node, or nothing when they say so already.
fn unready(pod: &Pod, now: Timestamp) -> Option<Vec<PodCondition>> {
    let mut conditions = pod.status.as_ref()?.conditions.clone()?;
    let ready = conditions.iter_mut().find(|c| c.type_ == "Ready" && c.status == "True")?;
    ready.status = "False".to_owned();
    ready.reason = Some("NodeLost".to_owned());
    ready.last_transition_time = Some(Time(now));
    Some(conditions)
}

/// How long `pod` stays on an unreachable node; for ever when nothing is returned.
fn tolerated(pod: &Pod) -> Option<Duration> {
    let tolerations = pod.spec.iter().flat_map(|spec| spec.tolerations.iter().flatten());
    let mut seconds = None;
    for toleration in tolerations {
        let fits = toleration.key.as_deref().is_none_or(|key| key == UNREACHABLE)
            && toleration.effect.as_deref().is_none_or(|effect| effect == "NoExecute");
        if fits {
            match toleration.toleration_seconds {
                None => return None,
                Some(given) => seconds = Some(seconds.map_or(given, |known: i64| known.min(given))),
            }
        }
    }
    Some(Duration::from_secs(u64::try_from(seconds.unwrap_or(TOLERATED)).unwrap_or(0)))
}

/// What is known about the nodes.
struct Sight {
    nodes: Vec<Node>,
    leases: BTreeMap<String, Lease>,
}

impl Lifecycle {
    async fn see(&self) -> Result<Sight, Error> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), "kube-node-lease");
        let all = ListParams::default();
        let listed = nodes.list(&all).await.map_err(Error::api("list", "Nodes"))?;
        let leases: BTreeMap<String, Lease> = leases
            .list(&all)
            .await
            .map_err(Error::api("list", "Leases"))?
            .items
            .into_iter()
            .map(|lease| (lease.name_any(), lease))
            .collect();
        Ok(Sight { nodes: listed.items, leases })
    }

    /// Judges what was seen. Nodes could not be heard before `hearing`, so no silence counts that began earlier.
    async fn judge(&self, sight: Sight, hearing: Timestamp) -> Result<(), Error> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let now = Timestamp::now();
        let deaf = now.duration_since(hearing).as_secs_f64() <= self.grace.as_secs_f64();
        for node in sight.nodes {
            let name = node.name_any();
            // A node that was never heard of is not lost but new.
            let Some(lease) = sight.leases.get(&name) else { continue };
            let known = ready_status(&node).map(|condition| condition.status.clone());
            let alive = is_alive(Some(lease), self.grace, now);
            if !alive && deaf && known.as_deref() != Some("Unknown") {
                continue;
            }
            if alive {
                if known.as_deref() == Some("True") && is_tainted(&node) {
                    self.taint(&nodes, &node, false).await?;
                }
                continue;
            }
            if known.as_deref() != Some("Unknown") {
                let patch = json!({"status": {"conditions": unknown(&node, now)}});
                nodes
                    .patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch))
                    .await
                    .map_err(Error::api("patch the status of", format!("Node {name}")))?;
                self.taint(&nodes, &node, true).await?;
                let text = format!("Node {name} status is now: NodeNotReady");
                self.events.warning(&events::about(&node), "NodeNotReady", text);
            }
            let since =
                ready_status(&node).and_then(|c| c.last_transition_time.as_ref()).map_or(now, |t| t.0);
            self.pods(&name, since, now).await?;
        }
        Ok(())
    }

    async fn taint(&self, api: &Api<Node>, node: &Node, add: bool) -> Result<(), Error> {
        let mut taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
        taints.retain(|taint| taint.key != UNREACHABLE);
        let mut value = json!(taints);
        if let (true, Some(list)) = (add, value.as_array_mut()) {
            for effect in ["NoSchedule", "NoExecute"] {
                list.push(json!({"key": UNREACHABLE, "effect": effect}));
            }
        }
        let patch = json!({"spec": {"taints": value}});
        api.patch(&node.name_any(), &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .map_err(Error::api("taint", format!("Node {}", node.name_any())))?;
        Ok(())
    }

    async fn pods(&self, node: &str, since: Timestamp, now: Timestamp) -> Result<(), Error> {
        let all: Api<Pod> = Api::all(self.client.clone());
        let params = ListParams::default().fields(&format!("spec.nodeName={node}"));
        for pod in all.list(&params).await.map_err(Error::api("list", "Pods"))?.items {
            let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
            let name = pod.name_any();
            let done = |result: Result<(), kube::Error>| match result {
                Err(error) if !is_not_found(&error) => Err(Error::api("mark", format!("Pod {name}"))(error)),
                _ => Ok(()),
            };
            if let Some(conditions) = unready(&pod, now) {
                let patch = json!({"status": {"conditions": conditions}});
                let told = api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch)).await;
                done(told.map(|_| ()))?;
            }
            let silent = Duration::try_from(now.duration_since(since)).unwrap_or_default();
            let evict = tolerated(&pod).is_some_and(|tolerated| silent > tolerated);
            if evict && pod.metadata.deletion_timestamp.is_none() {
                self.events.normal(&events::about(&pod), "TaintManagerEviction", "Marking for deletion");
                done(api.delete(&name, &DeleteParams::default()).await.map(|_| ()))?;
            }
        }
        Ok(())
    }

    /// Looks until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        // Long ago: whoever starts under a server that has been there all the time believes what it says.
        let mut hearing = Timestamp::UNIX_EPOCH;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep((self.grace / 8).max(Duration::from_millis(200))) => {}
            }
            let judged = match self.see().await {
                Ok(sight) => self.judge(sight, hearing).await,
                // Nodes that cannot reach the server are as silent as lost ones. A controller manager that loses the
                // server starts anew, and gives every node its time again.
                Err(error) => {
                    hearing = Timestamp::now();
                    Err(error)
                }
            };
            if let Err(error) = judged {
                tracing::debug!(error = error.chain(), "nodes are looked at again");
            }
        }
    }
}

fn is_tainted(node: &Node) -> bool {
    node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()).any(|taint| taint.key == UNREACHABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn silence() {
        let lease: Lease =
            serde_json::from_value(json!({"spec": {"renewTime": "1970-01-01T00:01:00.000000Z"}})).unwrap();
        let grace = Duration::from_secs(40);
        assert!(is_alive(Some(&lease), grace, time(100)));
        assert!(!is_alive(Some(&lease), grace, time(101)));
        assert!(!is_alive(None, grace, time(0)));
    }

    #[test]
    fn pods_become_unready_once_and_leave_when_they_tolerate_no_longer() {
        let pod = |tolerations: serde_json::Value| -> Pod {
            serde_json::from_value(json!({"spec": {"containers": [], "tolerations": tolerations},
                "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Initialized", "status": "True"}]}}))
            .unwrap()
        };
        let mut lost = pod(json!([]));
        let conditions = unready(&lost, time(9)).unwrap();
        assert_eq!(conditions[0].status, "False");
        assert_eq!(conditions[1].status, "True");
        lost.status.as_mut().unwrap().conditions = Some(conditions);
        assert!(unready(&lost, time(10)).is_none());
        assert_eq!(tolerated(&lost), Some(Duration::from_secs(300)));
        let short = json!([{"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}]);
        assert_eq!(tolerated(&pod(short)), Some(Duration::from_secs(5)));
        let forever = json!([{"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute"}]);
        assert_eq!(tolerated(&pod(forever)), None);
    }
}
