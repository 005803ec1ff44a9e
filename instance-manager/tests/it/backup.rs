//! Backup objects, from assignment to their terminal phase.

use howdah_api::backup::{Backup, BackupPhase, BackupSpec, BackupStatus};
use howdah_api::common::LocalObjectReference;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use crate::pod::Pod;
use crate::world::{World, found, until};

impl World {
    /// What the operator does: creates nothing, but assigns.
    pub async fn assign(&self, name: &str, cluster: &str, pod: &str, session: &str) {
        let spec =
            BackupSpec { cluster: LocalObjectReference { name: cluster.into() }, ..BackupSpec::default() };
        self.assign_as(Backup::new(name, spec), pod, session).await;
    }

    pub async fn assign_as(&self, backup: Backup, pod: &str, session: &str) {
        let name = backup.metadata.name.clone().unwrap();
        let name = name.as_str();
        self.backups().create(&PostParams::default(), &backup).await.unwrap();
        let status = json!({ "status": {
            "phase": "started", "instanceID": { "podName": pod, "sessionID": session },
        }});
        self.backups().patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    }

    pub async fn backup_ended(&self, name: &str) -> BackupStatus {
        found(&format!("Backup {name} ends"), || async {
            let status = self.backups().get(name).await.unwrap().status.unwrap_or_default();
            status.phase().is_terminal().then_some(status)
        })
        .await
    }
}

/// S0.1, S2.17: a copy and the WAL that it needs, and where both are.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_database_is_backed_up_and_everything_is_told() {
    let world = World::new().await;
    world.cluster("pg", world.spec(None, true)).await;
    let pod = Pod::initialised(&world).await;
    until("WAL is archived", || async { pod.status().and_then(|s| s.archiver).is_some_and(|a| a.confirmed) })
        .await;
    world.assign("first", "pg", "pg-1", &pod.status().unwrap().session_id).await;
    let status = world.backup_ended("first").await;
    assert_eq!(status.phase(), BackupPhase::Completed, "{status:?}");
    assert_eq!(status.destination_path.as_deref(), Some("s3://backups/"));
    assert_eq!(status.server_name.as_deref(), Some("pg"));
    assert_eq!(status.endpoint_url.as_deref(), Some(world.s3.endpoint().as_str()));
    assert_eq!(status.s3_credentials, world.store().s3_credentials);
    assert_eq!(status.major_version, Some(15));
    assert_eq!(status.progress.as_ref().unwrap().percent, "100%");
    assert!(status.size_bytes.unwrap() > 1 << 20 && status.database_size_bytes.unwrap() > 1 << 20);
    let keys = world.keys();
    let id = status.backup_id.clone().unwrap();
    assert!(keys.contains(&format!("pg/base/{id}/backup.info")), "{keys:?}");
    // Restorable: the segment in which it ended is in the archive already.
    let end = status.end_wal.clone().unwrap();
    assert!(keys.iter().any(|k| k.ends_with(&end)), "{end} not in {keys:?}");

    world.event("first", |e| e.starts_with("Starting: pg-1")).await;
    world.event("first", |e| e.starts_with("Completed: ") && e.contains(&id)).await;
    let known = found("the window is known", || async {
        pod.status().and_then(|s| s.recoverability).filter(|r| r.backups == 1)
    })
    .await;
    assert!(known.first_recoverability_point.is_some());
    until("no backup runs", || async { pod.status().is_some_and(|s| s.running_backup_uid.is_none()) }).await;

    // Nothing secret anywhere in it.
    let text = serde_json::to_string(&world.backups().get("first").await.unwrap()).unwrap();
    assert!(!text.contains("\"secret\""), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_killed_process_is_taken_over_by_the_next_one() {
    let world = World::new().await;
    world.cluster("pg", world.spec(None, true)).await;
    let mut pod = Pod::new(&world, "pg", 1);
    pod.bootstrapped("initdb");
    world.assign("lost", "pg", "pg-1", "a former process").await;
    world.assign("foreign", "pg", "pg-9", "another pod").await;
    pod.ready().await;
    let status = world.backup_ended("lost").await;
    assert_eq!((status.phase(), status.resumes), (BackupPhase::Completed, Some(1)), "{status:?}");
    assert_eq!(status.instance_id.unwrap().session_id, pod.status().unwrap().session_id);
    let foreign = world.backups().get("foreign").await.unwrap().status.unwrap();
    assert_eq!(foreign.phase(), BackupPhase::Started);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_brings_its_manager_down_each_time_ends() {
    let world = World::new().await;
    world.cluster("pg", world.spec(None, true)).await;
    let mut pod = Pod::new(&world, "pg", 1);
    pod.bootstrapped("initdb");
    world.assign("lost", "pg", "pg-1", "a former process").await;
    let patch = Patch::Merge(json!({ "status": { "resumes": 3 } }));
    world.backups().patch_status("lost", &PatchParams::default(), &patch).await.unwrap();
    pod.ready().await;
    let status = world.backup_ended("lost").await;
    assert_eq!(status.phase(), BackupPhase::Failed);
    let error = status.error.unwrap();
    assert!(error.contains("restarted again and again"), "{error}");
}

/// S0.32: the reason is in the status.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_without_a_store_or_with_a_broken_one_fails_with_a_remedy() {
    let world = World::new().await;
    world.cluster("pg", world.spec(None, false)).await;
    let pod = Pod::initialised(&world).await;
    let session = pod.status().unwrap().session_id;
    world.assign("none", "pg", "pg-1", &session).await;
    let error = world.backup_ended("none").await.error.unwrap();
    assert!(error.contains("no spec.backup.barmanObjectStore"), "{error}");

    let mut store = world.store();
    store.destination_path = "s3://no-such-bucket/".into();
    let patch = Patch::Merge(json!({ "spec": { "backup": { "barmanObjectStore": store } } }));
    world.clusters().patch("pg", &PatchParams::default(), &patch).await.unwrap();
    until("archiving fails", || async { pod.status().and_then(|s| s.archiver).is_some_and(|a| !a.working) })
        .await;
    world.assign("broken", "pg", "pg-1", &session).await;
    let error = world.backup_ended("broken").await.error.unwrap();
    assert!(error.contains("no-such-bucket"), "{error}");
    assert!(pod.status().unwrap().ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_backed_up_with_the_help_of_the_primary() {
    let world = World::new().await;
    world.cluster("pg", world.spec(None, true)).await;
    let primary = Pod::initialised(&world).await;
    let replica = Pod::replica_of(&world, &primary).await;
    let status = json!({
        "currentPrimary": "pg-1",
        "instancesStatus": [{ "name": "pg-1", "ready": true, "podIP": primary.ip }],
    });
    world.cluster_status("pg", status).await;
    until("the replica streams", || async { replica.status().is_some_and(|s| s.streaming) }).await;
    world.assign("standby", "pg", "pg-2", &replica.status().unwrap().session_id).await;
    let status = world.backup_ended("standby").await;
    assert_eq!(status.phase(), BackupPhase::Completed, "{status:?}");
    let end = status.end_wal.unwrap();
    assert!(world.keys().iter().any(|k| k.ends_with(&end)), "{end}");
}
