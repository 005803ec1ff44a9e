//! Who becomes the primary, when, and when nobody does.

use howdah_api::instance::InstanceRole::{Primary, Replica};
use howdah_api::labels;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use rstest::rstest;
use serde_json::{Value, json};
use std::time::Duration;

use super::decide::{Fill, Plan, Step, decide};
use super::events::changes;
use super::observed::{NodeFacts, PrimaryLease};
use super::phases;
use super::status::fold;
use crate::fixtures::{World, now};

const THREE: &str = "instances: 3\nstorage: {size: 5Gi}";

fn plan(world: &World) -> Plan {
    decide(&world.validated(), &world.observed, &world.hash())
}

/// Seconds after the present of the tests; before it when negative.
fn at(seconds: i64) -> Time {
    Time(Timestamp::from_second(now().as_second() + seconds).unwrap())
}

fn held_by(holder: &str) -> PrimaryLease {
    PrimaryLease { holder: holder.into(), resource_version: Some("9".into()), ..PrimaryLease::default() }
}

/// Three instances that are well; `zoo-1` is the primary and holds the lease.
fn healthy() -> World {
    World::new(THREE)
        .initialised(3)
        .with_ready(1, Primary)
        .with_ready(2, Replica)
        .with_ready(3, Replica)
        .with_spec(|s| s.failover_delay = Some(0))
        .with_status(|s| {
            s.timeline_id = Some(1);
            s.phase = Some(phases::HEALTHY.into());
        })
        .change(|w| {
            w.observed.lease = Some(held_by("zoo-1/uid-zoo-1"));
            w.report(1).holds_lease = true;
        })
}

fn unready(world: World, serial: i32) -> World {
    world.change(|w| {
        let status = w.pod(serial).status.as_mut().unwrap();
        status.conditions.as_mut().unwrap()[0].status = "False".into();
        w.report(serial).ready = false;
        w.report(serial).role = None;
        w.report(serial).message = "PostgreSQL does not answer".into();
    })
}

fn container(world: World, serial: i32, state: Value) -> World {
    world.change(|w| {
        let status = w.pod(serial).status.as_mut().unwrap();
        let container = &mut status.container_statuses.as_mut().unwrap()[0];
        container.state = serde_json::from_value(state).unwrap();
        container.ready = false;
    })
}

/// The primary fails and nobody holds its lease any more.
fn failed() -> World {
    unready(healthy(), 1).change(|w| w.observed.lease = Some(held_by("")))
}

fn without_pod(world: World, name: &str) -> World {
    world.change(|w| {
        w.observed.pods.retain(|p| p.metadata.name.as_deref() != Some(name));
        w.observed.reports.remove(name);
    })
}

fn deleting(meta: &mut k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) {
    meta.deletion_timestamp = Some(Time(now()));
}

fn annotated(world: World, key: &str, value: &str) -> World {
    world.change(|w| {
        let annotations = w.observed.cluster.metadata.annotations.get_or_insert_default();
        annotations.insert(key.into(), value.into());
    })
}

fn on_node(world: World, serial: i32, node: &str, facts: NodeFacts) -> World {
    world.change(|w| {
        w.pod(serial).spec.as_mut().unwrap().node_name = Some(node.into());
        w.observed.nodes.insert(node.into(), facts);
    })
}

const GOOD: NodeFacts = NodeFacts { ready: true, unschedulable: false };
const CORDONED: NodeFacts = NodeFacts { ready: true, unschedulable: true };
const LOST: NodeFacts = NodeFacts { ready: false, unschedulable: false };

fn target(plan: &Plan) -> &str {
    plan.target_primary.as_deref().unwrap()
}

#[track_caller]
fn takes_over(world: &World, name: &str, evidence: &str) {
    let plan = plan(world);
    assert_eq!((plan.phase, target(&plan)), (phases::FAILING_OVER, name), "{plan:?}");
    assert!(plan.reason.contains(evidence), "{}", plan.reason);
    assert!(plan.target_chosen && plan.primary_failing && plan.look_again == Some(1), "{plan:?}");
}

#[track_caller]
fn waits(world: &World, what: &str) {
    let plan = plan(world);
    assert_eq!((plan.phase, target(&plan)), (phases::FAILING_OVER, "zoo-1"), "{plan:?}");
    assert!(plan.reason.contains(what), "{}", plan.reason);
    assert!(!plan.target_chosen && plan.look_again == Some(1), "{plan:?}");
}

#[track_caller]
fn is_left_to_others(world: &World) {
    let plan = plan(world);
    assert_eq!(target(&plan), "zoo-1");
    assert!(!plan.target_chosen, "{plan:?}");
    let taken_over = [phases::FAILING_OVER, phases::SWITCHING_OVER, phases::NO_CANDIDATE];
    assert!(!taken_over.contains(&plan.phase), "{plan:?}");
}

