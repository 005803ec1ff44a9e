//! Budgets, hibernation and restarts of a running cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use howdah_api::{Cluster, conditions, labels};
use howdah_operator::manager_program::ManagerProgram;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::clusters::{healthy, phase};
use crate::node::Node;
use crate::world::{Running, World, until};

async fn patch(world: &World, patch: Value) {
    world.api::<Cluster>().patch("zoo", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

async fn budgets(world: &World) -> Vec<String> {
    let list = world.api::<PodDisruptionBudget>().list(&ListParams::default()).await.unwrap();
    list.items.iter().map(ResourceExt::name_any).collect()
}

async fn budgets_become(world: &World, wanted: &[&str]) {
    until("the budgets are those", async || (budgets(world).await == wanted).then_some(())).await;
}

/// They come with the cluster, follow what it asks for, and are made again when somebody deletes one.
#[tokio::test(flavor = "multi_thread")]
async fn budgets_follow_the_cluster() {
    let world = World::start().await;
    let _node = Node::start(&world);
    let _running = Running::start(world.context());
    // Of somebody else; it selects other pods and stays whatever happens.
    let _: PodDisruptionBudget = world
        .create(json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "other"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "shop"}}},
        }))
        .await;
    world.create_cluster("zoo", json!({"instances": 3, "storage": {"size": "5Gi"}})).await;
    healthy(&world, "zoo", 3).await;
    budgets_become(&world, &["other", "zoo", "zoo-primary"]).await;
    world.api::<PodDisruptionBudget>().delete("zoo", &DeleteParams::default()).await.unwrap();
    budgets_become(&world, &["other", "zoo", "zoo-primary"]).await;
    patch(&world, json!({"spec": {"instances": 2}})).await;
    budgets_become(&world, &["other", "zoo-primary"]).await;
    patch(&world, json!({"spec": {"enablePDB": false}})).await;
    budgets_become(&world, &["other"]).await;
}

/// Pods go, everything else stays; they come back on their volumes, the primary first.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_sleeps_and_wakes_up() {
    let world = World::start().await;
    let node = Node::start(&world);
    let _running = Running::start(world.context());
    world.create_cluster("zoo", json!({"instances": 2, "storage": {"size": "5Gi"}})).await;
    healthy(&world, "zoo", 2).await;
    patch(&world, json!({"metadata": {"annotations": {labels::HIBERNATION: "on"}}})).await;
    let cluster = phase(&world, "zoo", "Cluster is hibernated").await;
    assert!(world.api::<Pod>().list(&ListParams::default()).await.unwrap().items.is_empty());
    let volumes = world.api::<PersistentVolumeClaim>().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(volumes.len(), 2);
    let status = cluster.status.unwrap();
    let ready = conditions::get(&status.conditions, conditions::READY).unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "Hibernated"));
    node.forget();
    patch(&world, json!({"metadata": {"annotations": {labels::HIBERNATION: null}}})).await;
    healthy(&world, "zoo", 2).await;
    let expected = [("zoo-1".to_owned(), vec![]), ("zoo-2".to_owned(), vec!["zoo-1".to_owned()])];
    assert_eq!(node.seen(), expected, "the replica came when the primary was ready");
}

/// A parameter that needs a restart: the replica first, then the primary, in their pods.
#[tokio::test(flavor = "multi_thread")]
async fn postgresql_is_restarted_where_a_parameter_waits_for_it() {
    let world = World::start().await;
    let node = Node::start(&world);
    let _running = Running::start(world.context());
    world.create_cluster("zoo", json!({"instances": 2, "storage": {"size": "5Gi"}})).await;
    healthy(&world, "zoo", 2).await;
    let uids = async || {
        let list = world.api::<Pod>().list(&ListParams::default()).await.unwrap();
        list.items.iter().map(ResourceExt::uid).collect::<Vec<_>>()
    };
    let before = uids().await;
    for pod in ["zoo-1", "zoo-2"] {
        node.change(pod, |answer| answer.as_mut().unwrap().pending_restart = true).await;
    }
    for pod in ["zoo-2", "zoo-1"] {
        until(&format!("{pod} is restarted"), async || {
            let mut waits = true;
            node.change(pod, |answer| waits = answer.as_ref().unwrap().pending_restart).await;
            if pod == "zoo-2" && waits {
                node.change("zoo-1", |answer| {
                    assert!(answer.as_ref().unwrap().pending_restart, "the replica goes first");
                })
                .await;
            }
            (!waits).then_some(())
        })
        .await;
    }
    healthy(&world, "zoo", 2).await;
    assert_eq!(uids().await, before, "the pods are the same");
    until("the event is there", async || {
        world.event_reasons("zoo").await.iter().any(|r| r == "RestartingInstance").then_some(())
    })
    .await;
}

/// A new operator: instance managers are replaced in their pods, except one that will not, which comes with a new pod.
#[tokio::test(flavor = "multi_thread")]
async fn instance_managers_follow_the_operator_without_new_pods() {
    let world = World::start().await;
    let node = Node::start(&world);
    let running = Running::start(world.context());
    world.create_cluster("zoo", json!({"instances": 3, "storage": {"size": "5Gi"}})).await;
    healthy(&world, "zoo", 3).await;
    for pod in ["zoo-1", "zoo-2", "zoo-3"] {
        node.change(pod, |answer| {
            let answer = answer.as_mut().unwrap();
            answer.manager_sha256 = Some("old".into());
            answer.manager_architecture = Some(std::env::consts::ARCH.into());
            if pod == "zoo-2" {
                answer.message = "stubborn".into();
            }
        })
        .await;
    }
    let uids = async || {
        let list = world.api::<Pod>().list(&ListParams::default()).await.unwrap();
        list.items.iter().map(|pod| (pod.name_any(), pod.uid())).collect::<BTreeMap<_, _>>()
    };
    let before = uids().await;
    running.stop().await;

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("instance-manager");
    std::fs::write(&path, vec![7u8; 3 << 20]).unwrap();
    let program = ManagerProgram::read(&path).unwrap();
    let mut context = world.context();
    let settings = &mut Arc::get_mut(&mut context).unwrap().settings;
    settings.operator_image = "registry/howdah:2".into();
    settings.manager = Some(program.clone());
    let _running = Running::start(context);
    until("the managers of zoo-1 and zoo-3 are replaced", async || {
        let cluster = world.api::<Cluster>().get("zoo").await.unwrap();
        let versions = cluster.status.unwrap().instances_status.into_iter();
        let new: Vec<String> =
            versions.filter(|i| i.manager_version.as_deref() == Some("2")).map(|i| i.name).collect();
        (new == ["zoo-1", "zoo-3"]).then_some(())
    })
    .await;
    healthy(&world, "zoo", 3).await;
    let after = uids().await;
    for (pod, uid) in &after {
        assert_eq!(before[pod] != *uid, pod == "zoo-2", "{pod}");
    }
    let reasons = world.event_reasons("zoo").await;
    for reason in ["ReplacingInstanceManager", "InstanceManagerNotReplaced", "ReplacingPod"] {
        assert!(reasons.iter().any(|r| r == reason), "{reason}: {reasons:?}");
    }
}
