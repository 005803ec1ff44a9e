//! The WAL archive on a store that has bad days.

use crate::support::{BUCKET, noise, repository, server};
use barman_cloud::archive::{ArchiveOptions, FetchOptions, Lane, WalSource, WalWriter, WriterLimits};
use barman_cloud::store::Created;
use barman_cloud::{Compression, ErrorKind, WalName};
use bytes::Bytes;
use howdah_s3::{Action, Operation, Rule};
use rstest::rstest;

const NAME: &str = "000000010000000000000007";

fn name() -> WalName {
    NAME.parse().expect("valid")
}

fn numbered(number: u32) -> WalName {
    format!("0000000100000000{number:08X}").parse().expect("valid")
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
async fn archiving_takes_three_requests_and_two_for_the_next() {
    let server = server().await;
    let writer = WalWriter::new(repository(&server), options(), WriterLimits::default());
    let (list, put) = (Operation::ListObjects, Operation::PutObject);
    for (number, expected) in [(7, vec![list, put, list]), (8, vec![list, put, list, put, list])] {
        let source = WalSource::Bytes(segment());
        writer.archive(numbered(number), &source, Lane::Requested).await.expect("archived");
        let operations: Vec<Operation> =
            server.requests().into_iter().map(|request| request.operation).collect();
        assert_eq!(operations, expected);
    }
}

#[tokio::test]
async fn files_archived_together_share_their_listings() {
    let server = server().await;
    let limits = WriterLimits { sending: 8, ..WriterLimits::default() };
    let writer = WalWriter::new(repository(&server), options(), limits);
    let source = WalSource::Bytes(segment());
    let all = (0x10..0x18).map(|number| writer.archive(numbered(number), &source, Lane::Ahead));
    for archived in futures::future::join_all(all).await {
        assert_eq!(archived.expect("archived").created, Created::Yes);
    }
    let count = |wanted| server.requests().iter().filter(|request| request.operation == wanted).count();
    assert_eq!((count(Operation::PutObject), count(Operation::HeadObject)), (8, 0));
    // One tells that all names are free; one after each write at most.
    assert!(count(Operation::ListObjects) <= 9, "{} listings", count(Operation::ListObjects));
}

#[rstest]
#[case::same(false)]
#[case::other(true)]
#[tokio::test]
async fn another_writer_with_another_codec_is_noticed_after_the_write(#[case] other: bool) {
    let server = server().await;
    let writer = WalWriter::new(repository(&server), options(), WriterLimits::default());
    // The first listing does not show what the other writer has just put there.
    server.faults().add(Rule::new(Action::StaleList).operation(Operation::ListObjects).times(1));
    let mut content = segment().to_vec();
    content[5] ^= u8::from(other);
    let theirs = format!("some/path/srv/wals/0000000100000000/{NAME}");
    server.put(BUCKET, &theirs, content).await.expect("written");
    let outcome = writer.archive(name(), &WalSource::Bytes(segment()), Lane::Requested).await;
    let ours = server.get(BUCKET, &format!("{theirs}.gz")).await;
    match other {
        false => assert!(outcome.is_ok() && ours.is_ok(), "{outcome:?}"),
        true => {
            let error = outcome.expect_err("other content");
            assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{}", error.report());
            assert!(ours.is_err(), "the object that nobody was told of stays");
        }
    }
    assert!(server.get(BUCKET, &theirs).await.is_ok(), "the other writer's object is gone");
}

#[tokio::test]
async fn a_listing_that_lags_behind_is_no_loss() {
    let server = server().await;
    server.faults().add(Rule::new(Action::StaleList).operation(Operation::ListObjects));
    let repo = repository(&server);
    repo.archive_wal(name(), WalSource::Bytes(segment()), &options()).await.expect("archived");
    let last = server.requests().pop().expect("a request");
    assert_eq!(last.operation, Operation::HeadObject);
}

#[tokio::test]
async fn a_large_segment_never_replaces_what_came_meanwhile() {
    let server = server().await;
    let repo = repository(&server);
    let mut content = noise(400_000);
    content.resize(64 << 20, 0);
    server.faults().add(Rule::new(Action::StaleList).operation(Operation::ListObjects).times(1));
    let key = format!("some/path/srv/wals/0000000100000000/{NAME}.gz");
    server.put(BUCKET, &key, "other").await.expect("written");
    let outcome = repo.archive_wal(name(), WalSource::Bytes(content.into()), &options()).await;
    assert!(outcome.is_err());
    assert_eq!(server.get(BUCKET, &key).await.expect("untouched"), "other");
    assert!(repo.store().list_uploads("srv").await.expect("listed").is_empty(), "parts are left");
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
