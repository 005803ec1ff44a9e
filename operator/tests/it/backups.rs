//! Backups: the queue, the choice of the instance, lost instances, racing writers.

use std::time::Duration;

use howdah_api::backup::BackupPhase;
use howdah_api::conditions;
use howdah_api::labels::BACKUP_DATA;
use howdah_api::{Backup, Cluster};
use howdah_operator::context::Context;
use howdah_operator::controllers::backup::{self, decide, fetch, status};
use howdah_operator::error::Class;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch};
use serde_json::{Value, json};

use crate::node::Node;
use crate::world::{NS, Running, World, until};

fn with_store(instances: i32) -> Value {
    json!({
        "instances": instances, "storage": {"size": "5Gi"},
        "backup": {"barmanObjectStore": {
            "destinationPath": "s3://bucket/folder",
            "s3Credentials": {
                "accessKeyId": {"name": "creds", "key": "ID"}, "secretAccessKey": {"name": "creds", "key": "KEY"},
            },
        }},
    })
}

/// A healthy cluster with a store.
async fn cluster(world: &World, instances: i32) {
    world.create_secret("creds", json!({"ID": "a", "KEY": "b"})).await;
    world.create_cluster("zoo", with_store(instances)).await;
    let running = Running::start(world.context());
    until("the cluster is healthy", async || {
        let status = world.api::<Cluster>().get("zoo").await.unwrap().status.unwrap_or_default();
        (status.ready_instances == instances
            && status.current_primary.is_some()
            && status.phase.as_deref() == Some("Cluster in healthy state"))
        .then_some(())
    })
    .await;
    running.stop().await;
}

async fn reconcile(ctx: &Context, name: &str) {
    backup::reconcile(ctx, NS, name).await.unwrap();
}

fn phase(backup: &Backup) -> BackupPhase {
    backup.status.as_ref().map(|s| s.phase()).unwrap_or_default()
}

async fn phases(world: &World, names: &[&str]) -> Vec<BackupPhase> {
    let mut list = Vec::new();
    for name in names {
        list.push(phase(&world.backup(name).await));
    }
    list
}

fn scheduled(backup: &Backup) -> (String, String) {
    let c = conditions::get(&backup.status.as_ref().unwrap().conditions, conditions::SCHEDULED).unwrap();
    (c.reason.clone(), c.message.clone())
}

const NOW: &str = "2026-11-21T10:00:00Z";

