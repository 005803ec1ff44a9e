//! Whom a primary waits for, and what is said about it.

use howdah_api::availability::SynchronousMethod;
use howdah_api::conditions;
use howdah_api::instance::InstanceRole::{Primary, Replica};
use howdah_api::instance::ReplicaState;
use howdah_api::{ClusterStatus, naming};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rstest::rstest;

use super::decide::{Step, decide};
use super::events::changes;
use super::phases;
use super::status::gauges;
use super::synchronous::{Standbys, at_rest, standby_names};
use crate::fixtures::{World, now};

const REQUIRED: &str = "instances: 4\nstorage: {size: 5Gi}\npostgresql: {synchronous: {number: 1}}\n";
const REQUIRED_TWO: &str =
    "instances: 4\nstorage: {size: 5Gi}\npostgresql: {synchronous: {method: first, number: 2}}\n";
const PREFERRED: &str =
    "instances: 4\nstorage: {size: 5Gi}\npostgresql: {synchronous: {number: 2, dataDurability: preferred}}\n";
const BOUNDS: &str = "instances: 4\nstorage: {size: 5Gi}\nminSyncReplicas: 1\nmaxSyncReplicas: 2\n";
const ASYNCHRONOUS: &str = "instances: 4\nstorage: {size: 5Gi}\n";

/// How an instance is; the serials are their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Is {
    /// The current and the target primary.
    Primary,
    /// Ready and streaming.
    Streaming,
    /// Ready, behind the archive.
    NotStreaming,
    Fenced,
    /// Its volume exists, its pod does not.
    Down,
    /// Its volume is being filled.
    Joining,
    /// Its pod is being deleted.
    Ending,
    /// Its volume is being deleted.
    Leaving,
    /// There is no such instance.
    Gone,
}
use Is::{Down, Ending, Fenced, Gone, Joining, Leaving, NotStreaming, Streaming};

fn world(spec: &str, all: &[Is]) -> World {
    let mut world = World::new(spec).initialised(i32::try_from(all.len()).unwrap());
    for (serial, is) in (1..).zip(all) {
        world = match is {
            Is::Primary => world.with_ready(serial, Primary).with_status(|s| {
                s.target_primary = Some(naming::instance("zoo", serial));
                s.current_primary = Some(naming::instance("zoo", serial));
            }),
            Gone => world,
            Down => world.with_volumes(serial, true),
            Joining => world.with_volumes(serial, false).with_pod(serial),
            _ => world.with_ready(serial, Replica),
        };
        match is {
            NotStreaming => world.report(serial).streaming = false,
            Fenced => world.report(serial).fenced = true,
            Ending => world.pod(serial).metadata.deletion_timestamp = Some(Time(now())),
            Leaving => {
                let volume = world.volume(&naming::instance("zoo", serial));
                volume.metadata.deletion_timestamp = Some(Time(now()));
            }
            _ => {}
        }
    }
    world
}

