//! The runway of `pg_wal` through the whole fold: status, condition, event, and the Backup after a gap.

use howdah_api::backup::BackupPhase;
use howdah_api::cluster_status::RepositoryStatus;
use howdah_api::instance::InstanceRole::{Primary, Replica};
use howdah_api::wal_runway::{DroppedWal, WalOverflow, WalOverflowPolicy, WalRunway};
use howdah_api::{Backup, ClusterStatus, conditions};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::SignedDuration;
use kube::ResourceExt;

use super::events::changes;
use super::gap_backups::orders;
use crate::fixtures::{STORE, World, backup, now};

const GIB: u64 = 1 << 30;

fn world() -> World {
    World::archiving_pair()
}

fn with_runway(world: World, runway: WalRunway) -> World {
    world.change(|w| w.report(1).wal_runway = Some(runway))
}

fn runway(minutes: Option<u64>) -> WalRunway {
    WalRunway {
        minutes,
        volume_bytes: 20 * GIB,
        free_bytes: 4 * GIB,
        room_bytes: 4 * GIB,
        reserve_bytes: 2 * GIB,
        held_bytes: GIB,
        waiting_bytes: GIB,
        write_rate: Some(2 << 20),
        archive_rate: Some(0),
        growth_rate: Some(2 << 20),
        ..WalRunway::default()
    }
}

fn condition(status: &ClusterStatus) -> (String, String, String) {
    let found = conditions::get(&status.conditions, conditions::WAL_RUNWAY).unwrap();
    (found.status.clone(), found.reason.clone(), found.message.clone())
}

#[test]
fn what_is_not_known_is_not_told_as_good_or_bad() {
    let status = world().folded();
    assert_eq!(condition(&status).1, "WALRunwayPending");
    assert!(changes(&ClusterStatus::default(), &status).iter().all(|note| !note.reason.contains("Runway")));
}

#[test]
fn little_time_is_told_with_its_cause_and_the_remedy() {
    let enough = with_runway(world(), WalRunway { minutes: None, ..runway(None) }).folded();
    assert_eq!(condition(&enough).1, "WALRunwayEnough");
    let failing = with_runway(world(), runway(Some(34))).with_status(|s| s.clone_from(&enough)).change(|w| {
        let archiver = w.report(1).archiver.as_mut().unwrap();
        archiver.working = false;
        archiver.last_error = Some("bucket b does not exist; make it".into());
    });
    let status = failing.folded();
    let (value, reason, message) = condition(&status);
    assert_eq!((value.as_str(), reason.as_str()), ("False", "WALRunwayShort"));
    insta::assert_snapshot!(message);
    let notes = changes(&enough, &status);
    assert!(notes.iter().any(|note| note.warning && note.reason == "WALRunwayShort"), "{notes:?}");
    assert!(changes(&status, &status).is_empty());

    // A slot: letting go of WAL would not help.
    let slot = WalRunway { slot: Some("old".into()), ..runway(Some(10)) };
    let slot = with_runway(world(), slot).with_spec(|spec| {
        let overflow = WalOverflow { policy: WalOverflowPolicy::Drop, ..WalOverflow::default() };
        spec.backup.as_mut().unwrap().wal_overflow = Some(overflow);
    });
    insta::assert_snapshot!(condition(&slot.folded()).2);

    let mended = with_runway(world(), runway(None)).with_status(|s| s.clone_from(&status));
    let after = mended.folded();
    let notes = changes(&status, &after);
    assert!(notes.iter().any(|note| !note.warning && note.reason == "WALRunwayEnough"), "{notes:?}");
}

const FIRST: &str = "00000001000000000000002A";

fn gap(last: &str, segments: u64) -> DroppedWal {
    DroppedWal {
        timeline_id: 1,
        first_wal: FIRST.into(),
        last_wal: last.into(),
        segments,
        bytes: segments << 24,
        since: Time(now()),
        until: Time(now()),
        instance: "zoo-1".into(),
        reason: "full".into(),
        backups: Vec::new(),
    }
}

/// The primary has let go of WAL; the status is that of the round in which it said so.
fn gapped(world: World, last: &str) -> World {
    let world = world.change(|w| w.report(1).dropped_wal = vec![gap(last, 3)]);
    let status = world.folded();
    world.with_status(|s| s.clone_from(&status))
}

