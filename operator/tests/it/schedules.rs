//! ScheduledBackups on a clock of the test's own.

use std::time::Duration;

use howdah_api::{Backup, ScheduledBackup, labels};
use howdah_operator::context::Context;
use howdah_operator::controllers::scheduled_backup;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

use crate::world::{NS, Running, World, until};

async fn reconcile(ctx: &Context, name: &str) {
    scheduled_backup::reconcile(ctx, NS, name).await.unwrap();
}

async fn children(world: &World) -> Vec<String> {
    let list = world.api::<Backup>().list(&ListParams::default()).await.unwrap();
    list.items.iter().map(|b| b.name_any()).collect()
}

async fn schedule(world: &World, name: &str) -> ScheduledBackup {
    world.api::<ScheduledBackup>().get(name).await.unwrap()
}

/// The name of the child for the slot `hours` after the hour in which `schedule` was made.
fn slot(schedule: &ScheduledBackup, hours: i64) -> (String, Timestamp) {
    let made = schedule.metadata.creation_timestamp.as_ref().unwrap().0.as_second();
    let due = Timestamp::from_second(made - made.rem_euclid(3600) + hours * 3600).unwrap();
    (format!("{}-{}", schedule.name_any(), due.strftime("%Y%m%d%H%M%S")), due)
}

