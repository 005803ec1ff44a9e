//! Synchronous replication: a primary waits for those whom the status of the Cluster names.

use howdah_api::instance::InstanceStatus;
use serde_json::json;

use crate::pod::Pod;
use crate::world::{World, found, until};

/// A primary `pg-1` and the replica `pg-2`, streaming.
async fn two(world: &World) -> (Pod, Pod) {
    world.cluster("pg", world.spec(None, false)).await;
    let primary = Pod::initialised(world).await;
    until("passwords are set", || async { primary.sql("app", "app").await.is_ok() }).await;
    let mut replica = Pod::new(world, "pg", 2);
    primary.serve_as("pg-rw");
    replica.bootstrapped("join");
    replica.ready().await;
    until("the replica streams", || async { replica.status().is_some_and(|s| s.streaming) }).await;
    (primary, replica)
}

async fn wait_for(world: &World, names: &str) {
    world.cluster_status("pg", json!({ "synchronousStandbyNames": names })).await;
}

/// The status of `pod` once it reports `names` and `pg-2` in the state `sync`.
async fn reported(pod: &Pod, names: &str, sync: &str) -> InstanceStatus {
    found(&format!("{names} is set and the replica is {sync}"), || async {
        pod.status().filter(|s| {
            s.synchronous_standby_names.as_deref() == Some(names)
                && s.replicas.iter().any(|r| r.name == "pg-2" && r.sync_state == sync)
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_wait_for_the_replicas_that_the_status_names() {
    let world = World::new().await;
    let (mut primary, mut replica) = two(&world).await;
    let sql = primary.sql("app", "app").await.unwrap();
    sql.batch_execute("CREATE TABLE t (id int)").await.unwrap();
    let status = reported(&primary, "", "async").await;
    assert!(status.server_running);

    wait_for(&world, "FIRST 1 (\"pg-2\")").await;
    reported(&primary, "FIRST 1 (\"pg-2\")", "sync").await;
    wait_for(&world, "ANY 1 (\"pg-2\",\"pg-3\")").await;
    let status = reported(&primary, "ANY 1 (\"pg-2\",\"pg-3\")", "quorum").await;
    assert_eq!(status.replicas[0].state, "streaming");
    assert!(status.replicas[0].flush_lsn.is_some());
    sql.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
    let replicas = replica.status().unwrap();
    assert_eq!((replicas.synchronous_standby_names, replicas.replicas.len()), (None, 0));

    // Without the replica a commit waits, also behind a restart of the primary: its configuration had the value before the
    // first session.
    assert!(replica.stop().success());
    drop(sql);
    assert!(primary.stop().success());
    primary.ready().await;
    let sql = primary.sql("app", "app").await.unwrap();
    let waiting = tokio::spawn(async move { sql.batch_execute("INSERT INTO t VALUES (2)").await });
    let watching = primary.sql("postgres", "postgres").await.unwrap();
    until("the commit waits", || async {
        let query = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND wait_event = 'SyncRep'";
        watching.query_one(query, &[]).await.unwrap().get::<_, i64>(0) == 1
    })
    .await;

    // Meanwhile the manager does what it has to: it sets passwords and tells its state.
    world.login("pg-app", "app", "another").await;
    world.cluster_status("pg", json!({ "phase": "to be looked at" })).await;
    until("the new password is set", || async { primary.sql_with("app", "app", "another").await.is_ok() })
        .await;
    assert!(primary.status().unwrap().ready);
    assert!(!waiting.is_finished());

    // The replica is back, and so the commit returns.
    replica.ready().await;
    waiting.await.unwrap().unwrap();
    reported(&primary, "ANY 1 (\"pg-2\",\"pg-3\")", "quorum").await;
    let follower = replica.sql("postgres", "app").await.unwrap();
    until("both rows are on the replica", || async {
        follower.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get::<_, i64>(0) == 2
    })
    .await;

    // To wait for nobody any more lets go what waits.
    assert!(replica.stop().success());
    let sql = primary.sql_with("app", "app", "another").await.unwrap();
    let waiting = tokio::spawn(async move { sql.batch_execute("INSERT INTO t VALUES (3)").await });
    wait_for(&world, "").await;
    waiting.await.unwrap().unwrap();
}
