//! A store on a bad day: the outcome is a success after retries or an error, never a false success.

use crate::postgres::Postgres;
use crate::site::{BUCKET, Site, restored, try_restore, verify};
use barman_cloud::store::Limits;
use barman_cloud::{Compression, Destination, S3Options, Store};
use howdah_engine::backup::PartSize;
use howdah_engine::{
    Archiver, ArchiverConfig, BackupResult, Error, ErrorKind, Repository, RestoreRequest, Restorer,
    RestorerConfig, WalFetch,
};
use howdah_s3::{Action, Operation, Rule};
use std::path::Path;
use std::time::Duration;

/// Longer than any test may take.
const FOR_EVER: u64 = 600_000;

async fn site() -> (Site, Postgres) {
    let site = Site::new().await;
    let primary = site.primary("f");
    primary.sql("CREATE TABLE t AS SELECT g, md5(g::text) AS x FROM generate_series(1, 100000) g");
    (site, primary)
}

/// The repository with limits short enough for tests.
fn repository(site: &Site) -> Repository {
    let mut options = S3Options::with_keys("key", "secret");
    options.endpoint = Some(site.s3.endpoint());
    options.limits = Limits {
        stall: Duration::from_secs(2),
        retries: 4,
        backoff_first: Duration::from_millis(5),
        backoff_max: Duration::from_millis(50),
        ..Limits::default()
    };
    let destination = Destination::parse(&format!("s3://{BUCKET}/some/path")).expect("a destination");
    Repository::new(Store::s3(&destination, &options).expect("a store"), "f").expect("a repository")
}

fn request(site: &Site, primary: &Postgres) -> howdah_engine::BackupRequest {
    let mut request = site.backup_request(primary, "f");
    request.repository = repository(site);
    request.compression = Compression::Snappy;
    request.part_size = PartSize { tar_bytes: Some(12 << 20), ..PartSize::default() };
    request
}

async fn backed_up(site: &Site, primary: &Postgres) -> BackupResult {
    site.backup(primary, request(site, primary)).await.unwrap_or_else(|error| panic!("{}", error.report()))
}

fn restore_request(site: &Site) -> RestoreRequest {
    RestoreRequest::new(repository(site), site.path().join("restored"))
}

/// Two of each, spread over the operations of a backup and a restore.
fn spread(site: &Site, action: &Action, operations: &[Operation]) {
    for operation in operations {
        site.s3.faults().add(Rule::new(action.clone()).operation(*operation).times(2));
    }
}