/// S1.28: the whole way of several Backups: one at a time, oldest first, and one of an unknown cluster among them.
#[tokio::test(flavor = "multi_thread")]
async fn backups_queue_and_a_blocked_one_holds_up_nobody() {
    use BackupPhase::{Completed, Failed, Pending, Started};
    let world = World::start().await;
    let _node = Node::start(&world);
    cluster(&world, 1).await;
    let (ctx, _) = world.manual(NOW);
    let names = ["a", "b", "c"];
    world.create_backup("a", "nowhere").await;
    world.create_backup("b", "zoo").await;
    world.create_backup("c", "zoo").await;
    for name in ["c", "b", "a"] {
        reconcile(&ctx, name).await;
    }
    assert_eq!(
        phases(&world, &names).await,
        [Pending, Started, Pending],
        "the order of looking does not matter"
    );
    assert_eq!(scheduled(&world.backup("a").await).0, "ClusterNotFound");
    reconcile(&ctx, "c").await;
    assert_eq!(
        scheduled(&world.backup("c").await),
        ("BackupRunning".into(), "Backup b is being taken; one at a time for each cluster".into())
    );
    let given = world.backup("b").await.status.unwrap().instance_id.unwrap();
    assert_eq!(given.pod_name, "zoo-1");
    assert!(given.session_id.starts_with("session-"));
    world.patch_backup("b", json!({"phase": "failed", "error": "disk"})).await;
    reconcile(&ctx, "c").await;
    assert_eq!(phases(&world, &names).await, [Pending, Failed, Started]);
    world.patch_backup("c", json!({"phase": "completed"})).await;
    for name in names {
        reconcile(&ctx, name).await;
    }
    assert_eq!(phases(&world, &names).await, [Pending, Failed, Completed]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_store_fails_the_backup_at_once() {
    let world = World::start().await;
    world.create_cluster("zoo", json!({"storage": {"size": "5Gi"}})).await;
    world.create_backup("b", "zoo").await;
    let (ctx, _) = world.manual(NOW);
    reconcile(&ctx, "b").await;
    let status = world.backup("b").await.status.unwrap();
    assert_eq!(status.phase(), BackupPhase::Failed);
    assert!(status.error.unwrap().contains("has no spec.backup.barmanObjectStore"));
    assert_eq!(world.event_reasons("b").await, ["ClusterHasNoObjectStore"]);
    reconcile(&ctx, "b").await;
    assert_eq!(world.event_reasons("b").await.len(), 1, "told once");
}

/// Features 3.1 (f): the replica that has received most, not the first one.
#[tokio::test(flavor = "multi_thread")]
async fn the_most_advanced_replica_is_taken() {
    let world = World::start().await;
    let node = Node::start(&world);
    cluster(&world, 3).await;
    let (ctx, _) = world.manual(NOW);
    let lsn = async |pod: &str, lsn: &str| {
        node.change(pod, |s| s.as_mut().unwrap().received_lsn = Some(lsn.into())).await;
    };
    lsn("zoo-2", "0/9000000").await;
    lsn("zoo-3", "0/A000000").await;
    world.create_backup("b", "zoo").await;
    reconcile(&ctx, "b").await;
    assert_eq!(world.backup("b").await.status.unwrap().instance_id.unwrap().pod_name, "zoo-3");
    world.patch_backup("b", json!({"phase": "failed"})).await;

    for pod in ["zoo-2", "zoo-3"] {
        node.change(pod, |s| s.as_mut().unwrap().streaming = false).await;
    }
    world.create_backup("c", "zoo").await;
    reconcile(&ctx, "c").await;
    assert_eq!(world.backup("c").await.status.unwrap().instance_id.unwrap().pod_name, "zoo-1");
}

/// S2.14: failing archiving is waited for, as a condition, and left by itself.
#[tokio::test(flavor = "multi_thread")]
async fn failing_archiving_is_waited_for() {
    let world = World::start().await;
    let node = Node::start(&world);
    cluster(&world, 1).await;
    let (ctx, _) = world.manual(NOW);
    node.change("zoo-1", |s| {
        let archiver = s.as_mut().unwrap().archiver.as_mut().unwrap();
        archiver.working = false;
        archiver.last_error = Some("bucket b does not exist; make it".into());
    })
    .await;
    world.create_backup("b", "zoo").await;
    reconcile(&ctx, "b").await;
    let waiting = world.backup("b").await;
    assert_eq!(phase(&waiting), BackupPhase::Pending);
    let (reason, message) = scheduled(&waiting);
    assert_eq!(reason, "ArchivingNotWorking");
    assert!(message.contains("bucket b does not exist; make it"), "{message}");
    node.change("zoo-1", |s| s.as_mut().unwrap().archiver.as_mut().unwrap().working = true).await;
    reconcile(&ctx, "b").await;
    assert_eq!(phase(&world.backup("b").await), BackupPhase::Started);
}

async fn started(world: &World, ctx: &Context) -> Backup {
    world.create_backup("b", "zoo").await;
    reconcile(ctx, "b").await;
    let backup =
        world.patch_backup("b", json!({"phase": "running", "heartbeatAt": "2026-11-21T10:00:01Z"})).await;
    reconcile(ctx, "b").await;
    assert_eq!(phase(&world.backup("b").await), BackupPhase::Running);
    backup
}

/// Features 4, row 1: each way of losing the instance ends the Backup, with the reason and a remedy.
#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_instance_that_does_not_go_on_fails_the_backup() {
    let world = World::start().await;
    let node = Node::start(&world);
    cluster(&world, 1).await;
    let (ctx, clock) = world.manual(NOW);
    started(&world, &ctx).await;
    node.change("zoo-1", |s| s.as_mut().unwrap().session_id = "another".into()).await;
    clock.advance(Duration::from_secs(44));
    reconcile(&ctx, "b").await;
    assert_eq!(phase(&world.backup("b").await), BackupPhase::Running, "it may go on yet");
    clock.advance(Duration::from_secs(1));
    reconcile(&ctx, "b").await;
    let status = world.backup("b").await.status.unwrap();
    assert_eq!(status.phase(), BackupPhase::Failed);
    assert!(
        status.error.unwrap().contains("was restarted while it took the backup and did not go on with it")
    );
    let completed = conditions::get(&status.conditions, conditions::COMPLETED).unwrap();
    assert_eq!((completed.status.as_str(), completed.reason.as_str()), ("False", "InstanceRestarted"));
}

/// S0.29: whoever took it is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_pod_fails_the_backup() {
    let world = World::start().await;
    let _node = Node::start(&world);
    cluster(&world, 1).await;
    let (ctx, _) = world.manual(NOW);
    started(&world, &ctx).await;
    world.api::<Pod>().delete("zoo-1", &DeleteParams::default().grace_period(0)).await.unwrap();
    reconcile(&ctx, "b").await;
    let status = world.backup("b").await.status.unwrap();
    assert_eq!(status.phase(), BackupPhase::Failed);
    assert!(status.error.unwrap().contains("pod zoo-1, which took the backup, is gone"));
}