#[rstest]
#[case::asynchronous(ASYNCHRONOUS, &[Is::Primary, Streaming, Streaming], "ANY 1 (\"zoo-2\")", "")]
// Required, from the first instance on.
#[case::alone(REQUIRED, &[Is::Primary], "", "")]
#[case::one_joins(REQUIRED, &[Is::Primary, Joining], "", "")]
#[case::one_has_joined(REQUIRED, &[Is::Primary, Streaming], "", "ANY 1 (\"zoo-2\")")]
#[case::another_joins(REQUIRED, &[Is::Primary, Streaming, Joining], "ANY 1 (\"zoo-2\")", "ANY 1 (\"zoo-2\")")]
#[case::another_has_joined(REQUIRED, &[Is::Primary, Streaming, Down], "ANY 1 (\"zoo-2\")", "ANY 1 (\"zoo-2\",\"zoo-3\")")]
#[case::half_built(REQUIRED_TWO, &[Is::Primary, Streaming, Down], "", "FIRST 1 (\"zoo-2\",\"zoo-3\")")]
#[case::built(REQUIRED_TWO, &[Is::Primary, Streaming, Streaming], "FIRST 1 (\"zoo-2\",\"zoo-3\")", "FIRST 2 (\"zoo-2\",\"zoo-3\")")]
#[case::half_built_and_one_fails(REQUIRED_TWO, &[Is::Primary, Down], "FIRST 1 (\"zoo-2\")", "FIRST 1 (\"zoo-2\")")]
// Required, with fewer replicas than there were: commits wait.
#[case::one_is_left(REQUIRED_TWO, &[Is::Primary, Streaming, Gone, Gone], "FIRST 2 (\"zoo-2\",\"zoo-3\")", "FIRST 2 (\"zoo-2\")")]
#[case::none_streams(REQUIRED, &[Is::Primary, NotStreaming, Fenced, Ending], "ANY 1 (\"zoo-2\",\"zoo-3\",\"zoo-4\")", "ANY 1 (\"zoo-2\",\"zoo-3\",\"zoo-4\")")]
#[case::one_leaves(REQUIRED, &[Is::Primary, Streaming, Leaving], "ANY 1 (\"zoo-2\",\"zoo-3\")", "ANY 1 (\"zoo-2\")")]
#[case::its_successor_joins(REQUIRED, &[Is::Primary, Gone, Joining], "ANY 1 (\"zoo-2\")", "ANY 1 (\"zoo-2\")")]
#[case::its_successor_has_joined(REQUIRED, &[Is::Primary, Gone, Streaming], "ANY 1 (\"zoo-2\")", "ANY 1 (\"zoo-3\")")]
#[case::all_leave(REQUIRED, &[Is::Primary, Leaving], "ANY 1 (\"zoo-2\")", "ANY 1 (\"zoo-2\")")]
// Required, asked for otherwise than before.
#[case::less(REQUIRED, &[Is::Primary, Streaming, Streaming], "FIRST 2 (\"zoo-2\",\"zoo-3\")", "ANY 1 (\"zoo-2\",\"zoo-3\")")]
#[case::more(REQUIRED_TWO, &[Is::Primary, Streaming, Streaming], "ANY 1 (\"zoo-2\",\"zoo-3\")", "FIRST 2 (\"zoo-2\",\"zoo-3\")")]
#[case::more_than_stream(REQUIRED_TWO, &[Is::Primary, Down, Down], "ANY 1 (\"zoo-2\",\"zoo-3\")", "FIRST 1 (\"zoo-2\",\"zoo-3\")")]
// Another primary: never in its own list.
#[case::after_a_failover(REQUIRED, &[Down, Is::Primary, Streaming], "ANY 1 (\"zoo-2\",\"zoo-3\")", "ANY 1 (\"zoo-1\",\"zoo-3\")")]
// Preferred: those that are there.
#[case::preferred_none(PREFERRED, &[Is::Primary, Down, NotStreaming, Fenced], "ANY 2 (\"zoo-2\",\"zoo-3\")", "")]
#[case::preferred_one(PREFERRED, &[Is::Primary, Ending, Streaming, Down], "ANY 2 (\"zoo-2\",\"zoo-3\")", "ANY 1 (\"zoo-3\")")]
#[case::preferred_all(PREFERRED, &[Is::Primary, Streaming, Streaming, Streaming], "", "ANY 2 (\"zoo-2\",\"zoo-3\",\"zoo-4\")")]
// Between bounds.
#[case::below(BOUNDS, &[Is::Primary, Down, Down], "ANY 1 (\"zoo-2\")", "")]
#[case::within(BOUNDS, &[Is::Primary, Down, Streaming], "", "ANY 1 (\"zoo-3\")")]
#[case::above(BOUNDS, &[Is::Primary, Streaming, Streaming, Streaming], "", "ANY 2 (\"zoo-2\",\"zoo-3\",\"zoo-4\")")]
fn names(#[case] spec: &str, #[case] all: &[Is], #[case] before: &str, #[case] expected: &str) {
    let world = world(spec, all);
    let primary = world.observed.status().current_primary.unwrap();
    let instances = world.observed.instances();
    assert_eq!(
        standby_names(&world.observed.cluster.spec, "zoo", &instances, &primary, before, None),
        expected
    );
}

