//! Chains that are interrupted, damaged, or have nothing to build on.

use crate::chain::{SERVER, World};
use crate::postgres::Postgres;
use crate::site::{BUCKET, Switch, restored, try_restore, verify};
use barman_cloud::BackupType;
use howdah_engine::backup::{Resume, sweep_orphans};
use howdah_engine::{BackupChoice, ErrorKind, Progress, RestoreRequest};
use howdah_s3::{Action, Operation, Rule};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A full backup and two incrementals on it.
async fn world() -> World {
    let mut world = World::new(15, "").await;
    world.primary.sql("CREATE TABLE t AS SELECT g, md5(g::text) AS x FROM generate_series(1, 60000) g");
    world.take(BackupType::Full).await;
    for round in 1..3 {
        world.primary.sql(&format!("UPDATE t SET x = '{round}' WHERE g / 500 = {round}"));
        world.take(BackupType::Incremental).await;
    }
    world
}

impl World {
    async fn find(&self, end: &str) -> String {
        let found: Vec<String> =
            self.site.keys().await.into_iter().filter(|key| key.ends_with(end)).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].clone()
    }
}

/// S1.34: without anything to build on a full backup is taken, and the result says why; or the request is refused.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_parent_a_full_backup_is_taken_or_none() {
    let mut world = World::new(15, "").await;
    let mut request = world.request(BackupType::Differential);
    request.fallback_full = false;
    let error = world.site.backup(&world.primary, request).await.expect_err("nothing to build on");
    assert_eq!(error.kind(), ErrorKind::Precondition);
    assert!(error.report().contains("no differential backup can be taken"), "{}", error.report());
    assert!(error.remedy().contains("full backup"));
    let left = world.site.repository(SERVER).inventory().await.expect("listed");
    assert!(left.members.is_empty(), "{left:?}");

    let first = world.take(BackupType::Incremental).await;
    assert_eq!((first.kind, first.ancestors.len()), (BackupType::Full, 0));
    assert!(first.instead.as_deref().is_some_and(|why| why.contains("no complete backup")), "{first:?}");
    let second = world.take(BackupType::Incremental).await;
    assert_eq!((second.kind, second.instead.as_deref()), (BackupType::Incremental, None));
    world.check(1).await;
}

/// A chain with a lost member is refused before anything is fetched; what remains is said.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_member_is_named_and_what_remains() {
    let world = world().await;
    let [full, first, last] = [0, 1, 2].map(|number| world.taken[number].0.backup_id.to_string());
    let data = world.site.path().join("restored");
    let part = world.taken[1].0.parts[0].name.clone();
    for (object, says) in [
        (world.find(&format!("incremental/{first}/{part}")).await, part.as_str()),
        (world.find(&format!("manifests/{first}/backup_manifest")).await, "manifest"),
        (world.find(&format!("incremental/{first}/backup.info")).await, "missing"),
        (world.find(&format!("incremental/{first}/chain.json")).await, "chain.json"),
    ] {
        let body = world.site.s3.get(BUCKET, &object).await.expect("the object");
        world.site.s3.delete(BUCKET, &object).await.expect("deletes");
        let error = try_restore(world.restore_request(2, &data)).await.expect_err("refused");
        let text = error.report();
        assert!(matches!(error.kind(), ErrorKind::Missing | ErrorKind::Corrupt), "{text}");
        assert!(text.contains(&first) && text.contains(&last) && text.contains(says), "{text}");
        assert!(error.remedy().contains(&full) && !error.remedy().contains(&last), "{text}");
        assert!(!data.exists(), "nothing may be written before everything was found");
        world.site.s3.put(BUCKET, &object, body).await.expect("puts back");
    }
    world.check(2).await;
}