async fn set(world: &World, name: &str, spec: serde_json::Value) {
    let patch = json!({"spec": spec});
    world.api::<ScheduledBackup>().patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

async fn done(world: &World, name: &str, phase: &str) {
    world.patch_backup(name, json!({"phase": phase})).await;
}

/// S2.21, S2.22: one Backup a slot, however often it is looked at; missed slots are one Backup.
#[tokio::test(flavor = "multi_thread")]
async fn each_slot_gets_one_backup_and_missed_ones_collapse() {
    let world = World::start().await;
    let made = world
        .create_schedule("nightly", json!({"schedule": "0 0 * * * *", "cluster": {"name": "zoo"}}))
        .await;
    let (first, due) = slot(&made, 1);
    let (ctx, clock) = world.manual(&made.metadata.creation_timestamp.as_ref().unwrap().0.to_string());
    reconcile(&ctx, "nightly").await;
    assert!(children(&world).await.is_empty(), "nothing is due yet");
    let status = schedule(&world, "nightly").await.status.unwrap();
    assert_eq!(status.next_schedule_time.as_ref().unwrap().0, due);
    assert_eq!(status.next_schedule_times.len(), 3);
    assert_eq!(status.conditions[0].reason, "ScheduleValid");

    clock.advance(Duration::from_secs(3600));
    for _ in 0..3 {
        reconcile(&ctx, "nightly").await;
    }
    assert_eq!(children(&world).await, std::slice::from_ref(&first));
    let child = world.backup(&first).await;
    assert_eq!(child.labels()[labels::SCHEDULED_BACKUP], "nightly");
    assert_eq!(child.spec.cluster.name, "zoo");
    let status = schedule(&world, "nightly").await.status.unwrap();
    assert_eq!(status.last_schedule_time.unwrap().0, due);
    assert_eq!(status.last_backup_name.as_deref(), Some(first.as_str()));
    assert_eq!(status.active, 1);

    // Five slots pass while the first Backup is not done: it is waited for, and they are one Backup.
    clock.advance(Duration::from_secs(5 * 3600));
    reconcile(&ctx, "nightly").await;
    assert_eq!(children(&world).await.len(), 1);
    done(&world, &first, "completed").await;
    for _ in 0..3 {
        reconcile(&ctx, "nightly").await;
    }
    assert_eq!(children(&world).await, [first, slot(&made, 2).0]);
}

/// S0.30, S0.31: a Backup that failed is followed by another one for the same slot, after a pause, until there were
/// enough; a success ends the row.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_backup_is_followed_by_another() {
    let world = World::start().await;
    let spec = json!({"schedule": "0 0 * * * *", "cluster": {"name": "zoo"}, "attempts": 6});
    let made = world.create_schedule("nightly", spec).await;
    let created = made.metadata.creation_timestamp.as_ref().unwrap().0;
    let (ctx, clock) = world.manual(&created.to_string());
    let (first, due) = slot(&made, 1);
    let names: Vec<String> =
        (1..=6).map(|n| if n == 1 { first.clone() } else { format!("{first}-{n}") }).collect();
    clock.advance(Duration::from_secs(due.as_second().abs_diff(created.as_second())));
    let mut now = due;
    for (name, pause) in names.iter().zip([60_i64, 120, 240, 480, 960, 0]) {
        reconcile(&ctx, "nightly").await;
        assert_eq!(children(&world).await.last(), Some(name));
        world
            .patch_backup(name, json!({"phase": "failed", "error": "disk", "stoppedAt": now.to_string()}))
            .await;
        let before = children(&world).await;
        reconcile(&ctx, "nightly").await;
        assert_eq!(children(&world).await, before, "no other before the pause is over");
        clock.advance(Duration::from_secs(pause.unsigned_abs()));
        now = Timestamp::from_second(now.as_second() + pause).unwrap();
    }
    for _ in 0..3 {
        reconcile(&ctx, "nightly").await;
    }
    assert_eq!(children(&world).await, names, "six in all");

    clock.advance(Duration::from_secs(3600));
    reconcile(&ctx, "nightly").await;
    let (second, _) = slot(&made, 2);
    done(&world, &second, "completed").await;
    clock.advance(Duration::from_secs(600));
    reconcile(&ctx, "nightly").await;
    let all = children(&world).await;
    assert_eq!(all.iter().filter(|name| name.starts_with(&second)).count(), 1, "{all:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_status_write_makes_no_second_backup() {
    let world = World::start().await;
    let made =
        world.create_schedule("nightly", json!({"schedule": "@hourly", "cluster": {"name": "zoo"}})).await;
    let (ctx, clock) = world.manual(&made.metadata.creation_timestamp.as_ref().unwrap().0.to_string());
    clock.advance(Duration::from_secs(3600));
    reconcile(&ctx, "nightly").await;
    let none = json!({"status": null});
    world
        .api::<ScheduledBackup>()
        .patch_status("nightly", &PatchParams::default(), &Patch::Merge(&none))
        .await
        .unwrap();
    clock.advance(Duration::from_secs(60));
    reconcile(&ctx, "nightly").await;
    assert_eq!(children(&world).await, [slot(&made, 1).0]);
    let status = schedule(&world, "nightly").await.status.unwrap();
    assert_eq!(status.last_backup_name, Some(slot(&made, 1).0), "it was adopted");
}

#[tokio::test(flavor = "multi_thread")]
async fn immediate_is_one_backup_even_when_the_status_is_lost() {
    let world = World::start().await;
    let spec = json!({"schedule": "0 0 * * * *", "cluster": {"name": "zoo"}, "immediate": true});
    let made = world.create_schedule("nightly", spec).await;
    let (ctx, clock) = world.manual(&made.metadata.creation_timestamp.as_ref().unwrap().0.to_string());
    reconcile(&ctx, "nightly").await;
    let first = children(&world).await;
    assert_eq!(first.len(), 1);
    assert_eq!(world.backup(&first[0]).await.labels()[labels::IMMEDIATE_BACKUP], "true");
    let none = json!({"status": null});
    world
        .api::<ScheduledBackup>()
        .patch_status("nightly", &PatchParams::default(), &Patch::Merge(&none))
        .await
        .unwrap();
    clock.advance(Duration::from_secs(1));
    reconcile(&ctx, "nightly").await;
    reconcile(&ctx, "nightly").await;
    assert_eq!(children(&world).await, first);
    assert!(schedule(&world, "nightly").await.status.unwrap().last_check_time.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn suspend_stops_and_resuming_catches_up_once() {
    let world = World::start().await;
    let made = world
        .create_schedule(
            "nightly",
            json!({"schedule": "0 0 * * * *", "cluster": {"name": "zoo"}, "suspend": true}),
        )
        .await;
    let (ctx, clock) = world.manual(&made.metadata.creation_timestamp.as_ref().unwrap().0.to_string());
    clock.advance(Duration::from_secs(3 * 3600));
    reconcile(&ctx, "nightly").await;
    assert!(children(&world).await.is_empty());
    let status = schedule(&world, "nightly").await.status.unwrap();
    assert_eq!(status.conditions[0].reason, "Suspended");
    assert!(status.next_schedule_time.is_none());
    set(&world, "nightly", json!({"suspend": false})).await;
    reconcile(&ctx, "nightly").await;
    reconcile(&ctx, "nightly").await;
    assert_eq!(children(&world).await, [slot(&made, 1).0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_backup_of_that_name_is_left_alone_and_the_slot_left_out() {
    let world = World::start().await;
    let made =
        world.create_schedule("nightly", json!({"schedule": "@hourly", "cluster": {"name": "zoo"}})).await;
    let name = slot(&made, 1).0;
    world.create_backup(&name, "other").await;
    let (ctx, clock) = world.manual(&made.metadata.creation_timestamp.as_ref().unwrap().0.to_string());
    clock.advance(Duration::from_secs(3600));
    reconcile(&ctx, "nightly").await;
    assert_eq!(world.event_reasons("nightly").await, ["BackupAdoptionRefused"]);
    assert_eq!(world.backup(&name).await.spec.cluster.name, "other");
    let status = schedule(&world, "nightly").await.status.unwrap();
    assert!(status.last_backup_name.is_none());
    clock.advance(Duration::from_secs(3600));
    reconcile(&ctx, "nightly").await;
    assert_eq!(children(&world).await, [name, slot(&made, 2).0]);
}

/// S0.28: of those that succeeded and of those that failed.
#[tokio::test(flavor = "multi_thread")]
async fn history_limits_keep_the_newest() {
    let world = World::start().await;
    let spec = json!({
        "schedule": "@hourly", "cluster": {"name": "zoo"},
        "successfulBackupsHistoryLimit": 2, "failedBackupsHistoryLimit": 0,
    });
    let made = world.create_schedule("nightly", spec).await;
    let (ctx, clock) = world.manual(&made.metadata.creation_timestamp.as_ref().unwrap().0.to_string());
    for hour in 1..=4 {
        clock.advance(Duration::from_secs(3600));
        reconcile(&ctx, "nightly").await;
        done(&world, &slot(&made, hour).0, if hour == 2 { "failed" } else { "completed" }).await;
    }
    reconcile(&ctx, "nightly").await;
    assert_eq!(children(&world).await, [slot(&made, 3).0, slot(&made, 4).0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_are_as_asked_for() {
    let world = World::start().await;
    world.create_cluster("zoo", json!({"storage": {"size": "5Gi"}})).await;
    for (name, owner) in [("free", "none"), ("mine", "self"), ("its", "cluster")] {
        let spec = json!({
            "schedule": "@hourly", "cluster": {"name": "zoo"}, "immediate": true, "backupOwnerReference": owner,
        });
        world.create_schedule(name, spec).await;
        let (ctx, _) = world.manual("2026-11-21T10:00:00Z");
        reconcile(&ctx, name).await;
    }
    let list = world.api::<Backup>().list(&ListParams::default()).await.unwrap();
    let mut owners: Vec<(String, Vec<String>)> = list
        .items
        .iter()
        .map(|b| {
            let kinds = b.owner_references().iter().map(|o| o.kind.clone()).collect();
            (b.labels()[labels::SCHEDULED_BACKUP].clone(), kinds)
        })
        .collect();
    owners.sort();
    assert_eq!(
        owners,
        [
            ("free".into(), vec![]),
            ("its".into(), vec!["Cluster".to_owned()]),
            ("mine".into(), vec!["ScheduledBackup".to_owned()])
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_owner_is_told_and_waited_for() {
    let world = World::start().await;
    let spec = json!({
        "schedule": "@hourly", "cluster": {"name": "zoo"}, "immediate": true, "backupOwnerReference": "cluster",
    });
    world.create_schedule("nightly", spec).await;
    let (ctx, _) = world.manual("2026-11-21T10:00:00Z");
    reconcile(&ctx, "nightly").await;
    reconcile(&ctx, "nightly").await;
    assert!(children(&world).await.is_empty());
    let status = schedule(&world, "nightly").await.status.unwrap();
    assert_eq!(status.conditions[0].reason, "ClusterNotFound");
    assert!(status.error.unwrap().contains("Cluster zoo does not exist"));
    assert_eq!(world.event_reasons("nightly").await, ["ClusterNotFound"], "told once");
    world.create_cluster("zoo", json!({"storage": {"size": "5Gi"}})).await;
    reconcile(&ctx, "nightly").await;
    assert_eq!(children(&world).await.len(), 1);
    let status = schedule(&world, "nightly").await.status.unwrap();
    assert_eq!(status.conditions[0].reason, "ScheduleValid");
}

/// Bad schedules are told, in status and event, and mending them is enough.
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_schedule_is_told_and_can_be_mended() {
    let world = World::start().await;
    world.create_schedule("nightly", json!({"schedule": "0 0 30 2 *", "cluster": {"name": "zoo"}})).await;
    let (ctx, _) = world.manual("2026-11-21T10:00:00Z");
    reconcile(&ctx, "nightly").await;
    let status = schedule(&world, "nightly").await.status.unwrap();
    assert_eq!(status.conditions[0].reason, "ScheduleNeverComes");
    assert!(status.error.unwrap().contains("never comes"));
    assert_eq!(world.event_reasons("nightly").await, ["ScheduleNeverComes"]);
    for (spec, reason) in [
        (json!({"schedule": "every day"}), "InvalidSchedule"),
        (json!({"schedule": "@daily", "timeZone": "Mars/Olympus"}), "InvalidTimeZone"),
        (json!({"timeZone": "Europe/Berlin"}), "ScheduleValid"),
    ] {
        set(&world, "nightly", spec).await;
        reconcile(&ctx, "nightly").await;
        let status = schedule(&world, "nightly").await.status.unwrap();
        assert_eq!(status.conditions[0].reason, reason);
        assert_eq!(status.error.is_none(), reason == "ScheduleValid");
    }
}

/// Through the running controller and the machine's clock.
#[tokio::test(flavor = "multi_thread")]
async fn the_running_controller_creates_backups_in_time() {
    let world = World::start().await;
    let _running = Running::start(world.context());
    world.create_schedule("often", json!({"schedule": "* * * * * *", "cluster": {"name": "zoo"}})).await;
    let first = until("the first is there", async || children(&world).await.into_iter().next()).await;
    done(&world, &first, "completed").await;
    until("the second is there", async || (children(&world).await.len() >= 2).then_some(())).await;
}
