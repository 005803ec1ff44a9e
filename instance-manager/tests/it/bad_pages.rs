//! Damaged data pages: named in status, condition and events, and fatal where the Cluster says so.

use std::os::unix::fs::FileExt;

use howdah_api::backup::{BackupPhase, BackupStatus, BadPage, BadPages};
use howdah_api::conditions;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::pod::Pod;
use crate::world::{World, until};

const BLOCKS: [u32; 2] = [3, 17];

/// A table whose pages lie damaged on the volume; the pod is stopped. Returns its file.
async fn damaged(pod: &mut Pod) -> String {
    let client = pod.sql("app", "app").await.unwrap();
    client
        .batch_execute(
            "CREATE TABLE t WITH (autovacuum_enabled = off) AS \
             SELECT g, repeat('y', 100) FROM generate_series(1, 20000) g",
        )
        .await
        .unwrap();
    let file: String = client.query_one("SELECT pg_relation_filepath('t')", &[]).await.unwrap().get(0);
    drop(client);
    assert!(pod.stop().success());
    let path = pod.pgdata().join(&file);
    let relation = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    for block in BLOCKS {
        relation.write_all_at(b"damage", u64::from(block) * 8192 + 4000).unwrap();
    }
    file
}

async fn back_up(world: &World, pod: &mut Pod, name: &str) -> BackupStatus {
    pod.ready().await;
    until("WAL is archived", || async { pod.status().and_then(|s| s.archiver).is_some_and(|a| a.confirmed) })
        .await;
    world.assign(name, "pg", "pg-1", &pod.status().unwrap().session_id).await;
    world.backup_ended(name).await
}

/// Pages, condition and event are the same whatever becomes of the backup.
async fn told(world: &World, name: &str, status: &BackupStatus, file: &str) {
    let pages = BLOCKS.map(|block| BadPage { file: file.to_owned(), block: block.into() }).into();
    assert_eq!(status.bad_pages, Some(BadPages { count: 2, pages }), "{status:?}");
    let condition = conditions::get(&status.conditions, conditions::PAGES_INTACT).unwrap();
    assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", "BadPages"));
    let words = format!("2 data pages have a wrong checksum: {file} block 3, {file} block 17;");
    assert!(condition.message.starts_with(&words), "{}", condition.message);
    world.event(name, |e| e.starts_with(&format!("BadPages: {words}"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_pages_are_named_and_fail_a_backup_where_asked_for() {
    let world = World::new().await;
    world.cluster("pg", world.spec(None, true)).await;
    let mut pod = Pod::new(&world, "pg", 1);
    pod.bootstrapped("initdb");

    let whole = back_up(&world, &mut pod, "whole").await;
    assert_eq!((whole.phase(), &whole.bad_pages), (BackupPhase::Completed, &None), "{whole:?}");
    let condition = conditions::get(&whole.conditions, conditions::PAGES_INTACT).unwrap();
    assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("True", "Verified"));

    let file = damaged(&mut pod).await;
    let warned = back_up(&world, &mut pod, "warned").await;
    assert_eq!(warned.phase(), BackupPhase::Completed, "{warned:?}");
    told(&world, "warned", &warned, &file).await;

    assert!(pod.stop().success());
    let data = json!({ "badPages": "fail" });
    let patch = Patch::Merge(json!({ "spec": { "backup": { "barmanObjectStore": { "data": data } } } }));
    world.clusters().patch("pg", &PatchParams::default(), &patch).await.unwrap();
    let refused = back_up(&world, &mut pod, "refused").await;
    assert_eq!(refused.phase(), BackupPhase::Failed, "{refused:?}");
    told(&world, "refused", &refused, &file).await;
    let error = refused.error.unwrap();
    assert!(error.contains(&format!("{file} block 3")) && error.contains("; remedy: "), "{error}");
    let id = refused.backup_id.unwrap();
    let left: Vec<String> = world.keys().into_iter().filter(|k| k.contains(&id)).collect();
    assert_eq!(left, [format!("pg/base/{id}/backup.info")]);
}