/// Where in a plain tar the header of the first `INCREMENTAL.` file with blocks begins, and the name of that file.
fn file_with_blocks(tar: &[u8]) -> Option<(usize, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches(['\0', ' ']).to_owned();
    let headers =
        (0..tar.len() / 512).map(|block| block * 512).filter(|at| tar[at + 257..].starts_with(b"ustar"));
    headers.into_iter().find_map(|at| {
        let path = text(&tar[at..at + 100]);
        let size = u64::from_str_radix(&text(&tar[at + 124..at + 135]), 8).ok()?;
        let name = path.rsplit('/').next()?.to_owned();
        (name.starts_with("INCREMENTAL.") && size >= 16_384).then_some((at, name))
    })
}

/// What is damaged is named by its object and its file, and the directory is no data directory.
#[tokio::test(flavor = "multi_thread")]
async fn damage_within_a_member_is_named() {
    let world = world().await;
    let first = world.taken[1].0.backup_id.to_string();
    let mut found = None;
    for part in &world.taken[1].0.parts {
        let key = world.find(&format!("incremental/{first}/{}", part.name)).await;
        let body = world.site.s3.get(BUCKET, &key).await.expect("the object").to_vec();
        found = found.or(file_with_blocks(&body).map(|(at, name)| (key, body, at, name)));
    }
    let (key, body, at, name) = found.expect("a part with a file that has blocks");
    let mut damaged = body.clone();
    // In the middle of its first block, which follows the padded header.
    damaged[at + 512 + 8192 + 4000] ^= 0x10;
    world.site.s3.put(BUCKET, &key, damaged).await.expect("puts");
    let data = world.site.path().join("restored");
    let error = try_restore(world.restore_request(2, &data)).await.expect_err("damaged");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{}", error.report());
    let text = error.report();
    assert!(text.contains(&key) && text.contains(&name), "{text}");
    assert!(!data.join("global/pg_control").exists(), "PostgreSQL must not start on it");
    world.site.s3.put(BUCKET, &key, body).await.expect("puts back");
    // The same place, without hand work.
    restored(world.restore_request(2, &data)).await;
    verify(&Postgres::adopt(world.site.path(), "restored", &data));
}

/// A restore that ends between two members starts over soundly.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_restore_of_a_chain_goes_on() {
    let world = world().await;
    let last = &world.taken[2].0.backup_id;
    let data = world.site.path().join("restored");
    let hang = Rule::new(Action::Stall { millis: 600_000 }).operation(Operation::GetObject);
    let rule = world.site.s3.faults().add(hang.key(&format!("**/incremental/{last}/data.tar")));
    let cancel = CancellationToken::new();
    let progress = Arc::new(Progress::new());
    let run =
        howdah_engine::restore::run(world.restore_request(2, &data), Arc::clone(&progress), cancel.clone());
    let node = world.primary.sql("SELECT pg_relation_filepath('t')");
    let stop = async {
        while !data.join(&node).exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        cancel.cancel();
    };
    let (outcome, ()) = tokio::join!(run, stop);
    assert_eq!(outcome.expect_err("cancelled").kind(), ErrorKind::Cancelled);
    assert!(!data.join("global/pg_control").exists());
    world.site.s3.faults().remove(rule);
    // Half of it is of an older backup than it looks.
    let done = restored(world.restore_request(2, &data)).await;
    assert!(done.verified && !done.already_done, "{done:?}");
    assert!(restored(world.restore_request(2, &data)).await.already_done);
    verify(&Postgres::adopt(world.site.path(), "restored", &data));
    std::fs::remove_dir_all(&data).expect("removes");
    world.check(2).await;
}

/// A part that breaks off while it is applied is tried again.
#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_breaks_off_is_applied_again() {
    let world = world().await;
    let first = &world.taken[1].0.backup_id;
    let cut = Rule::new(Action::Reset { after_bytes: 300_000 }).operation(Operation::GetObject);
    world.site.s3.faults().add(cut.key(&format!("**/incremental/{first}/data.tar")).times(2));
    world.check(2).await;
}