/// Scaling down: who goes is not waited for any more, once enough others can confirm.
#[rstest]
#[case::others_stream(REQUIRED, &[Is::Primary, Streaming, Streaming], "ANY 1 (\"zoo-2\",\"zoo-3\")", "ANY 1 (\"zoo-2\")")]
#[case::the_other_is_away(REQUIRED, &[Is::Primary, Down, Streaming], "ANY 1 (\"zoo-2\",\"zoo-3\")", "ANY 1 (\"zoo-2\",\"zoo-3\")")]
#[case::all_are_needed(REQUIRED_TWO, &[Is::Primary, Streaming, Streaming], "FIRST 2 (\"zoo-2\",\"zoo-3\")", "FIRST 2 (\"zoo-2\",\"zoo-3\")")]
#[case::preferred(PREFERRED, &[Is::Primary, Streaming, Streaming], "", "ANY 2 (\"zoo-2\",\"zoo-3\")")]
fn names_while_the_third_goes(
    #[case] spec: &str,
    #[case] all: &[Is],
    #[case] before: &str,
    #[case] expected: &str,
) {
    let world = world(spec, all);
    let instances = world.observed.instances();
    let spec = &world.observed.cluster.spec;
    assert_eq!(standby_names(spec, "zoo", &instances, "zoo-1", before, Some(3)), expected);
}

#[test]
fn an_instance_goes_when_nothing_depends_on_it_any_more() {
    let both = "ANY 1 (\"zoo-2\",\"zoo-3\")";
    let all = [Is::Primary, Streaming, Streaming];
    let confirm = [("zoo-2", "quorum"), ("zoo-3", "quorum")];
    let positions = |w: &mut World, second: &str, third: &str| {
        for (replica, lsn) in w.report(1).replicas.iter_mut().zip([second, third]) {
            replica.flush_lsn = Some(lsn.into());
        }
    };
    let removed = |world: &World| {
        let plan = decide(&world.validated(), &world.observed, &world.hash());
        assert_eq!(plan.phase, phases::SCALING_DOWN);
        let goes = plan.steps.iter().any(|step| matches!(step, Step::RemoveInstance { serial: 3, .. }));
        (goes, plan.reason)
    };
    let mut world = reported(REQUIRED, &all, both, &confirm).with_spec(|s| s.instances = 2);
    positions(&mut world, "0/5000000", "0/5000060");
    let (goes, why) = removed(&world);
    assert!(!goes && why.contains("taken it out of synchronous_standby_names"), "{why}");
    let one = world.folded().synchronous_standby_names.unwrap();
    assert_eq!(one, "ANY 1 (\"zoo-2\")", "it is taken out meanwhile");

    let mut world = reported(REQUIRED, &all, &one, &confirm).with_spec(|s| s.instances = 2);
    positions(&mut world, "0/5000000", "0/5000060");
    let (goes, why) = removed(&world);
    assert!(!goes && why == "zoo-3 is removed when 1 of zoo-2 have what it has confirmed", "{why}");
    positions(&mut world, "0/5000060", "0/5000060");
    assert!(removed(&world).0);

    let world = world.silent(1);
    let plan = decide(&world.validated(), &world.observed, &world.hash());
    assert!(!plan.steps.iter().any(|step| matches!(step, Step::RemoveInstance { .. })), "{plan:?}");
}

