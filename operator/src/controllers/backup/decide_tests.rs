//! What becomes of a Backup, in every state that matters. Decisions are snapshots.

use std::time::Duration;

use howdah_api::Backup;
use howdah_api::backup::BackupPhase::{Completed, Failed, Finalizing, Pending, Running, Started};
use howdah_api::common::BackupTarget;
use howdah_api::conditions;
use howdah_api::instance::{ArchiverStatus, RepositoryState};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use rstest::rstest;

use super::decide::{Decision, SILENCE, decide};
use super::fetch::Observed;
use super::status::next;
use crate::fixtures::{World, backup, now};

fn world() -> World {
    World::archiving_pair()
}

/// The Backup under test is the first one of `queue`; the queue is put into its order.
fn observed(world: World, mut queue: Vec<Backup>) -> Observed {
    let backup = queue[0].clone();
    queue.sort_by_key(|b| b.metadata.creation_timestamp.as_ref().map(|t| t.0));
    Observed {
        backup,
        cluster: Some(world.observed.cluster),
        queue,
        pods: world.observed.pods,
        reports: world.observed.reports,
        silent_for: Duration::ZERO,
    }
}

fn one(world: World, phase: howdah_api::BackupPhase) -> Observed {
    observed(world, vec![backup("b", 0, phase)])
}

fn with(mut observed: Observed, change: impl FnOnce(&mut Observed)) -> Observed {
    change(&mut observed);
    observed
}

fn silent(observed: Observed) -> Observed {
    with(observed, |o| o.silent_for = SILENCE)
}

fn aimed_at(mut backup: Backup, target: BackupTarget) -> Backup {
    backup.spec.target = Some(target);
    backup
}

macro_rules! decisions {
    ($($name:ident: $observed:expr;)*) => {$(
        #[test]
        fn $name() {
            insta::assert_yaml_snapshot!(decide(&$observed));
        }
    )*};
}

decisions! {
    it_goes_to_a_replica: one(world(), Pending);
    it_goes_to_the_primary_when_asked_for: observed(world(), vec![aimed_at(backup("b", 0, Pending), BackupTarget::Primary)]);
    it_goes_to_the_primary_when_the_cluster_says_so: one(
        world().with_spec(|s| s.backup.as_mut().unwrap().target = Some(BackupTarget::Primary)), Pending);
    its_own_target_goes_before_the_clusters: observed(
        world().with_spec(|s| s.backup.as_mut().unwrap().target = Some(BackupTarget::Primary)),
        vec![aimed_at(backup("b", 0, Pending), BackupTarget::PreferStandby)]);
    without_a_streaming_replica_it_goes_to_the_primary: one(world().change(|w| w.report(2).streaming = false), Pending);
    without_a_cluster_it_waits: with(one(world(), Pending), |o| o.cluster = None);
    a_cluster_that_is_going_counts_as_gone: with(one(world(), Pending), |o| {
        o.cluster.as_mut().unwrap().metadata.deletion_timestamp = Some(Time(now()));
    });
    without_a_store_it_fails: one(world().with_spec(|s| s.backup = None), Pending);
    without_credentials_it_waits: one(world().with_status(|s| {
        conditions::set(&mut s.conditions, conditions::BACKUP_CONFIGURED, "False", "SecretNotFound",
            "Secret creds does not exist; create it", None, Time(now()));
    }), Pending);
    without_a_ready_primary_it_waits: one(world().silent(1), Pending);
    of_a_hibernated_cluster_it_waits: one(world().change(|w| {
        w.observed.cluster.annotations_mut().insert(howdah_api::labels::HIBERNATION.into(), "on".into());
    }), Pending);
    while_the_primary_recovers_it_waits: one(world().change(|w| w.report(1).recovering = true), Pending);
    before_the_archiver_has_its_store_it_waits: one(world().change(|w| w.report(1).archiver = None), Pending);
    while_archiving_fails_it_waits: one(world().change(|w| {
        let archiver = w.report(1).archiver.as_mut().unwrap();
        archiver.working = false;
        archiver.last_error = Some("access denied; check the key".into());
    }), Pending);
    while_wal_does_not_reach_its_own_repository_it_waits: one(world().change(|w| {
        let archiver = ArchiverStatus { last_error: Some("access denied; check the key".into()), ..Default::default() };
        w.report(1).repositories = vec![RepositoryState { name: "default".into(), archiver, ..Default::default() }];
    }), Pending);
    while_another_one_runs_it_waits: observed(world(), vec![backup("b", 60, Pending), backup("a", 0, Finalizing)]);
    an_older_one_goes_first: observed(world(), vec![backup("b", 60, Pending), backup("a", 0, Pending)]);
    an_older_one_that_has_ended_is_no_obstacle: observed(world(), vec![backup("b", 60, Pending), backup("a", 0, Failed)]);
    a_completed_one_is_left_alone: one(world(), Completed);
    a_running_one_is_watched: one(world(), Running);
    a_silent_one_that_is_worked_on_is_watched: silent(with(one(world(), Running), |o| {
        let uid = o.backup.metadata.uid.clone();
        o.reports.get_mut("zoo-1").unwrap().as_mut().unwrap().running_backup_uid = uid;
    }));
    a_silent_one_that_nobody_works_on_fails: silent(one(world(), Running));
    a_silent_one_that_never_began_fails: silent(one(world(), Started));
    a_silent_one_whose_instance_does_not_answer_fails: silent(one(world().silent(1), Finalizing));
    a_silent_one_whose_container_does_not_run_fails: silent(with(one(world(), Running), |o| { o.reports.clear(); }));
    one_whose_pod_is_gone_fails: with(one(world(), Running), |o| o.pods.clear());
    one_whose_manager_was_restarted_is_given_time: one(world().change(|w| w.report(1).session_id = "another".into()), Running);
    one_whose_manager_was_restarted_and_does_not_go_on_fails: silent(one(world().change(|w| w.report(1).session_id = "another".into()), Running));
    one_without_instance_fails: with(one(world(), Running), |o| o.backup.status.as_mut().unwrap().instance_id = None);
}

/// Whatever the state: a terminal Backup stays, and a status write never goes back.
#[rstest]
fn no_decision_takes_a_phase_back(
    #[values(Pending, Started, Running, Finalizing, Completed, Failed)] phase: howdah_api::BackupPhase,
    #[values(false, true)] is_silent: bool,
    #[values(false, true)] gone: bool,
) {
    let mut observed = one(world(), phase);
    if is_silent {
        observed = silent(observed);
    }
    if gone {
        observed.pods.clear();
    }
    let decision = decide(&observed);
    let after = next(&observed.backup, &decision, now());
    if phase.is_terminal() {
        assert_eq!(decision, Decision::Done);
        assert!(after.is_none());
    } else if let Some(after) = after {
        assert!(phase.may_become(after.phase()), "{phase} -> {}", after.phase());
    }
    // Decisions that were made on an older version change nothing either.
    for old in [
        Decision::Start { pod: "p".into(), session: "s".into(), why: "w".into() },
        Decision::Wait { reason: "Queued", message: "m".into() },
        Decision::Fail { reason: "PodDeleted", error: "e".into() },
    ] {
        let after = next(&observed.backup, &old, now());
        assert!(after.is_none_or(|a| phase.may_become(a.phase())));
    }
}

#[test]
fn what_is_written_at_the_start_and_at_a_failure() {
    let observed = one(world(), Pending);
    let started = next(&observed.backup, &decide(&observed), now());
    let failing = silent(one(world(), Running));
    let failed = next(&failing.backup, &decide(&failing), now());
    insta::assert_yaml_snapshot!((started, failed));
}
