//! Backups that go on from what an interrupted one had stored.

use crate::postgres::Postgres;
use crate::site::{BUCKET, Site, Switch, restored, verify};
use barman_cloud::store::CipherMode;
use howdah_engine::backup::{PartSize, Resume};
use howdah_engine::{BackupRequest, BackupResult, Error, ErrorKind, Phase, Progress, RestoreRequest};
use howdah_s3::{Action, Operation, Rule};
use rstest::rstest;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const SERVER: &str = "again";
/// Long enough that nothing moves on by itself.
const HANG: Action = Action::Stall { millis: 600_000 };

struct World {
    site: Site,
    primary: Postgres,
}

impl World {
    /// A server with four tables, each larger than a part.
    async fn new() -> Self {
        Self::on(Site::new().await).await
    }

    async fn on(site: Site) -> Self {
        let primary = site.primary(SERVER);
        for table in ["a", "b", "c", "d"] {
            primary.sql(&format!(
                "CREATE TABLE {table} AS SELECT g, md5(g::text) AS x FROM generate_series(1, 120000) g"
            ));
        }
        Self { site, primary }
    }

    fn request(&self) -> BackupRequest {
        let mut request = self.site.backup_request(&self.primary, SERVER);
        request.part_size = PartSize { tar_bytes: Some(6 << 20), ..PartSize::default() };
        request
    }

    /// Begins a backup and drops it once `enough` says so of the keys in the store: no code of it runs any more, as if
    /// its process had been killed.
    async fn interrupt(&self, fault: Rule, enough: impl Fn(&[String]) -> bool) -> Resume {
        let rule = self.site.s3.faults().add(fault);
        let run = howdah_engine::backup::run(
            self.request(),
            Arc::new(Switch::of(&self.primary)),
            Arc::new(Progress::new()),
            CancellationToken::new(),
        );
        let seen = async {
            while !enough(&self.site.keys().await) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            outcome = run => panic!("the store hangs, and yet: {outcome:?}"),
            () = seen => {}
        }
        self.site.s3.faults().remove(rule);
        // Its tasks live in this process: what they were about to finish is finished, the rest is given up.
        while !self.is_quiet().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let catalog = self.site.repository(SERVER).catalog().await.expect("a catalogue");
        let id = catalog.entries.last().expect("a backup").id.clone();
        Resume { id, finishing: false }
    }

    /// Whether no upload is under way.
    async fn is_quiet(&self) -> bool {
        self.site.s3.uploads(BUCKET).expect("uploads").is_empty()
    }

    /// Interrupted while its last part hangs, with at least two finished ones.
    async fn interrupted_copy(&self) -> Resume {
        let fault = Rule::new(HANG).operation(Operation::UploadPart).key("**/data.tar");
        self.interrupt(fault, |keys| {
            let mut notes = keys.iter().filter(|key| key.ends_with(".part.json"));
            notes.clone().count() >= 3 && notes.any(|key| key.ends_with("/data_0001.tar.part.json"))
        })
        .await
    }

    async fn go_on(&self, resume: Resume) -> (Result<BackupResult, Error>, Vec<Phase>) {
        let phases = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&phases);
        let progress =
            Progress::with_callback(move |phase| seen.lock().expect("no panic").push(phase.clone()));
        let mut request = self.request();
        request.resume = Some(resume);
        let outcome = howdah_engine::backup::run(
            request,
            Arc::new(Switch::of(&self.primary)),
            Arc::new(progress),
            CancellationToken::new(),
        )
        .await;
        let phases = phases.lock().expect("no panic").clone();
        (outcome, phases)
    }

    /// Restores, compares every table with the primary's, and lets PostgreSQL judge.
    async fn assert_restorable(&self, result: &BackupResult) {
        let data = self.site.path().join("restored");
        let back = restored(RestoreRequest::new(self.site.repository(SERVER), &data)).await;
        assert_eq!(back.plan.backup_id, result.backup_id);
        let mut copy = Postgres::adopt(self.site.path(), "restored", &data);
        verify(&copy);
        self.site.recover(&copy, SERVER, "");
        copy.start_recovered();
        for table in ["a", "b", "c", "d"] {
            assert_eq!(copy.digest(table), self.primary.digest(table), "{table}");
        }
    }

    async fn assert_no_notes(&self) {
        let keys = self.site.keys().await;
        assert!(!keys.iter().any(|key| key.contains("/resume/")), "{keys:?}");
        let uploads = self.site.s3.uploads(BUCKET).expect("uploads");
        assert!(uploads.is_empty(), "{uploads:?}");
    }
}

fn resumed(phases: &[Phase]) -> (usize, usize) {
    phases
        .iter()
        .find_map(|phase| match phase {
            Phase::Resumed { kept, found, .. } => Some((*kept, *found)),
            _ => None,
        })
        .expect("it says what it kept")
}

fn done((outcome, phases): (Result<BackupResult, Error>, Vec<Phase>)) -> (BackupResult, Vec<Phase>) {
    (outcome.unwrap_or_else(|error| panic!("{}", error.report())), phases)
}

