//! What the status says, and what it must not forget.

use howdah_api::ClusterStatus;
use howdah_api::backup::BackupPhase;
use howdah_api::conditions;
use howdah_api::instance::InstanceRole::{Primary, Replica};
use howdah_api::instance::Recoverability;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rstest::rstest;

use super::events::changes;
use super::status::gauges;
use super::validate::Blocks;
use crate::fixtures::{STORE, World, backup};

fn healthy() -> World {
    World::archiving_pair()
}

fn condition(status: &ClusterStatus, type_: &str) -> (String, String, String) {
    let c = conditions::get(&status.conditions, type_).unwrap();
    (c.status.clone(), c.reason.clone(), c.message.clone())
}

#[test]
fn a_healthy_cluster() {
    let world = healthy().change(|w| {
        w.observed.backups.push(backup("first", 0, BackupPhase::Completed));
        w.observed.backups.push(backup("second", 60, BackupPhase::Completed));
    });
    insta::assert_yaml_snapshot!(world.folded());
}

#[test]
fn folding_again_changes_nothing() {
    let world = healthy();
    let once = world.folded();
    let world = world.with_status(|s| s.clone_from(&once));
    assert_eq!(world.folded(), once);
    assert!(changes(&once, &once).is_empty());
}

/// S2.23: the condition follows the primary's archiver and its message carries the cause.
#[rstest]
#[case::works(true, true, None, ("True", "ContinuousArchivingSuccess", "continuous archiving is working"))]
#[case::nothing_yet(true, false, None, ("Unknown", "ContinuousArchivingPending", "no WAL file had to be archived yet"))]
#[case::fails(false, true, Some("bucket b does not exist; make it"), ("False", "ContinuousArchivingFailing", "000000010000000000000003: bucket b does not exist; make it"))]
fn archiving(
    #[case] working: bool,
    #[case] confirmed: bool,
    #[case] error: Option<&str>,
    #[case] expected: (&str, &str, &str),
) {
    let world = healthy().change(|w| {
        let archiver = w.report(1).archiver.as_mut().unwrap();
        archiver.working = working;
        archiver.confirmed = confirmed;
        archiver.last_error = error.map(str::to_owned);
        archiver.last_failed_wal = error.map(|_| "000000010000000000000003".to_owned());
    });
    let (s, r, m) = condition(&world.folded(), conditions::CONTINUOUS_ARCHIVING);
    assert_eq!((s.as_str(), r.as_str(), m.as_str()), expected);
}

#[test]
fn a_silent_primary_leaves_what_was_known() {
    let world = healthy();
    let before = world.folded();
    let world = world.with_status(|s| s.clone_from(&before)).silent(1);
    let after = world.folded();
    assert_eq!(
        condition(&after, conditions::CONTINUOUS_ARCHIVING),
        condition(&before, conditions::CONTINUOUS_ARCHIVING)
    );
    assert_eq!(after.current_primary.as_deref(), Some("zoo-1"));
    assert_eq!(after.system_id, before.system_id);
    assert!(after.instances_status[0].message.as_ref().unwrap().contains("connection refused"));
}

/// S0.20, S3.4: which Secret, which key, and where it is named.
#[rstest]
#[case::no_secret(&[], "SecretNotFound", "Secret creds, named by accessKeyId of spec.backup.barmanObjectStore, does not exist; create it with the key ID")]
#[case::no_key(&[("ID", "a")], "SecretKeyNotFound", "Secret creds has no key KEY or it is empty (secretAccessKey of spec.backup.barmanObjectStore); add the key, or name the right one")]
#[case::empty_key(&[("ID", ""), ("KEY", "b")], "SecretKeyNotFound", "Secret creds has no key ID or it is empty (accessKeyId of spec.backup.barmanObjectStore); add the key, or name the right one")]
fn a_store_without_its_secret_is_told(
    #[case] data: &[(&str, &str)],
    #[case] reason: &str,
    #[case] message: &str,
) {
    let mut world = World::new(STORE).initialised(2).with_ready(1, Primary).with_ready(2, Replica);
    if !data.is_empty() {
        world = world.with_secret("creds", data);
    }
    assert_eq!(world.validated().problems[0].blocks, Blocks::Backups, "the database itself goes on");
    let status = world.folded();
    let (value, found, text) = condition(&status, conditions::BACKUP_CONFIGURED);
    assert_eq!((value.as_str(), found.as_str(), text.as_str()), ("False", reason, message));
    let notes = changes(&ClusterStatus::default(), &status);
    assert!(notes.iter().any(|n| n.warning && n.reason == reason), "{notes:?}");
}

