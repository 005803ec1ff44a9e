//! Stores that ask for fewer requests, in the ways that they have: each operation waits and succeeds, or says so.

use crate::repertoire::{assert_done, fails, filled, outlasts};
use barman_cloud::ErrorKind;
use howdah_s3::{Action, Operation};
use rstest::rstest;

/// AWS and Backblaze; Cloudflare and Google; a gateway without a document.
#[rstest]
#[case::slow_down(Action::slow_down(), ErrorKind::Throttled)]
#[case::too_many(Action::error(429, "TooManyRequests", "Slow down."), ErrorKind::Throttled)]
#[case::bare_429(
    Action::Answer { status: 429, content_type: "text/plain".into(), body: String::new() },
    ErrorKind::Throttled
)]
#[case::gateway(
    Action::Answer { status: 503, content_type: "text/html".into(), body: "<html>busy</html>".into() },
    ErrorKind::Unavailable
)]
#[case::idle_connection(Action::error(400, "RequestTimeout", "Your socket was idle."), ErrorKind::Network)]
#[tokio::test]
async fn every_operation_waits(
    #[case] action: Action,
    #[case] kind: ErrorKind,
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
    // The answer to HEAD has no document, so a status of 400 tells nothing.
    let bodiless = operation == Operation::HeadObject;
    if bodiless && kind == ErrorKind::Network {
        return;
    }
    let world = filled().await;
    outlasts(&world, action.clone(), operation, 3).await;
    assert_done(&world.0, operation).await;

    let error = fails(&world, action, operation).await;
    assert!(bodiless || error.kind() == kind, "{}", error.report());
    assert!(error.is_transient() && error.exit_code() == 2, "{}", error.report());
    assert!(error.report().contains("s3://bucket/some/path/d"), "{}", error.report());
    assert!(!error.remedy().is_empty());
}
