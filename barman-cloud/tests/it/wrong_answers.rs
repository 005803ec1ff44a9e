//! A store, or something in its place, that answers 200 with what no store says. Once it is an accident and the
//! operation succeeds; for ever it is an error that names the object, and never an empty archive or a false success.

use crate::repertoire::{SIZE, assert_done, fails, filled, outlasts, use_it};
use crate::support::{BUCKET, noise};
use barman_cloud::ErrorKind;
use bytes::Bytes;
use futures::TryStreamExt;
use howdah_s3::{Action, Operation, Rule};
use rstest::rstest;

fn xml(body: &str) -> Action {
    Action::ReplaceBody { body: body.into() }
}

#[rstest]
#[case::page(Action::page())]
#[case::nothing(xml(""))]
#[case::text(xml("OK"))]
#[case::another_document(xml("<ListAllMyBucketsResult><Buckets/></ListAllMyBucketsResult>"))]
#[tokio::test]
async fn no_answer_of_s3(
    #[case] action: Action,
    #[values(
        Operation::ListObjects,
        Operation::ListMultipartUploads,
        Operation::GetObject,
        Operation::HeadObject,
        Operation::PutObject,
        Operation::DeleteObjects,
        Operation::DeleteObject,
        Operation::CreateMultipartUpload,
        Operation::UploadPart,
        Operation::CompleteMultipartUpload
    )]
    operation: Operation,
) {
    if operation == Operation::DeleteObject && action == xml("") {
        // 200 and nothing is how some stores acknowledge a removal.
        return;
    }
    let world = filled().await;
    outlasts(&world, action.clone(), operation, 2).await;
    assert_done(&world.0, operation).await;

    let error = fails(&filled().await, action, operation).await;
    assert_eq!((error.kind(), error.exit_code()), (ErrorKind::Unavailable, 2), "{}", error.report());
    assert!(error.report().contains("s3://bucket/some/path/d"), "{}", error.report());
    assert!(error.remedy().contains("endpoint URL"), "{}", error.report());
}

#[rstest]
#[case::list(Operation::ListObjects)]
#[case::uploads(Operation::ListMultipartUploads)]
#[case::begin(Operation::CreateMultipartUpload)]
#[case::complete(Operation::CompleteMultipartUpload)]
#[case::delete(Operation::DeleteObjects)]
#[tokio::test]
async fn a_document_that_breaks_off(#[case] operation: Operation) {
    let world = filled().await;
    outlasts(&world, Action::TruncateBody { bytes: 90 }, operation, 2).await;
    if operation == Operation::CompleteMultipartUpload {
        // The object was made: that the answer broke off changes nothing about it.
        return assert_done(&world.0, operation).await;
    }
    let error = fails(&world, Action::TruncateBody { bytes: 90 }, operation).await;
    assert!(error.is_transient(), "{}", error.report());
}

/// S3 begins to answer before it knows the outcome: 200, and then an error.
#[rstest]
#[case::internal("InternalError", ErrorKind::Unavailable)]
#[case::slow_down("SlowDown", ErrorKind::Throttled)]
#[case::service("ServiceUnavailable", ErrorKind::Unavailable)]
#[case::denied("AccessDenied", ErrorKind::Permission)]
#[case::part("InvalidPart", ErrorKind::Other)]
#[tokio::test]
async fn an_error_with_status_200(#[case] code: &str, #[case] kind: ErrorKind) {
    let body =
        format!("   <?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>Because.</Message></Error>");
    for operation in [Operation::CompleteMultipartUpload, Operation::ListObjects, Operation::DeleteObjects] {
        let (server, store) = filled().await;
        let rule = server.faults().add(Rule::new(xml(&body)).operation(operation).times(1));
        let once = use_it(&store, operation).await;
        // What a request for many does not delete is asked for one by one, and that is answered as ever.
        let one_by_one = operation == Operation::DeleteObjects && !kind.is_transient();
        assert_eq!(once.is_ok(), kind.is_transient() || one_by_one, "{once:?}");
        assert_eq!(server.faults().hits(rule), 1);
        if one_by_one {
            assert!(!server.objects(BUCKET).expect("the bucket").iter().any(|o| o.key.contains("d/o")));
            continue;
        }
        server.faults().add(Rule::new(xml(&body)).operation(operation));
        let error = use_it(&store, operation).await.expect_err("an error");
        assert_eq!(error.kind(), kind, "{}", error.report());
        assert!(error.report().contains("Because."), "{}", error.report());
        let big = server.objects(BUCKET).expect("the bucket").iter().any(|o| o.key.ends_with("d/big"));
        assert_eq!(big, operation == Operation::CompleteMultipartUpload && kind.is_transient());
    }
}

#[tokio::test]
async fn a_garbled_mark_of_a_part_is_no_completed_upload() {
    let (server, store) = filled().await;
    let garbage = Action::SetHeader { name: "etag".into(), value: "\"0\"".into() };
    server.faults().add(Rule::new(garbage).operation(Operation::UploadPart));
    let error = use_it(&store, Operation::UploadPart).await.expect_err("no such part");
    assert!(error.report().contains("d/big") && error.remedy().contains("start again"), "{}", error.report());
    assert_eq!(server.objects(BUCKET).expect("the bucket").len(), 2);
}

#[tokio::test]
async fn a_garbled_mark_of_an_object_is_no_obstacle_and_no_mixture() {
    let (server, store) = filled().await;
    let garbage = Action::SetHeader { name: "etag".into(), value: "\"0\"".into() };
    server.faults().add(Rule::new(garbage).operation(Operation::GetObject));
    assert!(store.get("d/o1", 1 << 30).await.expect("read") == noise(SIZE));
}

/// `Content-Length` promises more than comes.
#[tokio::test]
async fn a_body_that_ends_early_is_read_to_its_end() {
    let (server, store) = filled().await;
    let rule = server
        .faults()
        .add(Rule::new(Action::Reset { after_bytes: 1_000_000 }).operation(Operation::GetObject).times(1));
    let (_, stream) = store.open("d/o1", None).await.expect("opened");
    let pieces: Vec<Bytes> = stream.try_collect().await.expect("read in the end");
    assert!(pieces.concat() == noise(SIZE));
    assert_eq!(server.faults().hits(rule), 1);
}

/// A range of the right name with fewer bytes: what is missing is asked for again.
#[tokio::test]
async fn a_range_that_is_too_short_is_completed() {
    let (server, store) = filled().await;
    server
        .faults()
        .add(Rule::new(Action::TruncateBody { bytes: 1_000 }).operation(Operation::GetObject).times(3));
    let (_, stream) = store.open("d/o1", Some(500..100_500)).await.expect("opened");
    let pieces: Vec<Bytes> = stream.try_collect().await.expect("read in the end");
    assert!(pieces.concat() == noise(SIZE)[500..100_500]);
}
