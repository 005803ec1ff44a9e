//! Looks at the nodes of the instances, as far as the operator may: in an installation for some namespaces only, nodes are
//! out of its reach, and decisions are made without them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::Api;

use super::observed::NodeFacts;
use crate::context::Context;

/// Remembers that nodes may not be read.
#[derive(Debug, Default)]
pub struct NodeAccess(Mutex<Option<Duration>>);

impl NodeAccess {
    /// Rights may be given later: it is tried again after so long.
    const KEPT: Duration = Duration::from_secs(600);

    /// Whether it is worth a try.
    pub fn allowed(&self, elapsed: Duration) -> bool {
        let refused = *self.0.lock().expect("no holder of this lock can panic");
        refused.is_none_or(|at| elapsed.saturating_sub(at) >= Self::KEPT)
    }

    /// The API server said that nodes may not be read.
    pub fn refused(&self, elapsed: Duration) {
        *self.0.lock().expect("no holder of this lock can panic") = Some(elapsed);
    }
}

/// The nodes that `pods` are on, by name. What cannot be found out is left out; a node that does not exist any more is
/// neither ready nor schedulable.
pub async fn read(ctx: &Context, pods: &[Pod]) -> BTreeMap<String, NodeFacts> {
    let names: BTreeSet<String> = pods
        .iter()
        .filter_map(|pod| pod.spec.as_ref()?.node_name.clone())
        .filter(|n| !n.is_empty())
        .collect();
    // One instance stays where it is.
    if pods.len() < 2 || !ctx.nodes.allowed(ctx.clock.elapsed()) {
        return BTreeMap::new();
    }
    let api: Api<Node> = Api::all(ctx.client.clone());
    let looking = names.into_iter().map(|name| {
        let api = api.clone();
        async move { (api.get_opt(&name).await, name) }
    });
    let mut nodes = BTreeMap::new();
    for (answer, name) in join_all(looking).await {
        match answer {
            Ok(Some(node)) => {
                nodes.insert(name, facts(&node));
            }
            Ok(None) => {
                nodes.insert(name, NodeFacts { ready: false, unschedulable: true });
            }
            Err(kube::Error::Api(status)) if status.is_forbidden() => ctx.nodes.refused(ctx.clock.elapsed()),
            Err(error) => tracing::debug!(node = name, error = %error, "cannot look at a node"),
        }
    }
    nodes
}

fn facts(node: &Node) -> NodeFacts {
    let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
    NodeFacts {
        ready: conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True"),
        unschedulable: node.spec.as_ref().and_then(|s| s.unschedulable).unwrap_or(false),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refusal_is_remembered_for_a_while() {
        let access = NodeAccess::default();
        let s = Duration::from_secs;
        assert!(access.allowed(s(0)));
        access.refused(s(10));
        assert!(!access.allowed(s(609)));
        assert!(access.allowed(s(610)));
    }

    #[test]
    fn a_node_is_ready_only_while_its_kubelet_says_so() {
        let node = |status: &str, unschedulable: bool| {
            let node = json!({
                "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"},
                "spec": {"unschedulable": unschedulable},
                "status": {"conditions": [{"type": "DiskPressure", "status": "True"}, {"type": "Ready", "status": status}]},
            });
            facts(&serde_json::from_value(node).unwrap())
        };
        assert_eq!(node("True", false), NodeFacts { ready: true, unschedulable: false });
        assert_eq!(node("True", true), NodeFacts { ready: true, unschedulable: true });
        assert_eq!(node("Unknown", false), NodeFacts { ready: false, unschedulable: false });
    }
}