/// S0.29: whoever takes it says nothing any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_instance_fails_the_backup_within_a_minute_and_not_before() {
    let world = World::start().await;
    let node = Node::start(&world);
    cluster(&world, 1).await;
    let (ctx, clock) = world.manual(NOW);
    started(&world, &ctx).await;
    node.change("zoo-1", |s| *s = None).await;
    clock.advance(Duration::from_secs(44));
    reconcile(&ctx, "b").await;
    assert_eq!(phase(&world.backup("b").await), BackupPhase::Running);
    world.patch_backup("b", json!({"heartbeatAt": "2026-11-21T10:00:40Z"})).await;
    clock.advance(Duration::from_secs(10));
    reconcile(&ctx, "b").await;
    assert_eq!(
        phase(&world.backup("b").await),
        BackupPhase::Running,
        "a heartbeat counts from when it is seen"
    );
    clock.advance(Duration::from_secs(45));
    reconcile(&ctx, "b").await;
    let status = world.backup("b").await.status.unwrap();
    assert_eq!(status.phase(), BackupPhase::Failed);
    assert!(status.error.as_deref().unwrap().contains("gave no sign of life for 45 s"), "{:?}", status.error);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_says_that_it_works_is_believed() {
    let world = World::start().await;
    let node = Node::start(&world);
    cluster(&world, 1).await;
    let (ctx, clock) = world.manual(NOW);
    let backup = started(&world, &ctx).await;
    node.change("zoo-1", |s| s.as_mut().unwrap().running_backup_uid.clone_from(&backup.metadata.uid)).await;
    for _ in 0..3 {
        clock.advance(Duration::from_secs(46));
        reconcile(&ctx, "b").await;
        assert_eq!(phase(&world.backup("b").await), BackupPhase::Running);
    }
    node.change("zoo-1", |s| s.as_mut().unwrap().running_backup_uid = None).await;
    clock.advance(Duration::from_secs(46));
    reconcile(&ctx, "b").await;
    assert_eq!(phase(&world.backup("b").await), BackupPhase::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_not_picked_up_fails() {
    let world = World::start().await;
    let _node = Node::start(&world);
    cluster(&world, 1).await;
    let (ctx, clock) = world.manual(NOW);
    world.create_backup("b", "zoo").await;
    reconcile(&ctx, "b").await;
    reconcile(&ctx, "b").await;
    clock.advance(Duration::from_secs(46));
    reconcile(&ctx, "b").await;
    let status = world.backup("b").await.status.unwrap();
    assert_eq!(status.phase(), BackupPhase::Failed);
    assert!(status.error.unwrap().contains("did not begin within 46 s"));
}

/// Features 4, row 3: what was decided on an old version is not written over a terminal phase.
#[tokio::test(flavor = "multi_thread")]
async fn a_racing_terminal_write_wins() {
    let world = World::start().await;
    let node = Node::start(&world);
    cluster(&world, 1).await;
    let (ctx, clock) = world.manual(NOW);
    started(&world, &ctx).await;
    node.change("zoo-1", |s| s.as_mut().unwrap().session_id = "another".into()).await;
    clock.advance(Duration::from_secs(46));
    let observed = fetch::fetch(&ctx, NS, "b").await.unwrap().unwrap();
    let decision = decide::decide(&observed);
    assert!(matches!(decision, decide::Decision::Fail { .. }));
    world.patch_backup("b", json!({"phase": "completed"})).await;
    let error = status::write(&ctx, &observed, &decision).await.unwrap_err();
    assert_eq!(error.class(), Class::Conflict);
    reconcile(&ctx, "b").await;
    let after = world.backup("b").await;
    assert_eq!(phase(&after), BackupPhase::Completed);
    assert!(after.status.unwrap().error.is_none());
}

/// S0.29: the same through the running controllers, restarted in the middle.
#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_operator_goes_on_watching() {
    let world = World::start().await;
    let node = Node::start(&world);
    cluster(&world, 1).await;
    let reach = async |name: &str, wanted: BackupPhase| {
        until(&format!("{name} is {wanted}"), async || {
            Some(world.backup(name).await).filter(|b| phase(b) == wanted)
        })
        .await
    };
    let running = Running::start(world.context());
    world.create_backup("b", "zoo").await;
    world.create_backup("c", "zoo").await;
    reach("b", BackupPhase::Started).await;
    running.kill().await;
    world.patch_backup("b", json!({"phase": "running"})).await;
    let running = Running::start(world.context());
    reach("b", BackupPhase::Running).await;
    running.kill().await;
    node.change("zoo-1", |s| s.as_mut().unwrap().session_id = "another".into()).await;
    // Nobody is named any more, so nobody is given the time to go on with it.
    world.patch_backup("b", json!({"instanceID": null})).await;
    let running = Running::start(world.context());
    reach("b", BackupPhase::Failed).await;
    let next = reach("c", BackupPhase::Started).await;
    assert_eq!(next.status.unwrap().instance_id.unwrap().session_id, "another");
    until("the cluster tells of it", async || {
        let status = world.api::<Cluster>().get("zoo").await.unwrap().status.unwrap_or_default();
        conditions::get(&status.conditions, conditions::LAST_BACKUP_SUCCEEDED)
            .filter(|c| c.reason == "BackupStarted" && c.message == "Backup c is being taken")
            .cloned()
    })
    .await;
    running.stop().await;
}

async fn held_backup(world: &World, name: &str, cluster: &str) {
    let _: Backup = world
        .create(json!({
            "apiVersion": "postgresql.k8s.enterprisedb.io/v1alpha1", "kind": "Backup",
            "metadata": {"name": name, "namespace": NS},
            "spec": {"cluster": {"name": cluster}, "deletionPolicy": "Delete"},
        }))
        .await;
}

async fn is_there(world: &World, name: &str) -> bool {
    world.api::<Backup>().get_opt(name).await.unwrap().is_some()
}

/// A Backup whose data goes with it is held before it begins, and let go when its instance says that nothing is left.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_held_until_its_data_is_gone() {
    let world = World::start().await;
    let _node = Node::start(&world);
    cluster(&world, 1).await;
    let (ctx, _) = world.manual(NOW);
    held_backup(&world, "b", "zoo").await;
    reconcile(&ctx, "b").await;
    let begun = world.backup("b").await;
    assert_eq!(begun.metadata.finalizers.as_deref(), Some(&[BACKUP_DATA.to_owned()][..]));
    assert_eq!(phase(&begun), BackupPhase::Started);
    world.patch_backup("b", json!({"phase": "completed", "backupId": "20261121T100000"})).await;
    world.api::<Backup>().delete("b", &DeleteParams::default()).await.unwrap();
    reconcile(&ctx, "b").await;
    assert!(is_there(&world, "b").await);
    let gone = json!({
        "type": conditions::DATA_DELETED, "status": "True", "reason": "Deleted", "message": "m",
        "lastTransitionTime": NOW,
    });
    world.patch_backup("b", json!({"conditions": [gone]})).await;
    reconcile(&ctx, "b").await;
    assert!(!is_there(&world, "b").await);
}