/// S0.24: sizes that were noted are those of the ciphertext, and parts of two processes have keys of their own.
#[rstest]
#[case::plain(Site::new())]
#[case::encrypted(Site::encrypted(CipherMode::Aes256Gcm, "sesame"))]
#[tokio::test(flavor = "multi_thread")]
async fn unchanged_parts_stay_and_changed_ones_are_stored_again(#[case] site: impl Future<Output = Site>) {
    let world = World::on(site.await).await;
    let resume = world.interrupted_copy().await;
    world.primary.sql("UPDATE d SET x = 'changed' WHERE g % 1000 = 0");
    world.primary.sql("INSERT INTO d SELECT g, 'new' FROM generate_series(1, 10) g");
    world.primary.sql("CHECKPOINT");
    let before: Vec<_> = world.site.s3.objects(BUCKET).expect("a bucket");
    let (result, phases) = done(world.go_on(resume.clone()).await);
    let (kept, found) = resumed(&phases);
    assert!(kept >= 1 && kept < found, "{kept} of {found}");
    assert_eq!(result.backup_id, resume.id);
    // The kept objects are those of the interrupted backup, not new ones of the same content.
    let after = world.site.s3.objects(BUCKET).expect("a bucket");
    let same = after.iter().filter(|object| {
        object.key.contains("/data_")
            && before.iter().any(|old| old.key == object.key && old.modified == object.modified)
    });
    assert_eq!(same.count(), kept);
    world.assert_no_notes().await;
    world.assert_restorable(&result).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_of_postgresql_it_goes_on_too() {
    let mut world = World::new().await;
    let resume = world.interrupted_copy().await;
    world.primary.stop();
    world.primary.start();
    let (result, phases) = done(world.go_on(resume).await);
    assert!(resumed(&phases).0 >= 1, "{phases:?}");
    world.assert_restorable(&result).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_everything_changed_it_starts_again_and_says_so() {
    let world = World::new().await;
    let resume = world.interrupted_copy().await;
    for table in ["a", "b", "c", "d"] {
        world.primary.sql(&format!("VACUUM FULL {table}"));
    }
    world.primary.sql("CHECKPOINT");
    let (result, phases) = done(world.go_on(resume).await);
    let (kept, found) = resumed(&phases);
    assert!(kept == 0 && found >= 3, "{kept} of {found}");
    world.assert_no_notes().await;
    world.assert_restorable(&result).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_another_codec_are_not_mixed_in() {
    let world = World::new().await;
    let resume = world.interrupted_copy().await;
    let mut request = world.request();
    request.compression = barman_cloud::Compression::Lz4;
    request.resume = Some(resume);
    let result = world.site.backup(&world.primary, request).await;
    let result = result.unwrap_or_else(|error| panic!("{}", error.report()));
    assert!(result.parts.iter().all(|part| part.name.ends_with(".tar.lz4")), "{:?}", result.parts);
    let keys = world.site.keys().await;
    assert!(!keys.iter().any(|key| key.ends_with(".tar")), "{keys:?}");
    world.assert_restorable(&result).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn once_postgresql_was_told_the_end_only_the_archive_is_waited_for() {
    let world = World::new().await;
    let fault = Rule::new(HANG).key("**/wals/**");
    let mut resume =
        world.interrupt(fault, |keys| keys.iter().any(|key| key.ends_with("/sealed.json"))).await;
    resume.finishing = true;
    let parts: Vec<_> = world.site.s3.objects(BUCKET).expect("a bucket");
    let (result, phases) = done(world.go_on(resume).await);
    assert!(!phases.iter().any(|phase| matches!(phase, Phase::Copying(_))), "{phases:?}");
    assert!(result.parts.len() > 2 && result.data_checksums, "{result:?}");
    let after = world.site.s3.objects(BUCKET).expect("a bucket");
    let parts = parts.iter().filter(|part| part.key.contains("/base/") && part.key.contains(".tar"));
    assert!(parts.clone().count() > 2);
    for part in parts {
        assert!(after.iter().any(|now| now.key == part.key && now.modified == part.modified), "{}", part.key);
    }
    world.assert_no_notes().await;
    world.assert_restorable(&result).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_backup_whose_news_got_lost_is_told_again() {
    let world = World::new().await;
    let result = world.site.backup(&world.primary, world.request()).await.expect("a backup");
    let resume = Resume { id: result.backup_id.clone(), finishing: true };
    let (again, phases) = done(world.go_on(resume).await);
    assert!(!phases.iter().any(|phase| matches!(phase, Phase::Copying(_))), "{phases:?}");
    assert_eq!((again.end_lsn, again.parts), (result.end_lsn, result.parts));
    assert_eq!(
        (again.database_bytes, again.stopped_at.timestamp()),
        (result.database_bytes, result.stopped_at.timestamp())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_notes_there_is_nothing_to_finish() {
    let world = World::new().await;
    let resume = world.interrupted_copy().await;
    let finishing = Resume { finishing: true, ..resume };
    let error = world.go_on(finishing).await.0.expect_err("PostgreSQL was not told the end");
    assert_eq!(error.kind(), ErrorKind::Precondition, "{}", error.report());
    assert!(error.report().contains("take another backup"), "{}", error.report());
}

/// A damaged note, and an object that is gone, cost time and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn damaged_notes_and_lost_parts_are_not_used() {
    let world = World::new().await;
    let resume = world.interrupted_copy().await;
    let store = world.site.store();
    let notes: Vec<String> = world
        .site
        .keys()
        .await
        .into_iter()
        .filter(|key| key.ends_with(".part.json"))
        .map(|key| key.trim_start_matches("some/path/").to_owned())
        .collect();
    store.put(&notes[notes.len() - 1], bytes::Bytes::from_static(b"{")).await.expect("damages a note");
    let lost = notes[1].replace("/howdah/resume/", "/base/").replace(".part.json", "");
    store.delete(&lost).await.expect("loses a part");
    let (result, phases) = done(world.go_on(resume).await);
    let (kept, found) = resumed(&phases);
    assert!(kept < found, "{kept} of {found}");
    world.assert_no_notes().await;
    world.assert_restorable(&result).await;
}