/// A primary that serves is never replaced, whatever its lease looks like.
#[test]
fn a_primary_that_serves_stays() {
    is_left_to_others(&healthy());
    is_left_to_others(&healthy().change(|w| w.observed.lease = None));
    is_left_to_others(&healthy().change(|w| w.observed.lease.as_mut().unwrap().expired = true));
    let quiet = healthy().silent(1);
    is_left_to_others(&quiet);
    assert_eq!(plan(&quiet).look_again, Some(1));
}

#[rstest]
#[case::free(failed(), "nobody holds the lease of the primary")]
#[case::of_another(failed().change(|w| w.observed.lease = Some(held_by("zoo-9/u"))), "zoo-9 holds the lease")]
#[case::of_a_former_pod(failed().change(|w| w.observed.lease = Some(held_by("zoo-1/old"))), "a former pod of it holds the lease")]
#[case::expired(
    unready(healthy(), 1).change(|w| w.observed.lease.as_mut().unwrap().expired = true),
    "its lease has ended"
)]
#[case::silent_and_expired(
    healthy().silent(1).change(|w| w.observed.lease.as_mut().unwrap().expired = true),
    "its lease has ended"
)]
#[case::stopped(
    unready(healthy(), 1).change(|w| w.report(1).server_running = false),
    "its manager says that PostgreSQL does not run"
)]
#[case::container_terminated(
    container(unready(healthy(), 1).silent(1), 1, json!({"terminated": {"exitCode": 137}})),
    "Kubernetes says that its container has ended (exit code 137)"
)]
#[case::container_waiting(
    container(unready(healthy(), 1).silent(1), 1, json!({"waiting": {"reason": "CrashLoopBackOff"}})),
    "Kubernetes says that its container does not run (CrashLoopBackOff)"
)]
#[case::finished(
    container(unready(healthy(), 1).silent(1), 1, json!({"terminated": {"exitCode": 0}}))
        .change(|w| w.pod(1).status.as_mut().unwrap().phase = Some("Failed".into())),
    "its pod has ended for good"
)]
#[case::pod_gone_and_lease_free(
    without_pod(healthy(), "zoo-1").change(|w| w.observed.lease = Some(held_by(""))),
    "zoo-1 has no pod"
)]
#[case::without_leases_by_the_kubelet(
    container(unready(healthy(), 1).silent(1), 1, json!({"terminated": {"exitCode": 1}}))
        .change(|w| w.observed.lease = None),
    "its container has ended"
)]
fn evidence(#[case] world: World, #[case] words: &str) {
    takes_over(&world, "zoo-2", words);
}

#[rstest]
#[case::it_holds_the_lease(unready(healthy(), 1), "waiting until the lease of zoo-1 ends")]
#[case::pod_being_deleted(healthy().change(|w| deleting(&mut w.pod(1).metadata)), "the pod of zoo-1 is being deleted")]
#[case::pod_gone(
    without_pod(healthy(), "zoo-1"),
    "zoo-1 has no pod, since 2026-11-21T10:00:00Z; waiting until the lease of zoo-1 ends"
)]
#[case::no_lease_at_all(
    unready(healthy(), 1).change(|w| w.observed.lease = None),
    "there is no Lease zoo-primary"
)]
#[case::old_managers_do_not_say_whether_it_runs(
    unready(healthy(), 1).change(|w| { w.observed.lease = None; w.report(1).server_running = false; }),
    "there is no Lease zoo-primary"
)]
#[case::node_lost(
    on_node(container(unready(healthy(), 1).silent(1), 1, json!({"terminated": {"exitCode": 1}})), 1, "n1", LOST),
    "waiting until the lease of zoo-1 ends"
)]
#[case::before_the_delay(
    failed().with_spec(|s| s.failover_delay = Some(30))
        .with_status(|s| s.current_primary_failing_since_timestamp = Some(at(-29))),
    "unless it is back before 2026-11-21T10:00:01Z"
)]
#[case::the_delay_begins_now(failed().with_spec(|s| s.failover_delay = Some(30)), "unless it is back before 2026-11-21T10:00:30Z")]
fn without_evidence_it_waits(#[case] world: World, #[case] words: &str) {
    waits(&world, words);
}

#[test]
fn after_the_delay_it_goes_on() {
    let world = failed().with_spec(|s| s.failover_delay = Some(30));
    let world = world.with_status(|s| s.current_primary_failing_since_timestamp = Some(at(-30)));
    takes_over(&world, "zoo-2", "nobody holds the lease");
}

