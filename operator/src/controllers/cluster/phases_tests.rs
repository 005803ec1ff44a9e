//! In whatever phase a person may be needed, the reason names what was seen, a command and a page that exists.

use std::path::Path;

use howdah_api::availability::PrimaryUpdateStrategy;
use howdah_api::backup::BackupPhase;
use howdah_api::instance::InstanceRole::{Primary, Replica};
use howdah_api::labels;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use rstest::rstest;

use super::observed::PrimaryLease;
use super::phases::{self, ALL};
use crate::error::{Error, chain};
use crate::fixtures::{World, backup, now, set_failing_init};

const ONE: &str = "storage: {size: 5Gi}";
const RESTORE: &str = "storage: {size: 5Gi}\nbootstrap: {fullRecovery: {backup: {name: b}}}";

fn page(phase: &str) -> Option<&'static str> {
    ALL.iter().find(|(known, _)| *known == phase).unwrap().1
}

/// Two instances that are well.
fn pair() -> World {
    let world = World::new("instances: 2\nstorage: {size: 5Gi}\nfailoverDelay: 0").initialised(2);
    world.with_ready(1, Primary).with_ready(2, Replica).change(|w| {
        let holder = "zoo-1/uid-zoo-1".to_owned();
        w.observed.lease = Some(PrimaryLease { holder, ..PrimaryLease::default() });
    })
}

/// The primary of the pair does not serve.
fn failing() -> World {
    pair().change(|w| {
        w.pod(1).status.as_mut().unwrap().conditions.as_mut().unwrap()[0].status = "False".into();
        w.report(1).ready = false;
        w.report(1).message = "PostgreSQL does not answer".into();
    })
}

fn lease_is_free(world: World) -> World {
    world.change(|w| w.observed.lease = Some(PrimaryLease::default()))
}

fn annotated(world: World, key: &str, value: &str) -> World {
    world.change(|w| {
        w.observed.cluster.metadata.annotations.get_or_insert_default().insert(key.into(), value.into());
    })
}

fn first(spec: &str, container: &str) -> World {
    World::new(spec)
        .with_status(|s| {
            s.target_primary = Some("zoo-1".into());
            s.latest_generated_serial = 1;
        })
        .change(|w| w.observed.recovery_backup = Some(backup("b", 0, BackupPhase::Completed)))
        .with_volumes(1, false)
        .with_pod(1)
        .change(|w| set_failing_init(w.pod(1), container, "bucket b is missing"))
}

/// A status as before, with a Backup in it.
fn backed_up(world: World) -> World {
    world.change(|w| w.observed.backups = vec![backup("b", 0, BackupPhase::Completed)])
}

