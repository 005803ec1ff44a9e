//! Where a cluster recovers from, and that it leaves that alone.

use howdah_api::backup::BackupPhase::Completed;
use rstest::rstest;

use super::validate::{Blocks, recovery_stores};
use crate::fixtures::{World, backup};

const KEYS: &str = "accessKeyId: {name: creds, key: ID}, secretAccessKey: {name: creds, key: KEY}";

/// A clone of `pg` that archives to `own`, a place in `backup`.
fn clone(own: &str) -> World {
    let spec = format!(
        "storage: {{size: 5Gi}}
bootstrap: {{recovery: {{source: origin}}}}
externalClusters:
- name: origin
  serverName: pg
  barmanObjectStore:
    destinationPath: s3://bucket/folder
    s3Credentials: {{{KEYS}}}
  repositories:
  - {{name: repo1, path: /near, s3: {{bucket: backups}}, credentials: {{accessKeyId: {{name: gone, key: ID}}, secretAccessKey: {{name: gone, key: KEY}}}}}}
backup:
{own}
"
    );
    World::new(&spec).with_secret("creds", &[("ID", "a"), ("KEY", "b")])
}

fn store(server: &str) -> String {
    format!(
        "  barmanObjectStore: {{destinationPath: s3://bucket/folder/, serverName: {server}, s3Credentials: {{{KEYS}}}}}"
    )
}

fn repository(path: &str) -> String {
    format!(
        "  repositories: [{{name: mine, path: {path}, s3: {{bucket: backups}}, credentials: {{{KEYS}}}}}]"
    )
}

#[test]
fn the_places_of_an_external_cluster_in_their_order() {
    let world = clone(&store("zoo"));
    let places: Vec<String> = recovery_stores(&world.observed)
        .iter()
        .map(|n| format!("{} {} {}", n.name, n.store.destination_path, n.store.server_name_or("?")))
        .collect();
    assert_eq!(places, ["default s3://bucket/folder pg", "repo1 s3://backups/near pg"]);
    let secrets = world.validated().foreign_secrets;
    assert!(secrets.contains(&"gone".to_owned()), "{secrets:?}");
}

/// A place that cannot be used is passed over; only when none can be is there nothing to begin with.
#[test]
fn one_usable_place_is_enough() {
    assert!(clone(&store("zoo")).validated().blocking().is_none());
    let mut world = clone(&store("zoo"));
    world.observed.secrets.clear();
    let validated = world.validated();
    let problem = validated.blocking().unwrap();
    assert_eq!((problem.blocks, problem.reason), (Blocks::Recovery, "SecretNotFound"));
    assert!(problem.message.contains("repository default") && problem.message.contains("repository repo1"));
}

#[rstest]
#[case::same_folder(store("pg"), true)]
#[case::own_folder(store("zoo"), false)]
#[case::another_bucket(repository("/near"), false)]
fn a_clone_never_archives_into_its_source(#[case] own: String, #[case] refused: bool) {
    let validated = clone(&own).validated();
    let problem = validated.problems.iter().find(|p| p.reason == "ArchivesIntoItsSource");
    assert_eq!(problem.is_some(), refused, "{problem:?}");
    assert!(problem.is_none_or(|p| p.blocks == Blocks::Instances && p.message.contains("server pg")));
    // One that runs already goes on, and its backups do not.
    let running = clone(&own).initialised(1).validated();
    let problem = running.problems.iter().find(|p| p.reason == "ArchivesIntoItsSource");
    assert_eq!(problem.map(|p| p.blocks), refused.then_some(Blocks::Backups));
}

/// Repositories hold the folder of the cluster that wrote there, so that one path may serve two clusters.
#[test]
fn a_shared_path_is_two_places() {
    let spec = "storage: {size: 5Gi}
bootstrap: {fullRecovery: {backup: {name: base}}}
backup:
  barmanObjectStore: {destinationPath: s3://bucket/folder, s3Credentials: {inheritFromIAMRole: true}}
";
    let mut world = World::new(spec);
    let mut base = backup("base", 0, Completed);
    base.status.as_mut().unwrap().server_name = Some("pg".into());
    world.observed.recovery_backup = Some(base.clone());
    assert!(!world.validated().problems.iter().any(|p| p.reason == "ArchivesIntoItsSource"));
    base.status.as_mut().unwrap().server_name = Some("zoo".into());
    world.observed.recovery_backup = Some(base);
    assert!(world.validated().problems.iter().any(|p| p.reason == "ArchivesIntoItsSource"));
}