#[rstest]
#[case::fenced(annotated(failed(), labels::FENCED, "[\"zoo-1\"]"))]
#[case::all_fenced(annotated(failed(), labels::FENCED, "*"))]
#[case::still_fenced(failed().change(|w| w.report(1).fenced = true))]
#[case::hibernating(annotated(failed(), labels::HIBERNATION, "on"))]
#[case::replaced_by_us(
    healthy().with_status(|s| s.primary_restart = Some("uid-zoo-1".into())).change(|w| deleting(&mut w.pod(1).metadata))
)]
#[case::replaced_by_us_slowly(
    healthy()
        .with_status(|s| {
            s.primary_restart = Some("uid-zoo-1".into());
            s.current_primary_failing_since_timestamp = Some(at(-1000));
        })
        .change(|w| deleting(&mut w.pod(1).metadata))
)]
#[case::its_successor_starts(
    failed().with_status(|s| {
        s.primary_restart = Some("old".into());
        s.current_primary_failing_since_timestamp = Some(at(-299));
    })
)]
#[case::it_never_was_ready(failed().with_status(|s| s.current_primary = None))]
#[case::it_is_alone(
    World::new("storage: {size: 5Gi}").initialised(1).with_ready(1, Primary).change(|w| {
        w.observed.lease = Some(held_by(""));
        w.pod(1).status.as_mut().unwrap().conditions = None;
    })
)]
#[case::the_others_have_no_data_yet(
    World::new(THREE).initialised(2).with_ready(1, Primary).with_volumes(2, false).with_pod(2).change(|w| {
        w.observed.lease = Some(held_by(""));
        w.pod(1).status.as_mut().unwrap().conditions = None;
    })
)]
fn excused(#[case] world: World) {
    is_left_to_others(&world);
}

#[test]
fn a_successor_that_does_not_come_up_is_no_excuse() {
    let world = failed().with_status(|s| {
        s.primary_restart = Some("old".into());
        s.current_primary_failing_since_timestamp = Some(at(-300));
    });
    takes_over(&world, "zoo-2", "nobody holds the lease");
}

#[test]
fn a_fence_is_told_and_leaves_time_to_come_back() {
    let world = annotated(failed(), labels::FENCED, "[\"zoo-1\"]");
    let fenced = plan(&world);
    assert_eq!(fenced.phase, phases::FENCED, "{fenced:?}");
    assert_eq!(fenced.primary_restart.as_deref(), Some("uid-zoo-1"));
    let status = fold(&world.validated(), &world.observed, &fenced, "hash", now());
    assert_eq!(status.current_primary_failing_since_timestamp, None);
    is_left_to_others(&failed().with_status(|s| s.clone_from(&status)));
}

#[test]
fn a_rolling_restart_of_the_primary_is_remembered() {
    let world = World::new("instances: 2\nstorage: {size: 5Gi}")
        .initialised(2)
        .with_ready(1, Primary)
        .with_spec(|s| s.image_name = Some("registry/pg:18".into()))
        .with_ready(2, Replica);
    let plan = plan(&world);
    assert_eq!(plan.phase, phases::UPGRADING);
    assert_eq!(plan.primary_restart.as_deref(), Some("uid-zoo-1"));
}

fn far(world: World, serial: i32, received: &str, replayed: &str) -> World {
    world.change(|w| {
        w.report(serial).received_lsn = Some(received.into());
        w.report(serial).replayed_lsn = Some(replayed.into());
    })
}

#[rstest]
#[case::received_more(far(far(failed(), 2, "0/9000000", "0/9000000"), 3, "0/A000000", "0/8000000"), "zoo-3")]
#[case::replayed_more(far(far(failed(), 2, "0/9000000", "0/7000000"), 3, "0/9000000", "0/8000000"), "zoo-3")]
#[case::on_a_node_that_stays(on_node(on_node(failed(), 2, "n2", CORDONED), 3, "n3", GOOD), "zoo-3")]
#[case::an_unknown_node_is_as_good(on_node(failed(), 3, "n3", GOOD), "zoo-2")]
#[case::lowest_serial(failed(), "zoo-2")]
#[case::not_a_fenced_one(annotated(failed(), labels::FENCED, "[\"zoo-2\"]"), "zoo-3")]
#[case::not_one_that_goes(failed().change(|w| deleting(&mut w.pod(2).metadata)), "zoo-3")]
#[case::not_one_without_volume(failed().change(|w| deleting(&mut w.volume("zoo-2").metadata)), "zoo-3")]
#[case::not_a_silent_one(failed().silent(2), "zoo-3")]
#[case::not_an_unready_one(unready(failed(), 2), "zoo-3")]
#[case::not_one_that_needs_a_person(failed().change(|w| w.report(2).fatal = Some("disk".into())), "zoo-3")]
#[case::the_newest_timeline(far(failed(), 2, "0/A000000", "0/A000000").change(|w| w.report(3).timeline_id = Some(2)), "zoo-3")]
#[case::a_former_primary_with_as_much(
    unready(failed(), 3).change(|w| {
        w.report(3).server_running = false;
        w.report(3).former_primary = true;
    }),
    "zoo-3"
)]
#[case::not_a_former_primary_with_less(
    far(unready(failed(), 3), 3, "0/4000000", "0/4000000").change(|w| {
        w.report(3).server_running = false;
        w.report(3).former_primary = true;
    }),
    "zoo-2"
)]
#[case::not_a_former_primary_of_another_timeline(
    unready(failed(), 3)
        .change(|w| {
            w.report(3).server_running = false;
            w.report(3).former_primary = true;
        })
        .with_status(|s| s.timeline_id = Some(2))
        .change(|w| w.report(2).timeline_id = Some(2)),
    "zoo-2"
)]
fn the_best_candidate(#[case] world: World, #[case] name: &str) {
    takes_over(&world, name, "takes over");
}