/// A data directory of the same system becomes the backup; what is right already stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_in_use_becomes_the_newest_of_a_chain() {
    let world = world().await;
    let data = world.site.path().join("restored-2");
    restored(world.restore_request(0, &data)).await;
    let mut request = world.restore_request(2, &data);
    request.delta = true;
    let done = restored(request).await;
    assert!(done.kept_files > 100, "{done:?}");
    verify(&Postgres::adopt(world.site.path(), "restored-2", &data));
    std::fs::remove_dir_all(&data).expect("removes");
    world.check(2).await;
}

/// A killed incremental backup is begun again under its id, and one that is abandoned is swept.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_incremental_backup_is_begun_again() {
    let mut world = world().await;
    world.primary.sql("UPDATE t SET x = 'later' WHERE g < 20");
    let hang = Rule::new(Action::Stall { millis: 600_000 }).operation(Operation::UploadPart);
    let rule = world.site.s3.faults().add(hang.key("**/incremental/*/data.tar"));
    let put = Rule::new(Action::Stall { millis: 600_000 }).operation(Operation::PutObject);
    let second = world.site.s3.faults().add(put.key("**/incremental/*/data.tar"));
    let run = howdah_engine::backup::run(
        world.request(BackupType::Incremental),
        Arc::new(Switch::of(&world.primary)),
        Arc::new(Progress::new()),
        CancellationToken::new(),
    );
    let seen = async {
        while world.site.keys().await.iter().filter(|key| key.ends_with("chain.json")).count() < 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        outcome = run => panic!("the store hangs, and yet: {outcome:?}"),
        () = seen => {}
    }
    for rule in [rule, second] {
        world.site.s3.faults().remove(rule);
    }
    let inventory = world.site.repository(SERVER).inventory().await.expect("listed");
    let id = inventory.members.last().expect("a backup").id.clone();
    assert!(!inventory.restorable().any(|(member, _)| member.id == id));

    let mut request = world.request(BackupType::Incremental);
    request.resume = Some(Resume { id: id.clone(), finishing: false });
    let again = world.take_by(request).await;
    assert_eq!((&again.backup_id, again.ancestors.len()), (&id, 3));
    world.check(3).await;

    // Nobody takes up the next one.
    let repository = world.site.repository(SERVER);
    let increments = repository.increments();
    let lost = "20200101T000000".parse().expect("an id");
    let mut info = increments.backup_info(&id).await.expect("a record");
    info.status = barman_cloud::backup_info::BackupStatus::Started;
    increments.put_backup_info(&lost, &info).await.expect("stored");
    let part = format!("some/path/{SERVER}/howdah/incremental/{lost}/data.tar");
    world.site.s3.put(BUCKET, &part, vec![0; 1000]).await.expect("puts");
    let future = chrono::Utc::now() + chrono::Duration::hours(1);
    let sweep = sweep_orphans(&repository, None, future).await.expect("sweeps");
    assert_eq!((sweep.backups, sweep.bytes), (vec![lost], 1000));
}

/// The recovery of a server to an earlier point makes its newer backups those of another history.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_went_back_builds_on_what_it_shares() {
    let mut world = world().await;
    let copy = world.check(1).await;
    // It goes on as the server of this archive.
    world.primary.stop();
    world.primary = copy;
    world.site.archive_from(&world.primary, SERVER, barman_cloud::Compression::None, 2);
    world.primary.stop();
    world.primary.start();
    world.primary.sql("UPDATE t SET x = 'other way' WHERE g < 30");
    let expected = world.taken[1].0.backup_id.clone();
    let result = world.take(BackupType::Incremental).await;
    assert_eq!(result.timeline, 2);
    assert_eq!(result.ancestors.last(), Some(&expected), "the newer one is not on the way: {result:?}");
    world.check(3).await;
    let mut request = RestoreRequest::new(world.site.repository(SERVER), world.site.path().join("x"));
    request.choice = BackupChoice::Best;
    let plan =
        howdah_engine::restore::plan(&request).await.unwrap_or_else(|error| panic!("{}", error.report()));
    assert_eq!(plan.backup_id, world.taken[3].0.backup_id);
}