/// The certificate for the own repository host is made by the operator; that of another cluster must be there.
#[test]
fn a_volume_of_another_cluster_needs_its_certificate() {
    const OWN: &str = "storage: {size: 5Gi}
backup: {repositories: [{name: repo1, volume: {volumeClaimSpec: {resources: {requests: {storage: 1Gi}}}}}]}
";
    const OTHER: &str = "storage: {size: 5Gi}
bootstrap: {recovery: {source: barn}}
externalClusters:
- name: barn
  barmanObjectStore:
    destinationPath: s3://repo1/park/barn/repo1
    endpointURL: https://barn-repo-host:8432
    endpointCA: {name: barn-replication, key: ca.crt}
    clientCertificate: {name: barn-replication}
";
    let own = World::new(OWN).validated();
    assert_eq!(own.problems, []);
    assert_eq!(own.volume_repositories[0].0, "repo1");
    assert_eq!(own.foreign_secrets, ["zoo-replication"]);
    let message = |data: &[(&str, &str)]| {
        let problems = World::new(OTHER).with_secret("barn-replication", data).validated().problems;
        problems.into_iter().map(|problem| problem.message).collect::<String>()
    };
    assert!(World::new(OTHER).validated().problems[0].message.contains("Secret barn-replication"));
    assert!(
        message(&[("ca.crt", "a"), ("tls.crt", "b")])
            .contains("no key tls.key or it is empty (clientCertificate of")
    );
    assert_eq!(message(&[("ca.crt", "a"), ("tls.crt", "b"), ("tls.key", "c")]), "");
}

#[rstest]
#[case::running(&[("a", 0, BackupPhase::Completed), ("b", 60, BackupPhase::Running)], "False", "BackupStarted")]
#[case::good(&[("a", 0, BackupPhase::Failed), ("b", 60, BackupPhase::Completed)], "True", "LastBackupSucceeded")]
#[case::bad(&[("a", 0, BackupPhase::Completed), ("b", 60, BackupPhase::Failed)], "False", "LastBackupFailed")]
fn the_last_backup(#[case] list: &[(&str, i64, BackupPhase)], #[case] value: &str, #[case] reason: &str) {
    let world =
        healthy().change(|w| w.observed.backups = list.iter().map(|(n, s, p)| backup(n, *s, *p)).collect());
    let (found, why, _) = condition(&world.folded(), conditions::LAST_BACKUP_SUCCEEDED);
    assert_eq!((found.as_str(), why.as_str()), (value, reason));
}

#[test]
fn deleted_backup_objects_do_not_take_the_last_backup_along() {
    let world = healthy().change(|w| w.observed.backups = vec![backup("a", 0, BackupPhase::Completed)]);
    let before = world.folded();
    let world = world.with_status(|s| s.clone_from(&before)).change(|w| w.observed.backups.clear());
    let after = world.folded();
    assert_eq!(after.last_successful_backup, before.last_successful_backup);
    assert_eq!(after.last_successful_backup_name.as_deref(), Some("a"));
}

#[test]
fn the_first_recoverability_point_is_what_the_store_holds() {
    let point: Time = Time("2026-11-01T00:00:00Z".parse().unwrap());
    let world = healthy().change(|w| {
        w.observed.backups = vec![backup("a", 0, BackupPhase::Completed)];
        w.report(1).recoverability = Some(Recoverability {
            first_recoverability_point: Some(Time("2026-11-01T00:00:00Z".parse().unwrap())),
            ..Recoverability::default()
        });
    });
    assert_eq!(world.folded().first_recoverability_point, Some(point));
}

#[test]
fn what_belongs_to_backups_goes_with_the_store() {
    let world = healthy();
    let before = world.folded();
    let world = world.with_status(|s| s.clone_from(&before)).with_spec(|s| s.backup = None);
    let after = world.folded();
    assert!(conditions::get(&after.conditions, conditions::CONTINUOUS_ARCHIVING).is_none());
    assert!(conditions::get(&after.conditions, conditions::BACKUP_CONFIGURED).is_none());
    assert_eq!(gauges(&world.observed, &after).archiving, None, "absent, not zero");
}