#[test]
fn the_choice_is_explained() {
    let world = far(failed(), 3, "0/5000000", "0/5000000");
    assert_eq!(
        plan(&world).reason,
        "zoo-1 is not ready (PostgreSQL does not answer), since 2026-11-21T10:00:00Z; nobody holds the lease of the primary; \
         zoo-2 takes over, its WAL goes to 0/5000060; zoo-3 is 96 bytes behind"
    );
}

#[test]
fn nobody_can_take_over() {
    let world = annotated(failed(), labels::FENCED, "[\"zoo-2\"]").with_status(|s| s.timeline_id = Some(2));
    let plan = plan(&world);
    assert_eq!((plan.phase, target(&plan)), (phases::NO_CANDIDATE, "zoo-1"));
    assert_eq!(
        plan.reason,
        "zoo-1 is not ready (PostgreSQL does not answer), since 2026-11-21T10:00:00Z; zoo-2 is fenced; \
         zoo-3 is on timeline 1, the primary was on 2; \
         kubectl -n park get pods,pvc -l postgresql.k8s.enterprisedb.io/cluster=zoo -o wide"
    );
    assert_eq!(plan.steps, []);
}

/// Even when fewer instances are asked for, and one lost its volume: nothing is removed before there is a primary.
#[test]
fn nothing_is_removed_while_the_primary_fails() {
    let world = without_pod(unready(healthy(), 1), "zoo-3")
        .with_spec(|s| s.instances = 1)
        .change(|w| w.observed.volumes.retain(|v| v.metadata.name.as_deref() != Some("zoo-2")));
    let steps = plan(&world).steps;
    assert!(
        matches!(steps.as_slice(), [Step::EnsureInstance { serial: 3, fill: Fill::Nothing, .. }]),
        "{steps:?}"
    );
}

#[rstest]
#[case::both_are_there(failed(), Some("ANY 1 (\"zoo-2\",\"zoo-3\")"), None, true)]
#[case::one_is_away(failed().silent(3), Some("ANY 1 (\"zoo-2\",\"zoo-3\")"), None, false)]
#[case::one_is_away_by_intent(failed().silent(3), None, Some("ANY 1 (\"zoo-2\",\"zoo-3\")"), false)]
#[case::both_have_it(failed().silent(3), Some("FIRST 2 (\"zoo-2\",\"zoo-3\")"), None, true)]
#[case::it_is_not_listed(failed().silent(3), Some("FIRST 1 (\"zoo-3\")"), None, false)]
#[case::asynchronous(failed().silent(3), Some(""), Some(""), true)]
#[case::not_understood(failed(), Some("*"), None, false)]
fn acknowledged_transactions_are_kept(
    #[case] world: World,
    #[case] in_effect: Option<&str>,
    #[case] wanted: Option<&str>,
    #[case] promoted: bool,
) {
    let world = world.with_status(|s| {
        s.synchronous_standby_names_in_effect = in_effect.map(str::to_owned);
        s.synchronous_standby_names = wanted.map(str::to_owned);
    });
    if promoted {
        takes_over(&world, "zoo-2", "takes over");
    } else {
        waits(&world, "synchronous");
        waits(&world, "targetPrimary");
    }
}

#[test]
fn a_missing_quorum_is_explained() {
    let world = failed().silent(3).with_status(|s| {
        s.synchronous_standby_names_in_effect = Some("ANY 1 (\"zoo-2\",\"zoo-3\")".into());
    });
    let reason = plan(&world).reason;
    assert!(
        reason.contains(
            "replication is synchronous: 1 of 2 listed replicas are reachable, 2 are needed so that no acknowledged \
             transaction is lost; waiting for zoo-3; zoo-3 does not answer"
        ),
        "{reason}"
    );
}

