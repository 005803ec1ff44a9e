//! A store on a bad day: the outcome is a success after retries or an error, never a false success.

use crate::postgres::Postgres;
use crate::site::{Site, restored, verify};
use barman_cloud::Compression;
use howdah_engine::backup::PartSize;
use howdah_engine::{ErrorKind, RestoreRequest};
use howdah_s3::{Action, Operation, Rule};

async fn site() -> (Site, Postgres) {
    let site = Site::new().await;
    let primary = site.primary("f");
    primary.sql("CREATE TABLE t AS SELECT g, md5(g::text) AS x FROM generate_series(1, 100000) g");
    (site, primary)
}

fn request(site: &Site, primary: &Postgres) -> howdah_engine::BackupRequest {
    let mut request = site.backup_request(primary, "f");
    request.compression = Compression::Snappy;
    request.part_size = PartSize { tar_bytes: Some(12 << 20), ..PartSize::default() };
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn throttling_resets_and_lost_answers_are_survived() {
    let (site, primary) = site().await;
    let faults = site.s3.faults();
    faults.add(Rule::new(Action::slow_down()).operation(Operation::CreateMultipartUpload).times(2));
    faults.add(Rule::new(Action::Reset { after_bytes: 100_000 }).operation(Operation::UploadPart).times(2));
    faults.add(Rule::new(Action::LoseResponse).operation(Operation::UploadPart).skip(3).times(1));
    faults.add(Rule::new(Action::internal_error()).operation(Operation::HeadObject).times(2));
    let result = site
        .backup(&primary, request(&site, &primary))
        .await
        .unwrap_or_else(|error| panic!("{}", error.report()));
    faults.clear();
    // Every part breaks once in the middle and goes on from there.
    for part in &result.parts {
        let key = format!("**/{}", part.name);
        faults.add(
            Rule::new(Action::Reset { after_bytes: 1_000_000 })
                .operation(Operation::GetObject)
                .key(&key)
                .times(1),
        );
    }
    faults.add(Rule::new(Action::slow_down()).operation(Operation::ListObjects).times(2));
    let data = site.path().join("restored");
    assert!(restored(RestoreRequest::new(site.repository("f"), &data)).await.verified);
    let ranged = site.s3.requests().iter().filter(|request| request.key.contains("/data")).count();
    assert!(ranged > result.parts.len() * 2, "{ranged}");
    let copy = Postgres::adopt(site.path(), "restored", &data);
    verify(&copy);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_forgets_a_part_gets_no_completed_backup() {
    let (site, primary) = site().await;
    site.s3
        .faults()
        .add(Rule::new(Action::LoseWrite).operation(Operation::CompleteMultipartUpload).skip(1).times(1));
    let error = site.backup(&primary, request(&site, &primary)).await.expect_err("a part is missing");
    assert!(error.report().contains(".tar.snappy"), "{}", error.report());
    let catalog = site.repository("f").catalog().await.expect("a catalogue");
    assert_eq!(catalog.done().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_with_one_wrong_byte_on_the_way_is_refused() {
    let (site, primary) = site().await;
    site.backup(&primary, request(&site, &primary)).await.expect("a backup");
    site.s3.faults().add(
        Rule::new(Action::CorruptBody { offset: 300_000 })
            .operation(Operation::GetObject)
            .key("**/data.tar.snappy"),
    );
    let data = site.path().join("restored");
    let error = crate::site::try_restore(RestoreRequest::new(site.repository("f"), &data))
        .await
        .expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{}", error.report());
    assert!(error.to_string().contains("data.tar.snappy"), "{}", error.report());
    site.s3.faults().clear();
    assert!(restored(RestoreRequest::new(site.repository("f"), &data)).await.verified);
}
