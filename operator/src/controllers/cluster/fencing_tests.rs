//! Fenced instances are somebody's to look into.

use howdah_api::instance::InstanceRole::{Primary, Replica};
use howdah_api::labels;
use kube::ResourceExt;
use rstest::rstest;

use super::decide::{Plan, decide};
use super::{events, phases, status};
use crate::fixtures::{World, now, set_failing_init};

const THREE: &str = "instances: 3\nstorage: {size: 5Gi}";

fn plan(world: &World) -> Plan {
    decide(&world.validated(), &world.observed, &world.hash())
}

fn three() -> World {
    World::new(THREE).initialised(3).with_ready(1, Primary).with_ready(2, Replica).with_ready(3, Replica)
}

fn annotated(world: World, value: &str) -> World {
    world.change(|w| {
        w.observed.cluster.annotations_mut().insert(labels::FENCED.into(), value.into());
    })
}

/// Its PostgreSQL is down, and it says that it is fenced.
fn down(world: World, serial: i32) -> World {
    world.change(|w| {
        w.pod(serial).status = None;
        let report = w.report(serial);
        report.ready = false;
        report.role = None;
        report.fenced = true;
        report.fatal = Some("something is wrong with the data".into());
    })
}

#[rstest]
#[case::by_its_own_word(down(three(), 2), "zoo-2", None)]
#[case::by_the_annotation(annotated(three(), "[\"zoo-3\"]"), "zoo-3", Some("[\"zoo-3\"]"))]
#[case::all(annotated(three(), "*"), "zoo-1, zoo-2, zoo-3", Some("*"))]
#[case::the_primary(down(three(), 1), "zoo-1", None)]
fn they_are_named_and_nothing_else_is_said(
    #[case] world: World,
    #[case] names: &str,
    #[case] value: Option<&str>,
) {
    let plan = plan(&world);
    let end = match value {
        Some(value) => format!(
            "the annotation postgresql.k8s.enterprisedb.io/fenced-instances is taken away, which is {value} now: kubectl \
             -n park annotate cluster zoo postgresql.k8s.enterprisedb.io/fenced-instances-"
        ),
        None => "they hear that the annotation postgresql.k8s.enterprisedb.io/fenced-instances is gone; when that lasts: \
                 kubectl -n park get pods,pvc -l postgresql.k8s.enterprisedb.io/cluster=zoo -o wide"
            .to_owned(),
    };
    let reason =
        format!("PostgreSQL is kept down in {names}, and nothing is replaced or removed, until {end}");
    assert_eq!((plan.phase, plan.reason), (phases::FENCED, reason));
    assert_eq!(plan.steps, []);
}

#[rstest]
#[case::nobody(three(), 0)]
#[case::by_the_annotation(annotated(three(), "*"), 3)]
#[case::by_its_own_word(down(three(), 2), 1)]
#[case::a_value_that_is_not_understood(annotated(three(), "zoo-2"), 0)]
fn they_are_counted(#[case] world: World, #[case] number: i64) {
    assert_eq!(status::gauges(&world.observed, &world.folded()).fenced, number);
}

#[rstest]
#[case::rolling_change(down(three(), 2).with_spec(|s| s.image_name = Some("registry/pg:18".into())))]
#[case::restart(down(three(), 2).change(|w| w.report(3).pending_restart = true))]
#[case::scaling_down(down(three(), 2).with_spec(|s| s.instances = 1))]
#[case::a_volume_is_gone(down(three(), 2).change(|w| w.observed.volumes.retain(|v| v.name_any() != "zoo-3")))]
fn nothing_is_replaced_or_removed(#[case] world: World) {
    let plan = plan(&world);
    assert_eq!((plan.phase, plan.steps), (phases::FENCED, vec![]));
}

#[test]
fn the_failure_of_another_one_is_told_besides() {
    let world = down(three(), 2).change(|w| set_failing_init(w.pod(3), "bootstrap", "no space left"));
    let plan = plan(&world);
    assert_eq!(plan.phase, phases::FENCED);
    assert!(
        plan.reason.contains("; besides, zoo-3: no space left (container bootstrap ended"),
        "{}",
        plan.reason
    );
}

/// The status says these words about the annotation, and one event tells it.
fn told_once(world: &World, words: &str) {
    let (validated, plan) = (world.validated(), plan(world));
    let after = status::fold(&validated, &world.observed, &plan, "hash", now());
    let told = after.phase_reason.clone().unwrap();
    assert!(told.contains(words), "{told}");
    let notes = events::remarks(&validated, &world.observed.status());
    assert_eq!(
        notes.iter().map(|n| (n.warning, n.reason.as_str())).collect::<Vec<_>>(),
        [(true, "InvalidFencing")]
    );
    assert_eq!(events::remarks(&validated, &after), []);
}

#[test]
fn a_list_that_cannot_be_read_fences_nobody_and_is_told_once() {
    let world = annotated(three(), "zoo-2").with_spec(|s| s.image_name = Some("registry/pg:18".into()));
    let validated = world.validated();
    assert!(validated.blocking().is_none() && validated.backup_problem().is_none());
    let plan = plan(&world);
    assert_eq!((plan.phase, plan.steps.len()), (phases::UPGRADING, 1), "the rolling change goes on");
    told_once(&world, "fenced-instances is neither * nor a JSON list");
}

#[rstest]
#[case::nobody(
    "[\"zoo-9\"]",
    "names zoo-9, which is no instance of this cluster (there are zoo-1, zoo-2, zoo-3)"
)]
#[case::one_of_two("[\"zoo-2\", \"pg-2\"]", "names pg-2, which is no instance")]
fn a_name_of_nobody_is_told_once(#[case] value: &str, #[case] words: &str) {
    told_once(&annotated(three(), value), words);
}

/// The command that takes a wrong name out leaves a right one fenced.
#[rstest]
#[case::nobody("[\"zoo-9\"]", "fenced-instances-")]
#[case::one_of_two("[\"zoo-2\", \"pg-2\"]", "fenced-instances='[\"zoo-2\"]' --overwrite")]
fn the_remedy_unfences_nobody(#[case] value: &str, #[case] end: &str) {
    let told = annotated(three(), value).validated().remarks().next().unwrap().message.clone();
    assert!(told.ends_with(end), "{told}");
}

#[rstest]
#[case::all("*")]
#[case::all_in_a_list("[\"*\"]")]
#[case::one("[\"zoo-2\"]")]
#[case::none("[]")]
fn names_of_instances_are_no_remark(#[case] value: &str) {
    assert_eq!(annotated(three(), value).validated().remarks().count(), 0);
}