/// Asynchronous replication may lack what was acknowledged: a container that is just started again has a moment to come back.
#[test]
fn a_container_that_is_started_again_has_a_moment() {
    let ended = || {
        let world = container(unready(healthy(), 1).silent(1), 1, json!({"terminated": {"exitCode": 137}}));
        world.with_spec(|s| s.failover_delay = None)
    };
    let waits = plan(&ended());
    assert_eq!((waits.phase, target(&waits)), (phases::FAILING_OVER, "zoo-1"), "{waits:?}");
    assert!(waits.reason.contains("unless it is back before 2026-11-21T10:00:10Z"), "{waits:?}");
    let since = |seconds| {
        move |s: &mut howdah_api::ClusterStatus| {
            s.current_primary_failing_since_timestamp = Some(at(seconds));
        }
    };
    takes_over(&ended().with_status(since(-10)), "zoo-2", "its container has ended");
    // With synchronous replication nothing can be lost.
    let synchronous = r#"ANY 1 ("zoo-2","zoo-3")"#;
    let world = ended().with_status(|s| s.synchronous_standby_names_in_effect = Some(synchronous.into()));
    takes_over(&world, "zoo-2", "its container has ended");
    // Nothing starts it again soon.
    let world = container(ended(), 1, json!({"waiting": {"reason": "CrashLoopBackOff"}}));
    takes_over(&world, "zoo-2", "CrashLoopBackOff");
}

/// The lease is emptied only when its holder's container has ended and the lease stood still for longer than the time
/// between two renewals.
#[rstest]
#[case::at_once(0, false)]
#[case::after_a_while(4, true)]
fn the_lease_of_a_dead_holder(#[case] quiet: u64, #[case] released: bool) {
    let world = container(unready(healthy(), 1).silent(1), 1, json!({"terminated": {"exitCode": 137}}))
        .change(|w| w.observed.lease.as_mut().unwrap().unchanged = Duration::from_secs(quiet));
    let release = Step::ReleaseLease { holder: "zoo-1/uid-zoo-1".into() };
    assert_eq!(plan(&world).steps.contains(&release), released);
    let following = world.with_status(|s| {
        s.target_primary = Some("zoo-2".into());
        s.target_primary_timestamp = Some(at(0));
        s.phase = Some(phases::FAILING_OVER.into());
    });
    let plan = plan(&following);
    assert_eq!(plan.steps.contains(&release), released, "{plan:?}");
    assert_eq!(target(&plan), "zoo-2");
}

#[test]
fn a_lease_is_not_emptied_for_a_manager_that_lives() {
    let world = unready(healthy(), 1).change(|w| {
        w.report(1).server_running = false;
        w.observed.lease.as_mut().unwrap().unchanged = Duration::from_secs(10);
    });
    assert!(!plan(&world).steps.iter().any(|s| matches!(s, Step::ReleaseLease { .. })));
}

/// `zoo-2` was chosen after `zoo-1` failed, and has not become the primary yet.
fn changing() -> World {
    failed().with_status(|s| {
        s.target_primary = Some("zoo-2".into());
        s.target_primary_timestamp = Some(at(-5));
        s.current_primary_timestamp = Some(at(-500));
        s.phase = Some(phases::FAILING_OVER.into());
        s.current_primary_failing_since_timestamp = Some(at(-6));
    })
}

#[test]
fn meanwhile_nothing_else_is_touched() {
    let world = without_pod(changing(), "zoo-1")
        .with_spec(|s| {
            s.instances = 1;
            s.image_name = Some("registry/pg:18".into());
        })
        .change(|w| w.report(2).message = "replays what it has received".into());
    let plan = plan(&world);
    assert_eq!(plan.phase, phases::FAILING_OVER);
    assert_eq!(plan.reason, "zoo-2 takes over from zoo-1 (replays what it has received)");
    assert!(
        matches!(plan.steps.as_slice(), [Step::EnsureInstance { serial: 1, fill: Fill::Nothing, .. }]),
        "{plan:?}"
    );
    assert!(plan.primary_failing && !plan.target_chosen && plan.look_again == Some(1));
}

#[test]
fn the_label_leaves_the_former_primary_at_once_and_comes_when_the_new_one_says_so() {
    let begun = failed().change(|w| w.observed.lease = Some(held_by(""))).silent(1);
    let steps = plan(&begun).steps;
    assert!(steps.contains(&Step::Label { serial: 1, role: labels::ROLE_REPLICA }), "{steps:?}");
    let label = |steps: &[Step]| steps.iter().any(|s| matches!(s, Step::Label { serial: 2, .. }));
    assert!(!label(&plan(&changing()).steps));
    let promoted = changing().change(|w| w.report(2).role = Some(Primary));
    let steps = plan(&promoted).steps;
    assert!(steps.contains(&Step::Label { serial: 2, role: labels::ROLE_PRIMARY }), "{steps:?}");
}

