//! What many clusters cost the API server: requests are counted, nothing is timed.

use std::collections::BTreeMap;
use std::sync::Arc;

use howdah_api::{Cluster, labels};
use howdah_operator::context::Context;
use howdah_operator::controllers::cluster;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::node::Node;
use crate::world::{NS, Running, World, until};

const CLUSTERS: usize = 20;
const BACKUPS: usize = 10;

fn name(number: usize) -> String {
    format!("zoo{number:02}")
}

/// What the operator asked of the API server, watches left out.
fn calls(world: &World) -> BTreeMap<(&'static str, String), u64> {
    let mut calls = world.server.tally().of("howdah");
    calls.retain(|(verb, _), _| *verb != "watch");
    calls
}

/// What was asked since `before`.
fn since(world: &World, before: &BTreeMap<(&'static str, String), u64>) -> Vec<(String, u64)> {
    let now = calls(world);
    let more = now.iter().map(|(call, count)| (call, count - before.get(call).copied().unwrap_or(0)));
    more.filter(|(_, count)| *count > 0)
        .map(|((verb, what), count)| (format!("{verb} {what}"), count))
        .collect()
}

async fn populate(world: &World) {
    world.create_secret("creds", json!({"ID": "a", "KEY": "b"})).await;
    for number in 0..CLUSTERS {
        let name = name(number);
        let spec = json!({
            "instances": 3, "storage": {"size": "5Gi"},
            "backup": {"barmanObjectStore": {
                "destinationPath": format!("s3://bucket/{name}"),
                "s3Credentials": {
                    "accessKeyId": {"name": "creds", "key": "ID"}, "secretAccessKey": {"name": "creds", "key": "KEY"},
                },
            }},
        });
        world.create_cluster(&name, spec).await;
        for backup in 0..BACKUPS {
            let backup = format!("{name}-{backup}");
            world.create_backup(&backup, &name).await;
            let stopped = "2026-11-21T10:00:00Z";
            world.patch_backup(&backup, json!({"phase": "completed", "stoppedAt": stopped})).await;
        }
    }
}

/// Until nothing is to be done anywhere.
async fn at_rest(ctx: &Context) {
    until("all clusters are at rest", async || {
        let rests = |number| ctx.resting.get(&cluster::apply::cache_key(NS, &name(number))).is_some();
        (0..CLUSTERS).all(rests).then_some(())
    })
    .await;
}

async fn look(ctx: &Arc<Context>, number: usize) {
    cluster::reconcile(ctx, NS, &name(number)).await.unwrap();
}

/// Acceptance of operator scale: no list and no write at rest, and reads only where something moves.
#[tokio::test(flavor = "multi_thread")]
async fn clusters_at_rest_cost_the_api_server_nothing() {
    let world = World::start().await;
    let node = Node::start(&world);
    populate(&world).await;
    let begun = calls(&world);
    let ctx = world.context();
    let running = Running::start(ctx.clone());
    at_rest(&ctx).await;
    // Backups that have ended are listed once, by the watch, and none of them is asked for.
    let asked: Vec<_> =
        since(&world, &begun).into_iter().filter(|(what, _)| what.ends_with(" backups")).collect();
    assert_eq!(asked, [("list backups".to_owned(), 1)]);
    let text = ctx.metrics.render();
    let completed =
        format!("cluster_backups{{namespace=\"{NS}\",cluster=\"zoo07\",phase=\"completed\"}} {BACKUPS}");
    assert!(text.contains(&completed), "{text}");
    // From now on only this test looks, on what the watches have brought.
    running.stop().await;

    let before = calls(&world);
    for _ in 0..5 {
        for number in 0..CLUSTERS {
            look(&ctx, number).await;
        }
    }
    assert_eq!(since(&world, &before), []);

    // Figures that nobody decides by are not worth a write at every look.
    node.change("zoo03-2", |answer| answer.as_mut().unwrap().received_lsn = Some("0/2FFFFFF".into())).await;
    look(&ctx, 3).await;
    assert_eq!(since(&world, &before), []);

    // An instance that does not answer makes its cluster, and no other, be read afresh: lease and pods as they are now.
    node.change("zoo05-2", |answer| *answer = None).await;
    look(&ctx, 5).await;
    let read: BTreeMap<String, u64> = since(&world, &before).into_iter().collect();
    for what in ["get clusters", "get leases", "list pods", "list persistentvolumeclaims"] {
        assert_eq!(read.get(what), Some(&1), "{what}: {read:?}");
    }
    assert!(!read.contains_key("list backups"), "{read:?}");
    let status = world.api::<Cluster>().get("zoo05").await.unwrap().status.unwrap();
    let told = status.instances_status.iter().find(|i| i.name == "zoo05-2").unwrap();
    assert!(told.message.as_ref().unwrap().contains("does not answer"), "{told:?}");
}

/// What is changed at a cluster at rest is seen, whoever changes it and whatever it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_at_rest_wakes_up() {
    let world = World::start().await;
    let _node = Node::start(&world);
    let ctx = world.context();
    let _running = Running::start(ctx.clone());
    world.create_cluster("zoo", json!({"instances": 2, "storage": {"size": "5Gi"}})).await;
    let key = cluster::apply::cache_key(NS, "zoo");
    let rests = async || {
        until("the cluster is at rest", async || ctx.resting.get(&key)).await;
    };
    rests().await;
    let patch = json!({"spec": {"instances": 3}});
    world.api::<Cluster>().patch("zoo", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    crate::clusters::healthy(&world, "zoo", 3).await;
    rests().await;
    let api = world.api::<k8s_openapi::api::core::v1::Service>();
    let patch = json!({"spec": {"selector": {labels::ROLE: "nobody"}}});
    api.patch("zoo-rw", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    until("the service selects the primary again", async || {
        let selector = api.get("zoo-rw").await.unwrap().spec?.selector?;
        (selector[labels::ROLE] == labels::ROLE_PRIMARY).then_some(())
    })
    .await;
}
