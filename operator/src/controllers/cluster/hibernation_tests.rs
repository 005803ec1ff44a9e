//! Hibernation: pods go and come back in an order in which nothing fails over.

use howdah_api::backup::BackupPhase;
use howdah_api::conditions;
use howdah_api::instance::InstanceRole::{Primary, Replica};
use howdah_api::labels;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::decide::{Fill, Plan, Step, decide};
use super::observed::PrimaryLease;
use super::{events, phases, status};
use crate::fixtures::{World, backup, now, set_failing_init, set_ready};

const THREE: &str = "instances: 3\nstorage: {size: 5Gi}";

fn plan(world: &World) -> Plan {
    decide(&world.validated(), &world.observed, &world.hash())
}

fn three() -> World {
    World::new(THREE)
        .initialised(3)
        .with_status(|s| s.phase = Some(phases::HEALTHY.into()))
        .with_ready(1, Primary)
        .with_ready(2, Replica)
        .with_ready(3, Replica)
}

fn annotated(world: World, value: &str) -> World {
    world.change(|w| {
        w.observed.cluster.annotations_mut().insert(labels::HIBERNATION.into(), value.into());
    })
}

fn stopped(plan: &Plan) -> Vec<i32> {
    let stop = |step: &Step| match step {
        Step::StopPod { serial, .. } => *serial,
        other => panic!("{other:?}"),
    };
    plan.steps.iter().map(stop).collect()
}

fn made(plan: &Plan) -> Vec<i32> {
    let ensure = |step: &Step| match step {
        Step::EnsureInstance { serial, fill: Fill::Nothing, .. } => *serial,
        other => panic!("{other:?}"),
    };
    plan.steps.iter().map(ensure).collect()
}

fn without_pods(world: World, serials: &[i32]) -> World {
    world.change(|w| {
        for name in serials.iter().map(|s| format!("zoo-{s}")) {
            w.observed.pods.retain(|p| p.name_any() != name);
            w.observed.reports.remove(&name);
        }
    })
}

/// As the operator writes it after a plan.
fn told(world: World, plan: &Plan) -> World {
    world.with_status(|s| s.phase = Some(plan.phase.into()))
}

#[test]
fn the_primary_goes_last_and_comes_first() {
    let world = annotated(three(), "on");
    let next = plan(&world);
    assert_eq!((next.phase, stopped(&next)), (phases::HIBERNATING, vec![2, 3]));
    // A replica that is still ending keeps the primary up.
    let world = without_pods(told(world, &next), &[2])
        .change(|w| w.pod(3).metadata.deletion_timestamp = Some(Time(now())));
    let next = plan(&world);
    assert_eq!((stopped(&next), next.reason.as_str()), (vec![], "zoo-3 is ending"));
    let world = without_pods(world, &[3]);
    let next = plan(&world);
    assert_eq!(stopped(&next), [1]);
    let world = without_pods(told(world, &next), &[1]);
    let next = plan(&world);
    assert_eq!((next.phase, stopped(&next), next.at_rest), (phases::HIBERNATED, vec![], true));
    assert_eq!(next.target_primary.as_deref(), Some("zoo-1"));
    assert_eq!(world.observed.volumes.len(), 3, "volumes stay");

    let world = annotated(told(world, &next), "off");
    let next = plan(&world);
    assert_eq!((next.phase, made(&next)), (phases::WAKING_UP, vec![1]));
    let world = told(world, &next).with_pod(1);
    let next = plan(&world);
    assert_eq!((next.phase, made(&next)), (phases::WAKING_UP, vec![]));
    let world = told(world, &next).change(|w| {
        set_ready(w.pod(1));
        w.observed.reports.insert("zoo-1".into(), Ok(crate::fixtures::report("zoo-1", Primary)));
    });
    let next = plan(&world);
    assert_eq!((next.phase, made(&next)), (phases::WAITING_FOR_INSTANCES, vec![2, 3]));
}

#[test]
fn whoever_is_the_primary_goes_last() {
    let world = annotated(three(), "on").with_status(|s| {
        s.target_primary = Some("zoo-3".into());
        s.current_primary = Some("zoo-3".into());
    });
    assert_eq!(stopped(&plan(&world)), [1, 2]);
}

#[test]
fn a_switchover_ends_before_hibernation_begins() {
    let world = annotated(three(), "on").with_status(|s| s.target_primary = Some("zoo-2".into()));
    let plan = plan(&world);
    assert!(!plan.steps.iter().any(|s| matches!(s, Step::StopPod { .. })), "{plan:?}");
}

#[test]
fn a_backup_is_brought_to_its_end_first() {
    let world = annotated(without_pods(three(), &[2, 3]), "on")
        .change(|w| w.observed.backups = vec![backup("b", 0, BackupPhase::Running)]);
    let plan = plan(&world);
    assert_eq!((stopped(&plan), plan.reason.as_str()), (vec![], "zoo-1 is stopped when Backup b has ended"));
}

#[test]
fn a_new_cluster_that_is_hibernated_is_not_begun() {
    let world = annotated(World::new(THREE), "on");
    let plan = plan(&world);
    assert_eq!((plan.phase, plan.steps.len(), plan.target_primary), (phases::HIBERNATED, 0, None));
}

/// A primary that cannot wake up must not keep its replicas from taking its place.
#[test]
fn a_primary_that_fails_to_wake_up_holds_nothing_back() {
    let world = without_pods(three(), &[1, 2, 3]).with_status(|s| s.phase = Some(phases::WAKING_UP.into()));
    let world =
        world.with_pod(1).change(|w| set_failing_init(w.pod(1), "bootstrap-controller", "no such image"));
    let failing = plan(&world);
    assert_eq!((failing.phase, made(&failing)), (phases::INSTANCE_FAILED, vec![]));
    assert_eq!(made(&plan(&told(world, &failing))), [2, 3]);
}