#[test]
fn it_is_over_when_the_new_primary_serves() {
    let world = changing().change(|w| {
        w.report(2).role = Some(Primary);
        w.report(2).timeline_id = Some(2);
        w.observed.lease = Some(held_by("zoo-2/uid-zoo-2"));
    });
    let plan = plan(&world);
    assert_eq!(plan.phase, phases::WAITING_FOR_INSTANCES, "{plan:?}");
    let status = fold(&world.validated(), &world.observed, &plan, "hash", now());
    assert_eq!(status.current_primary.as_deref(), Some("zoo-2"));
    assert_eq!(status.current_primary_timestamp, Some(at(0)));
    assert_eq!(status.current_primary_failing_since_timestamp, None);
    assert_eq!(status.timeline_id, Some(2));
    let notes = changes(&world.observed.status(), &status);
    assert!(notes.iter().any(|n| !n.warning && n.reason == "FailedOver"), "{notes:?}");
}

#[rstest]
#[case::gone(without_pod(changing(), "zoo-2"), "zoo-2 has no pod")]
#[case::fatal(changing().change(|w| w.report(2).fatal = Some("the disk is full".into())), "zoo-2: the disk is full")]
#[case::volume(changing().change(|w| deleting(&mut w.volume("zoo-2").metadata)), "zoo-2 has lost a volume")]
#[case::no_progress(
    changing().change(|w| w.observed.target_unchanged = Duration::from_secs(60)),
    "zoo-2 has made no progress for 60 s"
)]
fn another_one_when_the_chosen_one_fails(#[case] world: World, #[case] words: &str) {
    takes_over(&world, "zoo-3", words);
}

#[rstest]
#[case::a_little_while(changing().change(|w| w.observed.target_unchanged = Duration::from_secs(59)))]
#[case::it_waits_for_the_lease(changing().change(|w| {
    w.observed.target_unchanged = Duration::from_secs(1000);
    w.observed.lease = Some(held_by("zoo-1/uid-zoo-1"));
}))]
#[case::it_may_be_the_primary(without_pod(changing(), "zoo-2").change(|w| w.observed.lease = Some(held_by("zoo-2/uid-zoo-2"))))]
fn the_chosen_one_is_given_time(#[case] world: World) {
    let plan = plan(&world);
    assert_eq!((plan.phase, target(&plan)), (phases::FAILING_OVER, "zoo-2"), "{plan:?}");
    assert!(!plan.target_chosen);
}

#[test]
fn a_former_primary_that_was_stopped_takes_its_place_back() {
    let world = without_pod(changing(), "zoo-2").change(|w| {
        w.report(1).server_running = false;
        w.report(1).former_primary = true;
    });
    takes_over(&world, "zoo-1", "zoo-2 has no pod");
}

#[test]
fn a_primary_that_lost_its_volume_is_left_for_a_replica() {
    // It serves: the replica gets all it wrote.
    let world = healthy().change(|w| deleting(&mut w.volume("zoo-1").metadata));
    let serving = plan(&world);
    assert_eq!((serving.phase, target(&serving)), (phases::SWITCHING_OVER, "zoo-2"));
    assert!(serving.reason.contains("a volume of zoo-1 is missing or being deleted"), "{}", serving.reason);
    // It does not: like any other failover.
    let lost =
        failed().change(|w| w.observed.volumes.retain(|v| v.metadata.name.as_deref() != Some("zoo-1")));
    takes_over(&lost, "zoo-2", "takes over");
    // Afterwards it leaves.
    let after = lost.change(|w| w.report(2).role = Some(Primary)).with_status(|s| {
        s.target_primary = Some("zoo-2".into());
        s.current_primary = Some("zoo-2".into());
    });
    let steps = plan(&after).steps;
    assert!(steps.iter().any(|s| matches!(s, Step::RemoveInstance { serial: 1, .. })), "{steps:?}");
}

#[test]
fn a_lost_volume_without_candidates_stays_what_it_was() {
    let world = failed().silent(2).silent(3);
    let world = world.change(|w| w.observed.volumes.retain(|v| v.metadata.name.as_deref() != Some("zoo-1")));
    assert_eq!(plan(&world).phase, phases::UNRECOVERABLE);
}

const CLEAR: Step = Step::ClearAnnotation { key: labels::SWITCHOVER };

