//! The lease of the primary: who does not hold it takes no writes.

use std::time::Duration;

use howdah_api::instance::InstanceRole;
use howdah_api::naming;
use howdah_lab_apiserver::faults::{Effect, Fault, Matcher};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::pod::Pod;
use crate::world::{NAMESPACE, World, until};

fn leases(world: &World) -> Api<Lease> {
    Api::namespaced(world.client.clone(), NAMESPACE)
}

pub async fn holder(world: &World) -> String {
    let lease = leases(world).get(&naming::primary_lease("pg")).await.unwrap();
    lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default()
}

async fn give_lease_to(world: &World, holder: &str) {
    let patch = Patch::Merge(
        json!({ "spec": { "holderIdentity": holder, "renewTime": "2026-01-01T00:00:00.000000Z" } }),
    );
    leases(world).patch(&naming::primary_lease("pg"), &PatchParams::default(), &patch).await.unwrap();
}

fn takes_writes(pod: &Pod) -> bool {
    pod.status().is_some_and(|s| s.ready && s.role == Some(InstanceRole::Primary))
}

/// A primary holds the lease, stops within moments when somebody else has it, and comes back when it is free.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_lost_the_lease_stops() {
    let world = World::new().await;
    world.cluster("pg", world.spec(None, false)).await;
    let mut primary = Pod::initialised(&world).await;
    assert_eq!(holder(&world).await, "pg-1/uid");
    assert!(primary.status().unwrap().holds_lease);

    give_lease_to(&world, "pg-9/other").await;
    until("PostgreSQL is stopped", || async { primary.status().is_some_and(|s| !s.server_running) }).await;
    until("it says whom it waits for", || async {
        primary.status().is_some_and(|s| s.message.contains("pg-9 holds the lease of the primary"))
    })
    .await;
    let status = primary.status().unwrap();
    assert!(status.former_primary && !status.holds_lease && status.received_lsn.is_some(), "{status:?}");
    world.event("pg", |e| e.starts_with("PrimaryStopped: pg-1: ")).await;

    give_lease_to(&world, "").await;
    until("it takes writes again", || async { takes_writes(&primary) }).await;
    assert_eq!(holder(&world).await, "pg-1/uid");

    // A shutdown gives the lease up.
    assert!(primary.stop().success());
    assert_eq!(holder(&world).await, "");

    // A server that is killed leaves the lease to itself: it is the same pod that comes back.
    primary.ready().await;
    primary.kill();
    assert_eq!(holder(&world).await, "pg-1/uid");
    primary.ready().await;

    // Another pod of the same name waits until the lease has ended.
    primary.kill();
    give_lease_to(&world, "pg-1/another").await;
    let begun = Instant::now();
    primary.ready().await;
    assert!(begun.elapsed() >= Duration::from_secs(15), "{:?}", begun.elapsed());
}

/// Without the API server a primary goes on as long as its replica says that it cannot reach it either.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_api_a_primary_needs_the_word_of_its_replica() {
    let world = World::new().await;
    world.cluster("pg", world.spec(None, false)).await;
    let primary = Pod::initialised(&world).await;
    let mut replica = Pod::replica_of(&world, &primary).await;
    world
        .cluster_status(
            "pg",
            json!({ "instancesStatus": [
                { "name": "pg-1", "ready": true, "podIP": primary.ip },
                { "name": "pg-2", "ready": true, "podIP": replica.ip },
            ]}),
        )
        .await;

    world.api.faults().set_outage(true);
    let end = Instant::now() + Duration::from_secs(18);
    while Instant::now() < end {
        assert!(takes_writes(&primary), "it has stopped though its replica is there: {:?}", primary.status());
        sleep(Duration::from_millis(200)).await;
    }
    // The replica is gone too: for all that the primary knows, it may be promoted.
    replica.kill();
    until("PostgreSQL is stopped", || async { primary.status().is_some_and(|s| !s.server_running) }).await;
    world.api.faults().set_outage(false);
    until("it takes writes again", || async { takes_writes(&primary) }).await;

    // A replica that reaches the API server does not give its word.
    replica.ready().await;
    let renewals = Matcher::resource("leases").verbs(&["update"]);
    world.api.faults().inject(Fault { matcher: renewals, effect: Effect::InternalError, count: None });
    until("PostgreSQL is stopped", || async { primary.status().is_some_and(|s| !s.server_running) }).await;
    world.api.faults().clear();
    until("it takes writes again", || async { takes_writes(&primary) }).await;
}

/// A fenced instance keeps its pod and its data, and PostgreSQL down.
#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_primary_is_down_until_the_fence_is_taken_away() {
    let world = World::new().await;
    world.cluster("pg", world.spec(None, false)).await;
    let primary = Pod::initialised(&world).await;
    let fence = |value: serde_json::Value| {
        let clusters = world.clusters();
        async move {
            let patch = json!({ "metadata": { "annotations": { howdah_api::labels::FENCED: value } } });
            clusters.patch("pg", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
        }
    };
    fence(json!("[\"pg-1\"]")).await;
    until("PostgreSQL is down", || async { primary.status().is_some_and(|s| s.fenced && !s.server_running) })
        .await;
    assert_eq!(holder(&world).await, "");
    assert_eq!(primary.http(8001, "/readyz").await.unwrap().0, 503);
    assert_eq!(primary.http(8001, "/healthz").await.unwrap().0, 200);
    fence(json!(null)).await;
    until("it takes writes again", || async { takes_writes(&primary) }).await;
}
