//! Another instance becomes the primary: because the first one fails, or because somebody asks for it.

use std::sync::Arc;

use howdah_api::instance::InstanceRole;
use howdah_api::{Cluster, ClusterStatus, labels, naming};
use howdah_operator::cli::Switchover;
use howdah_operator::context::Context;
use howdah_operator::switchover;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::node::Node;
use crate::world::{NS, Running, World, until};

async fn status(world: &World, wanted: impl Fn(&ClusterStatus) -> bool) -> ClusterStatus {
    until("the status is as wanted", async || {
        let cluster = world.api::<Cluster>().get("zoo").await.unwrap();
        cluster.status.filter(&wanted)
    })
    .await
}

/// Two instances that are well.
async fn two(world: &World, ctx: Arc<Context>) -> (Node, Running) {
    let node = Node::start(world);
    let running = Running::start(ctx);
    world.create_cluster("zoo", json!({"instances": 2, "storage": {"size": "5Gi"}})).await;
    status(world, |s| s.phase.as_deref() == Some("Cluster in healthy state") && s.ready_instances == 2).await;
    (node, running)
}

async fn turn_into(node: &Node, pod: &str, role: InstanceRole, timeline: u32) {
    node.change(pod, |answer| {
        let answer = answer.as_mut().unwrap();
        answer.role = Some(role);
        answer.streaming = role == InstanceRole::Replica;
        answer.timeline_id = Some(timeline);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_whose_container_has_ended_is_left_for_its_replica() {
    let world = World::start().await;
    let (node, _running) = two(&world, world.context()).await;
    let pod = world.api::<Pod>().get("zoo-1").await.unwrap();
    let holder = naming::lease_holder("zoo-1", &pod.uid().unwrap());
    let _: Lease = world
        .create(json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "zoo-primary"},
            "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": "2026-11-21T10:00:00.000000Z"},
        }))
        .await;
    node.change("zoo-1", |answer| *answer = None).await;
    let ended = json!({"status": {
        "conditions": [{"type": "Ready", "status": "False"}],
        "containerStatuses": [{
            "name": "postgres", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 137}},
        }],
    }});
    world.api::<Pod>().patch_status("zoo-1", &PatchParams::default(), &Patch::Merge(&ended)).await.unwrap();
    let chosen = status(&world, |s| s.target_primary.as_deref() == Some("zoo-2")).await;
    assert_eq!(chosen.phase.as_deref(), Some("Failing over"));
    assert_eq!(chosen.current_primary.as_deref(), Some("zoo-1"));
    assert!(chosen.current_primary_failing_since_timestamp.is_some());
    until("the lease is emptied", async || {
        let lease = world.api::<Lease>().get("zoo-primary").await.unwrap();
        lease.spec.unwrap().holder_identity.is_none_or(|holder| holder.is_empty()).then_some(())
    })
    .await;
    turn_into(&node, "zoo-2", InstanceRole::Primary, 2).await;
    let after = status(&world, |s| s.current_primary.as_deref() == Some("zoo-2")).await;
    assert_eq!(after.timeline_id, Some(2));
    until("the label follows", async || {
        let role =
            async |pod: &str| world.api::<Pod>().get(pod).await.unwrap().labels()[labels::ROLE].clone();
        (role("zoo-1").await == "replica" && role("zoo-2").await == "primary").then_some(())
    })
    .await;
    until("events tell", async || {
        let reasons = world.event_reasons("zoo").await;
        ["FailingOver", "FailedOver"].iter().all(|r| reasons.iter().any(|found| found == r)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switchover_by_command_is_followed_to_its_end() {
    let world = World::start().await;
    let (node, _running) = two(&world, world.context()).await;
    let ask = |instance: Option<&str>| Switchover {
        cluster: "zoo".into(),
        instance: instance.map(str::to_owned),
        namespace: Some(NS.into()),
        wait: 100,
    };
    let run = async |args: Switchover| {
        let mut lines = Vec::new();
        let outcome = switchover::run(world.admin.clone(), &args, &mut lines).await;
        (outcome.map_err(|e| e.to_string()), String::from_utf8(lines).unwrap())
    };
    // Refused, and told why.
    node.change("zoo-2", |answer| answer.as_mut().unwrap().streaming = false).await;
    let (refused, _) = run(ask(Some("zoo-2"))).await;
    let said = refused.unwrap_err();
    assert!(said.contains("zoo-1 stays the primary of Cluster zoo: zoo-2 does not stream"), "{said}");
    assert!((run(ask(Some("zoo-9"))).await.0.unwrap_err()).contains("no instance zoo-9"));

    node.change("zoo-2", |answer| answer.as_mut().unwrap().streaming = true).await;
    let change = async {
        status(&world, |s| s.target_primary.as_deref() == Some("zoo-2")).await;
        turn_into(&node, "zoo-1", InstanceRole::Replica, 1).await;
        turn_into(&node, "zoo-2", InstanceRole::Primary, 2).await;
    };
    let ((outcome, lines), ()) = tokio::join!(run(ask(None)), change);
    assert_eq!(outcome, Ok(()), "{lines}");
    assert!(lines.starts_with("zoo-1 is the primary; asked for the most advanced replica\n"), "{lines}");
    assert!(lines.ends_with("zoo-2 is the primary\n"), "{lines}");
    let cluster = world.api::<Cluster>().get("zoo").await.unwrap();
    assert!(!cluster.annotations().contains_key(labels::SWITCHOVER));
    until("an event tells", async || {
        world.event_reasons("zoo").await.contains(&"SwitchedOver".to_owned()).then_some(())
    })
    .await;
}