/// Asked to wake up `seconds` ago, and the primary's pod does nothing that could be told of.
fn waking(spec: &str, serials: i32, seconds: i64) -> World {
    let mut world = World::new(spec).initialised(serials).with_pod(1);
    for serial in 1..=serials {
        world = world.with_volumes(serial, true);
    }
    world.with_status(|s| {
        s.phase = Some(phases::WAKING_UP.into());
        s.primary_restart = Some("uid-zoo-1".into());
        let since = now().as_second() - seconds;
        s.current_primary_failing_since_timestamp = Some(Time(Timestamp::from_second(since).unwrap()));
    })
}

#[test]
fn waking_up_says_until_when_it_is_waited_for() {
    let plan = plan(&waking(THREE, 3, 299));
    assert_eq!((plan.phase, made(&plan)), (phases::WAKING_UP, vec![]));
    assert!(plan.reason.ends_with("it has until 2026-11-21T10:00:01Z"), "{}", plan.reason);
}

/// The same limit as for everything else that takes the primary down on purpose.
#[test]
fn a_cluster_that_does_not_wake_up_is_a_cluster_whose_primary_fails() {
    let world = waking(THREE, 3, 300);
    let late = plan(&world);
    assert_eq!((late.phase, late.target_primary.as_deref()), (phases::FAILING_OVER, Some("zoo-1")));
    assert!(late.reason.starts_with("zoo-1 is not ready, since 2026-11-21T09:55:00Z; "), "{}", late.reason);
    let world = world.change(|w| w.observed.lease = Some(PrimaryLease::default()));
    let nobody = plan(&world);
    assert_eq!((nobody.phase, made(&nobody)), (phases::NO_CANDIDATE, vec![2, 3]), "{nobody:?}");
}

#[test]
fn one_that_is_alone_says_that_it_is_not_back_for_as_long_as_that_is_so() {
    let world = waking("storage: {size: 5Gi}", 1, 299);
    assert_eq!(plan(&world).phase, phases::WAKING_UP);
    let world = waking("storage: {size: 5Gi}", 1, 300).silent(1);
    let late = plan(&world);
    let reason = "zoo-1 (zoo-1 does not answer at 10.0.0.1:8000: connection refused) is not back since \
                  2026-11-21T09:55:00Z, it had 300 s; look: kubectl -n park describe pod zoo-1; kubectl -n park logs \
                  zoo-1 -c postgres --tail=50";
    assert_eq!((late.phase, late.reason.as_str()), (phases::INSTANCE_FAILED, reason));
    assert_eq!(plan(&told(world, &late)), late);
    // One that is back is well.
    let back = waking("storage: {size: 5Gi}", 1, 300).change(|w| {
        set_ready(w.pod(1));
        w.observed.reports.insert("zoo-1".into(), Ok(crate::fixtures::report("zoo-1", Primary)));
    });
    assert_eq!(plan(&back).phase, phases::HEALTHY);
}

#[test]
fn the_condition_says_so() {
    for (world, reason) in [
        (annotated(three(), "on"), "Hibernating"),
        (annotated(without_pods(three(), &[1, 2, 3]), "on"), "Hibernated"),
    ] {
        let before = world.observed.status();
        let after = status::fold(&world.validated(), &world.observed, &plan(&world), "hash", now());
        let ready = conditions::get(&after.conditions, conditions::READY).unwrap();
        assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", reason));
        let notes = events::changes(&before, &after);
        assert_eq!(notes.iter().any(|n| n.reason == "ClusterIsHibernated"), reason == "Hibernated");
    }
}

#[test]
fn a_word_that_is_not_understood_does_nothing_and_is_told() {
    let world = annotated(three(), "yes");
    let validated = world.validated();
    let plan = plan(&world);
    assert_eq!((plan.phase, plan.steps.len()), (phases::HEALTHY, 0));
    let after = status::fold(&validated, &world.observed, &plan, "hash", now());
    let message = "annotation postgresql.k8s.enterprisedb.io/hibernation is \"yes\"; it does nothing: give on or off, or take it \
         away: kubectl -n park annotate cluster zoo postgresql.k8s.enterprisedb.io/hibernation-";
    assert_eq!(after.phase_reason, Some(format!("all 3 instances are ready; {message}")));
}

/// Nobody takes its place for having been away.
#[test]
fn the_primary_is_spared_until_it_is_ready_again() {
    let world = annotated(three(), "on");
    let uid = Some("uid-zoo-1".to_owned());
    assert_eq!(plan(&world).primary_restart, uid);
    let world = without_pods(world, &[1, 2, 3]);
    assert_eq!(plan(&world).primary_restart, Some(String::new()), "even if its status was lost");
    let world = world.with_status(|s| {
        s.primary_restart.clone_from(&uid);
        s.phase = Some(phases::HIBERNATED.into());
    });
    assert_eq!(plan(&world).primary_restart, uid);
    let world = annotated(world, "off").with_pod(1);
    assert_eq!(plan(&world).primary_restart, uid, "it is not ready yet");
    let world = world.change(|w| {
        set_ready(w.pod(1));
        w.observed.reports.insert("zoo-1".into(), Ok(crate::fixtures::report("zoo-1", Primary)));
    });
    assert_eq!(plan(&world).primary_restart, None);
}
