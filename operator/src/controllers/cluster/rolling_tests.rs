//! Rolling changes: who is changed when, and how the primary comes to it.

use howdah_api::ClusterSpec;
use howdah_api::availability::{PrimaryUpdateMethod, PrimaryUpdateStrategy};
use howdah_api::backup::BackupPhase;
use howdah_api::instance::InstanceRole::{Primary, Replica};
use howdah_api::labels;
use kube::ResourceExt;
use rstest::rstest;

use super::decide::{Plan, Step, decide};
use super::phases;
use crate::fixtures::{World, backup, set_ready};

const ONE: &str = "storage: {size: 5Gi}";
const THREE: &str = "instances: 3\nstorage: {size: 5Gi}";

fn plan(world: &World) -> Plan {
    decide(&world.validated(), &world.observed, &world.hash())
}

fn one() -> World {
    World::new(ONE).initialised(1).with_ready(1, Primary)
}

fn three() -> World {
    World::new(THREE).initialised(3).with_ready(1, Primary).with_ready(2, Replica).with_ready(3, Replica)
}

fn pending(world: World, serials: &[i32]) -> World {
    serials.iter().fold(world, |world, serial| world.change(|w| w.report(*serial).pending_restart = true))
}

fn new_image(spec: &mut ClusterSpec) {
    spec.image_name = Some("registry/pg:18".into());
}

fn supervised(spec: &mut ClusterSpec) {
    spec.primary_update_strategy = PrimaryUpdateStrategy::Supervised;
}

fn by_switchover(spec: &mut ClusterSpec) {
    spec.primary_update_method = PrimaryUpdateMethod::Switchover;
}

/// What the only step does, to whom.
fn step(plan: &Plan) -> (&'static str, i32) {
    match plan.steps.as_slice() {
        [Step::DeletePod { serial, .. }] => ("delete", *serial),
        [Step::RestartInstance { serial, .. }] => ("restart", *serial),
        [] => ("nothing", 0),
        other => panic!("{other:?}"),
    }
}

/// The pods of all but `old` are of the present specification.
fn made_anew(world: World, old: &[i32]) -> World {
    let hash = world.hash();
    world.change(|w| {
        for serial in (1..=3).filter(|s| !old.contains(s)) {
            w.pod(serial).annotations_mut().insert(labels::POD_SPEC_HASH.into(), hash.clone());
        }
    })
}

/// Replicas first, from the highest serial, then the primary; whoever is changed loses what it needed.
#[rstest]
#[case::parameters(pending(three(), &[1, 2, 3]), &[("restart", 3), ("restart", 2), ("restart", 1)])]
#[case::image(three().with_spec(new_image), &[("delete", 3), ("delete", 2), ("delete", 1)])]
#[case::both(made_anew(pending(three(), &[3]).with_spec(new_image), &[1]), &[("restart", 3), ("delete", 1)])]
#[case::restart_by_annotation(three().change(|w| {
    w.observed.cluster.annotations_mut().insert(labels::RESTARTED_AT.into(), "now".into());
}), &[("delete", 3), ("delete", 2), ("delete", 1)])]
fn one_after_the_other(#[case] mut world: World, #[case] expected: &[(&str, i32)]) {
    let mut seen = Vec::new();
    loop {
        let next = plan(&world);
        if next.phase == phases::HEALTHY {
            break;
        }
        assert_eq!(next.phase, phases::UPGRADING);
        let (what, serial) = step(&next);
        let is_primary = serial == 1;
        assert_eq!(next.primary_restart.as_deref(), is_primary.then_some("uid-zoo-1"), "{next:?}");
        seen.push((what, serial));
        // While it is down, the others are left alone and the mark of the primary stays.
        let hash = world.hash();
        world = world.with_status(|s| s.primary_restart.clone_from(&next.primary_restart)).change(|w| {
            w.pod(serial).status = None;
            w.report(serial).ready = false;
        });
        let meanwhile = plan(&world);
        assert_eq!(step(&meanwhile), ("nothing", 0), "{meanwhile:?}");
        assert_eq!(meanwhile.primary_restart, next.primary_restart);
        world = world.change(|w| {
            let pod = w.pod(serial);
            set_ready(pod);
            if what == "delete" {
                pod.annotations_mut().insert(labels::POD_SPEC_HASH.into(), hash);
                pod.metadata.uid = Some(format!("another-{serial}"));
            }
            let report = w.report(serial);
            report.ready = true;
            report.pending_restart = false;
        });
        assert!(seen.len() < 9, "no end: {seen:?}");
    }
    assert_eq!(seen, expected);
    assert_eq!(plan(&world).primary_restart, None, "the mark goes when the primary is ready again");
}

#[test]
fn a_restart_waits_for_a_backup_on_that_instance() {
    let world =
        pending(three(), &[1]).change(|w| w.observed.backups = vec![backup("b", 0, BackupPhase::Running)]);
    let plan = plan(&world);
    assert_eq!(step(&plan), ("nothing", 0));
    assert_eq!(plan.reason, "zoo-1 is restarted when Backup b has ended");
}

#[test]
fn nothing_is_touched_while_the_primary_moves() {
    // The switchover to zoo-2 was ordered, and zoo-1 does not know it yet.
    let world = pending(three(), &[1]).with_status(|s| s.target_primary = Some("zoo-2".into()));
    let plan = plan(&world);
    assert!(plan.steps.iter().all(|s| matches!(s, Step::Label { .. })), "{plan:?}");
    assert!(plan.reason.starts_with("zoo-2 takes over from zoo-1"), "{plan:?}");
}

