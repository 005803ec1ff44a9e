//! Faults that pass: the operation succeeds all the same. Faults that do not: an error, never a false success.

use crate::support::{BUCKET, limits, noise, options, server, store, store_with};
use barman_cloud::ErrorKind;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use howdah_s3::{Action, Operation, Rule};
use rstest::rstest;

const SIZE: usize = 1_500_000;

#[rstest]
#[case::slow_down(Action::slow_down(), 4)]
#[case::internal_error(Action::internal_error(), 4)]
#[case::reset_at_once(Action::Reset { after_bytes: 0 }, 3)]
#[case::reset_in_the_middle(Action::Reset { after_bytes: 700_000 }, 3)]
#[case::answer_lost(Action::LoseResponse, 2)]
#[case::stalled(Action::Stall { millis: 60_000 }, 1)]
#[tokio::test]
async fn writing_survives(#[case] action: Action, #[case] times: u64) {
    let server = server().await;
    let rule = server.faults().add(Rule::new(action).operation(Operation::PutObject).times(times));
    let content = noise(SIZE);
    store(&server).put("k", content.clone().into()).await.expect("written in the end");
    assert_eq!(server.faults().hits(rule), times);
    assert_eq!(server.get(BUCKET, "some/path/k").await.expect("there"), content);
}

#[rstest]
#[case::slow_down(Action::slow_down(), 4)]
#[case::reset_in_the_middle(Action::Reset { after_bytes: 400_000 }, 3)]
#[case::stalled_before(Action::Stall { millis: 60_000 }, 1)]
#[case::stalled_in_the_middle(Action::StallBody { after_bytes: 300_000, millis: 60_000 }, 2)]
#[tokio::test]
async fn reading_goes_on_where_it_broke(#[case] action: Action, #[case] times: u64) {
    let server = server().await;
    let store = store(&server);
    let content = noise(SIZE);
    store.put("k", content.clone().into()).await.expect("written");
    let rule = server.faults().add(Rule::new(action).operation(Operation::GetObject).times(times));
    let (_, stream) = store.open("k", None).await.expect("opened");
    let pieces: Vec<Bytes> = stream.try_collect().await.expect("read in the end");
    assert!(pieces.concat() == content);
    assert_eq!(server.faults().hits(rule), times);
}

#[tokio::test]
async fn a_read_that_never_gets_on_fails() {
    let server = server().await;
    let store = store(&server);
    store.put("k", noise(SIZE).into()).await.expect("written");
    server.faults().add(Rule::new(Action::Reset { after_bytes: 0 }).operation(Operation::GetObject));
    let error = store.get("k", SIZE as u64).await.expect_err("never");
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Network, true), "{}", error.report());
}

#[tokio::test]
async fn an_object_replaced_while_read_is_noticed() {
    let server = server().await;
    let store = store(&server);
    store.put("k", noise(SIZE).into()).await.expect("written");
    server
        .faults()
        .add(Rule::new(Action::Reset { after_bytes: 200_000 }).operation(Operation::GetObject).times(1));
    let (_, mut stream) = store.open("k", None).await.expect("opened");
    stream.next().await.expect("a piece").expect("read");
    server.put(BUCKET, "some/path/k", vec![0; SIZE]).await.expect("replaced");
    let outcome: barman_cloud::Result<Vec<Bytes>> = stream.try_collect().await;
    assert_eq!(outcome.expect_err("another object").kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_slow_consumer_is_no_stall() {
    let server = server().await;
    let store = store(&server);
    let content = noise(SIZE);
    store.put("k", content.clone().into()).await.expect("written");
    server.clear_requests();
    let (_, mut stream) = store.open("k", None).await.expect("opened");
    let mut got = stream.next().await.expect("a piece").expect("read").to_vec();
    // Longer than the stall limit: the pause is ours, not the store's.
    tokio::time::sleep(limits().stall * 2).await;
    while let Some(piece) = stream.next().await {
        got.extend_from_slice(&piece.expect("read"));
    }
    assert!(got == content);
    assert_eq!(server.requests().len(), 1);
}

#[rstest]
#[case::list(Operation::ListObjects)]
#[case::head(Operation::HeadObject)]
#[case::delete(Operation::DeleteObjects)]
#[tokio::test]
async fn small_requests_survive(#[case] operation: Operation) {
    let server = server().await;
    let store = store(&server);
    for action in [Action::slow_down(), Action::Reset { after_bytes: 0 }, Action::LoseResponse] {
        store.put("d/k", Bytes::from_static(b"x")).await.expect("written");
        store.put("d/l", Bytes::from_static(b"x")).await.expect("written");
        server.faults().add(Rule::new(action).operation(operation).times(2));
        assert_eq!(store.list("d").await.expect("listed").len(), 2);
        assert_eq!(store.head("d/k").await.expect("there").size, 1);
        store.delete_many(&["d/k".to_owned(), "d/l".to_owned()]).await.expect("deleted");
        assert!(store.list("d").await.expect("listed").is_empty());
        server.faults().clear();
    }
}

#[tokio::test]
async fn throttling_without_end_is_throttling() {
    let server = server().await;
    server.faults().add(Rule::new(Action::slow_down()));
    let mut options = options(&server);
    options.limits.retries = 2;
    let error = store_with(&options).put("k", Bytes::from_static(b"x")).await.expect_err("throttled");
    assert_eq!((error.kind(), error.exit_code()), (ErrorKind::Throttled, 2));
    let error = store_with(&options).list("k").await.expect_err("throttled");
    assert_eq!(error.kind(), ErrorKind::Throttled, "{}", error.report());
}

#[tokio::test]
async fn denied_is_not_tried_again() {
    let server = server().await;
    let rule = server.faults().add(Rule::new(Action::access_denied()));
    let error = store(&server).put("k", Bytes::from_static(b"x")).await.expect_err("denied");
    assert_eq!(error.kind(), ErrorKind::Permission);
    assert_eq!(server.faults().hits(rule), 1);
}

#[tokio::test]
async fn a_skewed_clock_is_named() {
    let server = server().await;
    let action = Action::error(
        403,
        "RequestTimeTooSkewed",
        "The difference between the request time and the current time is too large.",
    );
    server.faults().add(Rule::new(action));
    let error = store(&server).put("k", Bytes::from_static(b"x")).await.expect_err("skewed");
    assert_eq!(error.kind(), ErrorKind::Credentials);
    assert!(error.remedy().contains("clock of this node"), "{}", error.report());
}
