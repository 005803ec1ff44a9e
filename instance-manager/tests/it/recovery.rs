//! Full recovery: from a Backup object to a primary on a new timeline.

use howdah_api::bootstrap::{Bootstrap, Recovery, RecoveryTarget};
use howdah_api::common::LocalObjectReference;
use howdah_api::instance::InstanceRole;

use crate::pod::{Pod, text};
use crate::world::{World, found, until};

pub fn from_backup(name: &str, target: Option<RecoveryTarget>) -> Option<Bootstrap> {
    Some(Bootstrap {
        full_recovery: Some(Recovery {
            backup: Some(LocalObjectReference { name: name.into() }),
            recovery_target: target,
            database: Some("app".into()),
            ..Recovery::default()
        }),
        ..Bootstrap::default()
    })
}

pub async fn rows(pod: &Pod) -> i64 {
    let sql = pod.sql("app", "app").await.unwrap();
    sql.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get(0)
}

/// A cluster with a completed Backup `base`, and a row written after it.
pub async fn source(world: &World) -> Pod {
    world.cluster("pg", world.spec(None, true)).await;
    let pod = Pod::initialised(world).await;
    let sql = pod.sql("app", "app").await.unwrap();
    sql.batch_execute("CREATE TABLE t AS SELECT generate_series(1, 100) AS id").await.unwrap();
    until("WAL is archived", || async { pod.status().and_then(|s| s.archiver).is_some_and(|a| a.confirmed) })
        .await;
    world.assign("base", "pg", "pg-1", &pod.status().unwrap().session_id).await;
    let status = world.backup_ended("base").await;
    assert!(status.error.is_none(), "{status:?}");
    sql.batch_execute("INSERT INTO t VALUES (101)").await.unwrap();
    let admin = pod.sql("postgres", "postgres").await.unwrap();
    let segment: String =
        admin.query_one("SELECT pg_walfile_name(pg_switch_wal())", &[]).await.unwrap().get(0);
    until("the row is archived", || async { world.keys().iter().any(|k| k.ends_with(&segment)) }).await;
    pod
}

/// S2.20, S2.26, S2.30: from the Backup alone, with the passwords of the new Secrets.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_cluster_has_every_row_and_its_own_passwords() {
    let world = World::new().await;
    let mut old = source(&world).await;
    assert!(old.stop().success());
    // The cluster is gone; its Backup and its bucket are enough.
    world.clusters().delete("pg", &Default::default()).await.unwrap();

    world.cluster("new", world.spec(from_backup("base", None), true)).await;
    world.login("new-app", "app", "fresh").await;
    let mut pod = Pod::new(&world, "new", 1);
    pod.bootstrapped("full-recovery");
    pod.bootstrapped("full-recovery");
    assert!(pod.pgdata().join("howdah-recovery.json").exists());
    pod.ready().await;
    until("the password of the new cluster is set", || async {
        pod.sql_with("app", "app", "fresh").await.is_ok()
    })
    .await;
    let sql = pod.sql_with("app", "app", "fresh").await.unwrap();
    let count: i64 = sql.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get(0);
    assert_eq!(count, 101);
    let status = pod.status().unwrap();
    assert_eq!((status.role, status.timeline_id), (Some(InstanceRole::Primary), Some(2)));
    assert!(!pod.pgdata().join("howdah-recovery.json").exists());
    let conf = std::fs::read_to_string(pod.pgdata().join("postgresql.conf")).unwrap();
    assert!(!conf.contains("restore_command"), "{conf}");
    // It archives under its own name from now on, and a restart is an ordinary one.
    until("the new cluster archives", || async {
        world.keys().iter().any(|k| k.starts_with("new/wals/0000000200000000/"))
    })
    .await;
    drop(sql);
    assert!(pod.stop().success());
    pod.ready().await;
    assert_eq!(pod.status().unwrap().timeline_id, Some(2));
}

