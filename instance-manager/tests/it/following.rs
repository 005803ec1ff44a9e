//! A replica cluster: it follows the archive of another cluster, onto another timeline too, until it is promoted.

use howdah_api::bootstrap::{Bootstrap, ExternalCluster, Recovery};
use howdah_api::instance::InstanceRole;
use howdah_api::replica_cluster::ReplicaCluster;
use howdah_s3::{Action, Rule};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::pod::Pod;
use crate::recovery::{rows, source};
use crate::world::{World, until};

/// Writes a row on the source and closes its segment.
async fn written(source: &Pod, id: i32) {
    let sql = source.sql("postgres", "app").await.unwrap();
    sql.batch_execute(&format!("INSERT INTO t VALUES ({id})")).await.unwrap();
    sql.batch_execute("SELECT pg_switch_wal()").await.unwrap();
}

async fn follower(world: &World) -> Pod {
    let bootstrap = Bootstrap {
        full_recovery: Some(Recovery {
            source: Some("origin".into()),
            database: Some("app".into()),
            ..Recovery::default()
        }),
        ..Bootstrap::default()
    };
    let mut spec = world.spec(Some(bootstrap), true);
    spec.external_clusters = vec![ExternalCluster {
        name: "origin".into(),
        server_name: Some("pg".into()),
        barman_object_store: Some(world.store()),
        ..ExternalCluster::default()
    }];
    spec.replica = Some(ReplicaCluster { enabled: true, source: "origin".into() });
    world.cluster("dr", spec).await;
    let mut pod = Pod::new(world, "dr", 1);
    pod.bootstrapped("full-recovery");
    pod.ready().await;
    pod
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_is_followed_until_the_promotion() {
    let world = World::new().await;
    let first = source(&world).await;
    let mut dr = follower(&world).await;
    let status = dr.status().unwrap();
    assert_eq!(status.role, Some(InstanceRole::Replica));
    assert!(status.recovering && status.following.unwrap().contains("/pg)"), "{:?}", status.message);
    written(&first, 1001).await;
    until("the row comes", || async { rows(&dr).await == 102 }).await;
    let sql = dr.sql("app", "app").await.unwrap();
    let refused = sql.batch_execute("INSERT INTO t VALUES (1)").await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "25006", "it takes no writes: {refused}");
    drop(sql);
    assert!(dr.status().unwrap().replayed_time.is_some());
    let metrics = dr.http(9187, "/metrics").await.unwrap().1;
    assert!(metrics.contains("howdah_following_replayed_timestamp_seconds"), "{metrics}");

    // It follows its source through a promotion there.
    let second = Pod::replica_of(&world, &first).await;
    until("the replica streams", || async { second.status().is_some_and(|s| s.streaming) }).await;
    world.cluster_status("pg", json!({ "targetPrimary": "pg-2" })).await;
    until("the source has another primary", || async {
        second.status().is_some_and(|s| s.role == Some(InstanceRole::Primary) && s.ready)
    })
    .await;
    written(&second, 1002).await;
    until("the row of the new timeline comes", || async { rows(&dr).await == 103 }).await;

    // A restart is none of an end.
    assert!(dr.stop().success());
    written(&second, 1003).await;
    dr.ready().await;
    assert!(dr.status().unwrap().following.is_some());
    until("the row of meanwhile comes", || async { rows(&dr).await == 104 }).await;
    assert!(!world.keys().iter().any(|key| key.starts_with("dr/wals/")), "nothing is archived here");

    let patch = Patch::Merge(json!({"spec": {"replica": {"enabled": false}}}));
    world.clusters().patch("dr", &PatchParams::default(), &patch).await.unwrap();
    until("it takes writes", || async {
        dr.status().is_some_and(|s| s.role == Some(InstanceRole::Primary) && s.ready && !s.recovering)
    })
    .await;
    let status = dr.status().unwrap();
    assert_eq!((status.timeline_id, status.following), (Some(3), None));
    written(&dr, 2000).await;
    assert_eq!(rows(&dr).await, 105);
    until("it archives to its own place", || async {
        world.keys().iter().any(|key| key.starts_with("dr/wals/0000000300000000/"))
    })
    .await;
    let of_source = |key: &String| key.starts_with("pg/wals/00000003");
    assert!(!world.keys().iter().any(of_source), "the source is left alone: {:?}", world.keys());
    // And stays what it is.
    assert!(dr.stop().success());
    dr.ready().await;
    assert_eq!(dr.status().unwrap().role, Some(InstanceRole::Primary));
}

/// A source that is away is told, and holds nothing up: neither what was replayed, nor the promotion.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_away_is_told_and_does_not_hold_up_the_promotion() {
    let world = World::new().await;
    let mut first = source(&world).await;
    written(&first, 1001).await;
    let dr = follower(&world).await;
    until("all rows come", || async { rows(&dr).await == 102 }).await;
    assert!(first.stop().success());
    world.s3.faults().add(Rule::new(Action::access_denied()));
    world.event("dr", |e| e.starts_with("SourceArchiveUnreadable: dr-1: follows")).await;
    assert!(dr.status().unwrap().message.contains("cannot be read at present"));
    assert_eq!(rows(&dr).await, 102, "it can be read all the same");
    let patch = Patch::Merge(json!({"spec": {"replica": null}}));
    world.clusters().patch("dr", &PatchParams::default(), &patch).await.unwrap();
    until("it takes writes", || async {
        dr.status().is_some_and(|s| s.role == Some(InstanceRole::Primary) && s.ready && !s.recovering)
    })
    .await;
    written(&dr, 2000).await;
    assert_eq!(rows(&dr).await, 103);
}
