//! The WAL archive on a store that has bad days.

use crate::support::{BUCKET, noise, repository, server};
use barman_cloud::archive::{ArchiveOptions, FetchOptions, WalSource};
use barman_cloud::store::Created;
use barman_cloud::{Compression, ErrorKind, WalName};
use bytes::Bytes;
use howdah_s3::{Action, Operation, Rule};
use rstest::rstest;

const NAME: &str = "000000010000000000000007";

fn name() -> WalName {
    NAME.parse().expect("valid")
}

fn segment() -> Bytes {
    let mut content = noise(400_000);
    content.resize(1 << 20, 0);
    content.into()
}

fn options() -> ArchiveOptions {
    ArchiveOptions { compression: Compression::Gzip, ..ArchiveOptions::default() }
}

#[tokio::test]
async fn archiving_takes_three_requests() {
    let server = server().await;
    let repo = repository(&server);
    repo.archive_wal(name(), WalSource::Bytes(segment()), &options()).await.expect("archived");
    let operations: Vec<Operation> = server.requests().into_iter().map(|request| request.operation).collect();
    assert_eq!(operations, [Operation::ListObjects, Operation::PutObject, Operation::HeadObject]);
}

#[rstest]
#[case::throttled(Action::slow_down(), 3)]
#[case::reset(Action::Reset { after_bytes: 1000 }, 3)]
#[case::answer_lost(Action::LoseResponse, 1)]
#[case::stalled(Action::Stall { millis: 60_000 }, 1)]
#[tokio::test]
async fn archiving_survives(#[case] action: Action, #[case] times: u64) {
    let server = server().await;
    let rule = server.faults().add(Rule::new(action).operation(Operation::PutObject).times(times));
    let repo = repository(&server);
    let archived = repo.archive_wal(name(), WalSource::Bytes(segment()), &options()).await.expect("archived");
    assert_eq!(server.faults().hits(rule), times);
    let info = repo.store().head(&archived.key).await.expect("there");
    assert_eq!(info.size, archived.stored);
    let again = repo.archive_wal(name(), WalSource::Bytes(segment()), &options()).await.expect("the same");
    assert_eq!(again.created, Created::Exists);
}

#[tokio::test]
async fn a_write_that_the_store_forgot_is_no_success() {
    let server = server().await;
    server.faults().add(Rule::new(Action::LoseWrite).operation(Operation::PutObject).times(1));
    let repo = repository(&server);
    let error = repo.archive_wal(name(), WalSource::Bytes(segment()), &options()).await.expect_err("lost");
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Unavailable, true), "{}", error.report());
    repo.archive_wal(name(), WalSource::Bytes(segment()), &options()).await.expect("the next try");
}

#[tokio::test]
async fn a_stale_listing_replaces_nothing() {
    let server = server().await;
    let repo = repository(&server);
    server.faults().add(Rule::new(Action::StaleList).operation(Operation::ListObjects).times(1));
    repo.store()
        .put(&format!("srv/wals/0000000100000000/{NAME}.gz"), Bytes::from_static(b"other"))
        .await
        .expect("written");
    // The listing shows nothing, the conditional write does.
    assert!(repo.archive_wal(name(), WalSource::Bytes(segment()), &options()).await.is_err());
    let key = format!("some/path/srv/wals/0000000100000000/{NAME}.gz");
    assert_eq!(server.get(BUCKET, &key).await.expect("untouched"), "other");
}

#[rstest]
#[case::reset(Action::Reset { after_bytes: 200_000 }, 2)]
#[case::stalled(Action::StallBody { after_bytes: 100_000, millis: 60_000 }, 1)]
#[case::throttled(Action::slow_down(), 3)]
#[tokio::test]
async fn fetching_survives(#[case] action: Action, #[case] times: u64) {
    let server = server().await;
    let repo = repository(&server);
    repo.archive_wal(name(), WalSource::Bytes(segment()), &options()).await.expect("archived");
    server.faults().add(Rule::new(action).operation(Operation::GetObject).times(times));
    let dir = tempfile::tempdir().expect("a directory");
    let dest = dir.path().join("wal");
    repo.fetch_wal(name(), &dest, &FetchOptions::default()).await.expect("fetched");
    assert!(std::fs::read(&dest).expect("written") == segment());
}

#[tokio::test]
async fn a_byte_changed_on_the_way_is_noticed() {
    let server = server().await;
    let repo = repository(&server);
    repo.archive_wal(name(), WalSource::Bytes(segment()), &options()).await.expect("archived");
    server.faults().add(Rule::new(Action::CorruptBody { offset: 200_000 }).operation(Operation::GetObject));
    let dir = tempfile::tempdir().expect("a directory");
    let dest = dir.path().join("wal");
    let error = repo.fetch_wal(name(), &dest, &FetchOptions::default()).await.expect_err("damaged");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(!dest.exists());
}

#[tokio::test]
async fn a_store_that_is_away_is_not_an_empty_archive() {
    let server = server().await;
    let repo = repository(&server);
    server.faults().begin_outage().await;
    let dir = tempfile::tempdir().expect("a directory");
    let error =
        repo.fetch_wal(name(), &dir.path().join("wal"), &FetchOptions::default()).await.expect_err("away");
    assert_eq!((error.kind(), error.exit_code()), (ErrorKind::Network, 2));
    let error = repo.archive_wal(name(), WalSource::Bytes(segment()), &options()).await.expect_err("away");
    assert_eq!(error.exit_code(), 2);
    server.faults().end_outage().await;
    repo.archive_wal(name(), WalSource::Bytes(segment()), &options()).await.expect("back again");
}
