//! Plans for clusters in every state that matters. Each plan is a snapshot: steps, phase, reason.

use howdah_api::backup::BackupPhase;
use howdah_api::instance::InstanceRole::{Primary, Replica};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::decide::{Fill, Plan, Step, decide};
use super::phases;
use crate::fixtures::{World, backup, now, set_failing_init};

const ONE: &str = "storage: {size: 5Gi}";
const THREE: &str = "instances: 3\nstorage: {size: 5Gi}";
const RESTORE: &str =
    "instances: 3\nstorage: {size: 5Gi}\nbootstrap: {fullRecovery: {backup: {name: backup-example}}}";

fn plan(world: &World) -> Plan {
    decide(&world.validated(), &world.observed, &world.hash())
}

fn deleting(meta: &mut k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) {
    meta.deletion_timestamp = Some(Time(now()));
}

macro_rules! plans {
    ($($name:ident: $world:expr;)*) => {$(
        #[test]
        fn $name() {
            insta::assert_yaml_snapshot!(plan(&$world));
        }
    )*};
}

plans! {
    a_new_cluster_gets_its_first_instance_by_initdb: World::new(ONE);
    a_crash_between_target_and_pod_uses_the_same_serial: World::new(ONE).with_status(|s| {
        s.target_primary = Some("zoo-1".into());
        s.latest_generated_serial = 1;
    });
    a_crash_between_volume_and_pod_makes_the_pod: World::new(ONE)
        .with_status(|s| { s.target_primary = Some("zoo-1".into()); s.latest_generated_serial = 1; })
        .with_volumes(1, false);
    the_first_primary_is_waited_for: World::new(THREE)
        .with_status(|s| { s.target_primary = Some("zoo-1".into()); s.latest_generated_serial = 1; })
        .with_volumes(1, false)
        .with_pod(1);
    replicas_join_one_at_a_time: World::new(THREE).initialised(1).with_ready(1, Primary);
    the_next_replica_waits_for_the_one_before: World::new(THREE).initialised(2)
        .with_ready(1, Primary).with_volumes(2, false).with_pod(2);
    all_ready_is_healthy: World::new(THREE).initialised(3)
        .with_ready(1, Primary).with_ready(2, Replica).with_ready(3, Replica);
    a_recovering_primary_is_not_ready_for_replicas: World::new(THREE).initialised(1)
        .with_ready(1, Primary).change(|w| w.report(1).recovering = true);
    a_deleted_primary_pod_comes_back_on_its_volume: World::new(THREE).initialised(2)
        .with_volumes(1, true).with_ready(2, Replica);
    a_replica_without_volume_is_replaced_by_a_new_serial_first_removed: World::new(THREE).initialised(3)
        .with_ready(1, Primary).with_ready(3, Replica).with_pod(2);
    a_replica_without_volume_is_replaced_by_a_new_serial_then_made: World::new(THREE).initialised(3)
        .with_ready(1, Primary).with_ready(3, Replica);
    a_primary_without_volume_is_left_alone: World::new(THREE).initialised(2)
        .with_pod(1).with_ready(2, Replica);
    a_primary_whose_volume_is_being_deleted_is_left_alone: World::new(ONE).initialised(1)
        .with_ready(1, Primary).change(|w| deleting(&mut w.volume("zoo-1").metadata));
    a_cluster_that_lost_everything_is_never_initialised_again: World::new(ONE).initialised(1);
    scaling_down_removes_the_highest_replica: World::new(ONE).initialised(3)
        .with_ready(1, Primary).with_ready(2, Replica).with_ready(3, Replica);
    scaling_down_never_removes_the_primary: World::new(ONE).initialised(3)
        .with_status(|s| { s.target_primary = Some("zoo-3".into()); })
        .with_ready(2, Replica).with_ready(3, Primary);
    scaling_down_goes_on_after_a_crash_between_pod_and_volume: World::new(ONE).initialised(2)
        .with_ready(1, Primary).with_volumes(2, true);
    a_failed_recovery_says_why: World::new(RESTORE)
        .with_status(|s| { s.target_primary = Some("zoo-1".into()); s.latest_generated_serial = 1; })
        .change(|w| w.observed.recovery_backup = Some(backup("backup-example", 0, BackupPhase::Completed)))
        .with_volumes(1, false).with_pod(1)
        .change(|w| set_failing_init(w.pod(1), "full-recovery", "base/20261121T100000/data.tar is missing in s3://bucket; restore the object"));
    a_recovery_target_out_of_reach_says_why: World::new(RESTORE)
        .with_status(|s| { s.target_primary = Some("zoo-1".into()); s.latest_generated_serial = 1; })
        .with_volumes(1, false).with_pod(1)
        .with_ready(1, Replica)
        .change(|w| { w.observed.volumes.pop(); w.observed.pods.remove(0); w.report(1).ready = false; w.report(1).fatal = Some("the target lies behind the last commit".into()); });
    a_failed_join_says_why: World::new(THREE).initialised(2)
        .with_ready(1, Primary).with_volumes(2, false).with_pod(2)
        .change(|w| set_failing_init(w.pod(2), "bootstrap", "cannot connect to zoo-rw"));
    an_evicted_pod_is_made_again: World::new(ONE).initialised(1)
        .with_ready(1, Primary)
        .change(|w| w.pod(1).status.as_mut().unwrap().phase = Some("Failed".into()));
    a_larger_volume_is_asked_for: World::new(ONE).initialised(1)
        .with_ready(1, Primary).with_spec(|s| s.storage.size = "6Gi".into());
    a_new_role_moves_the_label: World::new(ONE).initialised(1)
        .with_ready(1, Primary).change(|w| w.report(1).role = Some(Replica));
    a_finished_volume_is_marked: World::new(ONE).initialised(1)
        .with_ready(1, Primary)
        .change(|w| w.volume("zoo-1").metadata.annotations = None);
    a_lost_status_takes_the_instance_that_is_a_primary: World::new(THREE)
        .with_ready(1, Replica).with_ready(2, Primary).with_ready(3, Replica);
    a_new_image_replaces_the_highest_replica_first: World::new(THREE).initialised(3)
        .with_ready(1, Primary).with_ready(2, Replica).with_ready(3, Replica)
        .with_spec(|s| s.image_name = Some("registry/pg:18".into()));
    a_rolling_change_waits_until_all_are_ready: World::new(THREE).initialised(3)
        .with_ready(1, Primary).with_ready(2, Replica).with_volumes(3, true)
        .with_spec(|s| s.image_name = Some("registry/pg:18".into())).with_pod(3);
    a_rolling_change_ends_with_the_primary: World::new("instances: 2\nstorage: {size: 5Gi}").initialised(2)
        .with_ready(1, Primary)
        .with_spec(|s| s.image_name = Some("registry/pg:18".into())).with_ready(2, Replica);
    a_rolling_change_waits_for_a_backup_on_that_pod: World::new(ONE).initialised(1)
        .with_ready(1, Primary)
        .with_spec(|s| s.image_name = Some("registry/pg:18".into()))
        .change(|w| w.observed.backups.push(backup("b", 0, BackupPhase::Running)));
    a_pod_that_cannot_start_is_replaced_at_once_after_a_correction: World::new(ONE)
        .with_status(|s| { s.target_primary = Some("zoo-1".into()); s.latest_generated_serial = 1; })
        .with_volumes(1, false).with_pod(1)
        .change(|w| set_failing_init(w.pod(1), "bootstrap", "no such program"))
        .with_spec(|s| s.image_name = Some("registry/pg:18".into()));
    recovery_waits_for_its_backup: World::new(RESTORE);
    recovery_waits_for_the_end_of_its_backup: World::new(RESTORE)
        .change(|w| w.observed.recovery_backup = Some(backup("backup-example", 0, BackupPhase::Running)));
    recovery_from_a_failed_backup_never_begins: World::new(RESTORE)
        .change(|w| w.observed.recovery_backup = Some(backup("backup-example", 0, BackupPhase::Failed)));
    recovery_needs_the_data_in_the_status: World::new(RESTORE)
        .change(|w| {
            let mut b = backup("backup-example", 0, BackupPhase::Completed);
            b.status.as_mut().unwrap().backup_id = None;
            w.observed.recovery_backup = Some(b);
        });
    a_foreign_volume_is_not_used: World::new(ONE).with_volumes(1, false)
        .change(|w| w.volume("zoo-1").metadata.owner_references = None);
    a_missing_login_stops_a_new_cluster: World::new("storage: {size: 5Gi}\nsuperuserSecret: {name: mine}");
}