fn ordered(world: &World) -> Vec<String> {
    orders(&world.observed).iter().map(|(backup, _)| backup.name_any()).collect()
}

/// The Backup as the operator made it, in this phase.
fn made(world: &World, at: usize, second: i64, phase: BackupPhase) -> Backup {
    let (order, _) = orders(&world.observed).swap_remove(at);
    let mut made = backup(&order.name_any(), second, phase);
    made.spec = order.spec;
    made
}

#[test]
fn a_gap_orders_one_full_backup() {
    let world = gapped(world(), "00000001000000000000002C");
    assert_eq!(ordered(&world), ["zoo-gap-00000001000000000000002a-default"]);
    let (first, _) = &orders(&world.observed)[0];
    assert_eq!(first.owner_references()[0].kind, "Cluster");
    assert_eq!(first.spec.type_.map(|kind| kind.as_str().to_owned()).as_deref(), Some("full"));

    // It waits until archiving works; the gap grows meanwhile.
    let pending = made(&world, 0, 0, BackupPhase::Pending);
    let world = world.change(|w| w.observed.backups.push(pending));
    let world = gapped(world, "000000010000000000000030");
    let known = &world.observed.status().dropped_wal;
    assert_eq!((known.len(), known[0].last_wal.as_str()), (1, "000000010000000000000030"));
    assert_eq!(known[0].backups, ["zoo-gap-00000001000000000000002a-default"]);
    assert!(ordered(&world).is_empty());

    // A person deletes it: that is a decision. Another primary, which knows of nothing, changes nothing.
    let world = world.change(|w| w.observed.backups.clear()).change(|w| w.report(1).dropped_wal.clear());
    let status = world.folded();
    let world = world.with_status(|s| s.clone_from(&status));
    assert_eq!(world.observed.status().dropped_wal.len(), 1);
    assert!(ordered(&world).is_empty());
}

#[test]
fn a_failed_one_is_tried_again_after_a_pause() {
    let world = gapped(world(), "00000001000000000000002C");
    let failed = made(&world, 0, 0, BackupPhase::Failed);
    let mut world = world.change(|w| w.observed.backups.push(failed));
    assert!(ordered(&world).is_empty());
    world.observed.now = now().checked_add(SignedDuration::from_secs(305)).unwrap();
    assert_eq!(ordered(&world), ["zoo-gap-00000001000000000000002a-default-try2"]);
    let again = made(&world, 0, 300, BackupPhase::Running);
    let world = world.change(|w| w.observed.backups.push(again));
    assert!(ordered(&world).is_empty());
}

#[test]
fn another_full_backup_behind_the_gap_is_as_good() {
    let full = |begin: &str, kind: &str| {
        let mut done = backup("nightly", 60, BackupPhase::Completed);
        let status = done.status.as_mut().unwrap();
        status.begin_wal = Some(begin.into());
        status.backup_type = Some(kind.into());
        status.repository = Some("default".into());
        done
    };
    let world = gapped(world(), "00000001000000000000002C");
    let count = |done: Backup| {
        let mut observed = world.observed.clone();
        observed.backups.push(done);
        orders(&observed).len()
    };
    assert_eq!(count(full("00000001000000000000002C", "full")), 1);
    assert_eq!(count(full("00000002000000000000002D", "incremental")), 1);
    assert_eq!(count(full("00000002000000000000002D", "full")), 0);
}

#[test]
fn each_repository_that_held_backups_gets_one() {
    let two = format!(
        "{STORE}  repositories:\n  - {{name: repo2, s3: {{bucket: b}}}}\n  - {{name: repo3, s3: {{bucket: c}}}}\n"
    );
    let before = now().checked_sub(SignedDuration::from_secs(3600)).unwrap();
    let world = World::new(&two)
        .with_secret("creds", &[("ID", "a"), ("KEY", "b")])
        .initialised(2)
        .with_ready(1, Primary)
        .with_ready(2, Replica);
    let world = gapped(world, FIRST).with_status(|s| {
        s.repositories = ["default", "repo2", "repo3"]
            .map(|name| RepositoryStatus {
                name: name.into(),
                first_recoverability_point: (name != "repo3").then_some(Time(before)),
                ..RepositoryStatus::default()
            })
            .into();
    });
    let names = ordered(&world);
    assert_eq!(names, ["zoo-gap-00000001000000000000002a-default", "zoo-gap-00000001000000000000002a-repo2"]);
}