#[test]
fn what_was_written_is_read() {
    let two = Standbys {
        method: SynchronousMethod::First,
        number: 2,
        names: vec!["zoo-2".into(), "zoo-10".into()],
    };
    assert_eq!(two.to_string(), "FIRST 2 (\"zoo-2\",\"zoo-10\")");
    assert_eq!(Standbys::parse(&two.to_string()), Some(two));
    for text in ["", "*", "zoo-2", "2 (zoo-2)", "ANY x (\"zoo-2\")", "ANY 1 (\"zoo-2\""] {
        assert_eq!(Standbys::parse(text), None, "{text}");
    }
}

/// A cluster whose primary `zoo-1` has set `names`, with the replicas that confirm.
fn reported(spec: &str, all: &[Is], names: &str, confirm: &[(&str, &str)]) -> World {
    world(spec, all).with_status(|s| s.synchronous_standby_names = Some(names.into())).change(|w| {
        let report = w.report(1);
        report.synchronous_standby_names = Some(names.into());
        report.replicas = confirm
            .iter()
            .map(|(name, sync)| ReplicaState {
                name: (*name).into(),
                state: "streaming".into(),
                sync_state: (*sync).into(),
                flush_lsn: None,
            })
            .collect();
    })
}

#[rstest]
#[case::enough(
    REQUIRED, &[Is::Primary, Streaming, Streaming], "ANY 1 (\"zoo-2\",\"zoo-3\")", &[("zoo-2", "quorum"), ("zoo-3", "quorum")],
    ("True", "Synchronous"), "each commit is confirmed by 1 of zoo-2, zoo-3", Some((1, 1))
)]
#[case::commits_wait(
    REQUIRED, &[Is::Primary, Down, NotStreaming], "ANY 1 (\"zoo-2\",\"zoo-3\",\"zoo-4\")", &[],
    ("False", "CommitsWait"),
    "commits wait: 0 of 1 replicas that each of them needs confirm them (zoo-2 is not ready, zoo-3 does not stream from the primary, zoo-4 does not exist any more); bring those back, or give a smaller postgresql.synchronous.number or dataDurability: preferred",
    Some((0, 1))
)]
#[case::being_built(
    REQUIRED_TWO, &[Is::Primary, Streaming], "FIRST 1 (\"zoo-2\")", &[("zoo-2", "sync")],
    ("False", "Degraded"),
    "commits are confirmed by 1 of 2 wanted replicas (there is only one replica); commits do not wait for more until so many have joined",
    Some((1, 2))
)]
#[case::more_could_confirm(
    PREFERRED, &[Is::Primary, Streaming, Streaming, Fenced], "ANY 1 (\"zoo-2\")", &[("zoo-2", "quorum"), ("zoo-3", "async")],
    ("False", "Degraded"),
    "commits are confirmed by 1 of 2 wanted replicas (zoo-3 does not confirm yet, zoo-4 is fenced)",
    Some((1, 2))
)]
#[case::two_of_one_needed(
    BOUNDS, &[Is::Primary, Streaming, Streaming], "ANY 1 (\"zoo-2\",\"zoo-3\")", &[("zoo-2", "quorum"), ("zoo-3", "quorum")],
    ("False", "Degraded"),
    "commits are confirmed by 1 of 2 wanted replicas (the primary has not taken up its setting yet)",
    Some((1, 2))
)]
#[case::below_the_minimum(
    BOUNDS, &[Is::Primary], "", &[],
    ("False", "Degraded"),
    "commits are confirmed by 0 of 2 wanted replicas (there is no replica); that is less than minSyncReplicas (1)",
    Some((0, 2))
)]
fn condition(
    #[case] spec: &str,
    #[case] all: &[Is],
    #[case] names: &str,
    #[case] confirm: &[(&str, &str)],
    #[case] (value, reason): (&str, &str),
    #[case] message: &str,
    #[case] numbers: Option<(i64, i64)>,
) {
    let world = reported(spec, all, names, confirm);
    let status = world.folded();
    let found = conditions::get(&status.conditions, conditions::SYNCHRONOUS_REPLICATION).unwrap();
    assert_eq!(
        (found.status.as_str(), found.reason.as_str(), found.message.as_str()),
        (value, reason, message)
    );
    assert_eq!(gauges(&world.observed, &status).synchronous, numbers);
    assert_eq!(status.synchronous_standby_names_in_effect.as_deref(), Some(names));
    let notes = changes(&ClusterStatus::default(), &status);
    assert_eq!(notes.iter().any(|n| n.warning && n.reason == reason), value == "False", "{notes:?}");
}

