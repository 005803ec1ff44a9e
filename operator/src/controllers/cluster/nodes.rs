//! Looks at the nodes of the instances, as far as the operator may: in an installation for some namespaces only, nodes are
//! out of its reach, and decisions are made without them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::Api;

use super::observed::NodeFacts;
use crate::context::Context;

/// Remembers that nodes may not be read, and what they were like: a node is asked for once, however many clusters have
/// instances on it.
#[derive(Debug, Default)]
pub struct NodeAccess {
    refused: Mutex<Option<Duration>>,
    facts: Mutex<HashMap<String, (NodeFacts, Duration)>>,
}

impl NodeAccess {
    /// Rights may be given later: it is tried again after so long.
    const KEPT: Duration = Duration::from_secs(600);

    /// Whether it is worth a try.
    pub fn allowed(&self, elapsed: Duration) -> bool {
        let refused = *self.refused.lock().expect("no holder of this lock can panic");
        refused.is_none_or(|at| elapsed.saturating_sub(at) >= Self::KEPT)
    }

    /// The API server said that nodes may not be read.
    pub fn refused(&self, elapsed: Duration) {
        *self.refused.lock().expect("no holder of this lock can panic") = Some(elapsed);
    }

    /// What `node` was like, when that is known and not older than `age`.
    fn known(&self, node: &str, age: Duration, elapsed: Duration) -> Option<NodeFacts> {
        let facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, at) = facts.get(node)?;
        (elapsed.saturating_sub(*at) < age).then_some(*known)
    }

    /// `node` is like this now.
    fn remember(&self, node: &str, found: NodeFacts, elapsed: Duration) {
        let mut facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        if !facts.contains_key(node) {
            // Nodes that nobody asks for any more.
            facts.retain(|_, (_, at)| elapsed.saturating_sub(*at) < Self::KEPT);
        }
        facts.insert(node.to_owned(), (found, elapsed));
    }
}

/// The nodes that `pods` are on, by name, as they are or as they were at most `age` ago. What cannot be found out is left
/// out; a node that does not exist any more is neither ready nor schedulable.
pub async fn read(ctx: &Context, pods: &[Pod], age: Duration) -> BTreeMap<String, NodeFacts> {
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
    let mut nodes = BTreeMap::new();
    let mut unknown = Vec::new();
    for name in names {
        match ctx.nodes.known(&name, age, ctx.clock.elapsed()) {
            Some(facts) => {
                nodes.insert(name, facts);
            }
            None => unknown.push(name),
        }
    }
    let looking = unknown.into_iter().map(|name| {
        let api = api.clone();
        async move { (api.get_opt(&name).await, name) }
    });
    for (answer, name) in join_all(looking).await {
        let gone = NodeFacts { ready: false, unschedulable: true };
        match answer {
            Ok(node) => {
                let found = node.as_ref().map_or(gone, facts);
                ctx.nodes.remember(&name, found, ctx.clock.elapsed());
                nodes.insert(name, found);
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
    fn what_a_node_was_like_is_good_for_a_while() {
        let access = NodeAccess::default();
        let s = Duration::from_secs;
        let well = NodeFacts { ready: true, unschedulable: false };
        access.remember("n", well, s(10));
        assert_eq!(access.known("n", s(30), s(39)), Some(well));
        assert_eq!(access.known("n", s(30), s(40)), None);
        assert_eq!(access.known("n", Duration::ZERO, s(10)), None, "read afresh means afresh");
        access.remember("another", well, s(700));
        assert_eq!(access.known("n", s(10_000), s(700)), None, "nobody asked for it for long");
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