#[rstest]
#[case::by_name(annotated(healthy(), labels::SWITCHOVER, "zoo-3"), "zoo-3")]
#[case::the_most_advanced(
    annotated(far(healthy(), 3, "0/6000000", "0/5000000"), labels::SWITCHOVER, "*"),
    "zoo-3"
)]
#[case::the_most_advanced_that_streams(
    annotated(far(healthy(), 3, "0/6000000", "0/5000000"), labels::SWITCHOVER, " * ")
        .change(|w| w.report(3).streaming = false),
    "zoo-2"
)]
fn a_switchover_begins(#[case] world: World, #[case] name: &str) {
    let plan = plan(&world);
    assert_eq!((plan.phase, target(&plan)), (phases::SWITCHING_OVER, name), "{plan:?}");
    // Clients are sent to nobody rather than to a primary that is going.
    assert_eq!(plan.steps, [CLEAR, Step::Label { serial: 1, role: labels::ROLE_REPLICA }]);
    assert!(plan.target_chosen && plan.look_again == Some(1));
    let status = fold(&world.validated(), &world.observed, &plan, "hash", now());
    assert_eq!(status.target_primary_timestamp, Some(at(0)));
    assert_eq!(status.current_primary.as_deref(), Some("zoo-1"));
    let notes = changes(&world.observed.status(), &status);
    assert!(notes.iter().any(|n| !n.warning && n.reason == "SwitchingOver"), "{notes:?}");
}

#[rstest]
#[case::the_primary(healthy(), "zoo-1", "zoo-1 is the primary already")]
#[case::nobody(healthy(), "zoo-9", "there is no instance zoo-9, only zoo-1, zoo-2, zoo-3")]
#[case::unready(unready(healthy(), 2), "zoo-2", "zoo-2 is no running replica")]
#[case::not_streaming(healthy().change(|w| w.report(2).streaming = false), "zoo-2", "zoo-2 does not stream from the primary")]
#[case::fenced(annotated(healthy(), labels::FENCED, "[\"zoo-2\"]"), "zoo-2", "zoo-2 is fenced")]
#[case::other_timeline(healthy().change(|w| w.report(2).timeline_id = Some(3)), "zoo-3", "zoo-3 is on timeline 1, others are on 3")]
#[case::nobody_streams(
    healthy().change(|w| { w.report(2).streaming = false; w.report(3).streaming = false; }),
    "*",
    "no replica streams from the primary"
)]
#[case::silent_primary(healthy().silent(1), "zoo-2", "the primary zoo-1 does not say that it is ready")]
#[case::failing_primary(failed(), "zoo-3", "a switchover needs a primary that serves")]
fn a_switchover_is_refused(#[case] world: World, #[case] wanted: &str, #[case] why: &str) {
    let plan = plan(&annotated(world, labels::SWITCHOVER, wanted));
    let [Step::RefuseSwitchover { reason }, clear, ..] = plan.steps.as_slice() else { panic!("{plan:?}") };
    assert!(reason.contains(why), "{reason}");
    assert_eq!(clear, &CLEAR);
    assert_ne!(plan.phase, phases::SWITCHING_OVER);
}

fn switching() -> World {
    healthy().with_status(|s| {
        s.target_primary = Some("zoo-2".into());
        s.target_primary_timestamp = Some(at(-1));
        s.phase = Some(phases::SWITCHING_OVER.into());
    })
}

#[test]
fn a_switchover_waits_for_the_former_primary_however_long_it_takes() {
    let world = switching().change(|w| {
        w.observed.target_unchanged = Duration::from_secs(3000);
        w.report(2).message = "zoo-1 holds the lease of the primary".into();
    });
    let plan = plan(&world);
    assert_eq!((plan.phase, target(&plan)), (phases::SWITCHING_OVER, "zoo-2"));
    assert_eq!(plan.reason, "zoo-2 takes over from zoo-1 (zoo-1 holds the lease of the primary)");
}

#[rstest]
#[case::left_over("zoo-2", false)]
#[case::any("*", false)]
#[case::another("zoo-3", true)]
fn a_request_during_a_switchover(#[case] wanted: &str, #[case] refused: bool) {
    let steps = plan(&annotated(switching(), labels::SWITCHOVER, wanted)).steps;
    assert_eq!(steps.iter().any(|s| matches!(s, Step::RefuseSwitchover { .. })), refused, "{steps:?}");
    assert!(steps.contains(&CLEAR));
}

#[test]
fn a_switchover_is_given_up_when_the_chosen_one_fails_while_the_primary_serves() {
    let world = without_pod(switching(), "zoo-2");
    let plan = plan(&world);
    assert_eq!((plan.phase, target(&plan)), (phases::SWITCHING_OVER, "zoo-1"));
    assert_eq!(plan.reason, "zoo-2 has no pod; zoo-1 stays the primary");
    let status = fold(&world.validated(), &world.observed, &plan, "hash", now());
    let notes = changes(&world.observed.status(), &status);
    assert!(notes.iter().any(|n| n.warning && n.reason == "SwitchoverGivenUp"), "{notes:?}");
}