/// Its replicas stop streaming when the primary dies: who has the last commits must not be forgotten then.
#[test]
fn a_silent_primary_leaves_everything_as_it_was() {
    let names = "ANY 2 (\"zoo-2\",\"zoo-3\")";
    let confirm = [("zoo-2", "quorum"), ("zoo-3", "quorum")];
    let world = reported(PREFERRED, &[Is::Primary, Streaming, Streaming], names, &confirm);
    let before = world.folded();
    let world = world.with_status(|s| s.clone_from(&before)).silent(1).change(|w| {
        w.report(2).streaming = false;
        w.report(3).streaming = false;
    });
    let after = world.folded();
    assert_eq!(after.synchronous_standby_names.as_deref(), Some(names));
    assert_eq!(after.synchronous_standby_names_in_effect.as_deref(), Some(names));
    let condition = |s: &ClusterStatus| {
        conditions::get(&s.conditions, conditions::SYNCHRONOUS_REPLICATION).cloned().unwrap()
    };
    assert_eq!(condition(&after), condition(&before));
    assert_eq!(gauges(&world.observed, &after).synchronous, None, "absent, not the last one");
}

#[test]
fn the_value_waits_for_the_new_primary() {
    let names = "ANY 1 (\"zoo-2\",\"zoo-3\")";
    let all = [Is::Primary, Streaming, Streaming];
    // The old one still answers: what it has set is what counts.
    let world = reported(REQUIRED, &all, names, &[]).with_status(|s| s.target_primary = Some("zoo-2".into()));
    let status = world.folded();
    assert_eq!(status.current_primary.as_deref(), Some("zoo-1"));
    assert_eq!(status.synchronous_standby_names.as_deref(), Some(names));
    // The new one is there.
    let world = world.silent(1).change(|w| w.report(2).role = Some(Primary));
    let status = world.folded();
    assert_eq!(status.current_primary.as_deref(), Some("zoo-2"));
    assert_eq!(status.synchronous_standby_names.as_deref(), Some("ANY 1 (\"zoo-1\",\"zoo-3\")"));
    assert!(!at_rest(&status), "it has not said yet that it has set this");
}

#[test]
fn what_was_in_effect_replaces_a_lost_status() {
    let world = reported(REQUIRED_TWO, &[Is::Primary, Streaming, Down], "FIRST 2 (\"zoo-2\",\"zoo-3\")", &[])
        .with_status(|s| s.synchronous_standby_names = None);
    assert_eq!(
        world.folded().synchronous_standby_names.as_deref(),
        Some("FIRST 2 (\"zoo-2\",\"zoo-3\")"),
        "the number was reached before"
    );
}

#[test]
fn asynchronous_replication_leaves_nothing_behind() {
    let world = reported(REQUIRED, &[Is::Primary, Streaming], "ANY 1 (\"zoo-2\")", &[("zoo-2", "quorum")]);
    let before = world.folded();
    let world = world
        .with_status(|s| s.clone_from(&before))
        .with_spec(|s| s.postgresql.synchronous = None)
        .change(|w| w.report(1).synchronous_standby_names = Some(String::new()));
    let after = world.folded();
    assert_eq!(after.synchronous_standby_names, None);
    assert!(at_rest(&after));
    assert!(conditions::get(&after.conditions, conditions::SYNCHRONOUS_REPLICATION).is_none());
    assert_eq!(gauges(&world.observed, &after).synchronous, None);
}