/// The steps of one plan as if they had been carried out at once.
fn settle(world: World, plan: &Plan) -> World {
    let mut world = world.with_status(|s| {
        s.target_primary.clone_from(&plan.target_primary);
        s.latest_generated_serial = plan.latest_serial;
    });
    for step in &plan.steps {
        world = match step {
            Step::EnsureInstance { serial, fill, .. } => {
                let primary = plan.target_primary.as_deref() == Some(&format!("zoo-{serial}"));
                assert_ne!(*fill, Fill::Nothing, "nothing here lost a pod");
                let role = if primary { Primary } else { Replica };
                world.with_ready(*serial, role).with_status(|s| {
                    s.current_primary = Some("zoo-1".into());
                })
            }
            Step::RemoveInstance { serial, .. } => world.change(|w| {
                let name = format!("zoo-{serial}");
                w.observed.pods.retain(|p| p.metadata.name.as_ref() != Some(&name));
                w.observed.volumes.retain(|v| v.metadata.name.as_ref() != Some(&name));
                w.observed.reports.remove(&name);
            }),
            other => panic!("{other:?} is not expected here"),
        };
    }
    world
}

#[test]
fn growing_and_shrinking_end_in_a_healthy_cluster_and_serials_never_come_back() {
    let mut world = World::new(ONE);
    let mut made = Vec::new();
    for wanted in [1, 3, 1, 4] {
        world = world.with_spec(|s| s.instances = wanted);
        let mut rounds = 0;
        loop {
            let next = plan(&world);
            made.extend(next.steps.iter().filter_map(|s| match s {
                Step::EnsureInstance { serial, .. } => Some(*serial),
                _ => None,
            }));
            if next.phase == phases::HEALTHY {
                assert!(next.at_rest);
                break;
            }
            world = settle(world, &next);
            rounds += 1;
            assert!(rounds < 20, "no end: {next:?}");
        }
        assert_eq!(i32::try_from(world.observed.pods.len()), Ok(wanted));
    }
    assert_eq!(made, [1, 2, 3, 4, 5, 6], "each serial was made once");
}

#[test]
fn deciding_twice_gives_the_same() {
    let world = World::new(THREE).initialised(1).with_ready(1, Primary);
    assert_eq!(plan(&world), plan(&world));
    assert_ne!(Timestamp::UNIX_EPOCH, now());
}
