//! What is told of a state that goes on, and what is not.

use howdah_api::ClusterStatus;
use howdah_api::instance::InstanceRole::{Primary, Replica};
use kube::ResourceExt;
use rstest::rstest;
use serde_json::json;

use super::decide::decide;
use super::events::{changes, waits};
use super::observed::PrimaryLease;
use super::phases;
use super::status::fold;
use crate::fixtures::{World, now};

/// The primary does not serve, and its lease goes on.
fn failing() -> World {
    let world = World::new("instances: 3\nstorage: {size: 5Gi}\nfailoverDelay: 0").initialised(3);
    world.with_ready(1, Primary).with_ready(2, Replica).with_ready(3, Replica).change(|w| {
        w.pod(1).status.as_mut().unwrap().conditions.as_mut().unwrap()[0].status = "False".into();
        w.report(1).ready = false;
        w.report(1).message = "PostgreSQL does not answer".into();
        let holder = "zoo-1/uid-zoo-1".to_owned();
        w.observed.lease = Some(PrimaryLease { holder, ..PrimaryLease::default() });
    })
}

/// The reasons of all events of one look at `world`, and the status after it.
fn look(world: &World) -> (Vec<String>, ClusterStatus) {
    let validated = world.validated();
    let plan = decide(&validated, &world.observed, &world.hash());
    let (before, after) = (world.observed.status(), fold(&validated, &world.observed, &plan, "hash", now()));
    let notes = changes(&before, &after).into_iter().chain(waits(&plan, &before, &after));
    (notes.map(|note| note.reason).collect(), after)
}

/// Fewer replicas than commits were acknowledged by.
fn short(world: World, away: &str) -> World {
    world.change(|w| {
        w.observed.lease = Some(PrimaryLease::default());
        w.observed.reports.remove(away);
        let status = w.observed.cluster.status.as_mut().unwrap();
        status.synchronous_standby_names_in_effect = Some("ANY 1 (\"zoo-2\",\"zoo-3\")".into());
    })
}

#[test]
fn a_failover_tells_when_it_waits_for_another_thing() {
    let (told, first) = look(&failing());
    assert!(told.contains(&"PrimaryNotReady".to_owned()) && !told.contains(&"FailoverWaits".to_owned()));
    let goes_on = |world: World, status: &ClusterStatus| world.with_status(|s| s.clone_from(status));
    // Other words of the instance are no news.
    let world = goes_on(failing(), &first).change(|w| w.report(1).message = "starting up".into());
    let (told, second) = look(&world);
    assert_ne!(first.phase_reason, second.phase_reason);
    assert_eq!(told, Vec::<String>::new());
    // The lease has ended, and a replica is missing: that is another wait.
    let (told, third) = look(&short(goes_on(failing(), &second), "zoo-3"));
    assert_eq!(
        (third.phase.as_deref(), told),
        (Some(phases::FAILING_OVER), vec!["FailoverWaits".to_owned()])
    );
    let (told, fourth) = look(&short(goes_on(failing(), &third), "zoo-3"));
    assert_eq!((told, &fourth), (vec![], &third));
    let (told, _) = look(&short(goes_on(failing(), &fourth), "zoo-2"));
    assert_eq!(told, ["FailoverWaits"], "another replica");
}

#[test]
fn a_moment_that_is_given_is_told_once_whatever_its_end() {
    let world = failing().with_spec(|s| s.failover_delay = Some(60));
    let (_, first) = look(&world);
    let later = world.with_status(|s| {
        s.clone_from(&first);
        s.current_primary_failing_since_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
                k8s_openapi::jiff::Timestamp::from_second(now().as_second() - 1).unwrap(),
            ));
    });
    let (told, second) = look(&later);
    assert_ne!(first.phase_reason, second.phase_reason);
    assert_eq!(told, Vec::<String>::new());
}

/// A container that ends again and again tells its failure once, and another failure once.
#[rstest]
#[case::again("no space left", 4, "2026-11-21T09:59:00Z", false)]
#[case::another("cannot connect to zoo-rw", 3, "2026-11-21T09:00:00Z", true)]
#[case::other_wal("WAL 000000010000000000000004 is missing", 3, "2026-11-21T09:00:00Z", true)]
fn figures_are_no_news(#[case] message: &str, #[case] restarts: i32, #[case] at: &str, #[case] told: bool) {
    let world = |message: &str, restarts: i32, at: &str| {
        let world = World::new("storage: {size: 5Gi}").initialised(1).with_volumes(1, true).with_pod(1);
        world.change(|w| {
            assert_eq!(w.pod(1).name_any(), "zoo-1");
            let container = json!({
                "name": "postgres", "image": "i", "imageID": "", "ready": false, "restartCount": restarts,
                "state": {"terminated": {"exitCode": 1, "message": message, "finishedAt": at}},
            });
            w.pod(1).status =
                Some(serde_json::from_value(json!({"containerStatuses": [container]})).unwrap());
        })
    };
    let (_, before) = look(&world("no space left", 3, "2026-11-21T09:00:00Z"));
    let (notes, after) = look(&world(message, restarts, at).with_status(|s| s.clone_from(&before)));
    assert_ne!(before.phase_reason, after.phase_reason);
    assert_eq!(notes.contains(&"AnInstanceIsFailing".to_owned()), told, "{notes:?}");
    assert_eq!(after.phase.as_deref(), Some(phases::INSTANCE_FAILED));
}