#[test]
fn the_end_of_a_switchover_is_told() {
    let world = switching().change(|w| {
        w.report(1).role = Some(Replica);
        w.report(2).role = Some(Primary);
    });
    let plan = plan(&world);
    assert_eq!(plan.phase, phases::HEALTHY, "{plan:?}");
    let status = fold(&world.validated(), &world.observed, &plan, "hash", now());
    let notes = changes(&world.observed.status(), &status);
    let told = notes.iter().find(|n| n.reason == "SwitchedOver").unwrap();
    assert_eq!((told.warning, told.message.as_str()), (false, "zoo-2 is the primary now, after zoo-1"));
}

/// A person changed the target in the status.
fn patched(world: World, name: &str) -> World {
    world.with_status(|s| {
        s.target_primary = Some(name.into());
        s.target_primary_timestamp = Some(at(-700));
        s.current_primary_timestamp = Some(at(-600));
    })
}

#[test]
fn a_target_set_by_hand_is_a_switchover() {
    let good = plan(&patched(healthy(), "zoo-3"));
    assert_eq!((good.phase, target(&good), good.target_chosen), (phases::SWITCHING_OVER, "zoo-3", true));
    let bad = plan(&patched(healthy().change(|w| w.report(3).streaming = false), "zoo-3"));
    assert_eq!((target(&bad), bad.target_chosen), ("zoo-1", true));
    assert!(matches!(bad.steps.as_slice(), [Step::RefuseSwitchover { .. }]), "{bad:?}");
}

#[test]
fn a_target_set_by_hand_while_the_primary_fails_needs_no_proofs() {
    let world = patched(failed(), "zoo-3").with_status(|s| {
        s.phase = Some(phases::NO_CANDIDATE.into());
        s.synchronous_standby_names_in_effect = Some("ANY 1 (\"zoo-2\",\"zoo-3\")".into());
    });
    let plan = plan(&world);
    assert_eq!((plan.phase, target(&plan)), (phases::FAILING_OVER, "zoo-3"));
    let notes =
        changes(&world.observed.status(), &fold(&world.validated(), &world.observed, &plan, "hash", now()));
    assert!(notes.iter().any(|n| n.warning && n.reason == "FailingOver"), "{notes:?}");
}

#[rstest]
#[case::to_a_good_node(
    on_node(on_node(on_node(healthy(), 1, "n1", CORDONED), 2, "n2", CORDONED), 3, "n3", GOOD),
    Some("zoo-3")
)]
#[case::nowhere_to_go(on_node(on_node(healthy(), 1, "n1", CORDONED), 2, "n2", CORDONED), None)]
#[case::the_same_node(on_node(on_node(healthy(), 2, "n1", GOOD), 1, "n1", CORDONED), None)]
#[case::a_replica_is_drained(on_node(on_node(healthy(), 1, "n1", GOOD), 2, "n2", CORDONED), None)]
#[case::not_streaming(
    on_node(on_node(healthy(), 1, "n1", CORDONED), 3, "n3", GOOD).change(|w| w.report(3).streaming = false),
    None
)]
fn a_drained_node(#[case] world: World, #[case] name: Option<&str>) {
    let plan = plan(&world);
    match name {
        Some(name) => {
            assert_eq!((plan.phase, target(&plan)), (phases::SWITCHING_OVER, name));
            assert_eq!(
                plan.reason,
                format!("{name} takes over from zoo-1: node n1 of zoo-1 takes no more pods")
            );
        }
        None => is_left_to_others(&world),
    }
}

#[test]
fn since_when_it_fails_is_kept_and_goes_when_it_is_back() {
    let world = unready(healthy(), 1);
    let first = world.folded();
    assert_eq!(first.current_primary_failing_since_timestamp, Some(at(0)));
    let notes = changes(&world.observed.status(), &first);
    assert!(notes.iter().any(|n| n.warning && n.reason == "PrimaryNotReady"), "{notes:?}");
    let later = world.with_status(|s| {
        s.clone_from(&first);
        s.current_primary_failing_since_timestamp = Some(at(-9));
    });
    let second = later.folded();
    assert_eq!(second.current_primary_failing_since_timestamp, Some(at(-9)));
    assert_eq!(changes(&first, &second), []);
    let back = healthy().with_status(|s| s.clone_from(&second));
    assert_eq!(back.folded().current_primary_failing_since_timestamp, None);
}

#[test]
fn lag_is_told_and_timelines_never_go_back() {
    let world = far(healthy(), 3, "0/5000000", "0/5000000").with_status(|s| s.timeline_id = Some(4));
    let status = world.folded();
    let lag: Vec<Option<i64>> = status.instances_status.iter().map(|i| i.lag_bytes).collect();
    assert_eq!(lag, [None, Some(0), Some(96)]);
    assert_eq!(status.timeline_id, Some(4));
}
