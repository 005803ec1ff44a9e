//! Processes that die and servers that are away, in the middle of things.

use howdah_api::backup::{BackupPhase, BackupStatus};
use howdah_s3::{Action, Rule};

use crate::pod::Pod;
use crate::world::{BUCKET, World, found, until};

/// An archiving cluster whose store takes no base backups for now, with a backup on its way.
async fn backup_under_way(world: &World) -> (Pod, BackupStatus) {
    world.cluster("pg", world.spec(None, true)).await;
    let pod = Pod::initialised(world).await;
    until("WAL is archived", || async { pod.status().and_then(|s| s.archiver).is_some_and(|a| a.confirmed) })
        .await;
    world.s3.faults().add(Rule::new(Action::slow_down()).key("pg/base/*/data*"));
    world.assign("base", "pg", "pg-1", &pod.status().unwrap().session_id).await;
    let status = found("the backup has begun", || async {
        let status = world.backups().get("base").await.unwrap().status.unwrap();
        (status.phase() == BackupPhase::Running && status.backup_id.is_some()).then_some(status)
    })
    .await;
    assert!(status.started_at.is_some(), "{status:?}");
    (pod, status)
}

/// S2.16: the running backup says since when, and stays the one that it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_manager_killed_during_a_backup_goes_on_with_it_and_leaves_no_litter() {
    let world = World::new().await;
    let (mut pod, status) = backup_under_way(&world).await;
    let id = status.backup_id.unwrap();
    world.s3.faults().clear();
    pod.kill();
    // What looks like a finished part of it, and is none.
    let part = format!("pg/base/{id}/data_0001.tar");
    world.s3.put(BUCKET, &part, vec![0u8; 4096]).await.unwrap();
    pod.ready().await;
    let status = world.backup_ended("base").await;
    assert_eq!((status.phase(), status.resumes), (BackupPhase::Completed, Some(1)), "{status:?}");
    assert_eq!(status.backup_id.as_deref(), Some(id.as_str()));
    assert!(!world.keys().contains(&part), "{:?}", world.keys());

    world.assign("next", "pg", "pg-1", &pod.status().unwrap().session_id).await;
    assert_eq!(world.backup_ended("next").await.phase(), BackupPhase::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_ends_during_a_backup_says_so() {
    let world = World::new().await;
    let (mut pod, _) = backup_under_way(&world).await;
    let stopped = pod.stop();
    assert!(stopped.success());
    let status = world.backup_ended("base").await;
    assert_eq!(status.phase(), BackupPhase::Failed);
    let error = status.error.unwrap();
    assert!(error.contains("shut down while it took this backup"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_goes_on_while_the_api_is_away() {
    let world = World::new().await;
    let (_pod, status) = backup_under_way(&world).await;
    world.api.faults().set_outage(true);
    world.s3.faults().clear();
    let info = format!("pg/base/{}/backup.info", status.backup_id.unwrap());
    until("the backup is done", || async {
        match world.s3.get(BUCKET, &info).await {
            Ok(text) => String::from_utf8_lossy(&text).contains("status=DONE"),
            Err(_) => false,
        }
    })
    .await;
    world.api.faults().set_outage(false);
    let status = world.backup_ended("base").await;
    assert_eq!(status.phase(), BackupPhase::Completed, "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_somebody_else_ended_is_given_up() {
    let world = World::new().await;
    let (pod, status) = backup_under_way(&world).await;
    let patch = kube::api::Patch::Merge(
        serde_json::json!({ "status": { "phase": "failed", "error": "no heartbeat" } }),
    );
    world.backups().patch_status("base", &Default::default(), &patch).await.unwrap();
    until("the manager gives it up", || async {
        pod.status().is_some_and(|s| s.running_backup_uid.is_none())
    })
    .await;
    world.s3.faults().clear();
    let status_now = world.backups().get("base").await.unwrap().status.unwrap();
    assert_eq!(
        (status_now.phase(), status_now.error.as_deref()),
        (BackupPhase::Failed, Some("no heartbeat"))
    );
    let info = format!("pg/base/{}/backup.info", status.backup_id.unwrap());
    if let Ok(text) = world.s3.get(BUCKET, &info).await {
        assert!(!String::from_utf8_lossy(&text).contains("status=DONE"));
    }
}

/// S3.13: no session before all WAL was replayed.
#[tokio::test(flavor = "multi_thread")]
async fn replay_waits_for_a_store_that_is_away() {
    let world = World::new().await;
    let mut old = crate::recovery::source(&world).await;
    assert!(old.stop().success());
    world.cluster("new", world.spec(crate::recovery::from_backup("base", None), false)).await;
    let mut pod = Pod::new(&world, "new", 1);
    pod.bootstrapped("full-recovery");
    world.s3.clear_requests();
    world.s3.faults().add(Rule::new(Action::internal_error()).key("pg/wals/*"));
    pod.start();
    until("WAL was asked for in vain", || async {
        world.s3.requests().iter().filter(|r| r.key.starts_with("pg/wals/")).count() >= 5
    })
    .await;
    let status = pod.status().unwrap();
    assert!(!status.ready, "it promoted without its WAL: {status:?}");
    world.s3.faults().clear();
    pod.wait_ready().await;
    until("passwords are set", || async { pod.sql("app", "app").await.is_ok() }).await;
    let sql = pod.sql("app", "app").await.unwrap();
    let count: i64 = sql.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get(0);
    assert_eq!(count, 101);
}

/// S0.6: what was not acknowledged waits in `pg_wal`, also across a kill.
#[tokio::test(flavor = "multi_thread")]
async fn wal_survives_a_store_that_is_away() {
    let world = World::new().await;
    world.cluster("pg", world.spec(None, true)).await;
    let mut pod = Pod::initialised(&world).await;
    world.s3.faults().add(Rule::new(Action::Reset { after_bytes: 0 }).key("pg/wals/*"));
    let sql = pod.sql("postgres", "postgres").await.unwrap();
    let segment: String = sql.query_one("SELECT pg_walfile_name(pg_switch_wal())", &[]).await.unwrap().get(0);
    sql.batch_execute("CREATE TABLE t (); SELECT pg_switch_wal()").await.unwrap();
    until("a file waits", || async { pod.status().and_then(|s| s.archiver).is_some_and(|a| a.waiting > 0) })
        .await;
    // Killed while it archives; afterwards everything arrives.
    pod.kill();
    world.s3.faults().clear();
    pod.ready().await;
    until("the segment arrives", || async { world.keys().iter().any(|k| k.ends_with(&segment)) }).await;
    until("nothing waits", || async {
        pod.status().and_then(|s| s.archiver).is_some_and(|a| a.waiting == 0 && a.working)
    })
    .await;
}
