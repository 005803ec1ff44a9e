//! Time limits: standing still is a failure, being slow is none. The stall limit here is short, and each fault
//! lasts far longer or far shorter, so that a slow machine changes nothing.

use crate::support::{BUCKET, noise, options, server, store_with};
use barman_cloud::ErrorKind;
use barman_cloud::store::Store;
use bytes::Bytes;
use futures::TryStreamExt;
use howdah_s3::{Action, Operation, Rule, Server};
use rstest::rstest;
use std::time::{Duration, Instant};

const SIZE: usize = 24 << 20;
const STALL: Duration = Duration::from_millis(1000);
/// Longer than any test may take.
const FOR_EVER: u64 = 600_000;

fn impatient(server: &Server, retries: usize) -> Store {
    let mut options = options(server);
    options.limits.stall = STALL;
    options.limits.retries = retries;
    store_with(&options)
}

/// Slower than the limit in total, with no pause of a tenth of it.
#[tokio::test]
async fn a_slow_download_is_no_stall() {
    let server = server().await;
    let store = impatient(&server, 0);
    let content = noise(640 << 10);
    store.put("k", content.clone().into()).await.expect("written");
    server.clear_requests();
    server
        .faults()
        .add(Rule::new(Action::Drip { piece: 16 << 10, millis: 60 }).operation(Operation::GetObject));
    let begun = Instant::now();
    let (_, stream) = store.open("k", None).await.expect("opened");
    let pieces: Vec<Bytes> = stream.try_collect().await.expect("read");
    assert!(pieces.concat() == content);
    assert!(begun.elapsed() > STALL * 2, "the test tests nothing");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_slow_upload_is_no_stall() {
    let server = server().await;
    let store = impatient(&server, 0);
    // More than the buffers on the way hold, so that the client feels the pace.
    let content = Bytes::from(noise(SIZE));
    server
        .faults()
        .add(Rule::new(Action::DripUpload { piece: 512 << 10, millis: 60 }).operation(Operation::PutObject));
    let begun = Instant::now();
    store.put("k", content.clone()).await.expect("written");
    assert!(begun.elapsed() > STALL * 2, "the test tests nothing");
    assert!(server.get(BUCKET, "some/path/k").await.expect("there") == content);
    assert_eq!(server.requests().len(), 1);
}

#[rstest]
#[case::request_body(
    Action::StallUpload { after_bytes: 100_000, millis: FOR_EVER },
    Operation::PutObject
)]
#[case::answer_to_a_write(Action::Stall { millis: FOR_EVER }, Operation::PutObject)]
#[case::answer_to_a_read(Action::Stall { millis: FOR_EVER }, Operation::GetObject)]
#[case::body_of_an_object(
    Action::StallBody { after_bytes: 300_000, millis: FOR_EVER },
    Operation::GetObject
)]
#[case::answer_to_a_list(Action::Stall { millis: FOR_EVER }, Operation::ListObjects)]
#[case::body_of_a_list(
    Action::StallBody { after_bytes: 60, millis: FOR_EVER },
    Operation::ListObjects
)]
#[tokio::test]
async fn standing_still_is_noticed(#[case] action: Action, #[case] operation: Operation) {
    let server = server().await;
    let content = Bytes::from(noise(SIZE));
    server.put(BUCKET, "some/path/d/k", content.clone()).await.expect("stored");
    let run = async |store: Store| match operation {
        Operation::PutObject => store.put("d/k", content.clone()).await,
        Operation::GetObject => {
            let (_, stream) = store.open("d/k", None).await?;
            let pieces: Vec<Bytes> = stream.try_collect().await?;
            assert!(pieces.concat() == content);
            Ok(())
        }
        _ => store.list("d").await.map(|found| assert_eq!(found.len(), 1)),
    };
    let rule = server.faults().add(Rule::new(action.clone()).operation(operation).times(1));
    run(impatient(&server, 3)).await.expect("the second try succeeds");
    assert_eq!(server.faults().hits(rule), 1);

    server.faults().add(Rule::new(action).operation(operation));
    let error = run(impatient(&server, 0)).await.expect_err("nothing moves");
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Network, true), "{}", error.report());
    let report = error.report();
    assert!(report.contains("some/path/d") && report.contains("no progress for 1 s"), "{report}");
}

#[tokio::test]
async fn a_part_that_stands_still_is_sent_again() {
    let server = server().await;
    let store = impatient(&server, 3);
    let upload = store.upload("k").await.expect("begun");
    let stall = Action::StallUpload { after_bytes: 100_000, millis: FOR_EVER };
    let rule = server.faults().add(Rule::new(stall).operation(Operation::UploadPart).times(1));
    let content = Bytes::from(noise(SIZE));
    let part = upload.put_part(0, content.clone()).await.expect("sent in the end");
    assert_eq!(server.faults().hits(rule), 1);
    upload.complete(vec![part]).await.expect("completed");
    assert!(server.get(BUCKET, "some/path/k").await.expect("there") == content);
}
