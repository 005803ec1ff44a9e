//! Data that goes with its Backup object.

use howdah_api::backup::{Backup, BackupPhase, BackupSpec};
use howdah_api::common::{BackupType, DeletionPolicy, LocalObjectReference};
use howdah_api::conditions;
use howdah_api::labels::BACKUP_DATA;

use crate::pod::Pod;
use crate::world::{World, found, until};

/// A Backup whose data goes with it, as the operator leaves it: held.
fn going(name: &str, type_: BackupType) -> Backup {
    let spec = BackupSpec {
        cluster: LocalObjectReference { name: "pg".into() },
        type_: Some(type_),
        deletion_policy: Some(DeletionPolicy::Delete),
        ..BackupSpec::default()
    };
    let mut backup = Backup::new(name, spec);
    backup.metadata.finalizers = Some(vec![BACKUP_DATA.into()]);
    backup
}

/// Status, reason and message of `DataDeleted`, as soon as it has one of these reasons.
async fn told(world: &World, name: &str, reasons: &[&str]) -> (String, String) {
    let what = format!("{name} says what became of its data");
    found(&what, || async {
        let status = world.backups().get(name).await.unwrap().status?;
        let condition = conditions::get(&status.conditions, conditions::DATA_DELETED)?.clone();
        reasons.contains(&condition.reason.as_str()).then_some((condition.status, condition.message))
    })
    .await
}

/// A full backup that an incremental builds on stays until that is gone; the last full one stays altogether; WAL is not
/// touched.
#[tokio::test(flavor = "multi_thread")]
async fn data_goes_with_its_backup_as_far_as_the_guards_let_it() {
    let world = World::new().await;
    world.cluster("pg", world.spec(None, true)).await;
    let pod = Pod::initialised(&world).await;
    until("WAL is archived", || async { pod.status().and_then(|s| s.archiver).is_some_and(|a| a.confirmed) })
        .await;
    let session = pod.status().unwrap().session_id;
    let mut ids = Vec::new();
    for (name, type_) in
        [("full", BackupType::Full), ("incr", BackupType::Incremental), ("last", BackupType::Full)]
    {
        world.assign_as(going(name, type_), "pg-1", &session).await;
        let status = world.backup_ended(name).await;
        assert_eq!(status.phase(), BackupPhase::Completed, "{status:?}");
        ids.push(status.backup_id.unwrap());
    }
    let of = |id: &str| world.keys().into_iter().filter(|key| key.contains(id)).count();
    let wal = || world.keys().into_iter().filter(|key| key.contains("/wals/")).count();
    let (before, all_wal) = (of(&ids[0]), wal());
    assert!(before > 1 && of(&ids[1]) > 1, "{:?}", world.keys());

    world.backups().delete("full", &Default::default()).await.unwrap();
    let (status, message) = told(&world, "full", &["BuiltUpon"]).await;
    assert_eq!(status, "False");
    assert!(message.contains(&ids[1]) && message.contains("remedy"), "{message}");
    assert_eq!(of(&ids[0]), before);
    world.event("full", |e| e.starts_with("DataNotDeleted")).await;

    // Both are looked at again when the next one goes.
    world.backups().delete("incr", &Default::default()).await.unwrap();
    for name in ["incr", "full"] {
        let (status, message) = told(&world, name, &["Deleted"]).await;
        assert_eq!(status, "True", "{message}");
    }
    assert_eq!((of(&ids[0]), of(&ids[1])), (0, 0), "{:?}", world.keys());

    world.backups().delete("last", &Default::default()).await.unwrap();
    let (status, message) = told(&world, "last", &["LastFullBackup"]).await;
    assert_eq!(status, "False");
    assert!(message.contains("take another full backup"), "{message}");
    assert!(of(&ids[2]) > 1 && wal() >= all_wal);
}