/// Every phase with a page has its scenes here, and the words that are the evidence in each.
fn scenes() -> Vec<(&'static str, World, &'static [&'static str])> {
    let since = |world: World, seconds: i64| {
        world.with_status(|s| {
            let at = Timestamp::from_second(now().as_second() - seconds).unwrap();
            s.current_primary_failing_since_timestamp = Some(Time(at));
        })
    };
    let lost = backed_up(World::new(ONE).initialised(1)).with_status(|s| {
        s.last_successful_backup_name = Some("b".into());
        s.last_successful_backup = Some(Time(now()));
    });
    let going = lost_volume(World::new(ONE).initialised(1).with_ready(1, Primary));
    let unschedulable = r#"{"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/3 nodes are available", "lastTransitionTime": "2026-11-21T09:00:00Z"}]}"#;
    let without_node = World::new(ONE).initialised(1).with_volumes(1, true).with_pod(1);
    let without_node =
        without_node.change(|w| w.pod(1).status = Some(serde_json::from_str(unschedulable).unwrap()));
    let supervised = pair().with_spec(|s| {
        s.primary_update_strategy = PrimaryUpdateStrategy::Supervised;
    });
    let not_back = World::new(ONE).initialised(1).with_volumes(1, true).with_pod(1);
    let not_back = not_back.with_status(|s| s.primary_restart = Some("uid-zoo-1".into()));
    vec![
        (phases::WAITING_FOR_BACKUP, World::new(RESTORE), &["Backup b", "get backups"]),
        (
            phases::INVALID,
            World::new("storage: {size: 5Gi}\nsuperuserSecret: {name: mine}"),
            &["Secret mine", "create secret"],
        ),
        (
            phases::RECOVERY_FAILED,
            first(RESTORE, "full-recovery"),
            &["bucket b", "exit code 1", "started again: 3", "logs zoo-1"],
        ),
        (
            phases::BOOTSTRAP_FAILED,
            first(ONE, "bootstrap"),
            &["zoo-1", "exit code 1", "logs zoo-1 -c bootstrap"],
        ),
        (
            phases::INSTANCE_FAILED,
            pair().change(|w| w.report(2).fatal = Some("no disk".into())),
            &["zoo-2: no disk", "logs zoo-2"],
        ),
        (
            phases::INSTANCE_FAILED,
            without_node,
            &["0/3 nodes", "since 2026-11-21T09:00:00Z", "describe pod zoo-1"],
        ),
        (
            phases::INSTANCE_FAILED,
            since(not_back, 301),
            &["zoo-1", "since 2026-11-21T09:54:59Z", "describe pod zoo-1"],
        ),
        (
            phases::WAITING_FOR_USER,
            supervised.change(|w| w.report(1).pending_restart = true),
            &["zoo-1", "switchover=zoo-2"],
        ),
        (
            phases::FENCED,
            annotated(pair(), labels::FENCED, "*"),
            &["zoo-1, zoo-2", "which is * now", "annotate cluster zoo"],
        ),
        (
            phases::HIBERNATED,
            annotated(World::new(ONE), labels::HIBERNATION, "on"),
            &["no instance", "annotate cluster zoo"],
        ),
        (phases::UNRECOVERABLE, lost, &["up to 1", "Backup b of 2026-11-21T10:00:00Z", "get pods,pvc"]),
        (
            phases::UNRECOVERABLE,
            going,
            &["zoo-1 is being deleted since 2026-11-21T10:00:00Z", "no Backup", "get pods,pvc"],
        ),
        (
            phases::FAILING_OVER,
            since(failing(), 5),
            &["since 2026-11-21T09:59:55Z", "lease of zoo-1", "get lease zoo-primary"],
        ),
        (
            phases::FAILING_OVER,
            failing().change(|w| w.observed.lease = None),
            &["zoo-1", "Lease zoo-primary", "targetPrimary"],
        ),
        (
            phases::FAILING_OVER,
            lease_is_free(failing()).with_status(|s| {
                s.synchronous_standby_names_in_effect = Some("ANY 1 (\"zoo-2\",\"zoo-3\")".into());
            }),
            &["1 of 2", "waiting for zoo-3", "targetPrimary"],
        ),
        (
            phases::NO_CANDIDATE,
            lease_is_free(failing()).change(|w| w.report(2).fatal = Some("no disk".into())),
            &["zoo-2 needs a person: no disk", "since 2026-11-21T10:00:00Z", "get pods,pvc"],
        ),
    ]
}

fn lost_volume(world: World) -> World {
    world.change(|w| w.volume("zoo-1").metadata.deletion_timestamp = Some(Time(now())))
}

#[test]
fn whoever_is_needed_is_told_what_was_seen_and_what_to_do() {
    let mut covered = Vec::new();
    for (phase, world, evidence) in scenes() {
        let status = world.folded();
        let reason = status.phase_reason.unwrap_or_default();
        assert_eq!(status.phase.as_deref(), Some(phase), "{reason}");
        for words in evidence.iter().chain(&["kubectl -n park "]) {
            assert!(reason.contains(words), "{phase}: {words:?} is not in {reason:?}");
        }
        let page = page(phase).unwrap();
        assert!(reason.ends_with(&format!("; see docs/runbook/{page}.md")), "{phase}: {reason}");
        assert!(reason.len() < 800, "{phase}: {} characters: {reason}", reason.len());
        covered.push(phase);
    }
    // What the API server refuses is known only when it is tried.
    covered.push(phases::REJECTED);
    for (phase, _) in ALL.iter().filter(|(_, page)| page.is_some()) {
        assert!(covered.contains(phase), "{phase} has no scene here");
    }
}

#[test]
fn what_cannot_be_applied_leads_to_a_page() {
    let refused = Error::Refused { reason: "ForeignObject", message: "Service zoo-rw exists".into() };
    let told = phases::told(phases::REJECTED, &chain(&refused));
    assert_eq!(told, "Service zoo-rw exists; see docs/runbook/cluster-invalid.md");
}

#[rstest]
#[case::healthy(phases::HEALTHY)]
#[case::on_its_way(phases::UPGRADING)]
fn what_goes_on_by_itself_has_no_page(#[case] phase: &str) {
    assert_eq!(phases::told(phase, "all is well"), "all is well");
}

#[test]
fn the_pages_exist_and_the_index_names_every_phase() {
    let runbook = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/runbook");
    let index = std::fs::read_to_string(runbook.join("README.md")).unwrap();
    let night = std::fs::read_to_string(runbook.join("waiting-for-a-person.md")).unwrap();
    for (phase, page) in ALL.iter().filter(|(phase, _)| *phase != phases::HEALTHY) {
        assert!(index.contains(&format!("`{phase}`")), "{phase} is not in the index");
        let Some(page) = page else { continue };
        assert!(runbook.join(format!("{page}.md")).is_file(), "{page}");
        assert!(night.contains(&format!("`{phase}`")), "{phase} is not among those that wait for a person");
    }
}