fn spent(site: &Site) {
    let left = site.s3.faults().list();
    assert!(left.is_empty(), "these faults were never met: {left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn throttling_resets_and_lost_answers_are_survived() {
    let (site, primary) = site().await;
    let faults = site.s3.faults();
    faults.add(Rule::new(Action::slow_down()).operation(Operation::CreateMultipartUpload).times(2));
    faults.add(Rule::new(Action::Reset { after_bytes: 100_000 }).operation(Operation::UploadPart).times(2));
    faults.add(Rule::new(Action::LoseResponse).operation(Operation::UploadPart).skip(3).times(1));
    faults.add(Rule::new(Action::internal_error()).operation(Operation::HeadObject).times(2));
    let result = backed_up(&site, &primary).await;
    faults.clear();
    // Every part breaks three times in the middle and goes on from there each time.
    for part in &result.parts {
        let key = format!("**/{}", part.name);
        faults.add(
            Rule::new(Action::Reset { after_bytes: 1_000_000 })
                .operation(Operation::GetObject)
                .key(&key)
                .times(3),
        );
    }
    faults.add(Rule::new(Action::slow_down()).operation(Operation::ListObjects).times(2));
    let request = restore_request(&site);
    let data = site.path().join("restored");
    let back = restored(request).await;
    assert!(back.verified);
    assert_eq!(back.fetched_bytes, result.stored_bytes, "no part was begun anew");
    let requests = site.s3.requests();
    for part in &result.parts {
        let asked = requests.iter().filter(|request| {
            request.operation == Operation::GetObject && request.key.ends_with(&format!("/{}", part.name))
        });
        let asked = asked.count();
        assert!(asked <= 4 && (asked > 1 || part.size < 1_000_000), "{asked} times {part:?}");
    }
    let copy = Postgres::adopt(site.path(), "restored", &data);
    verify(&copy);
}

/// One backup and one restore through every passing fault in turn.
#[tokio::test(flavor = "multi_thread")]
async fn whole_operations_survive_what_passes() {
    let (site, primary) = site().await;
    let writing = [
        Operation::CreateMultipartUpload,
        Operation::UploadPart,
        Operation::CompleteMultipartUpload,
        Operation::PutObject,
        Operation::HeadObject,
        Operation::ListObjects,
    ];
    let too_many = Action::error(429, "TooManyRequests", "Reduce your rate of simultaneous reads.");
    let body_lost = Action::error(400, "RequestTimeout", "Your socket connection was idle.");
    for action in [Action::slow_down(), too_many, body_lost.clone(), Action::page()] {
        // The answer to HEAD has no document, so a status of 400 would tell nothing.
        let bodiless = action == body_lost;
        let met: Vec<Operation> =
            writing.into_iter().filter(|o| !(bodiless && *o == Operation::HeadObject)).collect();
        spread(&site, &action, &met);
        backed_up(&site, &primary).await;
        spent(&site);
    }
    let stall = |operation, action| Rule::new(action).operation(operation).times(1);
    let faults = site.s3.faults();
    faults.add(stall(Operation::UploadPart, Action::StallUpload { after_bytes: 50_000, millis: FOR_EVER }));
    faults.add(stall(Operation::CompleteMultipartUpload, Action::LoseResponse));
    faults.add(stall(Operation::PutObject, Action::Stall { millis: FOR_EVER }).key("**/backup_manifest"));
    let result = backed_up(&site, &primary).await;
    spent(&site);

    let reading = [Operation::GetObject, Operation::HeadObject, Operation::ListObjects];
    for action in [Action::slow_down(), Action::page()] {
        spread(&site, &action, &reading);
    }
    let part = format!("**/{}/data.tar.snappy", result.backup_id);
    for action in [
        Action::page(),
        Action::slow_down(),
        Action::StallBody { after_bytes: 200_000, millis: FOR_EVER },
        Action::Reset { after_bytes: 100_000 },
    ] {
        faults.add(stall(Operation::GetObject, action).key(&part));
    }
    assert!(restored(restore_request(&site)).await.verified);
    spent(&site);
    verify(&Postgres::adopt(site.path(), "restored", &site.path().join("restored")));
}

/// What the store acknowledges and forgets, part by part of a backup; what it no longer knows of an upload; what it
/// answers for ever. The backup fails, names the object, and leaves nothing that looks complete.
#[tokio::test(flavor = "multi_thread")]
async fn no_backup_completes_on_a_store_that_does_not_keep_it() {
    let (site, primary) = site().await;
    let lost = |operation, key: &str| Rule::new(Action::LoseWrite).operation(operation).key(key);
    let gone = |operation| {
        Rule::new(Action::error(404, "NoSuchUpload", "The specified upload does not exist."))
            .operation(operation)
    };
    let skewed = Action::error(403, "RequestTimeTooSkewed", "The difference is too large.");
    let full = Action::error(507, "XMinioStorageFull", "Storage backend has reached its minimum free disk.");
    let cases = [
        (
            lost(Operation::CompleteMultipartUpload, "*").skip(1).times(1),
            ".tar.snappy",
            "take the backup again",
        ),
        (lost(Operation::PutObject, "**/backup_manifest"), "backup_manifest", "take the backup again"),
        (lost(Operation::PutObject, "**/parts.json"), "parts.json", "take the backup again"),
        (lost(Operation::PutObject, "**/backup.info").skip(1), "backup.info", ""),
        (gone(Operation::UploadPart), ".tar.snappy", "start again"),
        (gone(Operation::CompleteMultipartUpload), ".tar.snappy", "start again"),
        (Rule::new(skewed).operation(Operation::UploadPart), ".tar.snappy", "clock of this node"),
        (Rule::new(full).operation(Operation::UploadPart), ".tar.snappy", "free space"),
        (Rule::new(Action::page()).operation(Operation::UploadPart), ".tar.snappy", "endpoint URL"),
        (Rule::new(Action::page()).operation(Operation::ListObjects), "some/path/f", "endpoint URL"),
        (
            Rule::new(Action::CorruptUpload { offset: 1000 }).operation(Operation::UploadPart),
            ".tar.snappy",
            "",
        ),
    ];
    for (rule, object, remedy) in cases {
        site.s3.faults().add(rule.clone());
        let outcome = site.backup(&primary, request(&site, &primary)).await;
        site.s3.faults().clear();
        let error: Error = outcome.expect_err("the store does not keep it");
        let report = error.report();
        assert!(report.contains(object) && report.contains(remedy), "{rule:?}: {report}");
        assert!(!error.remedy().is_empty(), "{report}");
        let catalog = repository(&site).catalog().await.expect("a catalogue");
        assert_eq!(catalog.done().count(), 0, "{rule:?}");
    }
    // And the next one succeeds without hand work.
    backed_up(&site, &primary).await;
    assert!(restored(restore_request(&site)).await.verified);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_believes_no_wrong_answer() {
    let (site, primary) = site().await;
    let result = backed_up(&site, &primary).await;
    let part = format!("**/{}", result.parts[0].name);
    let cases = [
        (Rule::new(Action::page()).operation(Operation::ListObjects), "some/path/f", "endpoint URL"),
        (Rule::new(Action::page()).operation(Operation::GetObject).key(&part), "data.tar", "endpoint URL"),
        (
            Rule::new(Action::TruncateBody { bytes: 1000 }).operation(Operation::GetObject).key(&part),
            "data.tar",
            "",
        ),
        (
            Rule::new(Action::CorruptBody { offset: 300_000 }).operation(Operation::GetObject).key(&part),
            "data.tar",
            "",
        ),
        (
            Rule::new(Action::ReplaceBody { body: "not a record".into() })
                .operation(Operation::GetObject)
                .key("**/backup.info"),
            "backup.info",
            "",
        ),
    ];
    for (rule, object, remedy) in cases {
        site.s3.faults().add(rule.clone());
        let outcome = try_restore(restore_request(&site)).await;
        site.s3.faults().clear();
        let error = outcome.expect_err("wrong answers");
        let report = error.report();
        assert!(report.contains(object) && report.contains(remedy), "{rule:?}: {report}");
    }
    assert!(restored(restore_request(&site)).await.verified);
}

/// A listing that lags behind: what it does not show is not silently missing, what it shows and is gone is named.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_from_a_stale_listing_names_what_is_not_there() {
    let (site, primary) = site().await;
    let faults = site.s3.faults();
    let result = backed_up(&site, &primary).await;
    // The snapshot is taken when the rule is made; then one part goes.
    faults.add(Rule::new(Action::StaleList).operation(Operation::ListObjects));
    let key = format!("some/path/f/base/{}/{}", result.backup_id, result.parts[1].name);
    let body = site.s3.get(BUCKET, &key).await.expect("the part");
    site.s3.delete(BUCKET, &key).await.expect("deletes");
    let error = try_restore(restore_request(&site)).await.expect_err("listed and gone");
    assert!(error.report().contains(&result.parts[1].name), "{}", error.report());
    site.s3.put(BUCKET, &key, body).await.expect("puts back");
    assert!(restored(restore_request(&site)).await.verified);
}

#[tokio::test(flavor = "multi_thread")]
async fn archiving_and_fetching_survive_what_passes_and_believe_nothing_wrong() {
    let (site, primary) = site().await;
    site.wait_archived(&primary);
    let archiver = Archiver::new(ArchiverConfig {
        pgdata: primary.data.clone(),
        repository: repository(&site),
        compression: Compression::Zstd,
        compression_level: None,
        max_parallel: 1,
        claimed_by: None,
    });
    // Segments of the server's own, into another place of the same archive: made by name, with its content.
    let name = primary.sql("SELECT pg_walfile_name(pg_switch_wal())");
    site.wait_archived(&primary);
    let copy = |name: &str| {
        let own = primary.data.join("pg_wal").join(name);
        std::fs::read(&own).unwrap_or_else(|error| panic!("{}: {error}", own.display()))
    };
    let content = copy(&name);
    let wals = format!("**/wals/**{name}*");
    let key = site.keys().await.into_iter().find(|key| key.contains(&name)).expect("archived");
    site.s3.delete(BUCKET, &key).await.expect("deletes");
    let path = Path::new("pg_wal").join(&name);

    let forever = |action: Action, operation: Operation| Rule::new(action).operation(operation);
    for (rule, remedy) in [
        (forever(Action::page(), Operation::ListObjects), "endpoint URL"),
        (forever(Action::page(), Operation::PutObject), "endpoint URL"),
        (forever(Action::LoseWrite, Operation::PutObject), "lost what it had accepted"),
        (forever(Action::Reset { after_bytes: 0 }, Operation::PutObject), ""),
    ] {
        // What an archive is asked now and then is not meant here.
        archiver.claim().await.unwrap_or_else(|error| panic!("{}", error.report()));
        site.s3.faults().add(rule.clone());
        let error = archiver.archive(&path).await.expect_err("not archived");
        site.s3.faults().clear();
        let report = error.report();
        // A listing is of the directory that holds the segment.
        assert!(
            error.is_transient() && report.contains(&name[..16]) && report.contains(remedy),
            "{rule:?}: {report}"
        );
    }
    for action in [Action::slow_down(), Action::page(), Action::Reset { after_bytes: 0 }] {
        spread(&site, &action, &[Operation::ListObjects, Operation::PutObject, Operation::HeadObject]);
        archiver.archive(&path).await.unwrap_or_else(|error| panic!("{}", error.report()));
        site.s3.faults().clear();
    }

    let restorer = Restorer::new(RestorerConfig {
        repository: repository(&site),
        pgdata: primary.data.clone(),
        spool: site.path().join("spool"),
        max_parallel: 1,
        allow_partial: false,
    });
    let dest = site.path().join("fetched");
    for action in [
        Action::page(),
        Action::slow_down(),
        Action::Reset { after_bytes: 100 },
        Action::StallBody { after_bytes: 100, millis: FOR_EVER },
        Action::Answer { status: 503, content_type: "text/plain".into(), body: "no healthy upstream".into() },
    ] {
        site.s3.faults().add(Rule::new(action.clone()).operation(Operation::GetObject).key(&wals).times(2));
        site.s3.faults().add(Rule::new(action).operation(Operation::ListObjects).times(2));
        let fetched =
            restorer.restore(&name, &dest).await.unwrap_or_else(|error| panic!("{}", error.report()));
        assert_eq!(fetched, WalFetch::Restored);
        assert!(std::fs::read(&dest).expect("fetched") == content);
        std::fs::remove_file(&dest).expect("removes");
        site.s3.faults().clear();
    }
    // Another object under the name is not taken for the segment.
    site.s3
        .faults()
        .add(Rule::new(Action::CorruptBody { offset: 100 }).operation(Operation::GetObject).key(&wals));
    let error = restorer.restore(&name, &dest).await.expect_err("damaged");
    assert!(error.report().contains(&name) && !dest.exists(), "{}", error.report());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_with_one_wrong_byte_on_the_way_is_refused() {
    let (site, primary) = site().await;
    backed_up(&site, &primary).await;
    site.s3.faults().add(
        Rule::new(Action::CorruptBody { offset: 300_000 })
            .operation(Operation::GetObject)
            .key("**/data.tar.snappy"),
    );
    let error = try_restore(restore_request(&site)).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{}", error.report());
    assert!(error.to_string().contains("data.tar.snappy"), "{}", error.report());
    site.s3.faults().clear();
    assert!(restored(restore_request(&site)).await.verified);
}
