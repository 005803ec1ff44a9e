//! Instance managers of another version: replaced where they are, one after the other, or with their pods.

use howdah_api::availability::PrimaryUpdateStrategy;
use howdah_api::backup::BackupPhase;
use howdah_api::instance::InstanceRole::{Primary, Replica};
use howdah_api::labels;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::SignedDuration;
use kube::ResourceExt;
use rstest::rstest;

use super::decide::{Plan, Step, decide};
use super::manager_upgrade::Attempt;
use super::phases;
use super::validate::Manager;
use crate::fixtures::{World, backup, now, set_failing_init};

/// Three instances whose pods are of the image before, and whose managers can be replaced.
fn three() -> World {
    let world = World::new("instances: 3\nstorage: {size: 5Gi}").initialised(3);
    let world = world.with_ready(1, Primary).with_ready(2, Replica).with_ready(3, Replica);
    (1..=3).fold(world, |world, serial| {
        world.change(|w| {
            let report = w.report(serial);
            report.manager_sha256 = Some("old".into());
            report.manager_architecture = Some(std::env::consts::ARCH.into());
        })
    })
}

fn manager() -> Manager {
    Manager { image: "registry/howdah:2".into(), sha256: Some("new".into()), in_place: true }
}

fn plan_for(world: &World, manager: Manager) -> Plan {
    let mut validated = world.validated();
    validated.manager = manager;
    decide(&validated, &world.observed, &world.hash())
}

fn plan(world: &World) -> Plan {
    plan_for(world, manager())
}

fn step(plan: &Plan) -> (&'static str, i32) {
    match plan.steps.as_slice() {
        [Step::UpgradeManager { serial, .. }] => ("upgrade", *serial),
        [Step::DeletePod { serial, .. }] => ("delete", *serial),
        [] => ("nothing", 0),
        other => panic!("{other:?}"),
    }
}

fn runs_new(world: World, serial: i32) -> World {
    world.change(|w| w.report(serial).manager_sha256 = Some("new".into()))
}

fn attempted(world: World, serial: i32, attempt: &Attempt) -> World {
    let text = serde_json::to_string(attempt).unwrap();
    world.change(|w| {
        w.pod(serial).annotations_mut().insert(labels::MANAGER_UPGRADE.into(), text);
    })
}

fn attempt(sha256: &str, minutes_ago: i64, refused: Option<&str>) -> Attempt {
    let since = now() - SignedDuration::from_mins(minutes_ago);
    Attempt { sha256: sha256.into(), since, refused: refused.map(str::to_owned) }
}

/// Replicas first; nobody is spared or asked, for PostgreSQL runs on, also on a primary that a person looks after.
#[test]
fn one_after_the_other_and_without_asking() {
    let mut world = three().with_spec(|s| s.primary_update_strategy = PrimaryUpdateStrategy::Supervised);
    for serial in [3, 2, 1] {
        let next = plan(&world);
        assert_eq!((step(&next), next.phase), (("upgrade", serial), phases::UPGRADING));
        assert_eq!(next.primary_restart, None);
        // While it does not answer, the next one waits.
        let report = world.report(serial).clone();
        let silent = world.silent(serial);
        let meanwhile = plan(&silent);
        assert_eq!(step(&meanwhile), ("nothing", 0), "{meanwhile:?}");
        let expected = format!(
            "zoo-{serial} is given this operator's instance manager when zoo-{serial} says that it is ready"
        );
        assert_eq!(meanwhile.reason, expected);
        world = silent;
        world.observed.reports.insert(format!("zoo-{serial}"), Ok(report));
        world = runs_new(world, serial);
    }
    let rest = plan(&world);
    assert_eq!((step(&rest), rest.phase), (("nothing", 0), phases::HEALTHY));
}

