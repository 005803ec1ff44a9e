//! An API server that misbehaves: the outcome is the same. These tests ask the double for faults.

use howdah_api::Cluster;
use howdah_lab_apiserver::faults::{Effect, Fault, Matcher};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::ListParams;
use rstest::rstest;
use serde_json::json;

use crate::node::Node;
use crate::world::{Running, World, until};

async fn healthy(world: &World, instances: i32) {
    until("the cluster is healthy", async || {
        let status = world.api::<Cluster>().get("zoo").await.ok()?.status.unwrap_or_default();
        let found = status.phase.as_deref() == Some("Cluster in healthy state")
            && status.ready_instances == instances;
        found.then_some(())
    })
    .await;
}

/// Every second or so a write goes wrong in one of the ways in which it can.
#[rstest]
#[case::conflicts(Effect::Conflict)]
#[case::lost_answers(Effect::LostAnswer)]
#[case::server_errors(Effect::InternalError)]
#[case::too_many_requests(Effect::TooManyRequests { retry_after_seconds: 0 })]
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_comes_up_through_failing_writes(#[case] effect: Effect) {
    let world = World::start().await;
    let node = Node::start(&world);
    for resource in ["pods", "persistentvolumeclaims", "secrets", "services", "roles", "clusters"] {
        let matcher = Matcher {
            user: Some("howdah".into()),
            ..Matcher::resource(resource).verbs(&["create", "patch", "update"])
        };
        world.server.faults().inject(Fault { matcher, effect: effect.clone(), count: Some(1) });
    }
    let ctx = world.context();
    let _running = Running::start(ctx.clone());
    world.create_cluster("zoo", json!({"instances": 2, "storage": {"size": "5Gi"}})).await;
    healthy(&world, 2).await;
    let pods = world.api::<Pod>().list(&ListParams::default()).await.unwrap();
    assert_eq!(pods.items.iter().map(|p| p.name_any()).collect::<Vec<_>>(), ["zoo-1", "zoo-2"]);
    let volumes = world.api::<PersistentVolumeClaim>().list(&ListParams::default()).await.unwrap();
    assert_eq!(volumes.items.len(), 2);
    assert_eq!(node.seen().len(), 2);
    let text = ctx.metrics.render();
    assert!(text.contains("howdah_operator_reconciles_total{controller=\"cluster\"}"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_watches_and_expired_versions_lose_nothing() {
    let world = World::start().await;
    let _node = Node::start(&world);
    let _running = Running::start(world.context());
    world.create_cluster("zoo", json!({"instances": 1, "storage": {"size": "5Gi"}})).await;
    healthy(&world, 1).await;
    world.server.expire_versions();
    world.server.faults().drop_watches(Matcher::default());
    let patch = json!({"spec": {"instances": 2}});
    world
        .api::<Cluster>()
        .patch("zoo", &kube::api::PatchParams::default(), &kube::api::Patch::Merge(&patch))
        .await
        .unwrap();
    healthy(&world, 2).await;
}

/// A slow server is no reason for two decisions on one object at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_server_is_waited_for() {
    let world = World::start().await;
    let node = Node::start(&world);
    let matcher =
        Matcher { user: Some("howdah".into()), ..Matcher::default().verbs(&["get", "list", "create"]) };
    let effect = Effect::Latency { milliseconds: 30 };
    world.server.faults().inject(Fault { matcher, effect, count: None });
    let _running = Running::start(world.context());
    world.create_cluster("zoo", json!({"instances": 2, "storage": {"size": "5Gi"}})).await;
    healthy(&world, 2).await;
    assert_eq!(node.seen().iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(), ["zoo-1", "zoo-2"]);
}