/// Nobody has to wait for a cluster that is gone, nor for a Backup that is to be retained after all.
#[tokio::test(flavor = "multi_thread")]
async fn a_held_backup_is_let_go_without_its_cluster_or_when_its_policy_changes() {
    let world = World::start().await;
    let (ctx, _) = world.manual(NOW);
    for name in ["orphan", "retained"] {
        held_backup(&world, name, "nowhere").await;
        reconcile(&ctx, name).await;
        world.patch_backup(name, json!({"phase": "completed", "backupId": "20261121T100000"})).await;
    }
    world.api::<Backup>().delete("orphan", &DeleteParams::default()).await.unwrap();
    assert!(is_there(&world, "orphan").await);
    reconcile(&ctx, "orphan").await;
    assert!(!is_there(&world, "orphan").await);
    assert!(world.event_reasons("orphan").await.contains(&"DataRetained".to_owned()));

    let patch = Patch::Merge(json!({"spec": {"deletionPolicy": "Retain"}}));
    world.api::<Backup>().patch("retained", &Default::default(), &patch).await.unwrap();
    reconcile(&ctx, "retained").await;
    assert!(world.backup("retained").await.metadata.finalizers.is_none_or(|all| all.is_empty()));
    let patch = Patch::Merge(json!({"spec": {"type": "incremental"}}));
    let refused = world.api::<Backup>().patch("retained", &Default::default(), &patch).await.unwrap_err();
    assert!(refused.to_string().contains("but for deletionPolicy"), "{refused}");
}