/// Whoever cannot be replaced in place gets a new pod, with the reason; unless the image is the same and would bring
/// nothing new.
#[rstest]
#[case::refused(attempted(three(), 3, &attempt("new", 1, Some("no room"))), "no room")]
#[case::never_done(attempted(three(), 3, &attempt("new", 6, None)), "it has not been done in 5 minutes")]
#[case::too_old(
    three().change(|w| w.report(3).manager_sha256 = None),
    "version 0.1.0 cannot be replaced while PostgreSQL runs"
)]
#[case::another_machine(
    three().change(|w| w.report(3).manager_architecture = Some("abacus".into())),
    "it is a program for abacus, the operator's is one for "
)]
fn a_new_pod_where_that_does_not_work(#[case] world: World, #[case] why: &str) {
    let world = world.change(|w| w.report(3).manager_version = "0.1.0".into());
    let plan = plan(&world);
    assert_eq!(step(&plan), ("delete", 3));
    let expected = format!(
        "pod zoo-3 is replaced by one of the present specification, because its instance manager cannot be replaced while \
         PostgreSQL runs: {why}"
    );
    assert!(plan.reason.starts_with(&expected), "{}", plan.reason);
    let same_image = Manager { image: "registry/howdah:1".into(), ..manager() };
    let world = runs_new(runs_new(world, 1), 2);
    assert_eq!(plan_for(&world, same_image).phase, phases::HEALTHY);
}

#[rstest]
#[case::just_begun(attempted(three(), 3, &attempt("new", 4, None)))]
#[case::another_program(attempted(three(), 3, &attempt("older", 60, Some("no room"))))]
#[case::same_image(three().change(|w| {
    let spec = w.pod(3).spec.as_mut().unwrap();
    spec.init_containers.as_mut().unwrap()[0].image = Some("registry/howdah:2".into());
}))]
fn another_attempt(#[case] world: World) {
    assert_eq!(step(&plan(&world)), ("upgrade", 3));
}

/// Without the program, or when it is not wanted, the image decides.
#[rstest]
#[case(Manager { in_place: false, ..manager() })]
#[case(Manager { sha256: None, ..manager() })]
fn with_new_pods(#[case] wanted: Manager) {
    let plan = plan_for(&three(), wanted.clone());
    assert_eq!(step(&plan), ("delete", 3));
    assert_eq!(plan.reason, "pod zoo-3 is replaced by one of the present specification");
    let plan = plan_for(&three(), Manager { image: "registry/howdah:1".into(), ..wanted });
    assert_eq!(plan.phase, phases::HEALTHY);
}

/// What was replaced in place before is the operator's, whatever image the pod names.
#[test]
fn the_program_counts_and_not_the_image() {
    let world = (1..=3).fold(three(), runs_new);
    let plan = plan_for(&world, Manager { in_place: false, ..manager() });
    assert_eq!((step(&plan), plan.phase), (("nothing", 0), phases::HEALTHY));
}

#[test]
fn a_pod_that_cannot_run_gets_the_present_image() {
    let world = three().change(|w| set_failing_init(w.pod(2), "bootstrap-controller", "no such program"));
    assert_eq!(step(&plan(&world)), ("delete", 2));
}

/// A backup is waited for, though not for ever: it goes on under the next manager.
#[test]
fn a_backup_is_waited_for() {
    let begun = |minutes: i64| {
        let mut backup = backup("b", 0, BackupPhase::Running);
        let status = backup.status.as_mut().unwrap();
        status.started_at = Some(Time(now() - SignedDuration::from_mins(minutes)));
        status.instance_id.as_mut().unwrap().pod_name = "zoo-3".into();
        three().change(|w| w.observed.backups = vec![backup])
    };
    let waiting = plan(&begun(59));
    assert_eq!(step(&waiting), ("nothing", 0));
    assert_eq!(waiting.reason, "zoo-3 is given this operator's instance manager when Backup b has ended");
    assert_eq!(step(&plan(&begun(61))), ("upgrade", 3));
}

#[test]
fn what_is_written_on_a_pod_is_read_again() {
    let told = attempt("new", 3, Some("no"));
    let mut world = attempted(three(), 3, &told);
    assert_eq!(Attempt::of(world.pod(3), "new"), Some(told));
    assert_eq!(Attempt::of(world.pod(3), "other"), None);
    world.pod(3).annotations_mut().insert(labels::MANAGER_UPGRADE.into(), "nonsense".into());
    assert_eq!(Attempt::of(world.pod(3), "new"), None);
}
