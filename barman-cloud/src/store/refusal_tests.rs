//! What Google and Azure answer on a bad day, in their words, and what is said of it: kind, remedy, retries.

use super::double::{Double, answer};
use super::{AzureCredentials, AzureOptions, GcsOptions, Limits, Store};
use crate::error::ErrorKind;
use crate::layout::Destination;
use rstest::rstest;
use std::time::Duration;

const NO_KEY: &str = r#"{"type":"service_account","client_email":"a@b","private_key":"","private_key_id":"","disable_oauth":true}"#;

fn limits() -> Limits {
    Limits {
        retries: 2,
        backoff_first: Duration::from_millis(1),
        backoff_max: Duration::from_millis(1),
        ..Limits::default()
    }
}

fn google(double: &Double) -> Store {
    let mut options = GcsOptions::with_key(NO_KEY);
    options.endpoint = Some(double.url());
    options.limits = limits();
    Store::gcs(&Destination::parse("gs://bucket/p").expect("valid"), &options).expect("valid")
}

fn azure(double: &Double) -> Store {
    let mut options = AzureOptions::new(AzureCredentials::Key("a2V5".into()));
    options.limits = limits();
    let url = format!("{}/acct/bucket/p", double.url());
    Store::azure(&Destination::parse(&url).expect("valid"), &options).expect("valid")
}

/// Writing, reading, looking, listing and deleting, until it is refused for good.
async fn use_it(store: &Store, double: &Double, kind: ErrorKind, word: &str, with_head: bool) {
    let outcomes = [
        store.put("d/k", "x".into()).await.expect_err("refused"),
        store.get("d/k", 10).await.expect_err("refused"),
        store.list("d").await.expect_err("refused"),
        store.delete("d/k").await.expect_err("refused"),
    ];
    for error in outcomes {
        assert_eq!(error.kind(), kind, "{}", error.report());
        assert!(error.report().contains(word), "{word}: {}", error.report());
        assert!(error.report().contains("bucket/p/d"), "{}", error.report());
    }
    if with_head {
        assert_eq!(store.head("d/k").await.expect_err("refused").kind(), kind);
    }
    let expected = if kind.is_transient() { 3 } else { 1 };
    let puts = double.seen().iter().filter(|seen| matches!(seen.method.as_str(), "PUT" | "POST")).count();
    assert_eq!(puts, expected, "tries of the write");
}

#[rstest]
#[case::bucket(
    404,
    "notFound",
    "The specified bucket does not exist.",
    ErrorKind::BucketMissing,
    "create the bucket"
)]
#[case::denied(
    403,
    "forbidden",
    "a@b does not have storage.objects.create access.",
    ErrorKind::Permission,
    "Storage Object Admin"
)]
#[case::token(401, "authError", "Invalid Credentials", ErrorKind::Credentials, "service account")]
#[case::busy(
    429,
    "rateLimitExceeded",
    "The bucket exceeded the rate limit.",
    ErrorKind::Throttled,
    "exceeded the rate"
)]
#[case::failing(503, "backendError", "Backend Error", ErrorKind::Unavailable, "Backend Error")]
#[case::locked(
    403,
    "retentionPolicyNotMet",
    "Object is under active hold.",
    ErrorKind::Permission,
    "retention policy"
)]
#[tokio::test]
async fn of_google(
    #[case] status: u16,
    #[case] reason: &'static str,
    #[case] message: &'static str,
    #[case] kind: ErrorKind,
    #[case] word: &str,
) {
    let double = Double::start(move |_| {
        let body = serde_json::json!({
            "error": {"code": status, "message": message, "errors": [{"reason": reason, "message": message}]},
        });
        answer(status, &[("content-type", "application/json")], body.to_string())
    })
    .await;
    use_it(&google(&double), &double, kind, word, false).await;
}

#[rstest]
#[case::container(404, "ContainerNotFound", "", ErrorKind::BucketMissing, "create the container")]
#[case::role(
    403,
    "AuthorizationPermissionMismatch",
    "",
    ErrorKind::Permission,
    "Storage Blob Data Contributor"
)]
#[case::firewall(
    403,
    "AuthorizationFailure",
    "This request is not authorized.",
    ErrorKind::Permission,
    "firewall"
)]
#[case::key(403, "AuthenticationFailed", "", ErrorKind::Credentials, "key")]
#[case::busy(503, "ServerBusy", "Egress is over the account limit.", ErrorKind::Throttled, "Egress")]
#[case::slow(500, "OperationTimedOut", "", ErrorKind::Unavailable, "OperationTimedOut")]
#[case::locked(409, "BlobImmutableDueToPolicy", "", ErrorKind::Permission, "immutability")]
#[tokio::test]
async fn of_azure(
    #[case] status: u16,
    #[case] code: &'static str,
    #[case] message: &'static str,
    #[case] kind: ErrorKind,
    #[case] word: &str,
) {
    let double = Double::start(move |seen| {
        let body =
            format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>");
        // The answer to HEAD has no body.
        let body = if seen.method == http::Method::HEAD { String::new() } else { body };
        answer(status, &[("x-ms-error-code", code), ("x-ms-request-id", "1")], body)
    })
    .await;
    use_it(&azure(&double), &double, kind, word, true).await;
}

#[tokio::test]
async fn an_expired_signature_is_told_apart() {
    let text = "<Error><Code>AuthenticationFailed</Code><Message>Server failed to authenticate.</Message>\
                <AuthenticationErrorDetail>Signature not valid in the specified time frame: Start [Sun] - Expiry \
                [Mon] - Current [Tue]</AuthenticationErrorDetail></Error>";
    let double = Double::start(move |_| answer(403, &[("x-ms-request-id", "1")], text)).await;
    let error = azure(&double).put("k", "x".into()).await.expect_err("expired");
    assert_eq!(error.kind(), ErrorKind::Credentials);
    assert!(error.remedy().contains("create a new one"), "{}", error.report());
}

/// A proxy's page with status 200 is no store, on whatever storage.
#[rstest]
#[tokio::test]
async fn a_page_is_no_store(#[values(false, true)] of_azure: bool) {
    let page = "<!DOCTYPE html><html><body>Sign in</body></html>";
    let double = Double::start(move |_| answer(200, &[("content-type", "text/html")], page)).await;
    let store = if of_azure { azure(&double) } else { google(&double) };
    use_it(&store, &double, ErrorKind::Unavailable, "endpoint URL", true).await;
}
