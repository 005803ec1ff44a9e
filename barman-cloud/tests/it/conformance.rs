//! What a conformance probe finds, and that nothing of it stays.

use crate::backends::{Kind, backend};
use crate::support::{BUCKET, options, server, store, store_with};
use barman_cloud::store::{Finding, Outcome, Probed};
use barman_cloud::{Destination, ErrorKind, Repository, Store};
use howdah_s3::{Action, Operation, Rule, Server};
use rstest::rstest;

const PROBE: &str = "srv/howdah/probe";

fn of(found: &[Finding], operation: Probed) -> &Finding {
    found.iter().find(|finding| finding.operation == operation).expect("tried")
}

#[rstest]
#[tokio::test]
async fn a_good_store_passes_and_nothing_stays(#[values(Kind::S3, Kind::Gcs, Kind::Azure)] kind: Kind) {
    let backend = backend(kind).await;
    let repository = backend.repository();
    // Left over from a probe that was interrupted.
    repository.store().put(PROBE, "old".into()).await.expect("written");
    let found = repository.conformance().await;
    let operations: Vec<Probed> = found.iter().map(|finding| finding.operation).collect();
    assert_eq!(
        operations,
        [
            Probed::Reach,
            Probed::List,
            Probed::Put,
            Probed::Get,
            Probed::Range,
            Probed::ConditionalWrite,
            Probed::Multipart,
            Probed::Delete,
            Probed::BatchDelete,
        ]
    );
    for finding in &found {
        // Google deletes one by one.
        let without = kind == Kind::Gcs && finding.operation == Probed::BatchDelete;
        let expected = if without { Outcome::NotSupported } else { Outcome::Ok };
        assert_eq!(finding.outcome, expected, "{finding:?}");
    }
    assert!(backend.keys().await.is_empty(), "{:?}", backend.keys().await);
    assert!(repository.store().list_uploads("srv").await.expect("listed").is_empty());
}

#[tokio::test]
async fn one_probe_serves_both() {
    let server = server().await;
    let repository = Repository::new(store(&server), "srv").expect("a name");
    repository.conformance().await;
    server.clear_requests();
    let features = repository.learn().await;
    assert!(features.conditional_writes && features.bulk_delete);
    assert!(server.requests().is_empty(), "it was tried again");
}

/// Whatever is wrong with the place is said once, and told apart from a missing permission.
#[rstest]
#[case::bucket("s3://nowhere/path", "key", ErrorKind::BucketMissing)]
#[case::credentials("s3://bucket/path", "stranger", ErrorKind::Credentials)]
#[tokio::test]
async fn a_wrong_place_is_one_finding(#[case] url: &str, #[case] key: &str, #[case] kind: ErrorKind) {
    let server = server().await;
    let mut options = options(&server);
    options.credentials = barman_cloud::S3Options::with_keys(key, "secret").credentials;
    let store = Store::s3(&Destination::parse(url).expect("valid"), &options).expect("valid");
    let found = store.conformance(PROBE).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].operation, found[0].kind), (Probed::Reach, Some(kind)));
    assert!(found[0].message.contains(url) && found[0].remedy.is_some(), "{found:?}");
}

#[tokio::test]
async fn a_wrong_endpoint_is_one_finding() {
    let server = server().await;
    server.faults().begin_outage().await;
    let found = store(&server).conformance(PROBE).await;
    assert_eq!((found.len(), found[0].kind), (1, Some(ErrorKind::Network)), "{found:?}");
}

/// S0.18: what S3's relatives lack, or what a policy denies.
#[rstest]
#[case::list(Operation::ListObjects, Probed::List, "s3:ListBucket")]
#[case::put(Operation::PutObject, Probed::Put, "s3:PutObject")]
#[case::get(Operation::GetObject, Probed::Get, "s3:GetObject")]
#[case::parts(Operation::CreateMultipartUpload, Probed::Multipart, "s3:AbortMultipartUpload")]
#[case::abort(Operation::AbortMultipartUpload, Probed::Multipart, "s3:AbortMultipartUpload")]
#[case::delete(Operation::DeleteObject, Probed::Delete, "s3:DeleteObject")]
#[tokio::test]
async fn a_missing_permission_is_named(
    #[case] operation: Operation,
    #[case] probed: Probed,
    #[case] permission: &str,
) {
    let server = server().await;
    server.faults().add(Rule::new(Action::access_denied()).operation(operation));
    let found = store(&server).conformance(PROBE).await;
    assert_eq!(of(&found, Probed::Reach).outcome, Outcome::Ok);
    let finding = of(&found, probed);
    assert_eq!(
        (finding.outcome, finding.kind),
        (Outcome::Failed, Some(ErrorKind::Permission)),
        "{finding:?}"
    );
    assert!(finding.remedy.as_ref().is_some_and(|remedy| remedy.contains(permission)), "{finding:?}");
    // Nothing else is blamed.
    let failed = found.iter().filter(|finding| finding.outcome == Outcome::Failed);
    assert_eq!(failed.count(), 1, "{found:?}");
    if probed != Probed::Delete {
        assert!(server.objects(BUCKET).expect("the bucket").is_empty());
    }
}

#[tokio::test]
async fn a_store_that_allows_no_deletion_is_told_so_each_time() {
    let server = server().await;
    let locked = Action::error(403, "ObjectLocked", "The object is locked.");
    for operation in [Operation::DeleteObject, Operation::DeleteObjects] {
        server.faults().add(Rule::new(locked.clone()).operation(operation));
    }
    for round in 1..=2 {
        let found = store(&server).conformance(PROBE).await;
        let finding = of(&found, Probed::Delete);
        assert_eq!((finding.outcome, finding.kind), (Outcome::Failed, Some(ErrorKind::Permission)));
        assert!(
            finding.message.contains("stays at") && finding.message.contains("only grows"),
            "{finding:?}"
        );
        assert!(finding.remedy.as_ref().is_some_and(|remedy| remedy.contains("object lock")), "{finding:?}");
        assert_eq!(of(&found, Probed::BatchDelete).outcome, Outcome::Untried);
        // A locked object cannot be replaced either: the second probe writes beside it.
        let objects = server.objects(BUCKET).expect("the bucket");
        assert!(objects.len() >= 2 * round && objects.iter().all(|o| o.key.contains("howdah/probe")));
        assert_eq!(of(&found, Probed::Put).outcome, Outcome::Ok);
    }
}

#[rstest]
#[case::condition(
    Rule::new(Action::error(501, "NotImplemented", "If-None-Match")).header("if-none-match"),
    Probed::ConditionalWrite
)]
#[case::batch(
    Rule::new(Action::error(501, "NotImplemented", "delete")).operation(Operation::DeleteObjects),
    Probed::BatchDelete
)]
#[tokio::test]
async fn what_a_store_lacks_is_no_failure(#[case] rule: Rule, #[case] probed: Probed) {
    let server: Server = server().await;
    server.faults().add(rule);
    let found = store_with(&options(&server)).conformance(PROBE).await;
    assert_eq!(of(&found, probed).outcome, Outcome::NotSupported, "{found:?}");
    assert!(found.iter().all(|finding| finding.outcome != Outcome::Failed), "{found:?}");
    assert!(server.objects(BUCKET).expect("the bucket").is_empty());
}