#[test]
fn the_most_advanced_replica_takes_over_before_the_primary_is_changed() {
    for world in [
        made_anew(three().with_spec(new_image).with_spec(by_switchover), &[1]),
        pending(three(), &[1]).with_spec(by_switchover),
    ] {
        let world = world.change(|w| {
            w.report(2).received_lsn = Some("0/A000000".into());
            w.report(3).received_lsn = Some("0/9FFFFFF".into());
        });
        let plan = plan(&world);
        assert_eq!(step(&plan), ("nothing", 0));
        assert_eq!(
            (plan.phase, plan.target_primary.as_deref(), plan.primary_restart),
            (phases::SWITCHING_OVER, Some("zoo-2"), None)
        );
        // The former primary is a replica then, and is changed like one.
        let world = world
            .with_status(|s| {
                s.target_primary = Some("zoo-2".into());
                s.current_primary = Some("zoo-2".into());
            })
            .change(|w| {
                for (serial, role, label) in [(1, Replica, "replica"), (2, Primary, "primary")] {
                    w.report(serial).role = Some(role);
                    w.report(serial).streaming = role == Replica;
                    w.pod(serial).labels_mut().insert(labels::ROLE.into(), label.into());
                }
            });
        let plan = self::plan(&world);
        assert_eq!(step(&plan).1, 1);
        assert_eq!(plan.primary_restart, None);
    }
}

#[rstest]
#[case::no_replica(one(), ("restart", 1), phases::UPGRADING)]
#[case::no_replica_streams(
    three().change(|w| { w.report(2).streaming = false; w.report(3).streaming = false; }),
    ("nothing", 0),
    phases::UPGRADING
)]
#[case::lowered(three().change(|w| w.report(1).pending_restart_lowers = true), ("restart", 1), phases::UPGRADING)]
fn without_a_switchover(#[case] world: World, #[case] expected: (&str, i32), #[case] phase: &str) {
    let plan = plan(&pending(world, &[1]).with_spec(by_switchover));
    assert_eq!((step(&plan), plan.phase, plan.target_primary.as_deref()), (expected, phase, Some("zoo-1")));
}

/// What is lowered reaches the primary first; the replicas need their restart only then.
#[test]
fn replicas_follow_a_primary_with_lower_values() {
    let world = pending(three(), &[1]).change(|w| w.report(1).pending_restart_lowers = true);
    assert_eq!(step(&plan(&world)), ("restart", 1));
    let world = pending(world.change(|w| w.report(1).pending_restart = false), &[2, 3]);
    assert_eq!(step(&plan(&world)), ("restart", 3));
}

#[rstest]
#[case::image(three().with_spec(new_image), "zoo-1 is replaced after a switchover, which is yours to begin, primaryUpdateStrategy is supervised: kubectl -n park annotate cluster zoo postgresql.k8s.enterprisedb.io/switchover=zoo-2, or operator switchover")]
#[case::parameters(pending(three(), &[1]), "zoo-1 is restarted after a switchover, which is yours to begin, primaryUpdateStrategy is supervised: kubectl -n park annotate cluster zoo postgresql.k8s.enterprisedb.io/switchover=zoo-2, or operator switchover")]
#[case::lowered(pending(three(), &[1]).change(|w| w.report(1).pending_restart_lowers = true), "zoo-1 is restarted in its place to lower parameters, which no switchover can do; primaryUpdateStrategy is supervised: kubectl -n park patch cluster zoo --type merge -p '{\"spec\":{\"primaryUpdateStrategy\":\"unsupervised\"}}' lets it begin")]
#[case::alone(pending(one(), &[1]), "zoo-1 is restarted when you say so, primaryUpdateStrategy is supervised and no replica can take its place: kubectl -n park delete pod zoo-1")]
fn a_supervised_primary_waits_for_a_person(#[case] world: World, #[case] reason: &str) {
    let world = world.with_spec(supervised);
    let world = if world.observed.pods.len() == 3 { made_anew(world, &[1]) } else { world };
    let plan = plan(&world);
    assert_eq!((plan.phase, plan.reason.as_str()), (phases::WAITING_FOR_USER, reason));
    assert_eq!((step(&plan), plan.target_primary.as_deref()), (("nothing", 0), Some("zoo-1")));
    assert!(plan.at_rest, "nothing happens before somebody says so");
}

#[test]
fn a_cluster_that_waits_for_a_person_grows_and_tells_of_failures_all_the_same() {
    let waiting = || pending(three(), &[1]).with_spec(supervised);
    let grown = plan(&waiting().with_spec(|s| s.instances = 4));
    assert_eq!(grown.phase, phases::CREATING_REPLICA);
    let failed = plan(&waiting().change(|w| w.report(3).fatal = Some("no".into())));
    assert_eq!(failed.phase, phases::INSTANCE_FAILED);
}

/// A primary that does not work anyway is replaced at once, and gets no grace for it.
#[test]
fn a_primary_that_cannot_run_is_not_spared() {
    let world = three().with_spec(supervised).with_spec(new_image).change(|w| {
        crate::fixtures::set_failing_init(w.pod(1), "bootstrap-controller", "no such program");
    });
    let plan = plan(&world);
    assert_eq!(step(&plan), ("delete", 1));
    assert_eq!(plan.primary_restart, None);
}