/// A recovery runs with no less than the server that wrote the WAL; whoever finds the new cluster ready finds it with its
/// own values, and nothing left that would interrupt it.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_cluster_is_ready_with_its_own_parameters() {
    let world = World::new().await;
    let _old = source(&world).await;
    let mut spec = world.spec(from_backup("base", None), false);
    spec.postgresql.parameters.insert("max_connections".into(), "25".into());
    world.cluster("new", spec).await;
    world.login("new-app", "app", "fresh").await;
    let mut pod = Pod::new(&world, "new", 1);
    pod.bootstrapped("full-recovery");
    pod.ready().await;
    let sql = pod.sql_with("app", "app", "fresh").await.unwrap();
    let limit: String = sql.query_one("SHOW max_connections", &[]).await.unwrap().get(0);
    assert_eq!(limit, "25");
    let status = pod.status().unwrap();
    assert_eq!((status.pending_restart, status.timeline_id), (false, Some(2)));
    world.event("new", |e| e.contains("the recovery is finished")).await;
}

/// S2.29: consistent, and no further.
#[tokio::test(flavor = "multi_thread")]
async fn replay_stops_at_the_end_of_the_backup_when_asked() {
    let world = World::new().await;
    let _old = source(&world).await;
    let target = RecoveryTarget { target_immediate: Some(true), ..RecoveryTarget::default() };
    world.cluster("new", world.spec(from_backup("base", Some(target)), false)).await;
    let mut pod = Pod::new(&world, "new", 1);
    pod.bootstrapped("full-recovery");
    // Killed in the middle of replay or before it: the next start goes on.
    pod.start();
    until("PostgreSQL began", || async { pod.pgdata().join("postmaster.pid").exists() }).await;
    pod.kill();
    pod.ready().await;
    until("passwords are set", || async { pod.sql("app", "app").await.is_ok() }).await;
    assert_eq!(rows(&pod).await, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_replay_does_not_find_is_told_with_the_latest_moment() {
    let world = World::new().await;
    let _old = source(&world).await;
    // The name of a restore point is in no catalogue: only replay can tell that there is none.
    let target = RecoveryTarget { target_name: Some("nowhere".into()), ..RecoveryTarget::default() };
    world.cluster("new", world.spec(from_backup("base", Some(target)), false)).await;
    let mut pod = Pod::new(&world, "new", 1);
    pod.bootstrapped("full-recovery");
    pod.start();
    let fatal = found("the reason is told", || async { pod.status().and_then(|s| s.fatal) }).await;
    assert!(fatal.contains("targetName nowhere") && fatal.contains("earlier target"), "{fatal}");
    assert!(fatal.contains("the last transaction in the archive is of"), "{fatal}");
    assert_eq!(pod.http(8001, "/readyz").await.unwrap().0, 503);
    world.event("new", |e| e.contains("targetName nowhere")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_restored_is_refused_before_the_volume_is_touched() {
    let world = World::new().await;
    let _old = source(&world).await;
    let early =
        RecoveryTarget { target_time: Some("2001-01-01T00:00:00Z".into()), ..RecoveryTarget::default() };
    let late =
        RecoveryTarget { target_time: Some("2100-01-01T00:00:00Z".into()), ..RecoveryTarget::default() };
    for (name, bootstrap, words) in [
        ("late", from_backup("base", Some(late)), "2100"),
        ("early", from_backup("base", Some(early)), "2001"),
        ("nobackup", from_backup("absent", None), "Backup absent does not exist"),
    ] {
        world.cluster(name, world.spec(bootstrap, false)).await;
        let pod = Pod::new(&world, name, 1);
        let refused = pod.bootstrap("full-recovery");
        assert_eq!(refused.status.code(), Some(78), "{}", text(&refused));
        assert!(text(&refused).contains(words), "{}", text(&refused));
        assert!(!pod.pgdata().exists());
        world.event(name, |e| e.contains(words)).await;
    }

    // A part that is gone.
    let part = world.keys().into_iter().find(|k| k.contains("/data")).unwrap();
    world.s3.delete(crate::world::BUCKET, &part).await.unwrap();
    world.cluster("hole", world.spec(from_backup("base", None), false)).await;
    let pod = Pod::new(&world, "hole", 1);
    let refused = pod.bootstrap("full-recovery");
    assert_eq!(refused.status.code(), Some(78), "{}", text(&refused));
    assert!(!pod.pgdata().exists(), "{}", text(&refused));
}
